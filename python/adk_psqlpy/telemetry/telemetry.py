"""The spans and metrics of one database, and the decorator for methods that are observed."""

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
    """Spans and metrics of the operations on one database.

    Args:
        namespace: the database, `db.namespace`.
        address: host, or directory of a Unix socket, as configured; several hosts separated by commas.
        port: the port of all hosts; 5432, PostgreSQL's own, is not reported.
        tracer_provider: used instead of the global one.
        meter_provider: used instead of the global one.

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
        # The name that the conventions give to a pool without a name.
        self.pool_name = f"{address or 'localhost'}:{port or 5432}/{namespace or ''}"
        self.tracer = trace.get_tracer(*SCOPE, tracer_provider=tracer_provider, schema_url=SCHEMA)
        self.instruments = instruments_of(meter_provider)
        self.pool = {POOL: self.pool_name}
        self._watched: list[Watched] = []
        # By operation and table. Both come from this package's code and configuration, so there are few.
        self._named: dict[tuple[str, str], tuple[str, dict[str, str | int]]] = {}

    def operation(self, name: str, collection: str = "", *, batch_size: int | None = None) -> Operation:
        """Make a context manager for one operation, including all its attempts.

        Args:
            name: `db.operation.name`, such as `append_event`. It must not contain data, since each name is a
                time series.
            collection: the table, as configured and without quotes, `db.collection.name`.
            batch_size: how many operations of this name the caller asked for in one call; 1 counts as none.
                (Appends that the package grouped by itself are `group_size`.)
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
        """Record that a statement with `size` appends was sent."""
        self.instruments.group_size.record(size, self.base)

    def record_history(self, *, kept: int, sent: int) -> None:
        """Record how many events of a session were kept from earlier reads, and how many the server sent."""
        for source, events in (("kept", kept), ("server", sent)):
            if events:
                self.instruments.history_events.add(events, self.base | {"adk_psqlpy.history.source": source})

    def watch(self, pool: Pooled) -> None:
        """Report a pool's connections in each collection of metrics, as long as this object lives.

        This costs nothing between collections. Watching a pool again changes nothing.
        """
        if not any(watched.pool is pool for watched in self._watched):
            self._watched.append(Watched(self.pool_name, pool))
            self.instruments.pools.add(self._watched[-1])


def observed(
    collection: str,
) -> Callable[[Callable[_P, Awaitable[_T]]], Callable[_P, Coroutine[Any, Any, _T]]]:
    """Make each call of a method one operation with the method's name, on one of its object's tables.

    The object has a `Telemetry` as `_telemetry`, and in `_collections` its tables by the names that
    `collection` takes.
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
