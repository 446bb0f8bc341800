"""What the services tell OpenTelemetry of real operations; test_telemetry.py has the parts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.genai.types import Content, Part
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from adk_psqlpy import (
    PsqlpyADKStore,
    PsqlpyArtifactService,
    PsqlpyMemoryService,
    PsqlpySessionService,
)
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


def told(exporter: InMemorySpanExporter) -> list[tuple[str, object]]:
    """Name and number of rows of each span; none of them holds a secret."""
    spans = exporter.get_finished_spans()
    exporter.clear()
    assert not [secret for span in spans for secret in SECRETS if secret in span.to_json()]
    return [(span.name, (span.attributes or {}).get("db.response.returned_rows")) for span in spans]


async def test_artifacts(config: PsqlpyConfig, exporter: InMemorySpanExporter) -> None:
    """One span a method, however many chunks."""
    service = PsqlpyArtifactService(config, "files")
    key = {"app_name": "shop-app", "user_id": "jane.doe", "session_id": "conversation-1"}
    large = Part.from_bytes(data=b"hunter2" * 400_000, mime_type="application/octet-stream")
    for version, part in enumerate((Part(text="hunter2"), large)):
        assert await service.save_artifact(**key, filename="secret", artifact=part) == version
    assert told(exporter) == [("save_artifact files", 1)] * 2
    assert await service.load_artifact(**key, filename="secret") == large
    await service.list_artifact_keys(**key)
    await service.list_versions(**key, filename="secret")
    await service.list_artifact_versions(**key, filename="secret")
    await service.get_artifact_version(**key, filename="secret")
    await service.delete_artifact(**key, filename="secret")
    await service.purge()
    assert [name for name, _ in told(exporter)] == [
        f"{name} files"
        for name in (
            *("load_artifact", "list_artifact_keys", "list_versions", "list_artifact_versions"),
            *("get_artifact_version", "delete_artifact", "purge"),
        )
    ]


async def test_memories(config: PsqlpyConfig, exporter: InMemorySpanExporter) -> None:
    """One span a statement: what an embedder takes is not the database's time."""
    service = PsqlpyMemoryService(config, batch_size=2)
    key = {"app_name": "shop-app", "user_id": "jane.doe"}
    said = Content(parts=[Part(text="hunter2 is the word")])
    events = [Event(id=f"e{n}", author="user", content=said) for n in range(3)]
    await service.add_events_to_memory(**key, events=events, session_id="conversation-1")
    assert told(exporter) == [
        *(("find_unknown adk_memories", 2), ("add_memories adk_memories", 1)),
        *(("find_unknown adk_memories", 1), ("add_memories adk_memories", 1)),
    ]
    assert len((await service.search_memory(**key, query="hunter2")).memories) == 3
    await service.delete_memory(**key, memory_id="e1")
    await service.purge_expired()
    assert [name for name, _ in told(exporter)] == [
        f"{name} adk_memories" for name in ("search_memory", "delete_memory", "purge_expired")
    ]
