"""What the followers of one store share: reading, waiting, retrying, and closing."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from google.adk.events.event import Event
from psqlpy.exceptions import Error

from adk_psqlpy.config import PsqlpyConfig
from adk_psqlpy.connections import binary
from adk_psqlpy.connections.lanes import Decoders, Lanes, Row
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.connections.sources import LendsConnections
from adk_psqlpy.following.follower import Follower
from adk_psqlpy.following.notifications import Notifications
from adk_psqlpy.following.watcher import Watcher
from adk_psqlpy.sessions.stored import Version
from adk_psqlpy.sql import event_columns
from adk_psqlpy.sql.following import FollowingStatements, payload_of
from adk_psqlpy.sql.tables import Tables

Key = tuple[str, str, str]
"""App name, user id, session id."""

PAGE_EVENTS: Final = 64
"""The most events that a follower holds."""

PAGE_BYTES: Final = 1 << 20
"""The most stored bytes of those events, plus one event."""

_PAUSE_SEC: Final = 0.25  # between two attempts while the server is unreachable
_PAGE: Final[Decoders] = {"create_time": binary.seconds, **dict.fromkeys(event_columns.ARRAYS, binary.raw)}
_KNOWN: Final = ("varchar", "varchar", "varchar", "bigint", "timestamptz")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class FollowSettings:
    """How often a process looks for new events of others.

    Args:
        fastest_sec: seconds between two looks while events come.
        slowest_sec: seconds between two looks after a long silence. In between, the wait is a hundredth of
            the time since the last event.
        patience_sec: how many seconds a follower waits for an unreachable server before it raises the
            driver's error.
    """

    fastest_sec: float = 0.01
    slowest_sec: float = 0.5
    patience_sec: float = 300.0

    def __post_init__(self) -> None:
        for name, least in (("fastest_sec", 0.001), ("slowest_sec", self.fastest_sec), ("patience_sec", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= 86_400:
                raise ValueError(f"{name} must be seconds from {least} to 86400, not {value!r}")


@dataclass(frozen=True, slots=True)
class Page:
    """A session after a `seq`: some of its next events, and its version."""

    version: Version
    standby: bool
    """Whether a standby answered. It may be behind what was read before."""
    id_at: str | None
    """The id of the event at that `seq`, if there is one."""
    seqs: list[int]
    events: list[Event]


class Reads(Protocol):
    """How a store reads."""

    def __call__(
        self, sql: str, parameters: list[Any], decoders: Decoders | None = None
    ) -> Awaitable[list[Row]]:
        """Run a statement and return its rows."""
        ...


class Decode(Protocol):
    """How a store turns rows into events."""

    def __call__(self, key: Key, chunks: list[Row], place: str) -> Awaitable[list[Event]]:
        """Return the events of chunks in the form that the crate's `decode_events` takes."""
        ...


