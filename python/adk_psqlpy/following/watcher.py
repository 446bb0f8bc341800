"""Waiting for changes: one statement asks for everybody who waits."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Hashable, Sequence
from typing import Final, Generic, TypeVar

from adk_psqlpy.errors import FollowingClosedError

# The wait between two looks, as a share of the time since the last change. After 10 s of silence, an event is
# seen 0.05 s late on average; there were 230 looks in these 10 s.
SHARE: Final = 1 / 100
# Looks take at most this share of the time, whatever the number of watched sessions.
MOST_OF_THE_TIME: Final = 1 / 4

K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=Hashable)
Ask = Callable[[Sequence[tuple[K, V]]], Awaitable[Sequence[K]]]


class Watcher(Generic[K, V]):
    """Waits, in one event loop, until a thing is no longer as somebody knows it.

    If nobody waits, nothing runs. All methods run in the event loop that made it.
    """

    def __init__(self, ask: Ask[K, V], fastest_sec: float, slowest_sec: float) -> None:
        """`ask(known)` tells which keys no longer have the values that are known. Its error is raised to
        everybody who waits.
        """
        self._loop = asyncio.get_running_loop()
        self._ask = ask
        self._fastest_sec = fastest_sec
        self._slowest_sec = slowest_sec
        self._waiting: dict[K, dict[asyncio.Future[None], V]] = {}
        # How many watch a thing, waiting or not, and how many changes of it were announced meanwhile.
        self._watching: Counter[K] = Counter()
        self._changes: Counter[K] = Counter()
        self.told = False
        """Whether changes are announced at once. Looking then only finds announcements that were lost."""
        self._changed_at = self._loop.time()
        self._due = self._changed_at
        self._took_sec = 0.0
        self._alarm: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    def enter(self, key: K) -> None:
        """Begin to watch a thing: count announced changes, also while nobody waits."""
        self._watching[key] += 1

    def leave(self, key: K) -> None:
        """End what `enter` began."""
        self._watching[key] -= 1
        if not self._watching[key]:
            del self._watching[key]
            self._changes.pop(key, None)

    @property
    def watched(self) -> Collection[K]:
        """What is watched."""
        return self._watching.keys()

    def changes(self, key: K) -> int:
        """How many changes of it were announced. Ask this before reading the thing, and give it to `wait`
        afterwards.
        """
        return self._changes[key]

    async def wait(self, key: K, known: V, changes: int) -> None:
        """Return when the thing is, or may be, no longer as known. It may be cancelled.

        Raises:
            FollowingClosedError: it was closed meanwhile.
            psqlpy.exceptions.Error: the server could not be asked.
        """
        if self._changes[key] != changes:
            return
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting.setdefault(key, {})[future] = known
        if self._task is None:
            self._due = self._loop.time() + self._pace()
            self._start()
        else:
            self._look_at(self._loop.time() + self._pace())
        try:
            await future
        finally:
            self._forget(key, future)

    def wake(self, key: K) -> None:
        """Announce that a thing has probably changed."""
        if key not in self._watching:
            return
        self._changes[key] += 1
        self._changed_at = self._loop.time()
        for future in self._waiting.get(key, ()):
            if not future.done():
                future.set_result(None)

    def close(self, reason: str) -> None:
        """End all waiting with an error."""
        self._fail(FollowingClosedError(reason))
        self._stop()

    def _start(self) -> None:
        self._task = self._loop.create_task(self._watch())
        self._task.add_done_callback(self._watched)

    def _stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    def _forget(self, key: K, future: asyncio.Future[None]) -> None:
        waiting = self._waiting[key]
        del waiting[future]
        if not waiting:
            del self._waiting[key]
            if not self._waiting:
                self._stop()

    def _pace(self) -> float:
        if self.told:
            return self._slowest_sec
        silence = self._loop.time() - self._changed_at
        wanted = max(self._fastest_sec, silence * SHARE, self._took_sec / MOST_OF_THE_TIME)
        return min(wanted, self._slowest_sec)

    def _look_at(self, when: float) -> None:
        if when < self._due:
            self._due = when
            if self._alarm is not None and not self._alarm.done():
                self._alarm.set_result(None)

    async def _watch(self) -> None:
        while self._waiting:
            await self._until_due()
            if not self._waiting:
                return
            known = list(
                dict.fromkeys((key, value) for key, each in self._waiting.items() for value in each.values())
            )
            began = self._loop.time()
            changed = await self._ask(known)
            self._took_sec = self._loop.time() - began
            for key in changed:
                self.wake(key)
            self._due = self._loop.time() + self._pace()

    async def _until_due(self) -> None:
        while self._due > self._loop.time():
            self._alarm = self._loop.create_future()
            timer = self._loop.call_at(self._due, _ring, self._alarm)
            try:
                await self._alarm
            finally:
                timer.cancel()
                self._alarm = None

    def _watched(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if self._task is not task:  # stopped
            return
        self._task = None
        if error is not None:
            self._fail(error)
        elif self._waiting and not task.cancelled():
            self._start()  # somebody began to wait while this ended

    def _fail(self, error: BaseException) -> None:
        for waiting in self._waiting.values():
            for future in waiting:
                if not future.done():
                    future.set_exception(error)


def _ring(alarm: asyncio.Future[None]) -> None:
    if not alarm.done():
        alarm.set_result(None)
