"""The instruments that metrics are recorded with, one set for each meter provider."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final, Protocol
from weakref import WeakSet

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

from adk_psqlpy import _native

SCOPE: Final = ("adk_psqlpy", _native.__version__)
SCHEMA: Final = "https://opentelemetry.io/schemas/1.36.0"
POOL: Final = "db.client.connection.pool.name"

# In seconds, as the conventions advise for db.client.operation.duration.
_BOUNDARIES: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
_GROUP_BOUNDARIES: Final = (1, 2, 4, 8, 16, 32, 64, 128)


class PoolStatus(Protocol):
    """psqlpy's status of a pool: the most connections, the open and the idle ones, and the callers that wait
    for one.
    """

    max_size: int
    size: int
    available: int
    waiting: int


class Pooled(Protocol):
    """What `Telemetry.watch` needs from a configuration."""

    def pool_status(self) -> PoolStatus | None:
        """psqlpy's status of the pool; `None` if there is no pool yet."""
        ...


class Watched:
    """A pool, and its name in metrics. It lives as long as its `Telemetry`."""

    __slots__ = ("__weakref__", "name", "pool")

    def __init__(self, name: str, pool: Pooled) -> None:
        self.name = name
        self.pool = pool


class Instruments:
    """The instruments of one meter provider, which has only one instrument of each name."""

    def __init__(self, provider: MeterProvider | None) -> None:
        meter = metrics.get_meter(*SCOPE, meter_provider=provider, schema_url=SCHEMA)
        self.pools: WeakSet[Watched] = WeakSet()
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
            yield Observation(idle, {POOL: name, "db.client.connection.state": "idle"})
            yield Observation(status.size - idle, {POOL: name, "db.client.connection.state": "used"})

    def _limit(self, _: CallbackOptions) -> Iterable[Observation]:
        for name, status in self._statuses():
            yield Observation(status.max_size, {POOL: name})

    def _pending(self, _: CallbackOptions) -> Iterable[Observation]:
        for name, status in self._statuses():
            yield Observation(status.waiting, {POOL: name})


# A process usually has one provider; tests make more.
instruments_of = lru_cache(maxsize=8)(Instruments)
