"""create_tables: what it makes, for whom, under which names, and who may call it at once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import ExitStack
from typing import Any

import psqlpy
import pytest
from psqlpy.exceptions import NotSupportedError

import adk_psqlpy.sessions.store_tables as store_module
from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig
from adk_psqlpy.sql import MIGRATIONS, SCHEMA_VERSION, Tables, migrations
from contract.events import delta
from servers import Database, run_sql, with_database
from where import changes_tables, makes_tables, on_cluster, one_server

from .support import store_at, version

TABLES = (
    "adk_sessions",
    "adk_events",
    "adk_app_states",
    "adk_user_states",
    "adk_state_log",
    "adk_forks",
    "adk_metadata",
)


def columns(dsn: str, table: str) -> list[tuple[str, str, bool, str | None]]:
    """Name, type, NOT NULL and default of each column, in order."""
    ((*rows,),) = run_sql(
        dsn,
        f"""SELECT a.attname::text AS name, format_type(a.atttypid, a.atttypmod) AS type,
                   a.attnotnull AS required,
                   pg_get_expr(d.adbin, d.adrelid) AS value
            FROM pg_attribute AS a LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
            WHERE a.attrelid = '{table}'::regclass AND a.attnum > 0 AND NOT a.attisdropped
            ORDER BY a.attnum""",
    )
    return [(row["name"], row["type"], row["required"], row["value"]) for row in rows]


def keys(dsn: str, table: str) -> list[str]:
    """The definitions of the primary and foreign keys, and of whatever else is checked."""
    ((*rows,),) = run_sql(
        dsn,
        f"""SELECT pg_get_constraintdef(oid) AS definition FROM pg_constraint
            WHERE conrelid = '{table}'::regclass AND contype IN ('p', 'f', 'u', 'c', 'x') ORDER BY 1""",
    )
    return [row["definition"] for row in rows]


def indexes(dsn: str, table: str) -> dict[str, str]:
    """Name -> definition, without the words that all of them begin with."""
    ((*rows,),) = run_sql(
        dsn,
        f"""SELECT c.relname::text AS name, pg_get_indexdef(c.oid) AS definition
            FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
            WHERE i.indrelid = '{table}'::regclass AND i.indisvalid ORDER BY 1""",
    )
    return {row["name"]: row["definition"].partition(" USING ")[2] for row in rows}


def options(dsn: str, table: str) -> str | None:
    """The table's storage options."""
    ((row,),) = run_sql(
        dsn, f"SELECT reloptions::text AS value FROM pg_class WHERE oid = '{table}'::regclass"
    )
    value: str | None = row["value"]
    return value


def snapshot(dsn: str) -> dict[str, tuple[Any, ...]]:
    """All that the catalog says of the tables."""
    return {t: (columns(dsn, t), keys(dsn, t), indexes(dsn, t), options(dsn, t)) for t in TABLES}


def relations(dsn: str) -> list[str]:
    """Every table and index outside the catalog, as schema.name."""
    ((*rows,),) = run_sql(
        dsn,
        """SELECT relnamespace::regnamespace::text || '.' || relname AS name FROM pg_class
           WHERE relnamespace::regnamespace::text !~ '^(pg_|information_schema)' ORDER BY 1""",
    )
    return [row["name"] for row in rows]


def recorded(dsn: str, metadata: str = "adk_metadata") -> dict[str, str]:
    """What the metadata table says."""
    found = {row["key"]: row["value"] for row in run_sql(dsn, f"SELECT key, value FROM {metadata}")[0]}
    # Those of distribution, and of the other services, whose tables are there too.
    beside = ("distributed", "functions", *(key for key in found if "." in key)) if on_cluster() else ()
    return {key: value for key, value in found.items() if key not in beside}


def made(**other: str) -> dict[str, str]:
    """What it says of a store with the names and the key length that are the default, but for `other`."""
    names = {"session_table": "adk_sessions", "events_table": "adk_events", "key_length": "128"}
    return {"schema_version": str(SCHEMA_VERSION), "index_set": "reading"} | names | other


# What is there.


