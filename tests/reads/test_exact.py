"""The answer is that of a full read, whoever changed what, and however."""

from __future__ import annotations

import pytest
from google.adk.events.event import Event
from psqlpy import connect

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig
from contract.events import said
from servers import Database, Server, run_sql
from where import one_server

from .conftest import KEY, Reads

EVENTS = 300
PARTS = '\'{"parts": [{"text": "edited"}], "role": "user"}\''


def spoken(count: int, first: int = 0) -> list[Event]:
    return [said(f"event {n}", seconds=n, error_code=f"e{n}") for n in range(first, first + count)]


@pytest.fixture
async def warm(reads: Reads) -> Reads:
    """A session that was read twice, so that it is kept as recordings."""
    await reads.create(spoken(EVENTS))
    await reads.read()
    await reads.read()
    return reads


EDITS = {
    "an event edited": f"UPDATE adk_events SET content = {PARTS} WHERE seq = 7",
    "redacted": "UPDATE adk_events SET content = NULL WHERE seq BETWEEN 120 AND 140",
    "all edited": "UPDATE adk_events SET author = author || '!'",
    "edited to the same": "UPDATE adk_events SET author = author WHERE seq = 200",
    "one deleted": "DELETE FROM adk_events WHERE seq = 150",
    "the first deleted": "DELETE FROM adk_events WHERE seq = 1",
    "the last deleted": f"DELETE FROM adk_events WHERE seq = {EVENTS}",
    "a chunk deleted": "DELETE FROM adk_events WHERE seq BETWEEN 120 AND 270",
    "all deleted": "DELETE FROM adk_events",
    "truncated": "TRUNCATE adk_events",
    "moved to another place": "UPDATE adk_events SET seq = 1000 + seq WHERE seq IN (3, 200)",
    "two exchanged": "UPDATE adk_events SET seq = 11 - seq WHERE seq IN (5, 6)",
    "before the first": "UPDATE adk_events SET seq = -9 WHERE seq = 9",
    "behind the last that can be": "UPDATE adk_events SET seq = 9223372036854775807 WHERE seq = 9",
    "moved to another session": (
        "INSERT INTO adk_sessions (app_name, user_id, id) VALUES ('app', 'user', 'other');"
        "UPDATE adk_events SET session_id = 'other' WHERE seq = 9"
    ),
    "one inserted in the middle": (
        "UPDATE adk_events SET seq = 1000 WHERE seq = 150;"
        "INSERT INTO adk_events (id, session_id, app_name, user_id, seq, actions, author, invocation_id)"
        " SELECT 'new', session_id, app_name, user_id, 150, actions, author, invocation_id"
        " FROM adk_events WHERE seq = 151"
    ),
    "edited twice in one transaction": (
        f"BEGIN; UPDATE adk_events SET content = {PARTS} WHERE seq = 7;"
        " UPDATE adk_events SET content = NULL WHERE seq = 7; COMMIT"
    ),
    "edited in a subtransaction": (
        f"BEGIN; SAVEPOINT a; UPDATE adk_events SET content = {PARTS} WHERE seq = 7; RELEASE a;"
        " SAVEPOINT b; UPDATE adk_events SET content = NULL WHERE seq = 8; ROLLBACK TO b; COMMIT"
    ),
    "replaced under its id": (
        "CREATE TEMP TABLE kept AS SELECT * FROM adk_events WHERE seq = 7;"
        " DELETE FROM adk_events WHERE seq = 7;"
        " UPDATE kept SET author = 'another'; INSERT INTO adk_events SELECT * FROM kept"
    ),
    "replaced where it lay": (
        "CREATE TEMP TABLE kept AS SELECT * FROM adk_events; TRUNCATE adk_events;"
        " UPDATE kept SET author = 'another' WHERE seq = 7;"
        " INSERT INTO adk_events SELECT * FROM kept ORDER BY seq"
    ),
    "a column made anew": ("ALTER TABLE adk_events DROP COLUMN content, ADD COLUMN content jsonb"),
    "a column made anew, with a default": (
        f"ALTER TABLE adk_events DROP COLUMN content, ADD COLUMN content jsonb DEFAULT {PARTS}"
    ),
    "two columns exchanged": (
        "ALTER TABLE adk_events RENAME error_code TO x; ALTER TABLE adk_events RENAME branch TO error_code;"
        " ALTER TABLE adk_events RENAME x TO branch"
    ),
    "the revision set back": "UPDATE adk_sessions SET revision = 3",
}
# Of these, a row or two come at each read: nobody numbers events like that.
UNSETTLED = ("behind the last that can be",)
UNCHANGED = {
    "a rolled back edit": "BEGIN; UPDATE adk_events SET content = NULL; ROLLBACK",
    "vacuumed": "VACUUM adk_events",
    "frozen": "VACUUM (FREEZE) adk_events",
    "analyzed": "ANALYZE adk_events",
    "locked": "BEGIN; SELECT 1 FROM adk_events FOR UPDATE; COMMIT",
    "rewritten": "VACUUM FULL adk_events",
    "clustered": "CLUSTER adk_events USING adk_events_pkey",
    "indexed anew": "REINDEX TABLE adk_events",
    "a table for itself": (
        "CREATE TABLE copied (LIKE adk_events INCLUDING ALL); INSERT INTO copied SELECT * FROM adk_events;"
        " ALTER TABLE adk_events RENAME TO gone; ALTER TABLE copied RENAME TO adk_events"
    ),
}
ONE_SERVER = {
    "locked": one_server("Citus refuses row locks on several shards"),
    "a table for itself": one_server("the new table would not be distributed"),
}


