"""create_tables of the memory service: what is made, by whom, once, and with what it must agree."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest
from psqlpy.exceptions import NotSupportedError

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig
from adk_psqlpy.memory import PsqlpyMemoryService
from adk_psqlpy.sql.memory import MEMORY_MIGRATIONS, MEMORY_SCHEMA_VERSION, MemoryTable
from contract.memory.told import SCOPE, entry, session, texts
from servers import Database, run_sql
from where import FIRST_USE, makes_tables, on_cluster, one_server

RECORDED = "SELECT key, value FROM adk_metadata ORDER BY key"


def recorded(database: Database) -> dict[str, str]:
    """What the metadata table says."""
    return {row["key"]: row["value"] for row in run_sql(database.dsn, RECORDED)[0]}


@one_server(FIRST_USE)
async def test_the_first_use_makes_the_table(memory: PsqlpyMemoryService, database: Database) -> None:
    """A search in an empty database finds nothing, and makes what is needed."""
    assert await texts(memory, "fish") == []
    assert recorded(database) == {
        "adk_memories.schema_version": str(MEMORY_SCHEMA_VERSION),
        "adk_memories.language": "simple",
        "adk_memories.key_length": "128",
    }


@makes_tables
@pytest.mark.parametrize("order", [0, 1])
async def test_it_shares_a_database_with_sessions(
    config: PsqlpyConfig, database: Database, order: int
) -> None:
    """Both record their versions in one table, in either order."""
    makers = [PsqlpyADKStore(config).create_tables, PsqlpyMemoryService(config).create_tables]
    for make in makers[order:] + makers[:order]:
        await make(distributed=on_cluster())
    assert recorded(database)["schema_version"]
    assert recorded(database)["adk_memories.schema_version"]


async def test_the_columns(memory: PsqlpyMemoryService, database: Database) -> None:
    """Names and types that users query."""
    await memory.create_tables()
    (rows,) = run_sql(
        database.dsn,
        "SELECT attname, format_type(atttypid, atttypmod) AS type FROM pg_attribute"
        " WHERE attrelid = 'adk_memories'::regclass AND attnum > 0 ORDER BY attnum",
    )
    assert {row["attname"]: row["type"] for row in rows} == {
        **dict.fromkeys(("app_name", "user_id", "session_id", "id"), "character varying(128)"),
        **dict.fromkeys(("author", "timestamp_text"), "text"),
        **dict.fromkeys(("timestamp", "create_time", "expire_time"), "timestamp with time zone"),
        **dict.fromkeys(("content", "custom_metadata"), "jsonb"),
        "words": "tsvector",
    }


MAKE = """
import asyncio, sys
from adk_psqlpy import PsqlpyConfig
from adk_psqlpy.memory import PsqlpyMemoryService

async def main():
    async with PsqlpyConfig(pool_config={"dsn": sys.argv[1], "max_db_pool_size": 4}) as config:
        await asyncio.gather(*(made(config) for _ in range(8)))

async def made(config):
    await PsqlpyMemoryService(config).create_tables(distributed=sys.argv[2] == "True")