async def test_the_columns_of_sessions(store: PsqlpyADKStore, database: Database) -> None:
    """adk_sessions has the columns that users query, of these types."""
    now = "CURRENT_TIMESTAMP"
    key = "character varying(128)"
    assert columns(database.dsn, "adk_sessions") == [
        ("id", key, True, None),
        ("app_name", key, True, None),
        ("user_id", key, True, None),
        ("state", "jsonb", True, "'{}'::jsonb"),
        ("create_time", "timestamp with time zone", True, now),
        ("update_time", "timestamp with time zone", True, now),
        ("revision", "bigint", True, "0"),
        ("initial_state", "jsonb", False, None),
    ]
    assert options(database.dsn, "adk_sessions") == "{fillfactor=80}"


async def test_the_columns_of_events(store: PsqlpyADKStore, database: Database) -> None:
    """adk_events has the columns that users query, of these types."""
    key, text = "character varying(128)", "character varying(256)"
    required = [("id", key), ("session_id", key), ("app_name", key), ("user_id", key), ("seq", "bigint")]
    optional = [
        ("invocation_id", text),
        ("author", text),
        ("actions", "bytea"),
        ("long_running_tool_ids_json", "text"),
        ("branch", text),
        ("content", "jsonb"),
        ("grounding_metadata", "jsonb"),
        ("custom_metadata", "jsonb"),
        ("partial", "boolean"),
        ("turn_complete", "boolean"),
        ("interrupted", "boolean"),
        ("error_code", text),
        ("error_message", "character varying(1024)"),
        ("extra", "jsonb"),
    ]
    found = columns(database.dsn, "adk_events")
    at = ("timestamp", "timestamp with time zone", True, "CURRENT_TIMESTAMP")
    assert found == [
        *((name, kind, True, None) for name, kind in required),
        *((name, kind, False, None) for name, kind in optional[:5]),
        at,
        *((name, kind, False, None) for name, kind in optional[5:]),
    ]


async def test_the_tables_of_shared_state(store: PsqlpyADKStore, database: Database) -> None:
    """State of apps and users has a table each, keyed by what owns it."""
    key = ("character varying(128)", True, None)
    rest = [
        ("state", "jsonb", True, "'{}'::jsonb"),
        ("update_time", "timestamp with time zone", True, "CURRENT_TIMESTAMP"),
    ]
    assert columns(database.dsn, "adk_app_states") == [("app_name", *key), *rest]
    assert columns(database.dsn, "adk_user_states") == [("app_name", *key), ("user_id", *key), *rest]
    assert keys(database.dsn, "adk_app_states") == ["PRIMARY KEY (app_name)"]
    assert keys(database.dsn, "adk_user_states") == ["PRIMARY KEY (app_name, user_id)"]


async def test_the_tables_of_the_history(store: PsqlpyADKStore, database: Database) -> None:
    """A delta without an event has a row, and so has the origin of a fork; both go with their session."""
    key, number = ("character varying(128)", True, None), ("bigint", True, None)
    time = ("timestamp with time zone", True, None)
    session = [("app_name", *key), ("user_id", *key), ("session_id", *key)]
    assert columns(database.dsn, "adk_state_log") == [
        *session,
        ("revision", *number),
        ("delta", "jsonb", True, None),
        ("create_time", *time),
    ]
    assert columns(database.dsn, "adk_forks") == [
        *session,
        ("origin_id", *key),
        ("origin_create_time", *time),
        ("origin_revision", *number),
        ("create_time", *time),
    ]
    goes = (
        "FOREIGN KEY (app_name, user_id, session_id)"
        " REFERENCES adk_sessions(app_name, user_id, id) ON DELETE CASCADE"
    )
    assert keys(database.dsn, "adk_state_log") == [
        goes,
        "PRIMARY KEY (app_name, user_id, session_id, revision)",
    ]
    assert keys(database.dsn, "adk_forks") == [goes, "PRIMARY KEY (app_name, user_id, session_id)"]
    assert indexes(database.dsn, "adk_forks") == {
        "adk_forks_pkey": "btree (app_name, user_id, session_id)",
        "idx_adk_forks_origin": "btree (app_name, user_id, origin_id, origin_create_time)",
    }


async def test_the_keys(store: PsqlpyADKStore, database: Database) -> None:
    """Every key holds app and user; events go when their session goes."""
    assert keys(database.dsn, "adk_sessions") == ["PRIMARY KEY (app_name, user_id, id)"]
    assert keys(database.dsn, "adk_events") == [
        "FOREIGN KEY (app_name, user_id, session_id)"
        " REFERENCES adk_sessions(app_name, user_id, id) ON DELETE CASCADE",
        "PRIMARY KEY (app_name, user_id, session_id, id)",
    ]