@pytest.mark.parametrize(
    "edit",
    [pytest.param(each, marks=ONE_SERVER.get(each, ())) for each in EDITS | UNCHANGED],
)
async def test_a_change_with_sql(warm: Reads, edit: str) -> None:
    """Whatever it was, the next reads are right, and soon nothing is sent again."""
    warm.sql(*(EDITS | UNCHANGED)[edit].split(";"))
    await warm.read()
    await warm.append(spoken(3, EVENTS))
    await warm.read()
    found = await warm.read()
    assert found is not None
    assert edit in UNSETTLED or warm.last == (len(found.events), 0)


async def test_an_edit_brings_its_neighbours_only(warm: Reads) -> None:
    """What is sent again is the chunk that the event is in."""
    warm.sql(EDITS["an event edited"])
    await warm.read()
    assert warm.last == (EVENTS - 128, 128)


@one_server("Citus refuses row locks on several shards")
async def test_vacuum_sends_nothing_again(warm: Reads) -> None:
    for harmless in ("vacuumed", "frozen", "analyzed", "locked", "indexed anew", "a rolled back edit"):
        warm.sql(*UNCHANGED[harmless].split(";"))
        await warm.read()
        assert warm.last == (EVENTS, 0), harmless


async def test_an_edit_that_is_not_committed(warm: Reads) -> None:
    """It is seen when it is committed, not before."""
    connection = await connect(dsn=warm.dsn)
    try:
        await connection.execute("BEGIN")
        await connection.execute(EDITS["an event edited"])
        await warm.read()
        assert warm.last == (EVENTS, 0)
        await connection.execute("COMMIT")
    finally:
        connection.close()
    await warm.read()
    assert warm.last == (EVENTS - 128, 128)


@one_server("it copies the database of one server")
async def test_a_copy_of_the_database_in_its_place(warm: Reads, server: Server) -> None:
    """A copy has the same tables, rows and versions; then both go on, each its own way."""
    name = warm.dsn.split("/")[3].split("?")[0]
    run_sql(
        server.dsn,
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
        f'CREATE DATABASE "{name}_copy" TEMPLATE "{name}" STRATEGY file_copy',
    )
    run_sql(server.database_dsn(f"{name}_copy"), EDITS["an event edited"])
    warm.sql(EDITS["redacted"])
    await warm.read()
    run_sql(
        server.dsn,
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE '{name}%'",
        f'ALTER DATABASE "{name}" RENAME TO "{name}_gone"',
        f'ALTER DATABASE "{name}_copy" RENAME TO "{name}"',
    )
    try:
        await warm.read()
    finally:
        run_sql(server.dsn, f'DROP DATABASE "{name}_gone" WITH (FORCE)')


