"""What an operator sees: OpenTelemetry spans and metrics, and a log line an operation.

Only `opentelemetry-api` is used, so nothing is collected, and next to nothing is spent, until the
application sets up an SDK. Names follow OpenTelemetry's stable conventions for database clients; what they
do not name is under `adk_psqlpy.`. No span, metric or log line of this module holds SQL, parameters,
identifiers of apps, users or sessions, or the text of an exception: PostgreSQL quotes values in its messages.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextvars import ContextVar, Token
from functools import lru_cache, wraps
from types import TracebackType
from typing import Any, Final, Protocol, TypeVar
from weakref import WeakSet

from opentelemetry import context as otel_context
from opentelemetry import metrics, trace
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider
from typing_extensions import ParamSpec

from adk_psqlpy import _native

logger: Final = logging.getLogger("adk_psqlpy.operations")
"""One line at DEBUG an operation: how long, how many rows, retries, how long it waited for a lane."""

# In seconds, as the conventions advise for db.client.operation.duration.
_BOUNDARIES: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
_GROUP_BOUNDARIES: Final = (1, 2, 4, 8, 16, 32, 64, 128)
_SCOPE: Final = ("adk_psqlpy", _native.__version__)
_SCHEMA: Final = "https://opentelemetry.io/schemas/1.36.0"
_POOL: Final = "db.client.connection.pool.name"
_CLIENT: Final = SpanKind.CLIENT

# How an operation ends that nobody waits for any more: that is no error of the operation.
_GIVEN_UP: Final = (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit)

_P = ParamSpec("_P")
_T = TypeVar("_T")

_current: ContextVar[Operation | None] = ContextVar("adk_psqlpy_operation", default=None)


class PoolStatus(Protocol):
    """What psqlpy says of a pool: connections at most, open, and idle; callers that wait for one."""

    max_size: int
    size: int
    available: int
    waiting: int


class Pooled(Protocol):
    """What `Telemetry.watch` needs of a configuration."""

    def pool_status(self) -> PoolStatus | None:
        """What psqlpy says of the pool; `None` while there is none."""
        ...


class _Watched:
    """A pool under the name that its metrics carry. Lives as long as its `Telemetry`."""

    __slots__ = ("__weakref__", "name", "pool")

    def __init__(self, name: str, pool: Pooled) -> None:
        self.name = name
        self.pool = pool


class _Instruments:
    """The instruments of one meter provider: an instrument of a name exists once there."""

    def __init__(self, provider: MeterProvider | None) -> None:
        meter = metrics.get_meter(*_SCOPE, meter_provider=provider, schema_url=_SCHEMA)
        self.pools: WeakSet[_Watched] = WeakSet()
        self.duration = meter.create_histogram(
            "db.client.operation.duration",
            unit="s",
            description="Duration of database client operations.",
            explicit_bucket_boundaries_advisory=_BOUNDARIES,
        )
        self.wait_time = meter.create_histogram(
            "db.client.connection.wait_time",
            unit="s",
            description="The time it took to obtain an open connection from the pool.",
            explicit_bucket_boundaries_advisory=_BOUNDARIES,
        )
        self.retries = meter.create_counter(
            "adk_psqlpy.operation.retries",
            unit="{retry}",
            description="Statements sent again after a failure.",
        )
        self.group_size = meter.create_histogram(
            "adk_psqlpy.append.group.size",
            unit="{append}",
            description="Appends that travelled in one statement.",
            explicit_bucket_boundaries_advisory=_GROUP_BOUNDARIES,
        )
        self.history_events = meter.create_counter(
            "adk_psqlpy.history.events",
            unit="{event}",
            description="Events of whole sessions: kept from an earlier read, or sent by the server.",
        )
        meter.create_observable_up_down_counter(
            "db.client.connection.count",
            [self._count],
            unit="{connection}",
            description="The number of connections that are currently in the state.",
        )
        meter.create_observable_up_down_counter(
            "db.client.connection.max",
            [self._limit],
            unit="{connection}",
            description="The maximum number of open connections allowed.",
        )
        meter.create_observable_up_down_counter(
            "db.client.connection.pending_requests",
            [self._pending],
            unit="{request}",
            description="The number of current pending requests for an open connection.",
        )

    def _statuses(self) -> Iterable[tuple[str, PoolStatus]]:
        for watched in list(self.pools):
            status = watched.pool.pool_status()
            if status is not None:
                yield watched.name, status

    def _count(self, _: CallbackOptions) -> Iterable[Observation]:
        for name, status in self._statuses():
            idle = status.available
            yield Observation(idle, {_POOL: name, "db.client.connection.state": "idle"})
            yield Observation(status.size - idle, {_POOL: name, "db.client.connection.state": "used"})

    def _limit(self, _: CallbackOptions) -> Iterable[Observation]:
        for name, status in self._statuses():
            yield Observation(status.max_size, {_POOL: name})

    def _pending(self, _: CallbackOptions) -> Iterable[Observation]:
        for name, status in self._statuses():
            yield Observation(status.waiting, {_POOL: name})


# Providers are made once a process; tests make some more.
_instruments = lru_cache(maxsize=8)(_Instruments)


class Telemetry:
    """Spans and metrics of what is done to one database.

    Args:
        namespace: the database, `db.namespace`.
        address: host, or directory of a Unix socket, as configured; several hosts separated by commas.
        port: the port of all hosts; not reported where it is PostgreSQL's own, 5432.
        tracer_provider: instead of the global one.
        meter_provider: instead of the global one.

    The global providers may be set before or after this object is made.
    """

    def __init__(
        self,
        namespace: str | None = None,
        address: str | None = None,
        port: int | None = None,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self.base: dict[str, str | int] = {"db.system.name": "postgresql"}
        if namespace:
            self.base["db.namespace"] = namespace
        if address:
            self.base["server.address"] = address
            if port not in (None, 5432):
                self.base["server.port"] = port
        # The conventions' name for a pool that was given none.
        self.pool_name = f"{address or 'localhost'}:{port or 5432}/{namespace or ''}"
        self.tracer = trace.get_tracer(*_SCOPE, tracer_provider=tracer_provider, schema_url=_SCHEMA)
        self.instruments = _instruments(meter_provider)
        self.pool = {_POOL: self.pool_name}
        self._watched: list[_Watched] = []
        # By operation and table; both are names in this package's code and configuration, so there are few.
        self._named: dict[tuple[str, str], tuple[str, dict[str, str | int]]] = {}

    def operation(self, name: str, collection: str = "", *, batch_size: int | None = None) -> Operation:
        """A context manager around one operation, all its attempts included.

        Args:
            name: `db.operation.name`, such as `append_event`. Never made of data: each is a time series.
            collection: the table, as configured and without quotes, `db.collection.name`.
            batch_size: how many operations of this name the caller asked for in one call, if that is the
                caller's doing; 1 counts as none. Appends that were grouped on the way are `group_size`.
        """
        if batch_size is not None and batch_size != 1:
            name = f"BATCH {name}"
        known = self._named.get((name, collection))
        if known is None:
            attributes = self.base | {"db.operation.name": name}
            if collection:
                attributes["db.collection.name"] = collection
            known = self._named[name, collection] = (f"{name} {collection}".rstrip(), attributes)
        operation = Operation(self, *known)
        if batch_size is not None and batch_size != 1:
            operation.batch_size = batch_size
        return operation

    def record_group(self, size: int) -> None:
        """A statement with `size` appends in it was sent."""
        self.instruments.group_size.record(size, self.base)

    def record_history(self, *, kept: int, sent: int) -> None:
        """A session was read with so many events kept from earlier reads, and so many sent by the server."""
        for source, events in (("kept", kept), ("server", sent)):
            if events:
                self.instruments.history_events.add(events, self.base | {"adk_psqlpy.history.source": source})

    def watch(self, pool: Pooled) -> None:
        """Report a pool's connections with each collection of metrics, for as long as this object lives.

        Costs nothing between collections. Watching a pool again changes nothing.
        """
        if not any(watched.pool is pool for watched in self._watched):
            self._watched.append(_Watched(self.pool_name, pool))
            self.instruments.pools.add(self._watched[-1])


class Operation:
    """One operation under way; whoever does a part of it fills in what it knows.

    `rows`: how many events, sessions or rows the caller gets. `retries`: statements sent again.
    `lane_wait`: seconds before a connection could take the statement. `group_size`: how many appends
    travelled in the same statement. `batch_size`: see `Telemetry.operation`. `None`: not known. `replica`:
    whether a standby answered.
    """

    __slots__ = (
        "_attached",
        "_attributes",
        "_name",
        "_outer",
        "_span",
        "_started",
        "_telemetry",
        "batch_size",
        "group_size",
        "lane_wait",
        "replica",
        "retries",
        "rows",
    )

    def __init__(self, telemetry: Telemetry, name: str, attributes: dict[str, str | int]) -> None:
        self._telemetry = telemetry
        self._name = name
        self._attributes = attributes
        self._attached: Token[Any] | None = None
        self.retries = 0
        self.replica = False
        self.rows: int | None = None
        self.lane_wait: float | None = None
        self.group_size: int | None = None
        self.batch_size: int | None = None

    def __enter__(self) -> Operation:
        """Start the clock and the span, a child of the caller's."""
        self._outer = _current.set(self)
        self._span = self._telemetry.tracer.start_span(self._name, kind=_CLIENT, attributes=self._attributes)
        if self._span.is_recording():
            # Log lines of this task carry its id, and histograms refer to it.
            self._attached = otel_context.attach(trace.set_span_in_context(self._span))
        self._started = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the span and record the metrics.

        An exception is an error of the operation, of the type that is raised; its text is not kept. A task
        that is cancelled gave up: no error, but `adk_psqlpy.cancelled`, since its time says little.
        """
        seconds = time.perf_counter() - self._started
        _current.reset(self._outer)
        attributes = self._attributes
        ending: dict[str, str | int] = {}
        if kind is not None:
            ending = (
                {"adk_psqlpy.cancelled": True}
                if issubclass(kind, _GIVEN_UP)
                else {"error.type": error_type(kind)}
            )
            attributes = attributes | ending
        instruments = self._telemetry.instruments
        instruments.duration.record(seconds, attributes)
        if self.lane_wait is not None:
            instruments.wait_time.record(self.lane_wait, self._telemetry.pool)
        if self.retries:
            instruments.retries.add(self.retries, attributes)
        if self._attached is not None:
            self._end_span(ending)
        if logger.isEnabledFor(logging.DEBUG):
            self._log(seconds, ending)

    def _end_span(self, ending: dict[str, str | int]) -> None:
        assert self._attached is not None
        span = self._span
        for name, value in self._found():
            span.set_attribute(name, value)
        for name, flag in ending.items():
            span.set_attribute(name, flag)
        if "error.type" in ending:
            # Without a description: that would be the exception's text.
            span.set_status(Status(StatusCode.ERROR))
        otel_context.detach(self._attached)
        span.end()

    def _found(self) -> Iterable[tuple[str, int | float | bool]]:
        if self.rows is not None:
            yield "db.response.returned_rows", self.rows
        if self.batch_size is not None:
            yield "db.operation.batch.size", self.batch_size
        if self.group_size is not None:
            yield "adk_psqlpy.group.size", self.group_size
        if self.lane_wait is not None:
            yield "adk_psqlpy.lane.wait", self.lane_wait
        if self.retries:
            yield "adk_psqlpy.retries", self.retries
        if self.replica:
            yield "adk_psqlpy.replica", True

    def _log(self, seconds: float, ending: dict[str, str | int]) -> None:
        details = "".join(f", {name} {value}" for name, value in [*self._found(), *ending.items()])
        logger.debug("%s took %.6f s%s", self._name, seconds, details)


def observed(
    collection: str,
) -> Callable[[Callable[_P, Awaitable[_T]]], Callable[_P, Coroutine[Any, Any, _T]]]:
    """Make a method one operation, of the method's name, on one of its object's tables.

    The object has a `Telemetry` as `_telemetry`, and as `_collections` its tables by the names that its code
    has for them.
    """

    def decorate(method: Callable[_P, Awaitable[_T]]) -> Callable[_P, Coroutine[Any, Any, _T]]:
        name = method.__name__.lstrip("_")

        @wraps(method)
        async def operation(*args: _P.args, **kwargs: _P.kwargs) -> _T:
            owner: Any = args[0]
            with owner._telemetry.operation(name, owner._collections[collection]):
                return await method(*args, **kwargs)

        return operation

    return decorate


def current() -> Operation | None:
    """The operation that the running task is in; `None` outside of any.

    For what lies beneath an operation and is not told of it, such as a lane that sends a statement again.
    """
    return _current.get()


def error_type(kind: type[BaseException]) -> str:
    """The canonical name of an exception, as `error.type`: PostgreSQL's codes do not get through psqlpy."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
