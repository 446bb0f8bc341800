"""What the service tells OpenTelemetry of real operations; tests/unit/test_telemetry.py has the parts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from adk_psqlpy import PsqlpyADKStore, PsqlpySessionService
from adk_psqlpy.telemetry import Telemetry
from servers import run_sql

if TYPE_CHECKING:
    from adk_psqlpy import PsqlpyConfig
    from servers import Database

SECRETS = ("shop-app", "jane.doe", "conversation-1", "hunter2", "SELECT", "INSERT")


@pytest.fixture
def exporter(config: PsqlpyConfig) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    config.telemetry = Telemetry("mydb", "db.example", tracer_provider=provider)
    return exporter


@pytest.fixture
async def service(config: PsqlpyConfig, exporter: InMemorySpanExporter) -> PsqlpySessionService:
    store = PsqlpyADKStore(config)
    await store.create_tables()
    return PsqlpySessionService(store)


async def test_a_span_an_operation(service: PsqlpySessionService, exporter: InMemorySpanExporter) -> None:
    """Named after operation and table, with rows; nothing of what was said, or of who said it."""
    key = {"app_name": "shop-app", "user_id": "jane.doe", "session_id": "conversation-1"}
    session = await service.create_session(**key, state={"password": "hunter2"})
    for _ in range(3):
        await service.append_event(session, Event(author="user", actions=EventActions(state_delta={"k": 1})))
    await service.get_session(**key)
    await service.list_sessions(app_name="shop-app")
    await service.delete_session(**key)
    spans = exporter.get_finished_spans()
    assert [span.name for span in spans] == [
        "create_session adk_sessions",
        *["append_event adk_events"] * 3,
        "get_session adk_events",
        "list_sessions adk_sessions",
        "delete_session adk_sessions",
    ]
    assert [(span.attributes or {})["db.response.returned_rows"] for span in spans] == [1, 1, 1, 1, 3, 1, 1]
    told = "".join(span.to_json() for span in spans)
    assert not [secret for secret in SECRETS if secret in told]


async def test_retries_and_groups(
    service: PsqlpySessionService, exporter: InMemorySpanExporter, database: Database
) -> None:
    """An append that was repeated after its connection was ended says so, and so do those of a group."""
    sessions = [await service.create_session(app_name="a", user_id=f"u{n}") for n in range(10)]
    exporter.clear()
    await asyncio.gather(*(service.append_event(each, Event(author="user")) for each in sessions))
    sizes = [(span.attributes or {}).get("adk_psqlpy.group.size") for span in exporter.get_finished_spans()]
    assert sorted(sizes, key=str) == [9] * 9 + [None]
    exporter.clear()
    run_sql(
        database.server.dsn,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        f"WHERE datname = '{database.name}' AND pid != pg_backend_pid()",
    )
    await service.append_event(sessions[0], Event(author="user"))
    (span,) = exporter.get_finished_spans()
    assert (span.attributes or {})["adk_psqlpy.retries"] == 1
    assert span.status.status_code is StatusCode.UNSET


async def test_an_error(service: PsqlpySessionService, exporter: InMemorySpanExporter) -> None:
    """A refused argument is not sent, and is an error of the operation; its text is not told."""
    with pytest.raises(ValueError, match="app_name has 792 characters"):
        await service.store.get_user_state("shop-app" * 99, "jane.doe")
    (span,) = exporter.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert not [secret for secret in SECRETS if secret in span.to_json()]
