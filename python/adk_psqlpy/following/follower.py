"""The iterator over the events of one session, as they are appended."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final
from weakref import finalize

from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from typing_extensions import Self

from adk_psqlpy.errors import FollowingClosedError, HistoryLostError, SessionDeletedError
from adk_psqlpy.sessions.stored import Version

if TYPE_CHECKING:
    from adk_psqlpy.following.following import Following, Key, Page
    from adk_psqlpy.following.watcher import Watcher

_LOST: Final = (
    "the server has lost commits, in a failover or because it was restored. Given events may be gone: "
    "read the session anew, and follow it from there"
)


class Follower(AsyncIterator[Event]):
    """Yields the events of a session in the order of their `seq`, each once, and waits for the next.

    It holds at most a page of events, and reads on from its place, so a slow consumer costs no memory. If a
    wait is cancelled, for example by a timeout, nothing is lost: the next wait goes on. One task may use it
    at a time. It ends with its `async with` block, with `aclose()`, and when nothing refers to it any more.

    Attributes:
        key: app name, user id, session id.
    """

    def __init__(self, following: Following, key: Key, after: int | Version | None) -> None:
        """Follow from `after` on; with `None`, from the first `await` on."""
        self.key = key
        self._following = following
        self._closings = following.closings
        self._from_now = after is None
        self._created = after.create_time if isinstance(after, Version) else None
        self._seq = after.revision if isinstance(after, Version) else after or 0
        self._id = after.last_event_id if isinstance(after, Version) else None
        self._known: Version | None = None
        self._page: deque[tuple[int, Event]] = deque()
        self._more = True
        self._changes = 0
        self._busy = False
        self._ended = False
        self._watcher: Watcher[Key, Version] | None = None
        self._leave: finalize[Any, Any] | None = None

    @property
    def seq(self) -> int:
        """The `seq` of the event given last, or before that its beginning. Use it to go on later."""
        return self._seq

    @property
    def position(self) -> Version:
        """`seq` with the session's create_time and the id of the event given last.

        They distinguish the session from one that was made later with the same id, and its history from
        another one.

        Raises:
            RuntimeError: nothing has been read of the session yet.
        """
        if self._created is None:
            raise RuntimeError(
                "position is known from the first event on, or within `async with`: read an event first, or "
                "enter the block"
            )
        return Version(self._seq, self._created, last_event_id=self._id)

    async def __anext__(self) -> Event:
        """Wait for the next event.

        Raises:
            SessionNotFoundError: there is no such session.
            SessionDeletedError: the session is gone, or another one has its id.
            HistoryLostError: the session no longer has events that were given.
            FollowingClosedError: the store was closed.
            psqlpy.exceptions.Error: the server was unreachable for longer than `patience_sec`, or refused the
                statement. The follower is unchanged and may be used again.
        """
        event = await self._turn(wait=True)
        assert event is not None
        return event

    async def next_now(self) -> Event | None:
        """Give the next event if it is stored already, else `None`; it does not wait for one.

        Raises:
            as `__anext__`.
        """
        return await self._turn(wait=False)

    async def aclose(self) -> None:
        """End the iteration, for whoever iterates. It may be called again."""
        self._end()

    async def __aenter__(self) -> Self:
        """Look up the session: events that are appended from now on are given, whenever they are asked for.

        Raises:
            as `__anext__`.
        """
        if self._ended:
            raise RuntimeError("this follower has ended: follow again, after=follower.position")
        await self._look()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End."""
        self._end()

    async def _turn(self, *, wait: bool) -> Event | None:
        if self._busy:
            raise RuntimeError(
                "another task waits for the next event of this follower: each task needs its own"
            )
        self._busy = True
        try:
            return await self._next(wait=wait)
        except (SessionNotFoundError, HistoryLostError, FollowingClosedError):
            self._end()
            raise
        finally:
            self._busy = False

    async def _next(self, *, wait: bool) -> Event | None:
        await self._look()
        while not self._page:
            if self._ended:
                raise StopAsyncIteration
            if not self._more:
                if not wait:
                    return None
                await self._wait()
                if self._ended:
                    raise StopAsyncIteration
            await self._read()
        self._seq, event = self._page.popleft()
        self._id = event.id
        return event

    async def _look(self) -> None:
        """Begin, if it has not begun."""
        if self._ended:
            raise StopAsyncIteration
        if self._following.closings != self._closings:
            raise FollowingClosedError("the store was closed while its sessions were followed")
        if self._watcher is None:
            loop = asyncio.get_running_loop()
            self._watcher = self._following.enter(self.key)
            self._leave = finalize(self, _leave, self._following, loop, self.key)
            self._leave.atexit = False
        if self._known is not None:
            return
        if self._from_now:
            now = await self._following.look(self.key)
            if now is None:
                raise self._gone()
            self._seq, self._created, self._known, self._more = now.revision, now.create_time, now, False
        else:
            await self._read()

    async def _wait(self) -> None:
        assert self._watcher is not None
        assert self._known is not None
        await self._watcher.wait(self.key, self._known, self._changes)

    async def _read(self) -> None:
        """Read the next page, and check that it continues the events that were given."""
        assert self._watcher is not None
        self._changes = self._watcher.changes(self.key)
        page = await self._following.page(self.key, self._seq)
        if page is None:
            raise self._gone()
        if self._created not in (None, page.version.create_time):
            raise self._gone(made_again=True)
        self._check(page)
        self._created, self._known = page.version.create_time, page.version
        self._more = bool(page.seqs) and page.seqs[-1] < page.version.revision
        self._page.extend(zip(page.seqs, page.events, strict=True))

    def _check(self, page: Page) -> None:
        known = max(self._seq, self._known.revision if self._known is not None else 0)
        if page.version.revision < known and not page.standby:
            raise HistoryLostError(
                f"{self._named()} is at revision {page.version.revision}, and was at {known}: {_LOST}"
            )
        if None not in (self._id, page.id_at) and self._id != page.id_at:
            raise HistoryLostError(
                f"{self._named()} has another event at seq {self._seq} than the one that was given: {_LOST}"
            )

    def _gone(self, *, made_again: bool = False) -> SessionNotFoundError:
        if made_again:
            return SessionDeletedError(
                f"{self._named()} was deleted while it was followed, and another one was made under its id: "
                "follow that one from the beginning (after=0)",
                made_again=True,
            )
        if self._created is None:
            return SessionNotFoundError(f"Session {self.key[2]} not found.")
        return SessionDeletedError(f"{self._named()} was deleted while it was followed")

    def _named(self) -> str:
        app_name, user_id, session_id = self.key
        return f"session {session_id!r} of user {user_id!r} in app {app_name!r}"

    def _end(self) -> None:
        self._ended = True
        self._page.clear()
        if self._watcher is not None and self._leave is not None:
            if self._busy:
                self._watcher.wake(self.key)
            self._leave()


def _leave(following: Following, loop: asyncio.AbstractEventLoop, key: Key) -> None:
    """Note that a follower has ended. This may run in any thread, when the last reference to it goes."""
    try:
        here = asyncio.get_running_loop()
    except RuntimeError:
        here = None
    if here is loop:
        following.leave(loop, key)
    elif not loop.is_closed():
        loop.call_soon_threadsafe(following.leave, loop, key)
