"""The state of apps is on the coordinator: a write of it is for two nodes, and goes on without the others."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest
from google.adk.errors import StaleSessionError
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from psqlpy.exceptions import Error

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from adk_psqlpy.admin.distribution import distribute_tables
from adk_psqlpy.sql.delegated import DelegatedStatements
from servers import Database, run_sql

from .test_routed import remote_commands
from .test_workers import EACH, Writers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from google.adk.sessions.session import Session

    from clusters import CitusCluster

KIND = """SELECT p.repmodel::text, array_agg(n.groupid) AS nodes FROM pg_dist_partition AS p
    JOIN pg_dist_shard AS s USING (logicalrelid) JOIN pg_dist_placement AS n USING (shardid)
    WHERE p.logicalrelid = 'adk_app_states'::regclass GROUP BY 1"""
ON_COORDINATOR = [{"repmodel": "s", "nodes": [0]}]


def changes(delta: dict[str, object], **fields: str) -> Event:
    return Event(author="user", actions=EventActions(state_delta=delta), **fields)


def opened(dsn: str) -> PsqlpySessionService:
    config = PsqlpyConfig({"dsn": dsn, "max_db_pool_size": 6, "retry_sec": 1})
    return PsqlpySessionService(PsqlpyADKStore(config))


@pytest.fixture
async def service(citus: Database) -> AsyncIterator[PsqlpySessionService]:
    """A service on distributed tables."""
    service = opened(citus.dsn)
    await service.store.create_tables(distributed=True)
    yield service
    await service.close()


async def made(service: PsqlpySessionService, users: list[str]) -> list[Session]:
    return [await service.create_session(app_name="app", user_id=each, session_id="s") for each in users]


async def test_two_nodes_take_part(
    service: PsqlpySessionService, cluster: CitusCluster, citus: Database
) -> None:
    """The node of the user prepares, the coordinator commits. The other node gets nothing at all."""
    home = cluster.worker_of(citus, "user")
    (other,) = [worker for worker in cluster.workers if worker is not home]
    for worker in cluster.workers:
        run_sql(worker.dsn, "ALTER SYSTEM SET log_statement = 'all'", "SELECT pg_reload_conf()")
    start = {worker.port: (worker.directory / "log").stat().st_size for worker in cluster.workers}
    fresh = opened(citus.dsn)  # its connections to the workers are new, so that they log
    await fresh.store.create_tables()
    session = await fresh.create_session(app_name="app", user_id="user", session_id="s", state={"app:a": 1})
    await fresh.append_event(session, changes({"k": 1, "user:u": 2, "app:a": 2}))
    await fresh.get_session(app_name="app", user_id="user", session_id="s")
    await fresh.append_event(session, changes({"app:a": 3}))  # the histories are kept: the version is wanted
    await fresh.store.update_session_state("app", "user", "s", {"app:a": 4, "k": 2})
    await fresh.close()
    for worker in cluster.workers:
        run_sql(worker.dsn, "ALTER SYSTEM RESET log_statement", "SELECT pg_reload_conf()")
    sent = remote_commands(cluster, start)
    assert [each for each in sent[other.port] if "adk_" in each or "PREPARE" in each] == []
    prepared = [each for each in sent[home.port] if each.startswith("PREPARE TRANSACTION")]
    assert len(prepared) == 4
    for name in ("create_session", "append", "append_kept", "update_state"):
        called = rf" FROM .*adk_{name}_[0-9a-f]{{10}}_nested\("
        assert len([each for each in sent[home.port] if re.search(called, each)]) == 1, name
    assert await service.store.get_app_state("app") == {"a": 4}


async def test_another_worker_is_down(
    service: PsqlpySessionService, cluster: CitusCluster, citus: Database
) -> None:
    """Users of the other worker write and read state of the app, as if nothing had happened."""
    (down, up) = cluster.users_on_each(citus, 2)
    (session,) = await made(service, up[:1])
    await made(service, down[:1])
    cluster.workers[0].kill()
    await service.append_event(session, changes({"app:a": 1}))
    await service.store.update_session_state("app", up[0], "s", {"app:b": 2})
    created = await service.create_session(app_name="app", user_id=up[1], session_id="s", state={"app:c": 3})
    expected = {"app:a": 1, "app:b": 2, "app:c": 3}
    assert created.state == expected
    found = await service.get_session(app_name="app", user_id=up[0], session_id="s")
    assert found is not None
    assert found.state == expected
    listed = await service.list_sessions(app_name="app", user_id=up[0])
    assert [each.state for each in listed.sessions] == [expected]
    assert await service.store.get_app_state("app") == {"a": 1, "b": 2, "c": 3}


async def test_writers_on_both_nodes(service: PsqlpySessionService, citus: Database) -> None:
    """They race for one app, through all nodes, and lose nothing."""
    sessions = await made(service, [f"u{n}" for n in range(12)])
    for round_ in range(3):
        await asyncio.gather(
            *(service.append_event(each, changes({f"app:{n}": round_})) for n, each in enumerate(sessions))
        )
    assert await service.store.get_app_state("app") == {str(n): 2 for n in range(12)}


async def test_what_was_acknowledged_is_read(
    service: PsqlpySessionService, cluster: CitusCluster, citus: Database
) -> None:
    """By every process, whichever node it asks."""
    others = [opened(worker.database_dsn(citus.name)) for worker in cluster.workers]
    for each in others:
        await each.store.create_tables()
    services = [service, *others]
    users = [each[0] for each in cluster.users_on_each(citus, 1)]
    await made(service, users)
    number = 0
    for _ in range(4):
        for writer in services:
            for user in users:
                number += 1
                key = {"app_name": "app", "user_id": user, "session_id": "s"}
                session = await writer.get_session(**key)
                assert session is not None
                await writer.append_event(session, changes({"app:n": number}))
                for reader in services:
                    for each in users:
                        found = await reader.get_session(**{**key, "user_id": each})
                        assert found is not None
                        assert found.state["app:n"] == number
    for each in others:
        await each.close()


async def test_an_append_given_twice_counts_once(service: PsqlpySessionService) -> None:
    one, two = await made(service, ["u1", "u2"])
    event = changes({"app:k": 1}, id="e")
    await service.append_event(one, event)
    await service.append_event(two, changes({"app:k": 2}))
    await service.append_event(one, event)
    assert await service.store.get_app_state("app") == {"k": 2}


async def test_an_append_that_fails(service: PsqlpySessionService, citus: Database) -> None:
    """A stale one leaves no state, and one whose state is refused leaves no event."""
    (session,) = await made(service, ["u"])
    stale = session.model_copy(deep=True)
    await service.append_event(session, changes({}))
    with pytest.raises(StaleSessionError):
        await service.append_event(stale, changes({"app:k": 1}))
    assert await service.store.get_app_state("app") == {}
    run_sql(citus.dsn, "ALTER TABLE adk_app_states ADD CONSTRAINT refused CHECK (NOT state ? 'bad')")
    for delta in ({"app:bad": 1}, {"app:bad": 1, "user:u": 1, "k": 1}):
        with pytest.raises(Error, match="refused"):
            await service.append_event(session, changes(delta))
    with pytest.raises(Error, match="refused"):
        await service.store.update_session_state("app", "u", "s", {"app:bad": 1, "k": 1})
    with pytest.raises(Error, match="refused"):
        await service.create_session(app_name="app", user_id="u", session_id="t", state={"app:bad": 1})
    found = await service.get_session(app_name="app", user_id="u", session_id="s")
    assert found is not None
    assert (len(found.events), found.state) == (1, {})
    assert await service.get_session(app_name="app", user_id="u", session_id="t") is None


class AppWriters(Writers):
    """Each event has a key of the app's state."""

    def event(self) -> Event:
        event = Event(author="user")
        event.actions.state_delta = {f"app:{event.id}": 1}
        return event


