"""Tables over the nodes of a cluster: `create_tables(distributed=True)` and `adk-psqlpy distribute`."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.genai import types
from psqlpy.exceptions import Error, NotSupportedError

from adk_psqlpy import (
    PsqlpyADKStore,
    PsqlpyArtifactService,
    PsqlpyConfig,
    PsqlpyMemoryService,
    PsqlpySessionService,
)
from adk_psqlpy.admin.distribution import distribute_tables
from adk_psqlpy.sql import MIGRATIONS, Tables, migrations
from servers import Database, run_sql

if TYPE_CHECKING:
    from clusters import CitusCluster

KEY = {"app_name": "app", "user_id": "user", "session_id": "s"}
PLACES = """SELECT logicalrelid::text AS name, partmethod::text AS method, colocationid::int AS together,
    column_to_column_name(logicalrelid, partkey) AS by FROM pg_dist_partition"""


def tables_of(dsn: str) -> dict[str, tuple[str, int, str | None]]:
    """Table -> how it is distributed, with which others, by what."""
    (rows,) = run_sql(dsn, PLACES)
    return {row["name"]: (row["method"], row["together"], row["by"]) for row in rows}


def all_tables(dsn: str) -> set[str]:
    (rows,) = run_sql(
        dsn, "SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public' AND tablename LIKE 'adk%'"
    )
    return {row["name"] for row in rows}


async def fill(config: PsqlpyConfig) -> dict[str, object]:
    """Something in every table, and what reading it gives."""
    service = PsqlpySessionService(PsqlpyADKStore(config))
    await service.store.create_tables()
    for n in range(20):
        session = await service.create_session(
            app_name="app", user_id=f"u{n}", session_id="s", state={"k": n, "app:a": n, "user:u": n}
        )
        for each in range(3):
            await service.append_event(
                session,
                Event(author="user", id=f"e{each}", actions=EventActions(state_delta={"k": [n, each]})),
            )
        await service.store.update_session_state("app", f"u{n}", "s", {"later": n})
    memory = PsqlpyMemoryService(config)
    await memory.add_session_to_memory(session)
    artifacts = PsqlpyArtifactService(config)
    part = types.Part.from_bytes(data=b"a" * 300_000, mime_type="text/plain")
    for n in range(3):
        await artifacts.save_artifact(**KEY, filename=f"f{n}", artifact=part)
    return await read(config)


async def read(config: PsqlpyConfig) -> dict[str, object]:
    service, artifacts = PsqlpySessionService(PsqlpyADKStore(config)), PsqlpyArtifactService(config)
    listed = await service.list_sessions(app_name="app")
    sessions = [
        await service.get_session(app_name="app", user_id=each.user_id, session_id=each.id)
        for each in listed.sessions
    ]
    return {
        "list": listed,
        "sessions": sessions,
        "artifacts": [await artifacts.load_artifact(**KEY, filename=f"f{n}") for n in range(3)],
        "memories": await PsqlpyMemoryService(config).search_memory(app_name="app", user_id="u19", query="x"),
    }


@pytest.mark.parametrize("filled", [False, True], ids=["empty", "filled"])
async def test_every_table_is_distributed(citus: Database, filled: bool) -> None:
    """Tables with a user lie together, by user; the others are on every node. What was stored reads the same,
    and nothing is left behind on the coordinator. Again, it changes nothing."""
    async with PsqlpyConfig({"dsn": citus.dsn, "max_db_pool_size": 4}) as config:
        before = await fill(config) if filled else None
        shards = await distribute_tables(config)
        assert await distribute_tables(config) == shards
        if filled:
            assert await read(config) == before
    found = tables_of(citus.dsn)
    assert set(found) == all_tables(citus.dsn) == set(shards)
    by_user = {name: place for name, place in found.items() if place[0] == "h"}
    assert set(found) - set(by_user) == {"adk_app_states", "adk_metadata", "adk_artifact_metadata"}
    assert {by for _, _, by in by_user.values()} == {"user_id"}
    assert len({together for _, together, _ in by_user.values()}) == 1
    sizes = run_sql(citus.dsn, *(f"SELECT pg_relation_size('{name}') AS bytes" for name in sorted(found)))
    assert [rows[0]["bytes"] for rows in sizes] == [0] * len(found)


@pytest.mark.parametrize("kind", ["event_search", "notify"])
async def test_what_is_for_one_server(citus: Database, kind: str) -> None:
    """Tables that have it are not distributed, and the error says how to go on."""
    async with PsqlpyConfig({"dsn": citus.dsn, "max_db_pool_size": 4}) as config:
        store = PsqlpyADKStore(config)
        await store.create_tables(**{kind: True})  # type: ignore[arg-type]
        with pytest.raises(NotSupportedError, match=rf"create_tables\({kind}=False\) first"):
            await store.create_tables(distributed=True)
        assert tables_of(citus.dsn) == {}
        await store.create_tables(**{kind: False})  # type: ignore[arg-type]
        await store.create_tables(distributed=True)
        assert "adk_sessions" in tables_of(citus.dsn)
        with pytest.raises(Error, match=r"event_search is for one server|triggers are not supported"):
            await store.create_tables(**{kind: True})  # type: ignore[arg-type]


async def test_a_schema_by_search_path(citus: Database) -> None:
    """Workers do not have the search_path of a connection: refused. With the schema named it works."""
    run_sql(citus.dsn, "CREATE SCHEMA tenant")
    async with PsqlpyConfig({"dsn": citus.dsn, "options": "-c search_path=tenant"}) as config:
        with pytest.raises(
            Error, match=r"(?s)do not look for .*adk_sessions.* in the schema tenant.*Name the schema"
        ):
            await PsqlpyADKStore(config).create_tables(distributed=True)
        assert tables_of(citus.dsn) == {}
        store = PsqlpyADKStore(config, "tenant.adk_sessions", "tenant.adk_events")
        run_sql(citus.dsn, "DROP TABLE " + ", ".join(f"tenant.{name}" for name in await in_schema(config)))
        await store.create_tables(distributed=True)
        assert await store.create_session("app", "user", "s") is not None


async def in_schema(config: PsqlpyConfig) -> list[str]:
    """The tables of the schema `tenant`."""
    sql = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'tenant'"
    return [name for (name,) in await config.lanes.fetch(sql, [])]


async def test_many_processes_at_once(citus: Database) -> None:
    """They take turns, and all find the tables distributed."""
    program = "import sys; from adk_psqlpy.cli import main; sys.exit(main(['distribute']))"
    running = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            program,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"DATABASE_URL": citus.dsn},
        )
        for _ in range(4)
    ]
    results = await asyncio.gather(*(each.communicate() for each in running))
    assert [each.returncode for each in running] == [0] * 4, [errors.decode() for _, errors in results]
    assert len({output for output, _ in results}) == 1
    assert b"adk_events: by user_id" in results[0][0]
    assert b"adk_app_states: on the coordinator" in results[0][0]


async def test_a_database_without_the_extension(database: Database) -> None:
    """One server is told what is missing, and nothing is made."""
    async with PsqlpyConfig({"dsn": database.dsn, "max_db_pool_size": 4}) as config:
        with pytest.raises(Error, match=r"(?s)no extension citus.*CREATE EXTENSION citus"):
            await distribute_tables(config)
        assert all_tables(database.dsn) == set()
        with pytest.raises(Error, match="no extension citus"):
            await PsqlpyADKStore(config).create_tables(distributed=True)


async def test_a_worker_makes_no_tables(cluster: CitusCluster, citus: Database) -> None:
    """On a worker, tables would be its own, and nobody else's: refused. Tables that are there can be used."""
    worker = cluster.workers[0].database_dsn(citus.name)
    async with PsqlpyConfig({"dsn": worker, "max_db_pool_size": 4}) as config:
        for make in (
            PsqlpyADKStore(config).create_tables,
            PsqlpyMemoryService(config).create_tables,
            PsqlpyArtifactService(config).create_tables,
            lambda: distribute_tables(config),
        ):
            with pytest.raises(Error, match="this server is a worker node"):
                await make()
        assert all_tables(worker) == set()
        async with PsqlpyConfig({"dsn": citus.dsn, "max_db_pool_size": 4}) as coordinator:
            await distribute_tables(coordinator)
        service = PsqlpySessionService(PsqlpyADKStore(config))
        await service.store.create_tables()
        session = await service.create_session(**KEY, state={"app:a": 1, "user:u": 1})
        await service.append_event(session, Event(author="user"))
        assert await service.get_session(**KEY) == session


