"""Kept histories on distributed tables: versions of rows are those of the node that a session lives on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig
from adk_psqlpy.admin.distribution import distribute_tables
from contract.events import said, varied
from reads.conftest import KEY, Reads, observed_reads
from servers import Database, run_sql

from .test_functions import DROP_OF_SHARDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from clusters import CitusCluster
    from faults.crash import CrashServer

USER = KEY[1]
OF_SESSION = f"(app_name, user_id, session_id) = {KEY}"


@pytest.fixture
async def reads(citus: Database) -> AsyncIterator[Reads]:
    """A session of more than one chunk, that was read until the next read brings nothing."""
    async with PsqlpyConfig(pool_config={"dsn": citus.dsn, "max_db_pool_size": 4, "retry_sec": 30}) as config:
        store, plain = PsqlpyADKStore(config), PsqlpyADKStore(config, history_cache_bytes=0)
        await plain.create_tables(distributed=True)
        await store.create_tables()
        reads = observed_reads(store, plain, citus.dsn)
        await reads.create([*varied().values(), *(said(f"event {n}", seconds=n) for n in range(200))])
        await unchanged(reads)
        yield reads


async def unchanged(reads: Reads) -> None:
    """The second read from here on brings no event."""
    await reads.read()
    found = await reads.read()
    assert found is not None
    assert reads.last == (len(found.events), 0)


async def test_changes_with_sql(citus: Database, reads: Reads) -> None:
    """Seen as on one server; what has not changed is not sent again."""
    run_sql(citus.dsn, f"UPDATE adk_events SET content = NULL WHERE {OF_SESSION} AND seq = 7")
    await reads.read()
    assert 0 < reads.last[1] < 200
    run_sql(citus.dsn, f"DELETE FROM adk_events WHERE {OF_SESSION} AND seq BETWEEN 30 AND 40")
    await reads.read()
    run_sql(
        citus.dsn,
        "ALTER TABLE adk_events DROP COLUMN error_message",
        "ALTER TABLE adk_events ADD COLUMN error_message varchar(1024) DEFAULT 'new'",
    )
    await reads.read()
    assert reads.last[0] == 0
    await reads.append([said("more")])
    await reads.read()
    assert reads.last[1] == 1


async def test_numbers_that_no_event_has(citus: Database, reads: Reads) -> None:
    """A full read has the events with such a `seq` too, and ends."""
    for before, after in ((9, -9), (-9, 2**63 - 1)):
        run_sql(citus.dsn, f"UPDATE adk_events SET seq = {after} WHERE {OF_SESSION} AND seq = {before}")
        found = await reads.read()
        assert found is not None
        assert len(found.events) == reads.last[0] + reads.last[1]


async def test_own_appends_are_not_sent_back(reads: Reads) -> None:
    """The append says by which version its row is known on its node."""
    for text in ("one", "two"):
        last = await reads.store.last_event(*KEY)
        assert last is not None
        assert await reads.store.append_event(*KEY, said(text), expected=last[0]) is not None
    found = await reads.read()
    assert found is not None
    assert reads.last == (len(found.events), 0)


async def test_other_columns_of_a_row_than_were_sent(
    cluster: CitusCluster, reads: Reads, citus: Database
) -> None:
    """A trigger on the shard changes what an append stores: it is read again."""
    home = cluster.worker_of(citus, USER).database_dsn(citus.name)
    ((shard,),) = run_sql(
        citus.dsn,
        "SELECT shard_name('adk_events', e.shardid) AS name FROM pg_dist_shard AS e JOIN pg_dist_shard AS s "
        "ON e.shardminvalue = s.shardminvalue WHERE e.logicalrelid = 'adk_events'::regclass "
        f"AND s.shardid = get_shard_id_for_distribution_column('adk_sessions', '{USER}')",
    )
    run_sql(
        home,
        "SET citus.enable_ddl_propagation = off",
        "SET citus.enable_unsafe_triggers = on",
        "SET citus.enable_manual_changes_to_shards = on",
        "SET citus.override_table_visibility = off",
        "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN NEW.author := 'spoiled'; RETURN NEW; END $$",
        f"CREATE TRIGGER spoil BEFORE INSERT ON {shard['name']} FOR EACH ROW EXECUTE FUNCTION spoil()",
    )
    last = await reads.store.last_event(*KEY)
    assert last is not None
    assert await reads.store.append_event(*KEY, said("as it was sent"), expected=last[0]) is not None
    found = await reads.read()
    assert found is not None
    assert found.events[-1].author == "spoiled"
    assert reads.last == (len(found.events) - 1, 1)


def move(cluster: CitusCluster, citus: Database) -> CrashServer:
    """Move the user's shard to the other worker, and give that."""
    source = cluster.worker_of(citus, USER)
    (target,) = [worker for worker in cluster.workers if worker is not source]
    shard = f"get_shard_id_for_distribution_column('adk_sessions', '{USER}')"
    nodes = f"'127.0.0.1', {source.port}, '127.0.0.1', {target.port}"
    run_sql(citus.dsn, f"SELECT 1 AS done FROM citus_move_shard_placement({shard}, {nodes}, 'block_writes')")
    assert cluster.worker_of(citus, USER) is target
    return target


async def test_the_shard_moves_away_and_back(cluster: CitusCluster, citus: Database, reads: Reads) -> None:
    """After each move everything is read once, and kept from then on. An edit between moves is seen."""
    for number in range(3):
        await asyncio.to_thread(move, cluster, citus)
        edit = f"UPDATE adk_events SET author = 'move {number}' WHERE {OF_SESSION} AND seq = 9"
        await asyncio.to_thread(run_sql, citus.dsn, edit)
        found = await reads.read()
        assert found is not None
        assert reads.last == (0, len(found.events))
        assert found.events[8].author == f"move {number}"
        await unchanged(reads)


async def test_without_functions_of_shards(citus: Database, reads: Reads) -> None:
    """A shard that was split has none. Then the server of its rows is not known, so all events are sent, also
    appended ones. Once there are functions again, nothing is sent."""
    run_sql(citus.dsn, DROP_OF_SHARDS)
    for _ in range(2):
        last = await reads.store.last_event(*KEY)
        assert last is not None
        assert await reads.store.append_event(*KEY, said("more"), expected=last[0]) is not None
        found = await reads.read()
        assert found is not None
        assert reads.last == (0, len(found.events))
    await distribute_tables(reads.plain.config)
    await unchanged(reads)


async def test_the_node_is_started_again(cluster: CitusCluster, citus: Database, reads: Reads) -> None:
    """Everything is read once: numbers of transactions may be given out again after a restore."""
    home = cluster.worker_of(citus, USER)
    await asyncio.to_thread(home.kill)
    await asyncio.to_thread(home.restart)
    found = await reads.read()
    assert found is not None
    assert reads.last == (0, len(found.events))
    await unchanged(reads)
