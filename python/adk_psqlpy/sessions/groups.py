"""Sending queued appends together, in one statement with one commit."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final

from psqlpy.exceptions import Error

from adk_psqlpy.connections import binary
from adk_psqlpy.connections.lane import HOLD_UP_SEC
from adk_psqlpy.connections.lanes import Lanes, Row
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.sessions.histories import Origin
from adk_psqlpy.sql import Statements, event_columns
from adk_psqlpy.sql.delegated import DelegatedStatements
from adk_psqlpy.telemetry import Telemetry

# How many groups are under way at once: while one waits for its commit, another one is executed.
RUNNING: Final = 2
# The limits of a group, so that it does not take long: events, and their bytes.
LONGEST: Final = 128
LARGEST: Final = 1 << 20
# On a node of a cluster two groups at once would be half as long each, and cost more (32 writers, two nodes).
RUNNING_ON_NODE: Final = 1
LONGEST_ON_NODE: Final = 32

_TYPES: Final = (
    *("varchar", "varchar", "varchar", "bigint", "timestamptz", "timestamptz", "varchar", "jsonb"),
    *event_columns.TYPES.values(),
)

Key = tuple[str, str, str]


class Append:
    """An event to be appended, without deltas of shared state."""

    __slots__ = ("future", "group_size", "key", "origin", "revision", "size", "values", "version")

    def __init__(
        self, key: Key, revision: int, values: list[bytes | None], origin: Origin | None = None
    ) -> None:
        """`values`, in binary format: the session's create_time, its update_time, the id of an event that was
        seen in it, its delta, and the event's columns. With an `origin` the row's version is asked for."""
        self.origin = origin
        self.version: int | None = None
        """Of the row that was stored, if it is known: not of one that travelled with others."""
        self.key = key
        self.revision = revision
        self.values = values
        self.group_size: int | None = None
        """The number of appends in its statement; `None` if it was sent alone."""
        self.size = sum(len(value) for value in values if value is not None)
        self.future: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    def succeed(self, revision: int | None) -> None:
        """Tell whoever still waits."""
        if not self.future.done():
            self.future.set_result(revision)

    def parameters(self) -> list[object]:
        """As `Statements.append_event` takes them."""
        return [
            *self.key,
            self.revision,
            *map(binary.parameter, self.values),
        ]

    def stored(self, rows: list[Row]) -> int | None:
        """Take what its own statement gave: the new revision, `None` where nothing was written."""
        if not rows:
            return None
        revision, *version = rows[0]
        self.version = version[0] if version else None
        return int(revision)

    def row(self) -> list[bytes | None]:
        """The values as `binary.arrays` takes them, for `Statements.append_group`."""
        app_name, user_id, session_id = self.key
        return [
            app_name.encode(),
            user_id.encode(),
            session_id.encode(),
            self.revision.to_bytes(8, "big"),
            *self.values,
        ]


class AppendGroups:
    """Appends of one event loop.

    If nothing is under way, an append is sent by itself. Appends that come meanwhile form a group. It is sent
    at the end of the event loop's round if fewer than `RUNNING` are under way, or else when one of those
    ends. By then the callers whose last append has ended have sent the next one. So nobody waits for a timer.
    """

    def __init__(
        self,
        lanes: Lanes,
        sql: Statements,
        telemetry: Telemetry,
        lock_waits: asyncio.Semaphore,
        shard_of: Callable[[str], int] | None = None,
    ) -> None:
        """Send by `lanes`; tell `telemetry` how large the groups are. `lock_waits` says how many appends may
        wait for a lock at once.

        With `DelegatedStatements` all appends must be to users of one node. `shard_of` gives a user's shard.
        """
        self._shard_of = shard_of
        self._lock_waits = lock_waits
        self._telemetry = telemetry
        self._lanes = lanes
        self._sql = sql
        self._queue: deque[Append] = deque()
        on_node = isinstance(sql, DelegatedStatements)
        self._longest = LONGEST_ON_NODE if on_node else LONGEST
        self._most = RUNNING_ON_NODE if on_node else RUNNING
        self._running = 0
        self._flushing = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def append(self, append: Append) -> int | None:
        """Append, and return the new revision; `None` if nothing was written, as in `append_event`."""
        if self._running == 0 and not self._flushing:
            return await self._first(append)
        self._queue.append(append)
        self._flush_soon()
        return await append.future

    async def _first(self, append: Append) -> int | None:
        turn = self._begin()
        try:
            return await self._alone(append)
        finally:
            turn.end()

    def _begin(self) -> _Turn:
        self._running += 1
        return _Turn(self)

    def ended(self) -> None:
        """A statement has ended: the next group may be sent."""
        self._running -= 1
        self._flush_soon()

    def _flush_soon(self) -> None:
        if self._queue and not self._flushing and self._running < self._most:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        while self._queue and self._running < self._most and (group := self._next()):
            self._spawn(self._group(group, self._begin()), group)

    def _spawn(self, work: Coroutine[Any, Any, None], group: list[Append]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda task: _tell(task, group))

    def _next(self) -> list[Append]:
        """Take the next group from the queue in the order of arrival, at most one append of a session."""
        group: dict[Key, Append] = {}
        later: list[Append] = []
        size = 0
        while self._queue and len(group) < self._longest and size < LARGEST:
            append = self._queue.popleft()
            if append.future.done():  # cancelled while it queued: never sent
                continue
            if append.key in group:
                later.append(append)
                continue
            group[append.key] = append
            size += append.size
        self._queue.extendleft(reversed(later))
        shard_of = self._shard_of
        if shard_of is None:
            return list(group.values())
        return sorted(group.values(), key=lambda append: shard_of(append.key[1]))

    async def _group(self, group: list[Append], turn: _Turn) -> None:
        try:
            if len(group) == 1:
                await self._by_itself(group[0])
                return
            revisions = await self._together(group)
            for place, append in enumerate(group, start=1):
                append.group_size = len(group)
                if (revision := revisions.get(place)) is not None:
                    append.succeed(revision)
                elif not append.future.done():
                    # It is locked or stale, or its group failed. A statement of its own tells which.
                    self._spawn(self._waiting(append), [append])
        finally:
            turn.end()

    async def _together(self, group: list[Append]) -> dict[int, int]:
        """Send a group, and return the new revisions by place, from 1. An append without one has to be sent
        alone.
        """
        self._telemetry.record_group(len(group))
        parameters: list[object] = [*binary.arrays(_TYPES, [append.row() for append in group])]
        if isinstance(self._sql, DelegatedStatements):
            _, user_id, _ = group[0].key
            parameters.append(user_id)
        try:
            return dict(await self._lanes.fetch(self._sql.append_group, parameters, repeat=Repeat.GUARDED))
        except Error:
            # The failure of one event is not that of the others.
            return {}

    async def _waiting(self, append: Append) -> None:
        async with self._lock_waits:
            if not append.future.done():
                await self._by_itself(append)

    async def _by_itself(self, append: Append) -> None:
        append.succeed(await self._alone(append))

    async def _alone(self, append: Append) -> int | None:
        origin = append.origin or ()
        sql = self._sql.append_event(app=False, user=False, versions=bool(origin))
        parameters = [*append.parameters(), *origin]
        return append.stored(await self._lanes.fetch(sql, parameters, repeat=Repeat.GUARDED))


def _tell(task: asyncio.Task[None], group: list[Append]) -> None:
    """Raise a task's failure to those who wait for it."""
    error = None if task.cancelled() else task.exception()
    for append in group:
        if append.future.done():
            continue
        if task.cancelled():
            append.future.cancel()
        elif error is not None:
            append.future.set_exception(error)


class _Turn:
    """One of the `RUNNING`. It ends early if it takes long, so that a locked session holds up no other."""

    __slots__ = ("_ended", "_groups", "_timer")

    def __init__(self, groups: AppendGroups) -> None:
        self._groups = groups
        self._ended = False
        self._timer = asyncio.get_running_loop().call_later(HOLD_UP_SEC, self.end)

    def end(self) -> None:
        if not self._ended:
            self._ended = True
            self._timer.cancel()
            self._groups.ended()