class Following:
    """The followers of a store, in any number of event loops; one watcher in each."""

    def __init__(
        self,
        config: LendsConnections,
        lanes: Lanes,
        tables: Tables,
        read: Reads,
        settings: FollowSettings,
        decode: Decode,
    ) -> None:
        """`read` and `decode` are the store's; `lanes` tell when the store's connections are closed."""
        self.settings = settings
        self._config = config
        self._lanes = lanes
        self._sql = FollowingStatements(tables)
        self._read = read
        self._decode = decode
        # Replaced, never changed: other threads, with event loops of their own, may be reading it.
        self._loops: dict[asyncio.AbstractEventLoop, _Loop] = {}
        self._lock = threading.Lock()
        self._reached = False
        self.closings = 0
        """How often it was closed; followers from before the last time have ended."""
        lanes.on_close(self.close)

    def use_distributed(self) -> None:
        """Use the statements for distributed tables from now on."""
        self._sql = FollowingStatements(self._sql.tables, distributed=True)

    def follow(self, key: Key, after: int | Version | None) -> Follower:
        """A follower of a session; `after` as in `PsqlpySessionService.follow`."""
        return Follower(self, key, after)

    def enter(self, key: Key) -> Watcher[Key, Version]:
        """Give the watcher of the running event loop, and tell it of changes of this session from now on."""
        loop = asyncio.get_running_loop()
        here = self._loops.get(loop)
        if here is None:
            watcher = Watcher(self._changed, self.settings.fastest_sec, self.settings.slowest_sec)
            here = _Loop(watcher)
            with self._lock:
                open_ones = {each: there for each, there in self._loops.items() if not each.is_closed()}
                self._loops = open_ones | {loop: here}
        here.enter(key)
        if here.notifications is None and isinstance(self._config, PsqlpyConfig):
            here.notifications = Notifications(self._config, self._channel, here)
        return here.watcher

    def leave(self, loop: asyncio.AbstractEventLoop, key: Key) -> None:
        """Undo `enter` in that loop, which is the running one or was closed."""
        if (here := self._loops.get(loop)) is not None:
            here.leave(key)

    def appended(self, key: Key) -> None:
        """Note that this process has changed a session: its followers here need not wait for a look."""
        if self._loops:
            self._everywhere(lambda there: there.watcher.wake(key))

    def close(self) -> None:
        """End all followers with an error."""
        self.closings += 1
        self._everywhere(_Loop.close)

    def _everywhere(self, do: Callable[[_Loop], None]) -> None:
        here = asyncio.get_running_loop()
        for loop, there in self._loops.items():
            if loop is here:
                do(there)
            elif not loop.is_closed():
                loop.call_soon_threadsafe(do, there)

    async def page(self, key: Key, after: int) -> Page | None:
        """Read the next events of a session after a `seq`; `None` if there is no such session."""
        rows = await self.patiently(
            lambda: self._read(self._sql.events_after, [*key, after, PAGE_EVENTS, PAGE_BYTES], _PAGE)
        )
        if not rows:
            return None
        create_time, revision, standby, id_at, seqs, *columns = rows[0]
        app_name, user_id, session_id = key
        place = f"session {session_id!r} of user {user_id!r} in app {app_name!r}"
        events = await self._decode(key, [tuple(columns)], place)
        return Page(Version(revision, create_time), standby, id_at, seqs or [], events)

    async def look(self, key: Key) -> Version | None:
        """The present version of a session; `None` if there is none."""
        rows = await self.patiently(lambda: self._look([(key, None)]))
        if not rows:  # there is no session, as was known
            return None
        ((_, revision, create_time),) = rows
        return Version(revision, create_time)

    async def patiently(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """Retry while the server is unreachable, for at most `patience_sec`.

        Before the server has answered for the first time, there is no retry: a wrong address or password is
        an error at once. If a server answers but refuses the statement, that is tried only once more, because
        waiting would not help.
        """
        deadline = time.monotonic() + self.settings.patience_sec
        refused = False
        while True:
            try:
                result = await call()
            except Error:
                if not self._reached:
                    raise
                answers = await self._answers()
                if (answers and refused) or time.monotonic() >= deadline:
                    raise
                refused = answers
            else:
                self._reached = True
                return result
            await asyncio.sleep(_PAUSE_SEC)

    async def _answers(self) -> bool:
        try:
            await self._lanes.fetch(self._sql.alive, [], kind="read", repeat=Repeat.NEVER)
        except Error:
            return False
        return True

    async def _changed(self, known: Sequence[tuple[Key, Version]]) -> list[Key]:
        rows = await self.patiently(lambda: self._look(known))
        return [known[place - 1][0] for place, _, _ in rows]

    async def _look(self, known: Sequence[tuple[Key, Version | None]]) -> list[Row]:
        values: list[list[bytes | None]] = []
        for key, version in known:
            revision = create_time = None
            if version is not None:
                revision = version.revision.to_bytes(8, "big")
                create_time = binary.timestamptz(round(version.create_time * 1e6))
            values.append([*(part.encode() for part in key), revision, create_time])
        return await self._read(
            self._sql.changed, list(binary.arrays(_KNOWN, values)), {"create_time": binary.seconds}
        )

    async def _channel(self) -> str | None:
        """The channel that the session table's trigger notifies, if it has one."""
        recorded: dict[str, str] = dict(await self._read(self._sql.metadata, []))
        return recorded.get("notify")


class _Loop:
    """The watcher and the listener of one event loop."""

    __slots__ = ("_payloads", "notifications", "watcher")

    def __init__(self, watcher: Watcher[Key, Version]) -> None:
        self.watcher = watcher
        self.notifications: Notifications | None = None
        self._payloads: dict[str, Key] = {}

    def enter(self, key: Key) -> None:
        self.watcher.enter(key)
        self._payloads[payload_of(*key)] = key

    def leave(self, key: Key) -> None:
        self.watcher.leave(key)
        if key not in self.watcher.watched:
            del self._payloads[payload_of(*key)]
        if not self._payloads:
            self._stop_listening()

    def listening(self, channel_works: bool) -> None:
        """Notifications have begun to come, or have ended."""
        self.watcher.told = channel_works

    def notified(self, payload: str) -> None:
        """A session was written to. This may be the payload of its notification."""
        if (key := self._payloads.get(payload)) is not None:
            self.watcher.wake(key)

    def close(self) -> None:
        self.watcher.close("the store was closed while its sessions were followed")
        self._stop_listening()

    def _stop_listening(self) -> None:
        if self.notifications is not None:
            self.notifications.stop()
            self.notifications = None
