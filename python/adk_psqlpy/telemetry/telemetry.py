"""Spans and metrics of one database, and methods that are observed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, TypeVar

from opentelemetry import trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider
from typing_extensions import ParamSpec

from adk_psqlpy.telemetry.instruments import POOL, SCHEMA, SCOPE, Pooled, Watched, instruments_of
from adk_psqlpy.telemetry.operation import Operation

_P = ParamSpec("_P")
_T = TypeVar("_T")


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
        self.tracer = trace.get_tracer(*SCOPE, tracer_provider=tracer_provider, schema_url=SCHEMA)
        self.instruments = instruments_of(meter_provider)
        self.pool = {POOL: self.pool_name}
        self._watched: list[Watched] = []
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
        operation = Operation(self.tracer, self.instruments, self.pool, *known)
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
            self._watched.append(Watched(self.pool_name, pool))
            self.instruments.pools.add(self._watched[-1])


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
