"""The two sets of indexes over the session table: the same answers, other costs, and how they change."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psqlpy
import pytest
from psqlpy.exceptions import DatabaseError

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig
from adk_psqlpy.sql import INDEX_SETS, IndexSet
from contract.events import delta, said
from servers import Database, run_sql, with_database
from where import PLANS, changes_tables, makes_tables, on_cluster, one_server

from .support import KEY, LIMIT_SEC, contents, store_at, version
from .test_tables import indexes, made, recorded, snapshot

SET = pytest.mark.parametrize("index_set", INDEX_SETS)
APP_USER = 'app_name COLLATE "C", user_id COLLATE "C"'
KEY_INDEX = {"adk_sessions_pkey": "btree (app_name, user_id, id)"}
EXPECTED: dict[str, dict[str, str]] = {
    "reading": KEY_INDEX
    | {
        "idx_adk_sessions_app_user": f"btree ({APP_USER}, update_time)",
        "idx_adk_sessions_state": "gin (state) WHERE (state <> '{}'::jsonb)",
        "idx_adk_sessions_update_time": "btree (update_time DESC)",
    },
    "appending": KEY_INDEX | {"idx_adk_sessions_user": f"btree ({APP_USER})"},
}


@asynccontextmanager
async def store_with(dsn: str, index_set: IndexSet) -> AsyncIterator[PsqlpyADKStore]:
    """A store whose tables have this set."""
    async with store_at(dsn, create=False) as store:
        await store.create_tables(index_set=index_set)
        yield store


@pytest.fixture(autouse=True)
async def reading_again(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """The tables that tests share on a cluster get the indexes back that all others have there."""
    dsn = request.getfixturevalue("database").dsn if "database" in request.fixturenames else None
    yield
    if dsn is not None and on_cluster():
        async with store_with(dsn, "reading"):
            pass


# What is there.


@SET
async def test_a_new_database_gets_the_set(database: Database, index_set: IndexSet) -> None:
    """The indexes of the set and no others, and its name in adk_metadata."""
    async with store_with(database.dsn, index_set):
        pass
    assert indexes(database.dsn, "adk_sessions") == EXPECTED[index_set]
    assert recorded(database.dsn) == made(index_set=index_set)


async def test_the_default_is_reading(store: PsqlpyADKStore, database: Database) -> None:
    """Without the argument, tables are made for reading."""
    assert indexes(database.dsn, "adk_sessions") == EXPECTED["reading"]
    assert recorded(database.dsn)["index_set"] == "reading"


async def test_without_the_argument_the_set_stays(database: Database) -> None:
    """create_tables() of a process that does not care changes nothing."""
    async with store_with(database.dsn, "appending") as store:
        before = snapshot(database.dsn)
        await store.create_tables()
        async with store_at(database.dsn):
            pass
    assert snapshot(database.dsn) == before
    assert recorded(database.dsn)["index_set"] == "appending"


@pytest.mark.parametrize("value", ["writing", "", "READING", b"reading", 1, True, ["reading"], {}])
async def test_what_is_no_set(value: Any) -> None:
    """Another name is refused before anything is sent."""
    async with PsqlpyConfig({"host": "127.0.0.1", "port": 1}) as config:
        with pytest.raises(ValueError, match="index_set must be 'reading' or 'appending', not "):
            await PsqlpyADKStore(config).create_tables(index_set=value)


# The same answers.


async def crowd(store: PsqlpyADKStore) -> None:
    """Sessions of three users in two apps, not updated in the order of their creation, with ties."""
    for n in range(60):
        key = (f"app{n % 2}", f"user{n % 3}", f"s{n:02}")
        await store.create_session(*key, {"n": n, "status": ("open", "closed")[n % 2]})
    for n in (*range(59, 0, -7), *range(0, 60, 4)):
        key = (f"app{n % 2}", f"user{n % 3}", f"s{n:02}")
        held = await version(store, *key)
        event = said("hi", id=f"e{n}-{held.revision}")
        event.timestamp = 1e9 + n % 5
        assert await store.append_event(*key, event, expected=held) is not None


async def pages(store: PsqlpyADKStore, *user: str) -> list[tuple[float, str, str]]:
    """(update_time, user_id, id) of all sessions of app0, read in pages of 7."""
    seen: list[tuple[float, str, str]] = []
    while page := await store.list_sessions("app0", *user, limit=7, after=seen[-1] if seen else None):
        seen += [(s.update_time, s.user_id, s.id) for s in page]
    return seen


@SET
async def test_lists_and_pages(database: Database, index_set: IndexSet) -> None:
    """Lists are in the order of updates, ties by user and id, and pages join to the whole list."""
    async with store_with(database.dsn, index_set) as store:
        await crowd(store)
        for user in ((), ("user0",), ("user1",), ("nobody",)):
            listed = [(s.update_time, s.user_id, s.id) for s in await store.list_sessions("app0", *user)]
            assert listed == sorted(listed)
            assert len(listed) == {(): 30, ("nobody",): 0}.get(user, 10)
            assert await pages(store, *user) == listed


async def test_what_users_ask_gives_the_same_rows(database: Database) -> None:
    """The README's queries: newest sessions, retention, `@>`; before and after a change of the set."""
    queries = (
        "SELECT id FROM adk_sessions WHERE app_name = 'app1' ORDER BY update_time DESC, id LIMIT 10",
        "SELECT id FROM adk_sessions WHERE update_time < '2020-01-01' ORDER BY id",
        """SELECT id FROM adk_sessions WHERE state @> '{"status": "open"}' AND state != '{}' ORDER BY id""",
    )
    async with store_with(database.dsn, "reading") as store:
        await crowd(store)
        before = run_sql(database.dsn, *queries)
        assert all(before)
        await store.create_tables(index_set="appending")
        assert run_sql(database.dsn, *queries) == before


