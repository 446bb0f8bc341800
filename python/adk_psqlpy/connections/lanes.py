"""Sending the package's own statements: pipelined, and repeated where that is safe."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakMethod

from psqlpy.exceptions import Error

from adk_psqlpy import telemetry
from adk_psqlpy.connections.lane import Call, NotOpenedError
from adk_psqlpy.connections.lane_set import LaneSet, make_room
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.connections.sources import Borrowed, ConnectionSource, Kind, LendsConnections
from adk_psqlpy.errors import OperationTimeoutError, PoolTimeoutError

Decoders = dict[str, Callable[[bytes], Any]]
"""Functions that decode a column's binary value, by lower-case column name. They are not called for NULL."""

Row = tuple[Any, ...]


class Lanes:
    """Runs single statements, each a transaction by itself, on few connections that many tasks share.

    PostgreSQL runs the statements of a connection one after another. psqlpy sends the next one without
    waiting for the answer to the one before. A statement leaves nothing behind on its connection; if its task
    is cancelled, it runs on. A slow statement holds up others for at most 1.5 times `HOLD_UP_SEC`, as long as
    there are connections that are not slow. Writes that cannot be sent twice (`Repeat`) get a connection with
    nothing in flight, if there is one.

    It may be used in several event loops, one after another or each in a thread of its own.
    """

    def __init__(self, source: ConnectionSource) -> None:
        """Take connections from `source`, as its `lane_settings` say."""
        self._source = source
        self._sets: dict[asyncio.AbstractEventLoop, dict[float | None, LaneSet]] = {}
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self.written = 0
        """How many writes have ended, successfully or not. A replica may not have them yet."""
        self._closed: list[WeakMethod[Callable[[], None]]] = []

    def on_close(self, tell: Callable[[], None]) -> None:
        """Call a method at each `close`, for as long as its object lives."""
        self._closed = [*(each for each in self._closed if each() is not None), WeakMethod(tell)]

    async def fetch(
        self,
        sql: str,
        parameters: list[Any],
        decoders: Decoders | None = None,
        *,
        kind: Kind = "write",
        repeat: Repeat = Repeat.NEVER,
    ) -> list[Row]:
        """Run one statement, and return its rows as tuples.

        It is sent again, as `repeat` allows and for at most `retry_sec`, if the connection breaks, if the
        server is starting or in recovery, or if a write meets a read-only server.

        Raises:
            psqlpy.exceptions.Error: the server refused it, or could not be reached.
            OperationTimeoutError: it ran longer than the timeout set for its `kind`.
            PoolTimeoutError: the pool had no connection for it.
        """
        pauses: Iterator[float] | None = None
        attempts = 0
        while True:
            lanes = self._of(kind)
            call = Call(sql, parameters, repeat)
            attempts += 1
            try:
                try:
                    result = await lanes.run(call)
                finally:
                    self.written += kind == "write"
            except NotOpenedError as failure:
                error = failure.__cause__ or failure
                again = not isinstance(error, PoolTimeoutError) and await self._source.may_pass(error)
            except Error as failure:
                error = failure
                again = await self._may_repeat(lanes, call, kind)
                if not again and lanes.timeout_sec is not None and call.ran_sec >= lanes.timeout_sec:
                    raise OperationTimeoutError(
                        f"PostgreSQL stopped a {kind} after {lanes.timeout_sec} s ({kind}_timeout_sec of "
                        f"pool_config) and undid it; nothing was changed: {failure}"
                    ) from failure
            else:
                rows: list[Row] = result.result(as_tuple=True, custom_decoders=decoders)
                if (operation := telemetry.current()) is not None:
                    operation.lane_wait = call.waited_sec
                    operation.retries += attempts - 1
                    operation.rows = len(rows)
                return rows
            if pauses is None:
                pauses = self._source.lane_settings.retry.pauses()
            pause = next(pauses, None) if again else None
            if pause is None:
                raise _told(error, attempts, again)
            await asyncio.sleep(pause)

    async def _may_repeat(self, lanes: LaneSet, call: Call, kind: Kind) -> bool:
        verdict = await lanes.examine(call)
        if verdict == "read-only" and kind == "write":
            # The server refused the statement before it did anything.
            lanes.end(call)
            return True
        return verdict == "broken" and call.repeat is not Repeat.NEVER

    async def batch(self, sql: str) -> None:
        """Run several statements as one simple query (one transaction), on a connection of their own."""
        if not self._source.has_room():
            self.make_room()
        connection = await self._source.acquire()
        try:
            await connection.execute_batch(sql)
        finally:
            self.written += 1
            self._source.give_back(connection)

    def _of(self, kind: Kind) -> LaneSet:
        loop = asyncio.get_running_loop()
        if os.getpid() != self._pid:  # forked: the connections are the parent's
            self._sets, self._lock, self._pid = {}, threading.Lock(), os.getpid()
        settings = self._source.lane_settings
        timeout_sec = settings.timeouts_sec.get(kind)
        sets = self._sets.get(loop)
        if sets is None:
            with self._lock:
                self._sweep()
                sets = self._sets[loop] = {}
        found = sets.get(timeout_sec)
        if found is None:
            found = sets[timeout_sec] = LaneSet(self._source, self.limit, timeout_sec, sets)
        return found

    @property
    def limit(self) -> int:
        """How many connections the statements of one kind may take."""
        settings = self._source.lane_settings
        shares = len({settings.timeouts_sec.get(each) for each in ("read", "list", "write")})
        return max(1, settings.limit // shares)

    def _sweep(self) -> None:
        for loop in [loop for loop in self._sets if loop.is_closed()]:
            for lanes in self._sets.pop(loop).values():
                lanes.abandon()

    @property
    def held(self) -> int:
        """How many connections are kept, including idle ones."""
        return sum(lanes.held for sets in self._sets.values() for lanes in sets.values())

    @property
    def in_flight(self) -> int:
        """How many statements the server has not answered yet. Those whose callers were cancelled are
        included.
        """
        return sum(lanes.in_flight for sets in self._sets.values() for lanes in sets.values())

    def make_room(self) -> None:
        """Give a connection back soon, if there is more than one: somebody waits for the pool."""
        make_room(self._sets.get(asyncio.get_running_loop(), {}).values(), keep=1)

    def close(self) -> None:
        """Give the connections back; statements in flight are still answered, new ones open lanes anew."""
        for method in self._closed:
            if (tell := method()) is not None:
                tell()
        with self._lock:
            self._sweep()
            here = asyncio.get_running_loop()
            everywhere, self._sets = self._sets, {}
        for loop, sets in everywhere.items():
            for lanes in sets.values():
                if loop is here:
                    lanes.close()
                else:
                    loop.call_soon_threadsafe(lanes.close)


def lanes_of(config: LendsConnections) -> Lanes:
    """The lanes of a configuration. All services that share a `PsqlpyConfig` share its lanes.

    For another package's configuration, each caller gets lanes of its own.
    """
    shared = getattr(config, "lanes", None)
    if isinstance(shared, Lanes):
        return shared
    if not isinstance(config, LendsConnections):
        raise ValueError(
            f"config must be a PsqlpyConfig, or have provide_connection() of psqlpy connections, not "
            f"{type(config).__name__}"
        )
    return Lanes(Borrowed(config))


def _told(error: BaseException, attempts: int, again: bool) -> BaseException:
    """The error to raise after the last try, with the number of tries."""
    if not again or attempts == 1:
        return error
    told = type(error)(f"{error} (tried {attempts} times; retry_sec of pool_config says for how long)")
    told.__cause__ = error
    return told