async def test_the_indexes(store: PsqlpyADKStore, database: Database) -> None:
    """The indexes have the names and columns that users read in query plans, and there are no others."""
    assert indexes(database.dsn, "adk_sessions") == {
        "adk_sessions_pkey": "btree (app_name, user_id, id)",
        "idx_adk_sessions_app_user": 'btree (app_name COLLATE "C", user_id COLLATE "C", update_time)',
        "idx_adk_sessions_state": "gin (state) WHERE (state <> '{}'::jsonb)",
        "idx_adk_sessions_update_time": "btree (update_time DESC)",
    }
    assert indexes(database.dsn, "adk_events") == {
        "adk_events_pkey": "btree (app_name, user_id, session_id, id)",
        "idx_adk_events_session": "btree (app_name, user_id, session_id, seq)",
    }


@makes_tables
@pytest.mark.parametrize("length", [1, 36, 1024])
async def test_key_length(database: Database, length: int) -> None:
    """The tables are made for keys of the length asked for, and exactly such keys are taken."""
    async with store_at(database.dsn, key_length=length) as store:
        expected = f"character varying({length})"
        for table in TABLES[:-1]:
            kinds = {name: kind for name, kind, *_ in columns(database.dsn, table)}
            for name in {"id", "session_id", "app_name", "user_id", "origin_id"} & set(kinds):
                assert kinds[name] == expected, (table, name)
        fits = "é" * length
        assert await store.create_session(fits, fits, fits) is not None
        with pytest.raises(
            ValueError, match=f"user_id has {length + 1:,} characters, and at most {length:,}"
        ):
            await store.create_session(fits, fits + "x", fits)


@pytest.mark.parametrize("length", [0, -1, 1025, True, "128", 128.0, None])
def test_impossible_key_length(length: Any) -> None:
    """A key length that is no integer from 1 to 1,024 is refused."""
    with pytest.raises(ValueError, match="key_length must be an integer from 1 to 1024"):
        PsqlpyADKStore(PsqlpyConfig({"host": "localhost"}), key_length=length)


# Again, and at once.


async def test_again_changes_nothing(store: PsqlpyADKStore, database: Database) -> None:
    """A second call, by the same store or another one, leaves tables and rows as they are."""
    await store.create_session("app", "user", "s", {"k": 1, "app:a": 2})
    before = snapshot(database.dsn)
    await store.create_tables()
    async with store_at(database.dsn) as another:
        found = await another.get_session("app", "user", "s")
    assert found is not None
    assert found.state == {"k": 1, "app:a": 2}
    assert snapshot(database.dsn) == before
    assert recorded(database.dsn) == made()


@makes_tables
async def test_many_tasks_at_once(database: Database) -> None:
    """Tasks that find an empty database together all succeed, and the tables are made once."""

    async def one() -> None:
        async with store_at(database.dsn, "agents.adk_sessions", "agents.adk_events"):
            pass

    await asyncio.gather(*(one() for _ in range(16)))
    assert recorded(database.dsn, "agents.adk_metadata") == made()


PROCESS = """
import asyncio, sys
from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig

async def one():
    async with PsqlpyConfig({"dsn": sys.argv[1], "max_db_pool_size": 2}) as config:
        await PsqlpyADKStore(config, "agents.adk_sessions", "agents.adk_events").create_tables(
            distributed=sys.argv[2] == "True"
        )

async def main():
    await asyncio.gather(*(one() for _ in range(4)))

print("ready", flush=True)
sys.stdin.readline()
asyncio.run(main())
print("done")
"""


@makes_tables
def test_many_processes_at_once(database: Database) -> None:
    """Processes that find an empty database together, tasks in each, all succeed."""
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-W", "ignore", "-c", PROCESS, database.dsn, str(on_cluster())],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(3)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in processes:
            out, errors = process.communicate(timeout=60)
            assert (out, process.returncode) == ("done\n", 0), errors
    assert recorded(database.dsn, "agents.adk_metadata") == made()


# Names.


