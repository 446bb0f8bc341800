"""Spans, metrics and log lines of operations, read back through the OpenTelemetry SDK."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import subprocess
import sys
import weakref
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psqlpy
import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode
from psqlpy.exceptions import DatabaseError

from adk_psqlpy.telemetry import Telemetry, current, error_type
from servers import Server

NAMED = {
    "db.system.name": "postgresql",
    "db.namespace": "mydb",
    "server.address": "db.example",
    "server.port": 6432,
    "db.operation.name": "append_event",
    "db.collection.name": "adk_events",
}


@dataclass
class Collected:
    """A telemetry object, and what the SDK got of it."""

    telemetry: Telemetry
    tracers: TracerProvider
    meters: MeterProvider
    _spans: InMemorySpanExporter
    _reader: InMemoryMetricReader

    def span(self) -> ReadableSpan:
        """The one span that has ended."""
        (span,) = self._spans.get_finished_spans()
        return span

    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._spans.get_finished_spans()

    def _metrics(self) -> Iterator[Any]:
        data = self._reader.get_metrics_data()
        for resource in data.resource_metrics if data is not None else []:
            for scope in resource.scope_metrics:
                yield from scope.metrics

    def metric_names(self) -> set[str]:
        return {metric.name for metric in self._metrics()}

    def points(self, name: str) -> list[Any]:
        """The data points of a metric; none where nothing was recorded."""
        return [
            point for metric in self._metrics() if metric.name == name for point in metric.data.data_points
        ]

    def unit(self, name: str) -> str:
        (unit,) = {metric.unit for metric in self._metrics() if metric.name == name}
        return str(unit)


def collecting(tracers: TracerProvider, **target: Any) -> Iterator[Collected]:
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    meters = MeterProvider([reader])
    telemetry = Telemetry(**target, tracer_provider=tracers, meter_provider=meters)
    yield Collected(telemetry, tracers, meters, exporter, reader)
    tracers.shutdown()
    meters.shutdown()


@pytest.fixture
def collected() -> Iterator[Collected]:
    yield from collecting(TracerProvider(), namespace="mydb", address="db.example", port=6432)


def test_a_span_says_what_was_done_where(collected: Collected) -> None:
    """Name, kind and attributes are the conventions'; what is not known is not there."""
    with collected.telemetry.operation("append_event", "adk_events"):
        pass
    span = collected.span()
    assert span.name == "append_event adk_events"
    assert span.kind is SpanKind.CLIENT
    assert dict(span.attributes or {}) == NAMED
    assert span.status.status_code is StatusCode.UNSET
    assert not span.events
    scope = span.instrumentation_scope
    assert scope is not None
    assert scope.name == "adk_psqlpy"
    assert scope.version


def test_what_an_operation_found_out(collected: Collected) -> None:
    """Rows, retries, the wait for a lane and the size of the group are attributes of the span."""
    with collected.telemetry.operation("append_event", "adk_events") as operation:
        operation.retries += 2
        operation.lane_wait = 0.25
        operation.rows = 0
        operation.group_size = 12
    assert dict(collected.span().attributes or {}) == NAMED | {
        "adk_psqlpy.retries": 2,
        "adk_psqlpy.lane.wait": 0.25,
        "db.response.returned_rows": 0,
        "adk_psqlpy.group.size": 12,
    }


@pytest.mark.parametrize(
    ("size", "name"), [(None, "append"), (1, "append"), (2, "BATCH append"), (0, "BATCH append")]
)
def test_batches(collected: Collected, size: int | None, name: str) -> None:
    """A batch is called so, except for one of a single operation, which the conventions call none."""
    with collected.telemetry.operation("append", "t", batch_size=size):
        pass
    attributes = collected.span().attributes or {}
    assert collected.span().name == f"{name} t"
    assert attributes["db.operation.name"] == name
    assert attributes.get("db.operation.batch.size") == (None if size == 1 else size)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ({}, {}),
        ({"namespace": "d"}, {"db.namespace": "d"}),
        ({"address": "/run/pg", "port": 5432}, {"server.address": "/run/pg"}),
        ({"address": "a,b", "port": 6000}, {"server.address": "a,b", "server.port": 6000}),
        ({"port": 6000}, {}),
    ],
)
def test_where(target: dict[str, Any], expected: dict[str, Any]) -> None:
    """The server's own port, and a port without an address, are not reported."""
    for collected in collecting(TracerProvider(), **target):
        with collected.telemetry.operation("look"):
            pass
        name = {"db.system.name": "postgresql", "db.operation.name": "look"}
        assert dict(collected.span().attributes or {}) == name | expected
        assert collected.span().name == "look"


SECRET = "invalid input: s3cret of user alice"