asyncio.run(main())
"""


@makes_tables
async def test_processes_that_start_together(database: Database, memory: PsqlpyMemoryService) -> None:
    """Four processes of eight services each, on an empty database: one table, and no error."""
    started = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            MAKE,
            database.dsn,
            str(on_cluster()),
            stderr=asyncio.subprocess.PIPE,
        )
        for _ in range(4)
    ]
    for process in started:
        _, errors = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, errors.decode()
    await memory.add_session_to_memory(session("fish"))
    assert await texts(memory, "fish") == ["fish"]


@makes_tables
async def test_a_table_in_a_schema_of_its_own(config: PsqlpyConfig, database: Database) -> None:
    """The schema is made; the version is recorded beside the table."""
    memory = PsqlpyMemoryService(config, "agents.long_term")
    await memory.create_tables(distributed=on_cluster())
    await memory.add_session_to_memory(session("fish"))
    assert await texts(memory, "fish") == ["fish"]
    (tables,) = run_sql(
        database.dsn, "SELECT tablename FROM pg_tables WHERE schemaname = 'agents' ORDER BY 1"
    )
    assert [row["tablename"] for row in tables] == ["long_term", "long_term_metadata"]


@makes_tables
async def test_two_tables_beside_each_other(config: PsqlpyConfig) -> None:
    """Each with its own language and contents, one record of versions."""
    english = PsqlpyMemoryService(config, "english_memories", language="english")
    german = PsqlpyMemoryService(config, "german_memories", language="german")
    for each in (english, german):
        await each.create_tables(distributed=on_cluster())
    await english.add_session_to_memory(session("the dogs were running"))
    await german.add_session_to_memory(session("die Hunde liefen"))
    assert await texts(english, "dog run") == ["the dogs were running"]
    assert await texts(english, "Hund") == []
    assert await texts(german, "Hund") == ["die Hunde liefen"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"language": "english"}, "made with language='simple', and this service has language='english'"),
        ({"key_length": 64}, "made with key_length='128', and this service has key_length='64'"),
    ],
)
async def test_what_the_table_was_made_with_must_be_the_same(
    memory: PsqlpyMemoryService, config: PsqlpyConfig, changed: dict[str, Any], message: str
) -> None:
    """Words of another language would never be found, so it is refused."""
    await memory.add_memory(**SCOPE, memories=[entry("fish")])
    other = PsqlpyMemoryService(config, **changed)
    with pytest.raises(ValueError, match=message):
        await texts(other, "fish")
    with pytest.raises(ValueError, match="another memory_table"):
        await other.add_memory(**SCOPE, memories=[entry("fish")])
    assert await texts(memory, "fish") == ["fish"]


async def test_a_newer_table_is_refused(
    memory: PsqlpyMemoryService, config: PsqlpyConfig, database: Database
) -> None:
    """It may hold what this version does not know of."""
    await memory.create_tables()
    run_sql(database.dsn, "UPDATE adk_metadata SET value = '99' WHERE key = 'adk_memories.schema_version'")
    with pytest.raises(NotSupportedError, match=r"schema version 99.*upgrade"):
        await PsqlpyMemoryService(config).create_tables()


@makes_tables
async def test_an_unknown_language_is_refused(config: PsqlpyConfig, database: Database) -> None:
    """With the names of those that there are; nothing is made. One of the user's own is fine."""
    for language in ("klingon", "nowhere.simple"):
        with pytest.raises(ValueError, match=rf"language '{language}' is not a .*arabic, .*simple"):
            await PsqlpyMemoryService(config, language=language).create_tables()
    assert run_sql(database.dsn, "SELECT to_regclass('adk_metadata') IS NULL AS none")[0][0]["none"]
    run_sql(database.dsn, 'CREATE TEXT SEARCH CONFIGURATION "MyOwn" (COPY = english)')
    for n, language in enumerate(("MyOwn", "public.MyOwn", "pg_catalog.english")):
        memory = PsqlpyMemoryService(config, f"m{n}", language=language)
        await memory.create_tables(distributed=on_cluster())
        await memory.add_session_to_memory(session("dogs"))
        assert await texts(memory, "dog") == ["dogs"]


async def test_who_may_not_create_may_use(memory: PsqlpyMemoryService, database: Database) -> None:
    """Where the table is there, its use needs no right to create."""
    await memory.create_tables()
    role = f"{database.name}_user"
    run_sql(
        database.dsn,
        f"CREATE ROLE {role} LOGIN PASSWORD 'x'",
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON adk_memories TO {role}",
        f"GRANT SELECT ON adk_metadata TO {role}",
    )
    try:
        dsn = database.server.database_dsn(database.name, user=role, password="x")
        async with PsqlpyConfig(pool_config={"dsn": dsn}) as config:
            theirs = PsqlpyMemoryService(config)
            await theirs.add_session_to_memory(session("fish"))
            assert await texts(theirs, "fish") == ["fish"]
    finally:
        run_sql(database.dsn, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "not a table name"),
        ("a b", "not a table name"),
        ('a"; DROP TABLE x; --', "not a table name"),
        ("a.b.c", "not a table name"),
        ("a\0", "not a table name"),
        ("x" * 49, "49 characters; at most 48"),
        (5, "must be a str"),
        (None, "must be a str"),
    ],
)
def test_bad_table_names(name: Any, message: str) -> None:
    """Refused when the service is made."""
    with pytest.raises(ValueError, match=message):
        PsqlpyMemoryService(PsqlpyConfig(pool_config={"dsn": "postgresql://nowhere"}), name)


def test_the_version_is_the_number_of_migrations() -> None:
    """And the names of a table with the longest name fit."""
    assert len(MEMORY_MIGRATIONS) == MEMORY_SCHEMA_VERSION
    table = MemoryTable("x" * 48)
    for suffix in ("words", "newest", "expiry", "embedding"):
        assert len(table.index(suffix)) <= 63 + 2
