"""What functions do on the node of a user's rows: they work on its shard, or on the tables."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from psqlpy.exceptions import Error

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from adk_psqlpy.admin.distribution import distribute_tables
from servers import Database, run_sql

if TYPE_CHECKING:
    from clusters import CitusCluster

USERS = [f"user-{n}" for n in range(8)]
# Functions for one shard: their names end in its number.
OF_SHARDS = r"proname ~ '^adk_\w+_[0-9a-f]{10}_\d+$'"
DROP_OF_SHARDS = f"""DO $$ DECLARE f record; BEGIN
    FOR f IN SELECT oid::regprocedure::text AS name FROM pg_proc WHERE {OF_SHARDS} LOOP
        EXECUTE 'DROP FUNCTION ' || f.name;
    END LOOP; END $$"""


async def talk(service: PsqlpySessionService) -> None:
    """Sessions that are created, appended to alone and in groups, changed, and read as they were written."""
    sessions = [
        await service.create_session(app_name="app", user_id=each, session_id="s", state={"user:a": 1})
        for each in USERS
    ]
    for _ in range(3):
        await asyncio.gather(
            *(
                service.append_event(each, Event(author="user", actions=EventActions(state_delta={"k": 1})))
                for each in sessions
            )
        )
    for each in sessions:
        delta = EventActions(state_delta={"user:b": 2, "app:c": 3})
        await service.append_event(each, Event(author="user", actions=delta))
    for each in sessions:
        found = await service.get_session(app_name="app", user_id=each.user_id, session_id="s")
        assert found is not None
        assert found.events == each.events
        assert found.state == {"k": 1, "user:a": 1, "user:b": 2, "app:c": 3}


async def opened(dsn: str) -> PsqlpySessionService:
    service = PsqlpySessionService(PsqlpyADKStore(PsqlpyConfig({"dsn": dsn, "max_db_pool_size": 4})))
    await service.store.create_tables(distributed=True)
    return service


def functions_of_shards(dsn: str) -> set[str]:
    (rows,) = run_sql(dsn, f"SELECT proname::text AS name FROM pg_proc WHERE {OF_SHARDS}")
    return {row["name"] for row in rows}


async def test_on_the_shard(cluster: CitusCluster, citus: Database) -> None:
    """Each call goes on to the function of the user's shard, on the worker that has it."""
    for worker in cluster.workers:
        run_sql(worker.dsn, "ALTER SYSTEM SET track_functions = 'pl'", "SELECT pg_reload_conf()")
    service = await opened(citus.dsn)
    await talk(service)
    await service.close()
    called: dict[str, int] = {}
    for worker in cluster.workers:
        query = f"""
            SELECT regexp_replace(funcname, '_[0-9a-f]{{10}}_\\d+$', '') AS name, sum(calls)::int AS calls
            FROM pg_stat_user_functions JOIN pg_proc ON oid = funcid WHERE {OF_SHARDS} GROUP BY 1"""
        (rows,) = run_sql(worker.database_dsn(citus.name), query)
        for row in rows:
            called[row["name"]] = called.get(row["name"], 0) + row["calls"]
        run_sql(worker.dsn, "ALTER SYSTEM RESET track_functions", "SELECT pg_reload_conf()")
    assert called.pop("adk_append") + called.pop("adk_append_group", 0) >= len(USERS)
    assert called == {"adk_create_session": len(USERS), "adk_read_unknown": len(USERS)}


async def test_without_functions_of_shards(citus: Database) -> None:
    """A shard that was split has none of its own. Everything works, and `distribute` makes them."""
    async with PsqlpyConfig({"dsn": citus.dsn, "max_db_pool_size": 2}) as config:
        await distribute_tables(config)
        made = functions_of_shards(citus.dsn)
        assert made
        run_sql(citus.dsn, DROP_OF_SHARDS)
        assert functions_of_shards(citus.dsn) == set()
        service = await opened(citus.dsn)
        await talk(service)
        await service.close()
        await distribute_tables(config)
        assert functions_of_shards(citus.dsn) == made


async def test_a_role_that_owns_nothing(citus: Database) -> None:
    """One that may read and write the tables can do so, though only an owner may lock shards."""
    owner = await opened(citus.dsn)
    await owner.close()
    run_sql(
        citus.dsn,
        "DROP ROLE IF EXISTS talker",
        "CREATE ROLE talker LOGIN",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO talker",
    )
    service = await opened(citus.dsn.replace("//postgres@", "//talker@"))
    await talk(service)
    await service.close()


async def test_who_may_hold_shards(cluster: CitusCluster, citus: Database) -> None:
    """Every role, until its transaction ends; after what docs/scale.md advises, the roles that are named."""
    owner = await opened(citus.dsn)
    run_sql(
        citus.dsn,
        "DROP ROLE IF EXISTS talker",
        "DROP ROLE IF EXISTS stranger",
        "CREATE ROLE talker LOGIN",
        "CREATE ROLE stranger LOGIN",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO talker",
    )
    ((row,),) = run_sql(
        citus.dsn,
        "SELECT shardid AS shard FROM pg_dist_shard WHERE logicalrelid = 'adk_sessions'::regclass LIMIT 1",
    )
    nodes = [citus.dsn, *(worker.database_dsn(citus.name) for worker in cluster.workers)]
    as_stranger = [node.replace("//postgres@", "//stranger@") for node in nodes]
    hold = f"SELECT FROM adk_hold_shards_1(ARRAY[{row['shard']}])"
    held = (
        "SELECT count(*) AS n FROM pg_locks "
        "WHERE pid = pg_backend_pid() AND locktype = 'advisory' AND mode = 'ShareLock'"
    )
    for node in as_stranger:
        found = run_sql(node, "BEGIN", hold, held, "COMMIT", held)
        assert (found[2][0]["n"], found[4][0]["n"]) == (1, 0)
        with pytest.raises(Error, match="permission denied for table"):
            run_sql(node, "SELECT count(*) FROM adk_sessions")
    move = f"""SELECT 1 AS done FROM pg_dist_placement AS p JOIN pg_dist_node AS f USING (groupid)
        JOIN pg_dist_node AS t ON t.groupid <> f.groupid AND t.shouldhaveshards,
        citus_move_shard_placement(p.shardid, f.nodename, f.nodeport, t.nodename, t.nodeport, 'block_writes')
        WHERE p.shardid = {row["shard"]}"""
    async with (
        PsqlpyConfig({"dsn": as_stranger[0], "max_db_pool_size": 2}) as config,
        config.provide_connection() as holding,
    ):
        await holding.execute("BEGIN")
        await holding.fetch(hold)
        with pytest.raises(Error, match="lock timeout"):
            run_sql(citus.dsn, "SET lock_timeout = '1s'", move)
        await holding.execute("ROLLBACK")
    run_sql(citus.dsn, move)
    page = (Path(__file__).parents[2] / "docs/scale.md").read_text(encoding="utf-8")
    (advice,) = re.findall(r"```sql\n(REVOKE EXECUTE.*?)```", page, flags=re.DOTALL)
    run_sql(citus.dsn, *advice.replace("shop_service", "talker").strip().split("\n"))
    await owner.store.create_tables(distributed=True)
    await owner.close()
    async with PsqlpyConfig({"dsn": citus.dsn, "max_db_pool_size": 2}) as config:
        await distribute_tables(config)
    for node in as_stranger:
        with pytest.raises(Error, match="permission denied for function"):
            run_sql(node, hold)
    service = await opened(citus.dsn.replace("//postgres@", "//talker@"))
    await talk(service)
    await service.close()
