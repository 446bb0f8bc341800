"""Sending reads that may be a little old to a standby if it has caught up far enough, else to the primary."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

from psqlpy.exceptions import Error

from adk_psqlpy.connections.lanes import Decoders, Lanes, Row
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.connections.sources import Kind
from adk_psqlpy.errors import OperationTimeoutError
from adk_psqlpy.sql.replica import POSITION, REPLAYED
from adk_psqlpy.telemetry import current

PAUSE_SEC: Final = 1.0
"""Seconds for which a failed replica is not used. Each further failure doubles them."""

LONGEST_PAUSE_SEC: Final = 30.0


@dataclass(frozen=True, slots=True)
class _Mark:
    """A position of the primary's WAL: everything that was acknowledged before `taken` lies before it."""

    position: int
    timeline: str
    taken: float
    written: int
    """How many writes this process had ended by then."""


class Replica:
    """A primary and one standby of it. `fetch` runs a read on one that may answer it.

    Two things hold for each answer, whichever server gives it:

    - It contains every write that this process had finished, through the same configuration, before the read
      began.
    - It contains every write that anybody had finished `staleness_sec` before the read began.

    Both follow from one comparison. The primary is asked for its position in the WAL after each write of this
    process, and otherwise once in `staleness_sec`. The standby may answer once it has replayed up to that
    position. Its own position is asked in a separate statement before the read, because a snapshot may be
    older than the position that the same statement reports. A standby only replays forward, so one answer is
    valid until the next position.

    The primary answers if the standby is behind, unreachable, promoted or cut off from the primary, or if the
    read fails there (a conflict with recovery: manual, 26.4.2).
    """

    def __init__(self, primary: Lanes, standby: Lanes, staleness_sec: float) -> None:
        self._primary = primary
        self._standby = standby
        self._staleness_sec = staleness_sec
        self._mark: _Mark | None = None
        self._replayed = -1
        self._pause_sec = PAUSE_SEC
        self._left_alone_until = 0.0

    async def fetch(
        self,
        sql: str,
        parameters: list[Any],
        decoders: Decoders | None = None,
        *,
        kind: Kind = "read",
        staleness_sec: float | None = None,
    ) -> list[Row]:
        """Run a statement that only reads; give its rows as tuples.

        `staleness_sec` is another bound for this read.

        Raises: as `Lanes.fetch`. An `OperationTimeoutError` of the standby is not tried again on the primary,
            which would take as long.
        """
        bound = self._staleness_sec if staleness_sec is None else staleness_sec
        if await self._may_answer(bound):
            try:
                rows = await self._standby.fetch(sql, parameters, decoders, kind=kind, repeat=Repeat.READ)
            except OperationTimeoutError:
                raise
            except Error:
                # The driver's errors differ only in translatable text. If the statement is at fault, the
                # primary fails in the same way.
                self._leave_alone()
            else:
                self._pause_sec = PAUSE_SEC
                if (operation := current()) is not None:
                    operation.replica = True
                return rows
        return await self._primary.fetch(sql, parameters, decoders, kind=kind, repeat=Repeat.READ)

    async def _may_answer(self, bound: float) -> bool:
        now = time.monotonic()
        if now < self._left_alone_until:
            return False
        mark = self._mark
        if mark is None or mark.written != self._primary.written or mark.taken <= now - bound:
            mark = await self._take_mark()
        if self._replayed < mark.position:
            try:
                ((replayed,),) = await self._standby.fetch(REPLAYED, [], kind="read", repeat=Repeat.READ)
            except Error:
                self._leave_alone()
                return False
            if replayed is None:
                self._leave_alone()
                return False
            self._replayed = replayed
        return self._replayed >= mark.position

    async def _take_mark(self) -> _Mark:
        written, taken = self._primary.written, time.monotonic()
        rows = await self._primary.fetch(POSITION, [], kind="read", repeat=Repeat.READ)
        ((position, timeline),) = rows
        mark = _Mark(position, timeline, taken, written)
        if self._mark is not None and self._mark.timeline != timeline:
            # A failover. The standby's last answer was about the timeline before.
            self._replayed = -1
        if self._mark is None or self._mark.taken < taken:  # another task's may be newer
            self._mark = mark
        return mark

    def _leave_alone(self) -> None:
        self._replayed = -1  # the server that answers there next may be another one, or one that was restored
        self._left_alone_until = time.monotonic() + self._pause_sec
        self._pause_sec = min(2 * self._pause_sec, LONGEST_PAUSE_SEC)


class PrimaryOnly:
    """The same `fetch` where no replica is configured."""

    def __init__(self, primary: Lanes) -> None:
        self._primary = primary

    async def fetch(
        self,
        sql: str,
        parameters: list[Any],
        decoders: Decoders | None = None,
        *,
        kind: Kind = "read",
        staleness_sec: float | None = None,  # noqa: ARG002 - the primary is never behind
    ) -> list[Row]:
        """Run a statement that only reads; give its rows as tuples. Raises: as `Lanes.fetch`."""
        return await self._primary.fetch(sql, parameters, decoders, kind=kind, repeat=Repeat.READ)


Reads = Replica | PrimaryOnly
"""Where reads go that may be a little old."""


def reads_of(config: object, lanes: Lanes) -> Reads:
    """Where reads of a configuration go that may be a little old. For another package's configuration, to its
    `lanes`.
    """
    reads = getattr(config, "reads", None)
    return reads if isinstance(reads, Reads) else PrimaryOnly(lanes)
