"""Reads on a standby: they see what this process wrote, and what anybody wrote a given time ago."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.adk.errors import StaleSessionError
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.genai import types

from adk_psqlpy import (
    PsqlpyADKStore,
    PsqlpyArtifactService,
    PsqlpyConfig,
    PsqlpyMemoryService,
    PsqlpySessionService,
)
from adk_psqlpy.sessions import ReplicaSessionConfig
from faults.crash import CrashServer, Standby
from faults.deadlines import until
from servers import run_sql, wheel_binaries

APP, USER = "app", "user"


@pytest.fixture(scope="module")
def primary() -> Iterator[CrashServer]:
    """A server with a standby beside it."""
    with CrashServer(wheel_binaries()) as server:
        yield server


@pytest.fixture(scope="module")
def standby(primary: CrashServer) -> Iterator[Standby]:
    """Its standby. A commit waits until the standby has it, not until it is visible there."""
    with Standby(wheel_binaries(), primary) as server:
        yield server


@pytest.fixture
async def config(primary: CrashServer, standby: Standby) -> AsyncIterator[PsqlpyConfig]:
    """A configuration with the standby as its replica; a read is at most a minute old."""
    replica = {"dsn": standby.dsn, "max_db_pool_size": 3}
    async with PsqlpyConfig({"dsn": primary.dsn}, replica=replica, replica_staleness_sec=60) as opened:
        store = PsqlpyADKStore(opened)
        await store.create_tables()
        yield opened
    run_sql(standby.dsn, "SELECT pg_wal_replay_resume()::text")
    run_sql(primary.dsn, "TRUNCATE adk_sessions, adk_app_states, adk_user_states CASCADE")


@pytest.fixture
def service(config: PsqlpyConfig) -> PsqlpySessionService:
    """Sessions on it."""
    return PsqlpySessionService(PsqlpyADKStore(config))


async def listed(service: PsqlpySessionService) -> list[str]:
    """The ids of the sessions."""
    found = await service.list_sessions(app_name=APP, user_id=USER)
    return sorted(session.id for session in found.sessions)


async def caught_up(primary: CrashServer, standby: Standby) -> None:
    """Wait until the standby has replayed all that the primary has written so far."""
    ((row,),) = run_sql(primary.dsn, "SELECT pg_current_wal_insert_lsn()::text AS at")

    async def replayed() -> bool:
        query = f"SELECT pg_last_wal_replay_lsn() >= '{row['at']}' AS there"
        return bool(run_sql(standby.dsn, query)[0][0]["there"])

    await until(replayed, 10, "the standby replays")


async def answered_by_standby(service: PsqlpySessionService, caplog: pytest.LogCaptureFixture) -> bool:
    """Whether the standby answers a list now."""
    caplog.clear()
    with caplog.at_level("DEBUG", "adk_psqlpy"):
        await listed(service)
    (line,) = [record.getMessage() for record in caplog.records if "list_sessions" in record.getMessage()]
    return "adk_psqlpy.replica True" in line


async def test_lists_are_answered_by_the_standby(
    service: PsqlpySessionService,
    primary: CrashServer,
    standby: Standby,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Once it has replayed what this process wrote."""
    await service.create_session(app_name=APP, user_id=USER, session_id="s")
    await caught_up(primary, standby)
    assert await answered_by_standby(service, caplog)
    assert await listed(service) == ["s"]