# Heap-only updates.


async def hot_updates(store: PsqlpyADKStore, database: Database, updates: int) -> int:
    """How many of so many updates of adk_sessions were heap-only, once all of them are counted."""
    deadline = time.monotonic() + LIMIT_SEC
    while True:
        # An idle backend keeps what it counted for some seconds.
        await asyncio.gather(
            *(store._lanes.fetch("SELECT pg_stat_force_next_flush()::text", []) for _ in range(8))
        )
        ((row,),) = run_sql(
            database.dsn,
            """SELECT n_tup_upd::bigint, n_tup_hot_upd::bigint FROM pg_stat_user_tables
               WHERE relname = 'adk_sessions'""",
        )
        if row["n_tup_upd"] >= updates:
            assert row["n_tup_upd"] == updates
            return int(row["n_tup_hot_upd"])
        assert time.monotonic() < deadline, f"{row['n_tup_upd']} updates were counted, not {updates}"


@one_server(PLANS)
@pytest.mark.parametrize("with_delta", [False, True], ids=["no delta", "delta"])
async def test_appends_are_heap_only(database: Database, with_delta: bool) -> None:
    """Of 200 appends more than nine tenths are, with and without a state delta, on any server."""
    async with store_with(database.dsn, "appending") as store:
        await store.create_session(*KEY, {"n": 0, "note": "what was said"})
        held = await version(store)
        for n in range(200):
            event = delta({"n": n}, seconds=n) if with_delta else said("hi", id=f"e{n}")
            revision = await store.append_event(*KEY, event, expected=held)
            assert revision == n + 1
            held = type(held)(revision, held.create_time)
        assert await hot_updates(store, database, 200) > 180


BRIN, GIN = "USING brin (update_time)", "USING gin (state)"


@one_server(PLANS)
@pytest.mark.parametrize("index", [BRIN, GIN])
async def test_an_index_of_ones_own_that_leaves_them_heap_only(database: Database, index: str) -> None:
    """What the documentation offers to add: BRIN from PostgreSQL 16 on; GIN, for appends without a delta."""
    if index == BRIN and database.server.version < 160000:
        pytest.skip("before 16 an update of a column in a BRIN index is not heap-only")
    async with store_with(database.dsn, "appending") as store:
        run_sql(database.dsn, f"CREATE INDEX ON adk_sessions {index}")
        await store.create_session(*KEY, {"n": 0})
        for n in range(20):
            await store.append_event(*KEY, said("hi", id=f"e{n}"), expected=await version(store))
        assert await hot_updates(store, database, 20) >= 18