async def test_a_cluster_without_workers(cluster: CitusCluster, citus: Database) -> None:
    """The error names what to do."""
    for worker in cluster.workers:
        run_sql(citus.dsn, f"SELECT 1 AS done FROM citus_remove_node('127.0.0.1', {worker.port})")
    async with PsqlpyConfig({"dsn": citus.dsn, "max_db_pool_size": 4}) as config:
        with pytest.raises(Error, match=r"(?s)no node of this Citus cluster takes shards.*citus_add_node"):
            await distribute_tables(config)


async def test_index_sets(citus: Database) -> None:
    """The set of indexes is changed on all nodes, and recorded."""
    async with PsqlpyConfig({"dsn": citus.dsn, "max_db_pool_size": 4}) as config:
        store = PsqlpyADKStore(config)
        await store.create_tables(distributed=True)
        for index_set, expected in (("appending", False), ("reading", True)):
            await store.create_tables(index_set=index_set)  # type: ignore[arg-type]
            (rows,) = run_sql(
                citus.dsn,
                "SELECT result FROM run_command_on_shards('adk_sessions', "
                "$$SELECT count(*) FROM pg_indexes WHERE tablename = '%s' AND indexname LIKE '%%state%%'$$)",
            )
            assert {row["result"] for row in rows} == {str(int(expected))}