async def test_a_worker_is_killed_while_they_write(
    service: PsqlpySessionService, cluster: CitusCluster, citus: Database
) -> None:
    """Writers on the other worker go on without an error: no transaction of the killed one holds the row.
    Afterwards each event that was stored has its key in the state of the app, and no other has."""
    killed, others = cluster.users_on_each(citus, EACH)
    running = AppWriters(service, await made(service, killed + others))
    await running.more(killed + others, 10)
    await asyncio.to_thread(cluster.workers[0].kill)
    await running.more(others, 25)
    await asyncio.to_thread(cluster.workers[0].restart)
    # What the worker prepared and did not commit; Citus does this once a minute.
    (rows,) = run_sql(citus.dsn, "SELECT recover_prepared_transactions() AS number")
    assert len(rows) == 1
    await running.more(killed + others, 10)
    await running.end()
    await running.check()
    assert [running.errors[each] for each in others] == [[] for _ in others]
    stored = set()
    for user in killed + others:
        found = await service.get_session(app_name="app", user_id=user, session_id="s")
        assert found is not None
        stored |= {event.id for event in found.events}
    assert set(await service.store.get_app_state("app")) == stored


async def test_tables_of_the_version_before(service: PsqlpySessionService, citus: Database) -> None:
    """There the state of apps is a reference table. It is brought to the coordinator, with what is in it."""
    await service.create_session(app_name="app", user_id="u", session_id="s", state={"app:a": 1})
    run_sql(
        citus.dsn,
        "SELECT undistribute_table('adk_app_states')::text AS done",
        "SELECT create_reference_table('adk_app_states')::text AS done",
        "UPDATE adk_metadata SET value = 'earlier' WHERE key = 'functions'",
    )
    (before,) = run_sql(citus.dsn, KIND)
    assert sorted(before[0]["nodes"]) == [0, 1, 2]
    for _ in range(2):
        shards = await distribute_tables(service.store.config)
        assert shards["adk_app_states"] == -1
        assert run_sql(citus.dsn, KIND) == [ON_COORDINATOR]
    found = await service.get_session(app_name="app", user_id="u", session_id="s")
    assert found is not None
    await service.append_event(found, changes({"app:b": 2}))
    assert await service.store.get_app_state("app") == {"a": 1, "b": 2}