@one_server(PLANS)
async def test_reading_costs_heap_only_updates(database: Database) -> None:
    """The other set has none: what the sets are there for."""
    async with store_with(database.dsn, "reading") as store:
        await store.create_session(*KEY)
        for n in range(20):
            await store.append_event(*KEY, said("hi", id=f"e{n}"), expected=await version(store))
        assert await hot_updates(store, database, 20) == 0


# From one to the other.


async def test_there_and_back(database: Database) -> None:
    """Indexes and record follow what was asked for last; rows stay as they are."""
    async with store_with(database.dsn, "reading") as store:
        await crowd(store)
        rows, begin = contents(database.dsn), snapshot(database.dsn)
        for index_set in ("appending", "appending", "reading", "appending", "reading"):
            await store.create_tables(index_set=index_set)
            assert indexes(database.dsn, "adk_sessions") == EXPECTED[index_set]
            assert recorded(database.dsn) == made(index_set=index_set)
            assert contents(database.dsn) == rows
        assert snapshot(database.dsn) == begin


@makes_tables
@pytest.mark.parametrize("names", [("agents.chats", "turns"), ("s" * 52 + "sessions", "e" * 63)])
async def test_under_other_names(database: Database, names: tuple[str, str]) -> None:
    """The indexes are those of the store's own table, in its schema."""
    async with store_at(database.dsn, *names) as store, store_at(database.dsn) as other:
        sessions, beside = store.tables.sessions, indexes(database.dsn, other.tables.sessions)
        begin = indexes(database.dsn, sessions)
        await store.create_tables(index_set="appending")
        assert "update_time DESC" not in str(indexes(database.dsn, sessions))
        await store.create_tables(index_set="reading")
        assert indexes(database.dsn, sessions) == begin
        assert indexes(database.dsn, other.tables.sessions) == beside


async def test_tables_from_before_there_were_sets(store: PsqlpyADKStore, database: Database) -> None:
    """Where adk_metadata names no set, it is that for reading: nothing is to be migrated."""
    run_sql(database.dsn, "DELETE FROM adk_metadata WHERE key = 'index_set'")
    before = recorded(database.dsn), snapshot(database.dsn)
    await store.create_tables()
    await store.create_tables(index_set="reading")
    assert (recorded(database.dsn), snapshot(database.dsn)) == before
    await store.create_tables(index_set="appending")
    assert recorded(database.dsn) == made(index_set="appending")
    assert indexes(database.dsn, "adk_sessions") == EXPECTED["appending"]


@changes_tables
async def test_an_index_of_ones_own_stays(store: PsqlpyADKStore, database: Database) -> None:
    """Whoever wants `@>` fast beside cheap appends adds an index; it is no part of a set."""
    run_sql(database.dsn, "CREATE INDEX my_states ON adk_sessions USING gin (state)")
    for index_set in ("appending", "reading"):
        await store.create_tables(index_set=index_set)
        assert "my_states" in indexes(database.dsn, "adk_sessions")


@changes_tables
async def test_an_index_that_was_dropped_by_hand(store: PsqlpyADKStore, database: Database) -> None:
    """A change of the set goes through where somebody was there before."""
    run_sql(database.dsn, "DROP INDEX idx_adk_sessions_state")
    await store.create_tables(index_set="appending")
    run_sql(database.dsn, "DROP INDEX idx_adk_sessions_user")
    await store.create_tables(index_set="reading")
    assert indexes(database.dsn, "adk_sessions") == EXPECTED["reading"]


async def test_different_sets_at_once(database: Database) -> None:
    """Stores that ask for different sets take turns: all succeed, and what is recorded is what is there."""

    async def one(index_set: IndexSet) -> None:
        async with store_with(database.dsn, index_set):
            pass

    for _ in range(3):
        await asyncio.gather(*(one(index_set) for index_set in INDEX_SETS * 4))
        last = recorded(database.dsn)["index_set"]
        found = indexes(database.dsn, "adk_sessions")
        assert last in INDEX_SETS
        assert found == EXPECTED[last]