LONGEST_SESSIONS = "s" * 52 + "sessions"
LONGEST_EVENTS = "e" * 63
NAMES = [
    pytest.param("agent_sessions", "agent_events", id="plain"),
    pytest.param("sessions", "events", id="no prefix"),
    pytest.param("chats", "turns", id="other words"),
    pytest.param("MySessions", "MyEvents", id="mixed case"),
    pytest.param("user", "order", id="reserved words"),
    pytest.param("_s_1", "__", id="signs"),
    pytest.param("agents.adk_sessions", "agents.adk_events", id="schema"),
    pytest.param("Select.table", "Select.from", id="reserved schema"),
    pytest.param("first.adk_sessions", "second.adk_events", id="two schemas"),
    pytest.param("agents.adk_sessions", "adk_events", id="one of them in a schema"),
    pytest.param(LONGEST_SESSIONS, LONGEST_EVENTS, id="longest"),
    pytest.param("s" * 63 + ".s", "e" * 63 + "." + "e" * 63, id="longest schema"),
]


@makes_tables
@pytest.mark.parametrize(("sessions", "events"), NAMES)
async def test_custom_names(database: Database, sessions: str, events: str) -> None:
    """Every operation works under names of one's own, and the rows are found in these tables."""
    async with store_at(database.dsn, sessions, events) as store:
        created = await store.create_session("app", "user", "s", {"k": 1, "app:a": 2, "user:u": 3})
        assert created is not None
        event = delta({"k": 2, "app:a": 3, "user:u": 4}, seconds=0)
        assert await store.append_event("app", "user", "s", event, expected=await version(store)) == 1
        found = await store.get_session("app", "user", "s")
        assert found is not None
        assert found.state == {"k": 2, "app:a": 3, "user:u": 4}
        assert found.events == [event]
        assert [listed.id for listed in await store.list_sessions("app")] == ["s"]
        assert await store.update_session_state("app", "user", "s", {"k": 3}) == 2
        assert await store.get_app_state("app") == {"a": 3}
        assert await store.get_user_state("app", "user") == {"u": 4}
        await store.create_tables()
        tables = store.tables
        for table in (tables.sessions, tables.events):
            assert run_sql(database.dsn, f"SELECT count(*) AS n FROM {table}") == [[{"n": 1}]]
        assert await store.delete_session("app", "user", "s")
    names = [name.rpartition(".")[2].strip('"') for name in relations(database.dsn)]
    assert all(len(name.encode()) <= 63 for name in names)
    assert len([name for name in names if name.startswith("idx_")]) == 5


def test_index_names_are_short_and_differ() -> None:
    """Names past 63 bytes are cut and made unique again by a hash of the whole."""
    names = {
        Tables("adk_sessions", "e").index(table, suffix)
        for table in ("t" * 63, "t" * 62 + "u", "t" * 61)
        for suffix in ("app_user", "update_time", "state", "session")
    }
    assert len(names) == 12
    assert all(len(name.strip('"')) <= 63 for name in names)
    assert Tables("a.b", "c").index("a.b", "state") == '"idx_b_state"'


INJECTIONS = [
    'adk"; DROP TABLE users; --',
    "adk; DROP TABLE users",
    "adk_sessions--",
    "adk'",
    "adk/*",
    "a b",
    "a\nb",
    "adk_sessions\n",
    "a\0b",
    "a\\b",
    "a.b.c",
    "a..b",
    "adk.",
    ".adk",
    "a$b",
    "a$migration$b",
    "a$schema$.b",
    ".",
    "",
    '"quoted"',
    '"a"."b"',
    "1st",
    "a-b",
    "a(b)",
    "tablé",
    "ｔable",
    "\ud800",
    "t" * 64,
    "s" * 64 + ".t",
    None,
    5,
    b"adk",
    ["adk"],
]


@pytest.mark.parametrize("name", INJECTIONS, ids=ascii)
@pytest.mark.parametrize("which", ["session_table", "events_table"])
def test_what_is_no_name(which: str, name: Any) -> None:
    """Whatever is no plain identifier, an injection above all, is a ValueError that names the argument."""
    with pytest.raises(ValueError, match=which):
        PsqlpyADKStore(PsqlpyConfig({"host": "localhost"}), **{which: name})


@pytest.mark.parametrize("name", ["s" * 53 + "sessions", "s" * 52])
def test_no_room_for_derived_names(name: str) -> None:
    """A session table whose name leaves no room for the tables beside it is refused, with the reason."""
    with pytest.raises(ValueError, match=r"derived from session_table .* has 64 characters"):
        PsqlpyADKStore(PsqlpyConfig({"host": "localhost"}), session_table=name)