@one_server("it makes a table of partitions")
async def test_partitions(config: PsqlpyConfig, reads: Reads) -> None:
    """A partitioned table of events: a partition that is taken out and put back is another table."""
    reads.sql(
        "ALTER TABLE adk_events RENAME TO part_1",
        "CREATE TABLE adk_events (LIKE part_1 INCLUDING DEFAULTS) PARTITION BY RANGE (seq)",
        "ALTER TABLE adk_events ATTACH PARTITION part_1 FOR VALUES FROM (MINVALUE) TO (100)",
        "CREATE TABLE part_2 PARTITION OF adk_events FOR VALUES FROM (100) TO (MAXVALUE)",
    )
    await reads.create()
    columns = "id, session_id, app_name, user_id, seq, actions, invocation_id"
    reads.sql(
        "BEGIN",  # one transaction: rows of part_2 and part_3 have the same numbers, and the same places
        f"INSERT INTO adk_events ({columns}, author)"
        " SELECT 'e' || n, 's', 'app', 'user', n, '{}', 'i', 'user' FROM generate_series(1, 150) AS n",
        "CREATE TABLE part_3 (LIKE part_2 INCLUDING ALL)",
        f"INSERT INTO part_3 ({columns}, author) SELECT {columns}, 'other' FROM part_2 ORDER BY seq",
        "COMMIT",
    )
    await reads.read()
    await reads.read()
    assert reads.last == (150, 0)
    reads.sql(
        "ALTER TABLE adk_events DETACH PARTITION part_2",
        "ALTER TABLE adk_events ATTACH PARTITION part_3 FOR VALUES FROM (100) TO (MAXVALUE)",
    )
    await reads.read()
    reads.sql("ALTER TABLE adk_events DETACH PARTITION part_3")
    found = await reads.read()
    assert found is not None
    assert len(found.events) == 99


@one_server("row-level security is for one server")
async def test_rows_that_a_policy_hides(database: Database, reads: Reads) -> None:
    """Row-level security: a policy that changes changes what is seen, without a change of a row."""
    await reads.create(spoken(20))
    reads.sql(
        "DROP ROLE IF EXISTS adk_reads_tenant",
        "CREATE ROLE adk_reads_tenant LOGIN",
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO adk_reads_tenant",
        "ALTER TABLE adk_events ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY seen ON adk_events USING (seq > 5)",
    )
    dsn = database.server.database_dsn(database.name, user="adk_reads_tenant")
    try:
        async with PsqlpyConfig(pool_config={"dsn": dsn, "max_db_pool_size": 2}) as config:
            tenant = PsqlpyADKStore(config)
            for policy, seen in (("seq > 5", 15), ("seq > 7", 13), ("true", 20), ("seq = 9", 1)):
                reads.sql(f"ALTER POLICY seen ON adk_events USING ({policy})")
                for _ in range(2):
                    found = await tenant.get_session(*KEY)
                    assert found is not None
                    assert len(found.events) == seen, policy
    finally:
        reads.sql("DROP OWNED BY adk_reads_tenant", "DROP ROLE adk_reads_tenant")


async def test_made_again_and_read_while_empty(reads: Reads) -> None:
    """Its new events have the numbers of the old ones, of which nothing is kept any more."""
    await reads.create([said("old") for _ in range(3)])
    assert await reads.store.get_session(*KEY) is not None
    await reads.plain.delete_session(*KEY)
    await reads.create()
    empty = await reads.store.get_session(*KEY)
    assert empty is not None
    assert empty.events == []
    await reads.append([said("new"), said("newer")])
    assert await reads.store.get_session(*KEY) == await reads.plain.get_session(*KEY)
    assert len(await reads.store.get_events(*KEY)) == 2