async def test_a_store_that_does_not_fit_changes_no_index(store: PsqlpyADKStore, database: Database) -> None:
    """Tables of another key length are refused before their indexes are touched."""
    before = snapshot(database.dsn)
    async with store_at(database.dsn, create=False, key_length=64) as other:
        with pytest.raises(ValueError, match="key_length='128'"):
            await other.create_tables(index_set="appending")
    assert snapshot(database.dsn) == before


# While others work.


async def test_appends_and_lists_go_on(database: Database) -> None:
    """Under writers and readers the set changes ten times; nobody gets an error, and every event is there."""
    async with store_with(database.dsn, "reading") as store, store_with(database.dsn, "reading") as changer:
        await crowd(store)
        done = asyncio.Event()

        async def write(number: int) -> int:
            key = ("app", f"user{number}", "s")
            created = await store.create_session(*key)
            assert created is not None
            held, count = await version(store, *key), 0
            while not done.is_set():
                changes = {"n": count, "user:n": count} if count % 3 else {"n": count}
                event = delta(changes, id=f"e{count}")
                revision = await store.append_event(*key, event, expected=held)
                assert revision == count + 1
                held, count = type(held)(revision, held.create_time), count + 1
            return count

        async def read() -> None:
            while not done.is_set():
                assert len(await store.list_sessions("app0")) == 30
                assert len(await store.list_sessions("app0", "user0", limit=7)) == 7

        async def change() -> None:
            for index_set in ("appending", "reading") * 5:
                await changer.create_tables(index_set=index_set)
            done.set()

        *counts, _, _, _ = await asyncio.gather(*(write(n) for n in range(8)), read(), read(), change())
        for number, count in enumerate(counts):
            events = await store.get_events("app", f"user{number}", "s")
            assert [event.id for event in events] == [f"e{n}" for n in range(count)]


@pytest.mark.parametrize(
    "touch", ["INSERT INTO adk_sessions VALUES ('s', 'a', 'u')", "SELECT FROM adk_sessions"]
)
async def test_a_long_transaction(database: Database, monkeypatch: pytest.MonkeyPatch, touch: str) -> None:
    """Where one holds the table, the change gives up and says why; all is as it was, others go on."""
    monkeypatch.setattr("adk_psqlpy.sql.indexes.LOCK_SEC", 0.2)
    async with store_with(database.dsn, "reading") as store:
        before = snapshot(database.dsn), recorded(database.dsn)
        async with store.config.provide_connection() as connection:
            await connection.execute_batch(f"BEGIN; {touch}")
            with pytest.raises(psqlpy.Error, match="lock timeout") as refused:
                await store.create_tables(index_set="appending")
            assert "no other transaction may hold the table" in str(refused.value)
            assert (snapshot(database.dsn), recorded(database.dsn)) == before
            assert await store.create_session(*KEY) is not None
        await store.create_tables(index_set="appending")
        assert recorded(database.dsn)["index_set"] == "appending"


async def test_a_role_that_does_not_own_the_table(store: PsqlpyADKStore, database: Database) -> None:
    """Where nothing is to be changed it may call create_tables; a change is refused, with what it needs."""
    run_sql(
        database.dsn,
        "DROP ROLE IF EXISTS adk_reader",
        "CREATE ROLE adk_reader LOGIN PASSWORD 'reader'",
    )
    run_sql(database.dsn, "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO adk_reader")
    dsn = with_database(database.dsn, database.name, user="adk_reader", password="reader")
    try:
        async with store_at(dsn, create=False) as reader:
            await reader.create_tables(index_set="reading")
            with pytest.raises(DatabaseError, match="the table's owner can do it"):
                await reader.create_tables(index_set="appending")
        assert indexes(database.dsn, "adk_sessions") == EXPECTED["reading"]
        assert recorded(database.dsn) == made()
    finally:
        run_sql(database.dsn, "DROP OWNED BY adk_reader")
        run_sql(database.dsn, "DROP ROLE adk_reader")