def test_an_error(collected: Collected, caplog: pytest.LogCaptureFixture) -> None:
    """The class of an exception is told on span and metric; its text, which quotes values, nowhere."""
    caplog.set_level(logging.DEBUG, "adk_psqlpy")
    with pytest.raises(DatabaseError), collected.telemetry.operation("append_event", "adk_events"):
        raise DatabaseError(SECRET)
    span = collected.span()
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description is None
    assert dict(span.attributes or {}) == NAMED | {"error.type": "psqlpy.exceptions.DatabaseError"}
    (point,) = collected.points("db.client.operation.duration")
    assert dict(point.attributes) == NAMED | {"error.type": "psqlpy.exceptions.DatabaseError"}
    for text in (span.to_json(), caplog.text):
        assert "error.type" in text
        assert "s3cret" not in text
        assert "alice" not in text


def test_names_of_errors() -> None:
    """Builtin exceptions go by their names, others with their modules."""

    class Panic(BaseException):
        pass

    assert error_type(ValueError) == "ValueError"
    assert error_type(Panic) == f"{__name__}.test_names_of_errors.<locals>.Panic"


def test_a_panic_of_the_driver_is_an_error(collected: Collected) -> None:
    """What is no `Exception` and no way of giving up, as a Rust panic, counts as an error."""

    class PanicError(BaseException):
        pass

    with pytest.raises(PanicError), collected.telemetry.operation("append_event"):
        raise PanicError
    assert collected.span().status.status_code is StatusCode.ERROR


async def test_cancellation_is_no_error(collected: Collected) -> None:
    """A cancelled operation has no error status and no error type, and is told apart on both signals."""
    entered = asyncio.Event()

    async def wait() -> None:
        with collected.telemetry.operation("append_event", "adk_events"):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    span = collected.span()
    assert span.status.status_code is StatusCode.UNSET
    assert dict(span.attributes or {}) == NAMED | {"adk_psqlpy.cancelled": True}
    (point,) = collected.points("db.client.operation.duration")
    assert dict(point.attributes) == NAMED | {"adk_psqlpy.cancelled": True}
    assert current() is None


