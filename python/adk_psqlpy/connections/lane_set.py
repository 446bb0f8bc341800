"""Choosing a lane for each statement, opening and closing lanes, and moving statements between them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from psqlpy import QueryResult
from psqlpy.exceptions import Error

from adk_psqlpy.connections.lane import HOLD_UP_SEC, Call, Lane, NotOpenedError, Verdict
from adk_psqlpy.connections.lease import END, send_only
from adk_psqlpy.connections.pooler import fetch_within
from adk_psqlpy.connections.sources import ConnectionSource

logger = logging.getLogger("adk_psqlpy.connections.lanes")

# If the best connection has this many statements in flight, another one is opened. Measured with 32
# concurrent readers on 2 cores: see docs/design.md, "Lanes".
DEEP: Final = 4
# A connection that was idle for this long goes back to the pool.
IDLE_SEC: Final = 30.0

_PROBE: Final = "SELECT current_setting('transaction_read_only')"


def make_room(lane_sets: Iterable[LaneSet], keep: int) -> None:
    """Free a connection for somebody else. If there are more than `keep` lanes, the least useful one is
    dropped.
    """
    leavers = [leaver for lanes in lane_sets for leaver in lanes.leavers()]
    if len(leavers) > keep:
        _, lanes, lane = min(leavers, key=lambda leaver: leaver[0])
        lanes.drop(lane)


class LaneSet:
    """Lanes of one event loop and one `statement_timeout`. All methods run in that loop."""

    def __init__(
        self,
        source: ConnectionSource,
        limit: int,
        timeout_sec: float | None,
        together: Mapping[float | None, LaneSet],
    ) -> None:
        """Open lanes from `source` as they are needed, `limit` at most.

        `together` holds this set and those of other timeouts. If `source` has no connection left, a set
        without a lane gets one from the others.
        """
        self._loop = asyncio.get_running_loop()
        self._source = source
        self._limit = limit
        self._together = together
        self.timeout_sec = timeout_sec
        self._in_transactions = False
        """Whether each statement sets its limit in a transaction of its own. It then needs its lane to
        itself.
        """
        self._lanes: list[Lane] = []
        self._leaving: set[Lane] = set()
        self._patient: deque[Call] = deque()
        self._opening: asyncio.Task[None] | None = None
        self._watching: asyncio.TimerHandle | None = None
        self._reaping: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """How many lanes take statements."""
        return len(self._lanes)

    def leavers(self) -> Iterator[tuple[tuple[bool, bool, int], LaneSet, Lane]]:
        """Yield the lanes, each with a measure of how much would be lost if it were dropped now."""
        now, last = self._loop.time(), len(self._lanes) == 1
        for lane in self._lanes:
            # The connection of a slow lane would not be free for a while.
            yield (lane.slow(now), last, len(lane.calls)), self, lane

    @property
    def starting(self) -> bool:
        """Whether the set waits for its first lane."""
        return self._opening is not None and not self._lanes

    @property
    def held(self) -> int:
        """How many connections are kept. Lanes that leave after their last answer are included."""
        return len(self._lanes) + len(self._leaving)

    @property
    def in_flight(self) -> int:
        """How many statements the server has not answered yet."""
        return sum(len(lane.calls) for lane in (*self._lanes, *self._leaving))

    async def run(self, call: Call) -> QueryResult:
        """Send a statement on the lane that will answer soonest, and wait for the answer.

        If the task is cancelled, the statement runs on and keeps its place in the lane.

        Raises:
            NotOpenedError: there is no lane, and none could be opened.
        """
        while True:
            lane = self._pick() if call.movable and not self._in_transactions else self._idle()
            if lane is not None:
                self._send(lane, call)
            elif self._may_grow():
                await asyncio.shield(self._open_one())
                continue
            else:
                self._patient.append(call)
                self._watch_soon()
            return await call.future

    def _idle(self) -> Lane | None:
        """A lane with nothing in flight. Only such a lane takes statements that cannot be moved later."""
        return next((lane for lane in self._lanes if not lane.calls), None)

    def _pick(self) -> Lane | None:
        """The lane with the fewest statements in flight; `None` to wait until the first one is open."""
        if (idle := self._idle()) is not None:
            return idle
        best = self._least(self._loop.time())
        if (best is None or len(best.calls) >= DEEP) and self._may_grow():
            self._open_one()
            return best
        return best or min(self._lanes, key=lambda lane: len(lane.calls), default=None)

    def _least(self, now: float) -> Lane | None:
        """Of the lanes that are not slow, the one with the fewest statements in flight."""
        lanes = [lane for lane in self._lanes if not lane.slow(now)]
        if self._patient and len(lanes) > 1:
            # The first lane gets nothing new, so that it becomes idle for those who wait for an idle lane.
            del lanes[0]
        return min(lanes, key=lambda lane: len(lane.calls), default=None)

    def _may_grow(self) -> bool:
        # Lanes are opened one at a time. Beyond the first, only if nobody else waits for the connection.
        return not self._lanes or (len(self._lanes) < self._limit and self._source.has_room())

    def _open_one(self) -> asyncio.Task[None]:
        # A task that is done but whose callback has not run is not reused: awaiting it would never yield to
        # the event loop.
        if self._opening is None or self._opening.done():
            self._opening = self._loop.create_task(self._open())
            self._opening.add_done_callback(self._opened)
        return self._opening

    async def _open(self) -> None:
        if not self._lanes and not self._source.has_room():
            make_room(self._together.values(), keep=0)
        try:
            connection = await self._source.acquire()
            if self.timeout_sec is not None:
                self._in_transactions = await self._source.behind_pooler()
                if not self._in_transactions:
                    await connection.execute_batch(
                        f"SET statement_timeout = {round(self.timeout_sec * 1000)}"
                    )
        except Error as error:
            raise NotOpenedError from error
        lane = Lane(connection, self._loop.time())
        self._lanes.append(lane)
        self._next_patient(lane)
        if self._reaping is None:
            self._reaping = self._loop.call_later(IDLE_SEC / 2, self._reap)

    def _opened(self, task: asyncio.Task[None]) -> None:
        if self._opening is task:
            self._opening = None
        if task.cancelled() or (error := task.exception()) is None:
            return
        logger.debug("a connection was not opened: %s", error.__cause__ or error)
        if not self._lanes:
            self._dismiss(error)

    def _dismiss(self, error: BaseException) -> None:
        """Raise the error to those who wait for an idle lane: there is nothing left to wait for."""
        while self._patient:
            call = self._patient.popleft()
            if not call.future.done():
                call.future.set_exception(error)

    def _send(self, lane: Lane, call: Call) -> None:
        if not lane.calls:
            lane.head_since = self._loop.time()
        else:
            self._watch_soon()
        if not call.on:
            call.waited_sec = time.perf_counter() - call.asked
        call.on.add(lane)
        lane.calls[call] = self._loop.create_task(self._attempt(lane, call))

    async def _attempt(self, lane: Lane, call: Call) -> None:
        try:
            if self._in_transactions and self.timeout_sec is not None:
                result = await fetch_within(lane.connection, call.sql, call.parameters, self.timeout_sec)
            else:
                result = await lane.connection.fetch(call.sql, call.parameters)
        except asyncio.CancelledError:  # the loop is ending
            call.future.cancel()
            raise
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - the caller's, a panic of the driver (no Exception) included
            call.ran_sec = self._loop.time() - lane.head_since
            self._done(lane, call)
            if not isinstance(error, Exception):
                self.drop(lane)
            call.fail(lane, error)
        else:
            self._done(lane, call)
            call.succeed(result)

    def _done(self, lane: Lane, call: Call) -> None:
        del lane.calls[call]
        call.on.remove(lane)
        lane.head_since = self._loop.time()
        if not lane.calls:
            if lane.leaving:
                self._give_back(lane)
            else:
                self._next_patient(lane)
                if not lane.calls:
                    self._help_starting(lane)

    def _help_starting(self, idle: Lane) -> None:
        """Give this lane's connection to a set of another timeout that waits for its first lane."""
        if any(each.starting for each in self._together.values()) and not self._source.has_room():
            self.drop(idle)

    def _next_patient(self, lane: Lane) -> None:
        """Send a statement that waits for an idle lane."""
        while self._patient:
            call = self._patient.popleft()
            if not call.future.done():  # the caller was not cancelled meanwhile
                self._send(lane, call)
                return

    # What waits behind a slow statement.

    def _watch_soon(self) -> None:
        if self._watching is None:
            self._watching = self._loop.call_later(HOLD_UP_SEC / 2, self._watch)

    def _watch(self) -> None:
        now = self._loop.time()
        self._watching = None
        waiting = bool(self._patient)
        if waiting and self._may_grow():
            self._open_one()
        for lane in self._lanes:
            if len(lane.calls) > 1:
                waiting = True
                if lane.slow(now):
                    self._move(lane, now)
        if waiting:
            self._watch_soon()

    def _move(self, slow: Lane, now: float) -> None:
        """Send statements that wait behind a slow one once more, on other lanes.

        Only lanes with few statements take them. If all lanes are busy, the server is busy, and sending
        statements twice would make it worse.
        """
        if self._in_transactions:
            return
        for call in list(slow.calls):
            if not call.movable or call.future.done():
                continue
            if not all(lane.holds_up(call, now) for lane in call.on):
                continue  # it runs already, or will soon
            free = [lane for lane in self._lanes if len(lane.calls) < DEEP and not lane.slow(now)]
            if not free:
                if self._may_grow():
                    self._open_one()
                return
            self._send(min(free, key=lambda lane: len(lane.calls)), call)

    # The end of lanes.

    def _reap(self) -> None:
        now = self._loop.time()
        self._reaping = None
        for lane in [lane for lane in self._lanes if not lane.calls and now - lane.head_since >= IDLE_SEC]:
            self.drop(lane)
        if self._lanes:
            self._reaping = self._loop.call_later(IDLE_SEC / 2, self._reap)

    def drop(self, lane: Lane) -> None:
        """Send nothing more on a lane. Its connection goes back after the last answer."""
        if lane.leaving:
            return
        lane.leaving = True
        self._lanes.remove(lane)
        self._leaving.add(lane)
        if not lane.calls:
            self._give_back(lane)

    def _give_back(self, lane: Lane) -> None:
        self._leaving.remove(lane)
        if self.timeout_sec is not None and not self._in_transactions:
            # Statements of the connection's next user run after this one.
            send_only(lane.connection.execute_batch("RESET statement_timeout"))
        self._source.give_back(lane.connection)

    def close(self) -> None:
        """Drop all lanes; statements in flight are still answered."""
        for handle in (self._watching, self._reaping):
            if handle is not None:
                handle.cancel()
        self._watching = self._reaping = None
        for lane in list(self._lanes):
            self.drop(lane)
        self._dismiss(NotOpenedError("the lanes were closed"))

    def abandon(self) -> None:
        """Give all connections back. The event loop was closed."""
        lanes = [*self._lanes, *self._leaving]
        self._lanes, self._leaving = [], set()
        for lane in lanes:
            lane.leaving = True
            self._source.give_back(lane.connection)

    # What a failure means.

    async def examine(self, call: Call) -> Verdict:
        """Tell the state of a failed statement's connection. A broken one is dropped.

        psqlpy's errors carry no SQLSTATE, so the connection is asked. That is one round trip, after a failure
        only.
        """
        lane = call.lane
        if lane is None:
            return "sound"
        if lane.probe is None:
            lane.probe = self._loop.create_task(self._ask(lane))
        return await asyncio.shield(lane.probe)

    async def _ask(self, lane: Lane) -> Verdict:
        try:
            result = await lane.connection.fetch(_PROBE, [])
        except Error:
            self.drop(lane)
            return "broken"
        finally:
            lane.probe = None
        return "read-only" if result.result(as_tuple=True) == [("on",)] else "sound"

    def end(self, call: Call) -> None:
        """End the connection of a failed statement, so that the pool looks for another server."""
        if call.lane is not None and not call.lane.leaving:
            send_only(call.lane.connection.execute_batch(END))
            self.drop(call.lane)