async def test_a_migration_afterwards(citus: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration that adds a column, an index and a table works on distributed tables that are filled."""

    def further(tables: Tables, key_length: int) -> str:
        key = f"varchar({key_length}) NOT NULL"
        return f"""
        ALTER TABLE {tables.sessions} ADD COLUMN further jsonb;
        CREATE INDEX {tables.index(tables.session_table, "further")}
            ON {tables.sessions} (app_name, create_time);
        CREATE TABLE adk_further (
            app_name {key}, user_id {key}, session_id {key}, PRIMARY KEY (app_name, user_id, session_id),
            FOREIGN KEY (app_name, user_id, session_id) REFERENCES {tables.sessions} ON DELETE CASCADE
        );
        """

    async with PsqlpyConfig({"dsn": citus.dsn, "max_db_pool_size": 4}) as config:
        service = PsqlpySessionService(PsqlpyADKStore(config))
        await service.store.create_tables(distributed=True)
        session = await service.create_session(**KEY)
        await service.append_event(session, Event(author="user"))
        monkeypatch.setattr(migrations, "MIGRATIONS", (*MIGRATIONS, further))
        monkeypatch.setattr("adk_psqlpy.sessions.store_tables.SCHEMA_VERSION", len(MIGRATIONS) + 1)
        by_user = Tables.by_user.fget
        assert by_user is not None
        monkeypatch.setattr(Tables, "by_user", property(lambda self: [*by_user(self), '"adk_further"']))
        await PsqlpyADKStore(config).create_tables()
        assert tables_of(citus.dsn)["adk_further"][::2] == ("h", "user_id")
        run_sql(citus.dsn, "INSERT INTO adk_further VALUES ('app', 'user', 's')")
        assert await service.get_session(**KEY) == session
        await service.delete_session(**KEY)
        ((row,),) = run_sql(citus.dsn, "SELECT count(*) AS n FROM adk_further")
        assert row["n"] == 0