async def test_the_workers_do_not_know_the_coordinator(cluster: CitusCluster, citus: Database) -> None:
    """The error names what to do, and nothing is made."""
    run_sql(citus.dsn, f"SELECT 1 AS done FROM citus_remove_node('127.0.0.1', {cluster.coordinator.port})")
    service = opened(citus.dsn)
    with pytest.raises(Error, match=r"(?s)do not know the coordinator.*citus_set_coordinator_host"):
        await service.store.create_tables(distributed=True)
    await service.close()


async def test_a_store_that_made_no_tables(service: PsqlpySessionService, citus: Database) -> None:
    """With its first operation it looks how the tables are."""
    session = await service.create_session(app_name="app", user_id="u", session_id="s", state={"app:a": 1})
    await service.append_event(session, changes({"app:b": 2}))
    other = opened(citus.dsn)
    assert not isinstance(other.store._sql, DelegatedStatements)
    assert await other.get_session(app_name="app", user_id="u", session_id="s") == session
    assert isinstance(other.store._sql, DelegatedStatements)
    await other.append_event(session, changes({"app:b": 3}))
    await other.close()
    run_sql(citus.dsn, "UPDATE adk_metadata SET value = 'other' WHERE key = 'functions'")
    third = opened(citus.dsn)
    with pytest.raises(Error, match=r"not by this version of the package.*create_tables"):
        await third.get_session(app_name="app", user_id="u", session_id="s")
    await third.close()


async def test_state_beside_every_read(service: PsqlpySessionService) -> None:
    """Of sessions, pages, lists, earlier states and forks."""
    session = await service.create_session(app_name="app", user_id="u", session_id="s", state={"app:a": 1})
    await service.append_event(session, changes({"k": 1}))
    second = await service.create_session(app_name="app", user_id="u", session_id="t")
    assert second.state == {"app:a": 1}
    store = service.store
    for read in (
        store.get_session("app", "u", "s", limit=0),
        store.get_session("app", "u", "s", limit=1),
        store.get_session("app", "u", "s", after_timestamp=0.0),
        store.get_since("app", "u", "s", 0),
        store.get_until("app", "u", "s", 1),
    ):
        found = await read
        assert found is not None
        assert found.state == {"app:a": 1, "k": 1}
    for listed in (
        await service.list_sessions(app_name="app"),
        await service.list_sessions(app_name="app", user_id="u"),
        await service.list_sessions(app_name="app", newest_first=True),
    ):
        assert {each.state["app:a"] for each in listed.sessions} == {1}
    assert await service.state_at(session, at_seq=0) == {"app:a": 1}
    assert (await service.fork_session(session)).state == {"app:a": 1, "k": 1}
