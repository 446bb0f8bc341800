"""SQLSpec's tables in PostgreSQL, written by its own service (the older layout: test_old_releases)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from google.adk.memory.memory_entry import MemoryEntry
from google.genai import types

from adk_psqlpy import PsqlpyMemoryService
from adk_psqlpy.admin.migrate import SourceError, migrate
from servers import Database, run_sql

from .support import APPS, assert_all_copied, assert_same_sessions, fill, model_said, said

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from adk_psqlpy import PsqlpyConfig, PsqlpySessionService

pytest.importorskip("sqlspec.adapters.asyncpg", reason="SQLSpec needs Python 3.11 or newer")


@pytest.fixture
async def theirs(database: Database) -> AsyncIterator[Any]:
    """SQLSpec's session service on asyncpg."""
    from sqlspec.adapters.asyncpg import AsyncpgConfig
    from sqlspec.adapters.asyncpg.adk import AsyncpgADKStore
    from sqlspec.extensions.adk import SQLSpecSessionService

    config = AsyncpgConfig(connection_config={"dsn": database.dsn, "min_size": 1, "max_size": 4})
    store = AsyncpgADKStore(config)
    await store.create_tables()
    yield SQLSpecSessionService(store)
    await config.close_pool()


async def test_sessions(
    theirs: Any, target: PsqlpyConfig, ours: PsqlpySessionService, database: Database
) -> None:
    """Event by event, state by scope, within one database."""
    events = await fill(theirs)
    report = await migrate(database.dsn, target)
    assert "one document an event" in report.source
    assert_all_copied(report, sessions=8, events=events)
    assert await assert_same_sessions(theirs, ours) == events
    assert await ours.get_user_state(app_name="cafe", user_id="ada") == await theirs.get_user_state(
        app_name="cafe", user_id="ada"
    )
    again = await migrate(database.dsn, target)
    assert (again.complete, again.sessions.equal) == (True, 8)


async def test_bad_rows(theirs: Any, target: PsqlpyConfig, database: Database) -> None:
    """A document that is no event, a state that is no object."""
    await fill(theirs)
    run_sql(
        database.dsn,
        "UPDATE adk_event SET event_data = '{\"author\": 5}' WHERE id = 'e1-2'",
        "UPDATE adk_session SET state = '[]' WHERE id = 's3'",
    )
    report = await migrate(database.dsn, target)
    assert (report.sessions.copied, report.sessions.left_out) == (6, 2)
    assert {(p.kind, p.session_id, p.name) for p in report.problems} == {
        ("event", "s1", "e1-2"),
        ("session", "s3", None),
    }
    assert report.uncounted == []


async def test_half_a_schema(theirs: Any, target: PsqlpyConfig, database: Database) -> None:
    """Named, and nothing is written."""
    run_sql(database.dsn, "ALTER TABLE adk_session DROP COLUMN create_time")
    with pytest.raises(SourceError, match="table adk_session has no column create_time"):
        await migrate(database.dsn, target)


async def test_many_sessions(
    theirs: Any, target: PsqlpyConfig, ours: PsqlpySessionService, database: Database
) -> None:
    """More than a page, a long one among them."""
    for number in range(220):
        session = await theirs.create_session(
            app_name=APPS[0], user_id=f"u{number % 5}", session_id=f"m{number}"
        )
        for turn in range(250 if number == 100 else number % 2):
            await theirs.append_event(session, said(f"{turn}", seconds=turn, id=f"m{number}-{turn}"))
    report = await migrate(database.dsn, target)
    assert_all_copied(report, sessions=220, events=360)
    assert await assert_same_sessions(theirs, ours, apps=APPS[:1]) == 360


async def test_memories(theirs: Any, target: PsqlpyConfig, database: Database) -> None:
    """Of events and explicit ones, with their times; found afterwards.

    The rows are made by SQLSpec's own converters. Its table needs pgvector, so here it is made by its own
    statement without that column.
    """
    from sqlspec.adapters.psqlpy import PsqlpyConfig as Config
    from sqlspec.adapters.psqlpy.adk import PsqlpyADKMemoryStore
    from sqlspec.extensions.adk.memory.converters import memory_entry_to_record, session_to_memory_records

    session = await theirs.create_session(app_name="cafe", user_id="ada", session_id="s")
    await theirs.append_event(session, said("I like green tea", seconds=1, id="e1"))
    await theirs.append_event(session, model_said("noted: green tea", timestamp=2_000_000_002.25, id="e2"))
    entry = MemoryEntry(
        id="told",
        author="ada",
        timestamp="2020-01-02T03:04:05+00:00",
        content=types.Content(parts=[types.Part(text="allergic to nuts")]),
        custom_metadata={"k": 1},
    )
    records = [
        *session_to_memory_records(session, custom_metadata={"from": "s"}),
        memory_entry_to_record(entry, "cafe", "ada"),
        memory_entry_to_record(entry.model_copy(update={"id": "shared"}), "cafe", "grace", scope="app"),
    ]
    ddl = await PsqlpyADKMemoryStore(Config(connection_config={"dsn": database.dsn}))._memory_table_ddl()
    (table,) = re.findall(r"CREATE TABLE.*?\);", ddl, re.DOTALL)
    run_sql(database.dsn, re.sub(r"\n\s*embedding VECTOR\(\d+\),?", "", table, flags=re.IGNORECASE))
    async with target.provide_connection() as connection:
        for record in records:
            names = [name for name in record if name != "embedding"]
            places = ", ".join(f"${n}" for n in range(1, len(names) + 1))
            await connection.execute(
                f"INSERT INTO adk_memory ({', '.join(names)}) VALUES ({places})",
                [record[name] for name in names],
            )
    report = await migrate(database.dsn, target)
    assert report.problems == []
    assert report.complete
    assert report.memories.copied == 4
    memory = PsqlpyMemoryService(target)
    found = (await memory.search_memory(app_name="cafe", user_id="ada", query="tea")).memories
    assert {(each.id, each.author, tuple(each.custom_metadata.items())) for each in found} == {
        ("e1", "user", (("from", "s"),)),
        ("e2", "agent", (("from", "s"),)),
    }
    (told,) = (await memory.search_memory(app_name="cafe", user_id="ada", query="nuts")).memories
    assert (told.id, told.timestamp, told.custom_metadata) == ("told", "2020-01-02T03:04:05+00:00", {"k": 1})
    (shared,) = (await memory.search_memory(app_name="cafe", user_id="grace", query="nuts")).memories
    assert shared.custom_metadata == {"k": 1, "scope": "app"}
    await memory.delete_memory(app_name="cafe", user_id="ada", memory_id="told")
    again = await migrate(database.dsn, target)
    assert (again.memories.equal, again.memories.different) == (3, 1)
    assert "stays deleted" in again.problems[0].reason
