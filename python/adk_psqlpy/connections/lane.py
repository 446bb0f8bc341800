"""A connection that statements are pipelined on, and a statement on its way."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final, Literal

from psqlpy import Connection, QueryResult

from adk_psqlpy.connections.retry import Repeat

# A statement that runs longer than this counts as slow, and statements behind it move to another connection.
# Lanes are checked at intervals of half of this, so the wait behind a slow statement ends within 1.5 times
# this.
HOLD_UP_SEC: Final = 0.1

Verdict = Literal["broken", "read-only", "sound"]


class NotOpenedError(Exception):
    """There was no connection, so the statement was not sent. `__cause__` says why."""


class Call:
    """One statement, which may be under way on more than one lane."""

    __slots__ = (
        "_empty",
        "asked",
        "future",
        "lane",
        "on",
        "parameters",
        "ran_sec",
        "repeat",
        "sql",
        "waited_sec",
    )

    def __init__(self, sql: str, parameters: list[Any], repeat: Repeat) -> None:
        self.sql = sql
        self.parameters = parameters
        self.asked = time.perf_counter()
        self.waited_sec = 0.0
        """Seconds for which no lane could take it."""
        self.repeat = repeat
        self.future: asyncio.Future[QueryResult] = asyncio.get_running_loop().create_future()
        self.lane: Lane | None = None
        self.on: set[Lane] = set()
        """Where it is under way."""
        self.ran_sec = 0.0
        """Seconds for which the server had it before it failed."""
        self._empty: QueryResult | None = None

    @property
    def movable(self) -> bool:
        return self.repeat in (Repeat.READ, Repeat.GUARDED)

    def succeed(self, result: QueryResult) -> None:
        if self.future.done():
            return
        if self.on and self.repeat is Repeat.GUARDED and not result.result(as_tuple=True):
            # It is under way on another lane as well. An empty result may mean that the other one came first.
            self._empty = result
            return
        self.future.set_result(result)

    def fail(self, lane: Lane, error: BaseException) -> None:
        if self.future.done() or self.on:
            return
        if self._empty is not None:
            self.future.set_result(self._empty)
            return
        self.lane = lane
        self.future.set_exception(error)


class Lane:
    """A connection and its statements in flight, in the order in which the server runs them."""

    __slots__ = ("calls", "connection", "head_since", "leaving", "probe")

    def __init__(self, connection: Connection, now: float) -> None:
        self.connection = connection
        self.calls: dict[Call, asyncio.Task[None]] = {}
        self.head_since = now
        """Since when the first statement runs; for an idle lane, since when it is idle."""
        self.leaving = False
        self.probe: asyncio.Task[Verdict] | None = None

    def slow(self, now: float) -> bool:
        return bool(self.calls) and now - self.head_since > HOLD_UP_SEC

    def holds_up(self, call: Call, now: float) -> bool:
        """Whether a call of this lane waits behind a slow one."""
        return self.slow(now) and call is not next(iter(self.calls))