def test_one_name_for_both() -> None:
    """The two tables must differ."""
    with pytest.raises(ValueError, match="must differ"):
        PsqlpyADKStore(PsqlpyConfig({"host": "localhost"}), "adk", "adk")


@pytest.mark.parametrize(
    "events", ["adk_metadata", "adk_app_states", "adk_user_states", "adk_state_log", "adk_forks"]
)
def test_the_name_of_a_derived_table(events: str) -> None:
    """An events table that would be one of the derived tables is refused before anything is made."""
    with pytest.raises(ValueError, match="events_table"):
        PsqlpyADKStore(PsqlpyConfig({"host": "localhost"}), events_table=events)


PAIRS = [
    pytest.param(("a_sessions", "a_events"), ("b_sessions", "b_events"), id="prefixes"),
    pytest.param(("a.sessions", "a.events"), ("b.sessions", "b.events"), id="schemas"),
    pytest.param(("adk_sessions", "adk_events"), ("ADK_sessions", "ADK_events"), id="case"),
    pytest.param(("adk_sessions", "adk_events"), ("agents.adk_sessions", "agents.adk_events"), id="default"),
]


@makes_tables
@pytest.mark.parametrize(("one", "other"), PAIRS)
async def test_two_stores_in_one_database(
    database: Database, one: tuple[str, str], other: tuple[str, str]
) -> None:
    """Stores with other names do not see each other's sessions, nor state of apps and users."""
    async with store_at(database.dsn, *one) as first, store_at(database.dsn, *other) as second:
        await first.create_session("app", "user", "s", {"k": 1, "app:a": 1, "user:u": 1})
        assert await second.get_session("app", "user", "s") is None
        assert await second.list_sessions("app") == []
        assert (await second.get_app_state("app"), await second.get_user_state("app", "user")) == ({}, {})
        created = await second.create_session("app", "user", "s", {"user:v": 2})
        assert created is not None
        assert created.state == {"user:v": 2}
        assert await second.delete_session("app", "user", "s")
        kept = await first.get_session("app", "user", "s")
        assert kept is not None
        assert kept.state == {"k": 1, "app:a": 1, "user:u": 1}


# By name: the store that makes the tables, the one that comes second, and what of the two differs.
OTHERS: dict[str, tuple[tuple[str, ...], int, tuple[str, ...], int, tuple[str, str, str]]] = {
    "prefix alone": ((), 128, ("adk", "turns"), 128, ("session_table", "adk_sessions", "adk")),
    "prefix first": (("adk", "turns"), 128, (), 128, ("session_table", "adk", "adk_sessions")),
    "events": ((), 128, ("adk_sessions", "turns"), 128, ("events_table", "adk_events", "turns")),
    "longer keys": ((), 128, (), 129, ("key_length", "128", "129")),
    "shorter keys": ((), 1024, (), 64, ("key_length", "1024", "64")),
}


@makes_tables
@pytest.mark.parametrize("kind", OTHERS)
async def test_a_store_that_does_not_fit(database: Database, kind: str) -> None:
    """Beside tables made with another name or key length, create_tables says which, and makes nothing."""
    names, length, others, other_length, (what, there, here) = OTHERS[kind]
    async with (
        store_at(database.dsn, *names, key_length=length) as first,
        store_at(database.dsn, *others, create=False, key_length=other_length) as second,
    ):
        before = relations(database.dsn), recorded(database.dsn, first.tables.metadata)
        for _ in range(2):
            with pytest.raises(ValueError, match="another prefix") as refused:
                await second.create_tables()
            assert f"{what}='{there}'" in str(refused.value)
            assert f"{what}='{here}'" in str(refused.value)
            assert first.tables.metadata in str(refused.value)
        assert (relations(database.dsn), recorded(database.dsn, first.tables.metadata)) == before
        await first.create_tables()
        assert await first.create_session("app", "user", "s") is not None


@makes_tables
async def test_an_events_table_in_another_schema(database: Database) -> None:
    """Nor is an events table the same one that has its name, in another schema."""
    async with (
        store_at(database.dsn, "s.adk_sessions", "s.adk_events"),
        store_at(database.dsn, "s.adk_sessions", "t.adk_events", create=False) as second,
    ):
        with pytest.raises(ValueError, match="events_table"):
            await second.create_tables()