def test_durations(collected: Collected) -> None:
    """The histogram is in seconds, in the advised buckets, and says what the span says."""
    for _ in range(3):
        with collected.telemetry.operation("append_event", "adk_events"):
            pass
    (point,) = collected.points("db.client.operation.duration")
    assert dict(point.attributes) == NAMED
    assert point.count == 3
    assert point.explicit_bounds == (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
    assert collected.unit("db.client.operation.duration") == "s"
    lasted = sum((span.end_time or 0) - (span.start_time or 0) for span in collected.spans()) / 1e9
    assert point.sum <= lasted


def test_waits_retries_and_groups(collected: Collected) -> None:
    """What is rare has metrics of its own, so that it is seen without spans."""
    telemetry = collected.telemetry
    for wait, retries in ((0.002, 0), (0.02, 3), (None, 0)):
        with telemetry.operation("get_session", "adk_sessions") as operation:
            operation.lane_wait = wait
            operation.retries = retries
    telemetry.record_group(17)
    (waited,) = collected.points("db.client.connection.wait_time")
    assert (waited.count, waited.sum) == (2, pytest.approx(0.022))
    assert dict(waited.attributes) == {"db.client.connection.pool.name": "db.example:6432/mydb"}
    (retried,) = collected.points("adk_psqlpy.operation.retries")
    assert retried.value == 3
    assert retried.attributes["db.operation.name"] == "get_session"
    (grouped,) = collected.points("adk_psqlpy.append.group.size")
    assert (grouped.count, grouped.sum, grouped.max) == (1, 17, 17)


class Pool:
    """psqlpy's pool, as a configuration shows it."""

    def __init__(self, dsn: str) -> None:
        self.pool: psqlpy.ConnectionPool | None = psqlpy.ConnectionPool(dsn=dsn, max_db_pool_size=3)

    def pool_status(self) -> Any:
        return None if self.pool is None else self.pool.status()


async def test_the_pool(collected: Collected, server: Server) -> None:
    """Connections in use, idle, at most and waited for are what psqlpy says at the time of collection."""
    watched = Pool(server.dsn)
    assert watched.pool is not None
    collected.telemetry.watch(watched)
    collected.telemetry.watch(watched)
    held = [await watched.pool.connection() for _ in range(2)]
    for connection in held:
        await connection.fetch("SELECT 1")
    held.pop().close()

    def values(name: str) -> dict[Any, int]:
        return {
            point.attributes.get("db.client.connection.state"): point.value
            for point in collected.points(f"db.client.connection.{name}")
        }

    assert values("count") == {"used": 1, "idle": 1}
    assert values("max") == {None: 3}
    assert values("pending_requests") == {None: 0}
    (idle, _) = collected.points("db.client.connection.count")
    assert idle.attributes["db.client.connection.pool.name"] == "db.example:6432/mydb"
    held.pop().close()
    watched.pool.close()
    watched.pool = None
    assert values("count") == {}


def test_a_pool_is_forgotten_with_its_telemetry(collected: Collected, server: Server) -> None:
    """Of what is gone nothing is reported, and nothing is kept alive."""
    other = Telemetry("other", meter_provider=collected.meters)
    pool = Pool(server.dsn)
    other.watch(pool)
    assert len(collected.points("db.client.connection.max")) == 1
    seen = weakref.ref(pool)
    del other, pool
    gc.collect()
    assert seen() is None
    assert collected.points("db.client.connection.max") == []


async def test_operations_of_tasks_are_apart(collected: Collected) -> None:
    """Each task finds its own operation, what it calls finds it too, and nesting comes undone."""

    async def beneath(count: int) -> None:
        operation = current()
        assert operation is not None
        operation.retries += count

    async def run(count: int) -> int:
        with collected.telemetry.operation("get_session", "adk_sessions") as operation:
            await asyncio.sleep(0)  # both are inside now
            await beneath(count)
            with collected.telemetry.operation("tables_present") as inner:
                assert current() is inner
            assert current() is operation
            return operation.retries

    assert list(await asyncio.gather(run(1), run(2))) == [1, 2]
    assert current() is None


def test_spans_are_children_of_the_callers(collected: Collected) -> None:
    """An operation's span has the caller's as its parent, and is the current one while it runs."""
    tracer = collected.tracers.get_tracer("agent")
    with tracer.start_as_current_span("turn") as turn, collected.telemetry.operation("get_session"):
        inside = trace.get_current_span()
    outside = trace.get_current_span()
    operation, parent = collected.spans()
    assert parent.name == "turn"
    assert operation.parent == turn.get_span_context()
    assert inside.get_span_context() == operation.get_span_context()
    assert not outside.get_span_context().is_valid


def test_not_sampled() -> None:
    """A span that is not sampled costs no attributes; the metrics are recorded all the same."""
    for collected in collecting(TracerProvider(sampler=ALWAYS_OFF), namespace="mydb"):
        with collected.telemetry.operation("get_session") as operation:
            operation.rows = 3
        assert collected.spans() == ()
        (point,) = collected.points("db.client.operation.duration")
        assert point.count == 1


def test_log_lines(collected: Collected, caplog: pytest.LogCaptureFixture) -> None:
    """At DEBUG an operation is a line, of its name and numbers; at INFO there is none."""
    caplog.set_level(logging.DEBUG, "adk_psqlpy")
    with collected.telemetry.operation("get_session", "adk_sessions") as operation:
        operation.rows = 7
    (record,) = caplog.records
    assert record.name == "adk_psqlpy.operations"
    assert record.levelno == logging.DEBUG
    message = record.getMessage()
    assert message.startswith("get_session adk_sessions took 0.")
    assert message.endswith(" s, db.response.returned_rows 7")
    caplog.set_level(logging.INFO, "adk_psqlpy")
    with collected.telemetry.operation("get_session", "adk_sessions"):
        pass
    assert len(caplog.records) == 1


LATE = """
from adk_psqlpy.telemetry import Telemetry
telemetry = Telemetry("d")
with telemetry.operation("before"):
    pass
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
metrics.set_meter_provider(MeterProvider([reader]))
with telemetry.operation("after"):
    pass
print([span.name for span in exporter.get_finished_spans()])
print([
    (metric.name, [dict(point.attributes)["db.operation.name"] for point in metric.data.data_points])
    for resource in reader.get_metrics_data().resource_metrics
    for scope in resource.scope_metrics
    for metric in scope.metrics
])
"""


def test_an_sdk_that_is_set_up_later() -> None:
    """The global providers count from when they are set, also for what was made before."""
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "['after']",
        "[('db.client.operation.duration', ['after'])]",
    ]


PAGES = Path(__file__).parents[2] / "docs"
GUIDE = (PAGES / "observability.md").read_text(encoding="utf-8")
REFERENCE = (PAGES / "metrics.md").read_text(encoding="utf-8")


def listed(section: str) -> set[str]:
    """The names that begin the lines of a section's table."""
    (text,) = re.findall(rf"^## {section}\n(.*?)^## ", REFERENCE, re.DOTALL | re.MULTILINE)
    return set(re.findall(r"^\| `([\w.]+)` \|", text, re.MULTILINE))


async def test_the_documentation_names_what_is_emitted(collected: Collected, server: Server) -> None:
    """docs/metrics.md lists exactly the attributes and metrics that there are."""
    pool = Pool(server.dsn)
    collected.telemetry.watch(pool)
    collected.telemetry.record_group(2)
    collected.telemetry.record_history(kept=2, sent=1)
    for ending in (ValueError, asyncio.CancelledError):
        with suppress(ending), collected.telemetry.operation("a", "t", batch_size=2) as operation:
            operation.rows = operation.group_size = operation.retries = 1
            operation.lane_wait, operation.replica = 0.1, True
            raise ending
    assert listed("Spans") == {name for span in collected.spans() for name in span.attributes or {}}
    assert listed("Metrics") == collected.metric_names()


def test_the_documented_set_up() -> None:
    """The snippet runs, and what it sets up prints a span."""
    (snippet,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    program = f"""{snippet}
from adk_psqlpy.telemetry import Telemetry
with Telemetry("d").operation("look"):
    pass
tracers.shutdown()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert '"name": "look"' in done.stdout
    assert '"name": "db.client.operation.duration"' in done.stdout