async def test_a_process_reads_its_own_writes(
    service: PsqlpySessionService,
    primary: CrashServer,
    standby: Standby,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The standby stands still: every list has the session made just before, from the primary."""
    await caught_up(primary, standby)
    assert await answered_by_standby(service, caplog)
    run_sql(standby.dsn, "SELECT pg_wal_replay_pause()::text")
    for number in range(5):
        await service.create_session(app_name=APP, user_id=USER, session_id=f"s{number}")
        assert await listed(service) == [f"s{each}" for each in range(number + 1)]
    assert not await answered_by_standby(service, caplog)
    run_sql(standby.dsn, "SELECT pg_wal_replay_resume()::text")
    await caught_up(primary, standby)
    assert await answered_by_standby(service, caplog)


async def test_what_others_wrote_is_seen_within_the_bound(primary: CrashServer, standby: Standby) -> None:
    """A standby that stands still answers until the bound has passed, then the primary does."""
    others = PsqlpySessionService(PsqlpyADKStore(PsqlpyConfig({"dsn": primary.dsn})))
    await others.store.create_tables()
    replica = {"dsn": standby.dsn, "max_db_pool_size": 3}
    bound = 3.0
    reading = PsqlpySessionService(
        PsqlpyADKStore(PsqlpyConfig({"dsn": primary.dsn}, replica=replica, replica_staleness_sec=bound))
    )
    await caught_up(primary, standby)
    assert await listed(reading) == []
    run_sql(standby.dsn, "SELECT pg_wal_replay_pause()::text")
    await others.create_session(app_name=APP, user_id=USER, session_id="theirs")
    written = time.monotonic()
    without: list[float] = []
    began = time.monotonic()
    while await listed(reading) == []:
        without.append(began)
        began = time.monotonic()
    assert without, "the standby was asked at first"
    assert max(without) < written + bound, "a read that begins after the bound has what was written"
    run_sql(standby.dsn, "SELECT pg_wal_replay_resume()::text")
    await others.delete_session(app_name=APP, user_id=USER, session_id="theirs")
    await reading.close()
    await others.close()


async def test_every_service_reads_what_it_wrote(config: PsqlpyConfig, standby: Standby) -> None:
    """Memories and artifacts, large ones too, while the standby comes behind and stands still in turn."""
    memory, artifacts = PsqlpyMemoryService(config), PsqlpyArtifactService(config)
    await memory.create_tables()
    await artifacts.create_tables()
    sessions = PsqlpySessionService(PsqlpyADKStore(config))
    large = bytes(range(256)) * 12_000  # three chunks
    for number in range(6):
        if number % 2:
            run_sql(standby.dsn, "SELECT pg_wal_replay_pause()::text")
        session = await sessions.create_session(app_name=APP, user_id=USER, session_id=f"m{number}")
        await sessions.append_event(
            session,
            Event(
                author="user",
                content=types.Content(role="user", parts=[types.Part(text=f"lighthouse number{number}")]),
                actions=EventActions(state_delta={"user:n": number}),
            ),
        )
        await memory.add_session_to_memory(session)
        found = await memory.search_memory(app_name=APP, user_id=USER, query=f"number{number}")
        assert len(found.memories) == 1
        name: dict[str, Any] = {"app_name": APP, "user_id": USER, "filename": "f"}
        part = types.Part.from_bytes(data=large + bytes([number]), mime_type="application/x")
        assert await artifacts.save_artifact(**name, artifact=part) == number
        assert await artifacts.load_artifact(**name) == part
        assert await artifacts.list_versions(**name) == list(range(number + 1))
        states = await sessions.list_sessions(app_name=APP, user_id=USER)
        assert {each.state["user:n"] for each in states.sessions} == {number}
        run_sql(standby.dsn, "SELECT pg_wal_replay_resume()::text")


async def test_a_session_within_a_bound(
    service: PsqlpySessionService, primary: CrashServer, standby: Standby
) -> None:
    """Read on the standby where the caller says how old it may be; without that, always as it is now."""
    others = PsqlpySessionService(PsqlpyADKStore(PsqlpyConfig({"dsn": primary.dsn})))
    key = {"app_name": APP, "user_id": USER, "session_id": "s"}
    theirs = await others.create_session(**key)
    bounded = ReplicaSessionConfig(max_staleness_sec=60)
    await caught_up(primary, standby)
    assert await service.get_session(**key, config=bounded) == theirs
    run_sql(standby.dsn, "SELECT pg_wal_replay_pause()::text")
    await others.append_event(theirs, Event(author="agent"))

    old = await service.get_session(**key, config=bounded)
    assert old is not None
    assert old.events == []
    assert await service.get_session(**key) == theirs
    with pytest.raises(StaleSessionError):  # the object says which revision it is
        await service.append_event(old, Event(author="agent"))

    new = await service.get_session(**key)
    assert new is not None
    await service.append_event(new, Event(author="user"))
    seen = await service.get_session(**key, config=bounded)
    assert seen == new, "one's own append is always there"
    run_sql(standby.dsn, "SELECT pg_wal_replay_resume()::text")
    await caught_up(primary, standby)
    last = await service.get_session(**key, config=ReplicaSessionConfig(num_recent_events=1))
    assert last is not None
    assert [event.author for event in last.events] == ["user"]
    await others.close()


async def test_a_session_within_a_bound_without_a_replica(primary: CrashServer) -> None:
    """The primary answers."""
    async with PsqlpySessionService(PsqlpyADKStore(PsqlpyConfig({"dsn": primary.dsn}))) as service:
        await service.store.create_tables()
        key = {"app_name": APP, "user_id": USER, "session_id": "alone"}
        made = await service.create_session(**key)
        assert await service.get_session(**key, config=ReplicaSessionConfig()) == made
        await service.delete_session(**key)


@pytest.mark.parametrize("bound", [0, -1, float("nan"), 90_000])
async def test_a_bound_that_is_none(service: PsqlpySessionService, bound: float) -> None:
    """Refused by the config, and by the store."""
    with pytest.raises(ValueError, match="max_staleness_sec"):
        ReplicaSessionConfig(max_staleness_sec=bound)
    with pytest.raises(ValueError, match="max_staleness_sec"):
        await service.store.get_session(APP, USER, "s", max_staleness_sec=bound)


async def test_a_standby_that_is_gone(
    service: PsqlpySessionService,
    primary: CrashServer,
    standby: Standby,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Killed: the primary answers, without an error. Back: the standby answers again."""
    await service.create_session(app_name=APP, user_id=USER, session_id="s")
    assert await listed(service) == ["s"]
    run_sql(primary.dsn, "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
    await asyncio.to_thread(standby.kill)
    for _ in range(3):
        assert await listed(service) == ["s"]
    await asyncio.to_thread(standby.restart)

    async def again() -> bool:
        return await answered_by_standby(service, caplog)

    await until(again, 40, "the standby answers again")


@pytest.mark.parametrize(
    ("replica", "message"),
    [
        ({}, "names no server"),
        ({"hosts": ["a", "b"]}, "name one"),
        ({"dsn": "postgresql://u:secret@a,b/d"}, "name one"),
        ({"hots": "a"}, "unknown key"),
    ],
)
def test_bad_replicas(replica: dict[str, Any], message: str) -> None:
    """Refused when the configuration is made; no password in the message."""
    with pytest.raises(ValueError, match=message) as caught:
        PsqlpyConfig({"host": "localhost"}, replica=replica)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("bound", [0, -1, True, "1", None, float("nan"), float("inf")])
def test_bad_bounds(bound: Any) -> None:
    """A number of seconds."""
    with pytest.raises(ValueError, match="replica_staleness_sec"):
        PsqlpyConfig({"host": "localhost"}, replica={"host": "b"}, replica_staleness_sec=bound)


def test_the_password_of_a_replica_is_not_shown() -> None:
    """Neither in the configuration's text nor in the replica's."""
    config = PsqlpyConfig({"host": "a"}, replica={"dsn": "postgresql://u:secret@b/d"})
    assert "secret" not in repr(config)
    assert "secret" not in repr(config.replica)


async def test_a_promoted_standby_is_not_read(caplog: pytest.LogCaptureFixture) -> None:
    """It takes writes of its own from then on, so the old primary's readers leave it alone."""
    with CrashServer(wheel_binaries()) as old, Standby(wheel_binaries(), old) as promoted:
        replica = {"dsn": promoted.dsn, "max_db_pool_size": 3}
        service = PsqlpySessionService(PsqlpyADKStore(PsqlpyConfig({"dsn": old.dsn}, replica=replica)))
        await service.store.create_tables()
        await service.create_session(app_name=APP, user_id=USER, session_id="s")
        await caught_up(old, promoted)
        assert await answered_by_standby(service, caplog)
        await asyncio.to_thread(promoted.promote)
        run_sql(old.dsn, "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
        run_sql(promoted.dsn, "DELETE FROM adk_sessions")
        await service.create_session(app_name=APP, user_id=USER, session_id="t")
        assert await listed(service) == ["s", "t"]
        assert not await answered_by_standby(service, caplog)
        await service.close()


def test_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """docs/replicas.md: its snippet makes a configuration, and prints what it says."""
    page = (Path(__file__).parents[2] / "docs/replicas.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(snippet, {})
    expected = re.findall(r"# -> (.*)", snippet)
    assert capsys.readouterr().out.splitlines() == expected