@makes_tables
async def test_stores_that_do_not_fit_at_once(database: Database) -> None:
    """Of stores that differ and find an empty database together, those like the first one succeed."""

    async def one(length: int) -> int | None:
        async with store_at(database.dsn, create=False, key_length=length) as store:
            try:
                await store.create_tables(distributed=on_cluster())
            except ValueError:
                return None
        return length

    succeeded = await asyncio.gather(*(one(length) for length in (64, 128) * 4))
    length = int(recorded(database.dsn)["key_length"])
    assert succeeded == [each if each == length else None for each in (64, 128) * 4]
    assert columns(database.dsn, "adk_sessions")[0][1] == f"character varying({length})"


async def test_a_store_that_does_not_fit_an_older_schema(
    store: PsqlpyADKStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a store with another key length migrate what it does not fit."""

    def later(tables: Tables, key_length: int) -> str:
        return f"ALTER TABLE {tables.sessions} ADD COLUMN later varchar({key_length});"

    before = snapshot(database.dsn)
    monkeypatch.setattr(migrations, "MIGRATIONS", (*MIGRATIONS, later))
    monkeypatch.setattr(store_module, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    async with store_at(database.dsn, create=False, key_length=64) as other:
        with pytest.raises(ValueError, match="key_length='128'"):
            await other.create_tables()
    assert snapshot(database.dsn) == before
    assert recorded(database.dsn) == made()


async def test_the_same_tables_with_and_without_schema(database: Database) -> None:
    """Names with their schema, and names that the search path finds in it, are the same tables."""
    async with (
        store_at(database.dsn) as plain,
        store_at(database.dsn, "public.adk_sessions", "public.adk_events") as named,
    ):
        assert await plain.create_session("app", "user", "s") is not None
        assert await named.get_session("app", "user", "s") is not None


@one_server("worker nodes do not have the search_path of a connection")
async def test_a_schema_by_search_path(database: Database) -> None:
    """Plain names are made and found in the schema that the connection looks in first."""
    run_sql(database.dsn, "CREATE SCHEMA tenant")
    async with PsqlpyConfig({"dsn": database.dsn, "options": "-c search_path=tenant"}) as config:
        store = PsqlpyADKStore(config)
        await store.create_tables()
        assert await store.create_session("app", "user", "s") is not None
    assert run_sql(database.dsn, "SELECT id FROM tenant.adk_sessions") == [[{"id": "s"}]]


# Roles.


async def test_a_role_without_rights_to_create(store: PsqlpyADKStore, database: Database) -> None:
    """Where the tables are there, a role that may only read and write rows can call create_tables too."""
    run_sql(
        database.dsn,
        "DROP ROLE IF EXISTS adk_clerk",
        "CREATE ROLE adk_clerk LOGIN PASSWORD 'clerk'",
    )
    run_sql(
        database.dsn,
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO adk_clerk",
    )
    dsn = with_database(database.dsn, database.name, user="adk_clerk", password="clerk")
    async with store_at(dsn) as clerk:
        assert await clerk.create_session("app", "user", "s", {"app:a": 1}) is not None
        assert await clerk.append_event("app", "user", "s", delta({"k": 1}), expected=await version(clerk))
        assert await clerk.delete_session("app", "user", "s")
    run_sql(database.dsn, "DROP OWNED BY adk_clerk")
    run_sql(database.dsn, "DROP ROLE adk_clerk")


@makes_tables
async def test_a_role_with_a_schema_of_its_own(database: Database) -> None:
    """A role that owns the schema, and may make no other, can make the tables in it."""
    run_sql(
        database.dsn,
        "DROP ROLE IF EXISTS adk_tenant",
        "CREATE ROLE adk_tenant LOGIN PASSWORD 'tenant'",
    )
    run_sql(database.dsn, "CREATE SCHEMA tenant AUTHORIZATION adk_tenant")
    dsn = with_database(database.dsn, database.name, user="adk_tenant", password="tenant")
    try:
        async with store_at(dsn, "tenant.adk_sessions", "tenant.adk_events") as tenant:
            assert await tenant.create_session("app", "user", "s") is not None
    finally:
        run_sql(database.dsn, "DROP OWNED BY adk_tenant CASCADE")
        run_sql(database.dsn, "DROP ROLE adk_tenant")


# Versions.


@makes_tables
async def test_schema_is_all_migrations_applied(
    store: PsqlpyADKStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Applied one at a time, each in a call of its own, the migrations make what they make in one call."""
    at_once = snapshot(database.dsn)
    run_sql(database.dsn, f"DROP TABLE {', '.join(TABLES)}")
    for count in range(1, len(MIGRATIONS) + 1):
        monkeypatch.setattr(migrations, "MIGRATIONS", MIGRATIONS[:count])
        await store._lanes.batch(migrations.create_tables(store.tables, store.key_length))
        assert recorded(database.dsn) == made(schema_version=str(count))
    assert snapshot(database.dsn) == at_once


@changes_tables
async def test_an_older_schema_is_brought_up(
    store: PsqlpyADKStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the migrations that a database lacks are run, and its rows stay."""
    await store.create_session("app", "user", "s", {"k": 1})

    def later(tables: Tables, key_length: int) -> str:
        return f"ALTER TABLE {tables.sessions} ADD COLUMN later varchar({key_length});"

    monkeypatch.setattr(migrations, "MIGRATIONS", (*MIGRATIONS, later))
    monkeypatch.setattr(store_module, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    await asyncio.gather(*(store.create_tables() for _ in range(8)))
    assert recorded(database.dsn) == made(schema_version=str(SCHEMA_VERSION + 1))
    assert columns(database.dsn, "adk_sessions")[-1] == ("later", "character varying(128)", False, None)
    found = await store.get_session("app", "user", "s")
    assert found is not None
    assert found.state == {"k": 1}


@changes_tables
async def test_a_migration_that_fails(
    store: PsqlpyADKStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of the migrations that are due happen or none."""
    before = snapshot(database.dsn)

    def half(tables: Tables, key_length: int) -> str:
        return f"ALTER TABLE {tables.sessions} ADD COLUMN half int; SELECT no_such_function();"

    def empty(tables: Tables, key_length: int) -> str:
        return f"ALTER TABLE {tables.events} ADD COLUMN early int;"

    monkeypatch.setattr(migrations, "MIGRATIONS", (*MIGRATIONS, empty, half))
    monkeypatch.setattr(store_module, "SCHEMA_VERSION", SCHEMA_VERSION + 2)
    with pytest.raises(psqlpy.Error, match="no_such_function"):
        await store.create_tables()
    assert snapshot(database.dsn) == before
    assert recorded(database.dsn) == made()


async def test_newer_tables_are_refused(store: PsqlpyADKStore, database: Database) -> None:
    """Tables of a later version are left alone, and the error says both versions and what to do."""
    newer = SCHEMA_VERSION + 1
    run_sql(database.dsn, f"UPDATE adk_metadata SET value = '{newer}' WHERE key = 'schema_version'")
    before = snapshot(database.dsn)
    with pytest.raises(NotSupportedError) as refused:
        await store.create_tables()
    text = str(refused.value)
    assert f"schema version {newer}" in text
    assert f"versions up to {SCHEMA_VERSION}" in text
    assert "upgrade" in text
    assert snapshot(database.dsn) == before


@makes_tables
@pytest.mark.parametrize(("number", "shown"), [("140012", "14.12"), ("149999", "14.9999")])
async def test_an_old_server_is_refused(database: Database, number: str, shown: str) -> None:
    """A server that calls itself older than 15 is told so, and nothing is made there.

    The server's answer is changed in the server: a function that its search path finds first.
    """
    run_sql(
        database.dsn,
        "CREATE SCHEMA old",
        f"CREATE FUNCTION old.current_setting(text) RETURNS text LANGUAGE sql RETURN '{number}'",
        f'ALTER DATABASE "{database.name}" SET search_path = old, pg_catalog, public',
    )
    before = relations(database.dsn)
    async with store_at(database.dsn, create=False) as store:
        with pytest.raises(
            NotSupportedError, match=f"the server is PostgreSQL {shown}; .* needs 15 or newer"
        ):
            await store.create_tables()
    assert relations(database.dsn) == before


@makes_tables
async def test_the_oldest_server_is_served(database: Database) -> None:
    """A server that calls itself 15.0 passes."""
    run_sql(
        database.dsn,
        "CREATE SCHEMA old",
        "CREATE FUNCTION old.current_setting(text) RETURNS text LANGUAGE sql RETURN '150000'",
        f'ALTER DATABASE "{database.name}" SET search_path = public, old, pg_catalog',
    )
    async with store_at(database.dsn) as store:
        assert await store.create_session("app", "user", "s") is not None
