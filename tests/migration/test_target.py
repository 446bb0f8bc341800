"""What the target has already, what cannot be carried, what is no source: named, and nothing half done."""

from __future__ import annotations

import os
import pickle
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from google.adk.events import EventActions
from google.adk.sessions.sqlite_session_service import SqliteSessionService

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from adk_psqlpy.admin.migrate import (
    MigrationOptions,
    Problem,
    SourceError,
    SourceOptions,
    migrate,
)
from servers import Database, run_sql

from .support import assert_same_sessions, fill, said
from .test_adk_sources import database_service

if TYPE_CHECKING:
    from pathlib import Path

TABLES = ("adk_sessions", "adk_events", "adk_app_states", "adk_user_states")


def contents(dsn: str) -> str:
    """Every row of the target as one text."""
    rows = ", ".join(
        f"'{t}', (SELECT jsonb_agg(to_jsonb(t) ORDER BY to_jsonb(t)) FROM {t} AS t)" for t in TABLES
    )
    (((row,),),) = (run_sql(dsn, f"SELECT jsonb_build_object({rows})::text AS rows"),)
    return str(row["rows"])


@pytest.fixture
async def source(place: Path) -> Path:
    """A file of `SqliteSessionService` with eight sessions."""
    await fill(SqliteSessionService(str(place / "session.db")))
    return place / "session.db"


def change(path: Path, statement: str, *values: object) -> None:
    """Change a source beside its service."""
    with sqlite3.connect(path) as connection:
        connection.execute(statement, values)


def cut(path: Path, size: int) -> None:
    """Keep only the beginning of a file."""
    path.write_bytes(path.read_bytes()[:size])


def frozen(path: Path) -> bytes:
    """What a file holds; it cannot be written to any more."""
    path.chmod(0o444)
    return path.read_bytes()


async def test_equal_ones_are_skipped_and_different_ones_stay(
    source: Path, target: PsqlpyConfig, ours: PsqlpySessionService, database: Database
) -> None:
    """The target has a session of one id with another history, and a state: both stay as they are."""
    await ours.store.create_tables()
    session = await ours.create_session(
        app_name="cafe", user_id="ada", session_id="s1", state={"mine": 1, "app:theirs": 2}
    )
    await ours.append_event(session, said("of our own"))
    report = await migrate(source, target)
    assert (report.sessions.copied, report.sessions.different, report.states.different) == (7, 1, 1)
    assert not report.complete
    assert {problem.kind for problem in report.problems} == {"session", "state"}
    (told,) = (problem for problem in report.problems if problem.kind == "session")
    assert (told.app_name, told.user_id, told.session_id) == ("cafe", "ada", "s1")
    assert "1 events where the source has" in told.reason
    assert "another state" in told.reason
    read = await ours.get_session(app_name="cafe", user_id="ada", session_id="s1")
    assert read is not None
    assert read.events == session.events
    assert read.state["mine"] == 1
    assert await ours.store.get_app_state("cafe") == {"theirs": 2}
    whole = contents(database.dsn)
    again = await migrate(source, target)
    assert (again.sessions.equal, again.sessions.different, again.sessions.copied) == (7, 1, 0)
    assert contents(database.dsn) == whole


@pytest.mark.parametrize(
    ("change_of", "reason"),
    [
        ("UPDATE adk_sessions SET state = state || '{\"k\": 0}'", "another state"),
        ("UPDATE adk_sessions SET update_time = update_time + interval '1 us'", "another update time"),
        ("UPDATE adk_sessions SET create_time = create_time - interval '1 us'", "another create time"),
        ("DELETE FROM adk_events WHERE id = 'e1-3'", "events where the source has"),
        ("UPDATE adk_events SET author = 'other' WHERE id = 'e1-3'", "other events"),
        ("UPDATE adk_events SET seq = 1000 WHERE id = 'e1-3'", "other events"),
        ("UPDATE adk_events SET content = '{\"parts\": []}' WHERE id = 'e1-3'", "other events"),
    ],
    ids=lambda value: value[:30],
)
async def test_every_difference_is_seen(
    place: Path, target: PsqlpyConfig, database: Database, change_of: str, reason: str
) -> None:
    """The comparison that follows every copy sees a microsecond, an order, a word."""
    service = SqliteSessionService(str(place / "session.db"))
    session = await service.create_session(app_name="a", user_id="u", session_id="s", state={"k": 1})
    for number in range(6):
        await service.append_event(session, said(f"{number}", seconds=number, id=f"e1-{number}"))
    assert (await migrate(place / "session.db", target)).complete
    run_sql(database.dsn, change_of)
    report = await migrate(place / "session.db", target)
    assert (report.sessions.equal, report.sessions.different) == (0, 1)
    assert reason in report.problems[0].reason


async def test_a_dry_run_writes_nothing(source: Path, target: PsqlpyConfig, database: Database) -> None:
    """Not even the tables; with tables, it tells what is there already."""
    report = await migrate(source, target, MigrationOptions(dry_run=True))
    assert (report.sessions.copied, report.sessions.seen, report.dry_run) == (8, 8, True)
    assert report.events.copied == report.expected.events
    (rows,) = run_sql(database.dsn, "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'")
    assert rows == []
    await migrate(source, target)
    run_sql(database.dsn, "DELETE FROM adk_sessions WHERE id = 's2'")
    before = contents(database.dsn)
    report = await migrate(source, target, MigrationOptions(dry_run=True))
    assert (report.sessions.copied, report.sessions.equal) == (1, 7)
    assert contents(database.dsn) == before


async def test_bad_events_leave_their_session_out(
    source: Path, target: PsqlpyConfig, ours: PsqlpySessionService
) -> None:
    """Each is named with its reason; the other sessions are carried."""
    change(source, "UPDATE events SET event_data = 'no json' WHERE id = 'e1-2'")
    change(source, "UPDATE events SET event_data = '{\"author\": 5}' WHERE id = 'e1-4'")
    change(
        source, "UPDATE events SET event_data = replace(event_data, 'e3-1', ?) WHERE id = 'e3-1'", "x" * 129
    )
    told: list[Problem] = []
    report = await migrate(source, target, MigrationOptions(on_problem=told.append))
    assert (report.sessions.copied, report.sessions.left_out) == (6, 2)
    assert [(problem.session_id, problem.name) for problem in told] == [
        ("s1", "e1-2"),
        ("s1", "e1-4"),
        ("s3", "x" * 129),
    ]
    assert "JSON" in told[0].reason
    assert "129 characters, and at most 128" in told[2].reason
    assert report.uncounted == []
    assert report.problems == told
    assert await ours.get_session(app_name="cafe", user_id="ada", session_id="s1") is None


async def test_bad_events_alone_are_left_out_if_asked(
    source: Path, target: PsqlpyConfig, ours: PsqlpySessionService
) -> None:
    """The rest of the session is carried, in its order."""
    change(source, "UPDATE events SET event_data = 'no json' WHERE id = 'e1-2'")
    report = await migrate(source, target, MigrationOptions(keep_rest=True))
    assert (report.sessions.copied, report.sessions.left_out) == (8, 0)
    assert (report.events.left_out, report.reasons["event"]) == (1, 1)
    session = await ours.get_session(app_name="cafe", user_id="ada", session_id="s1")
    assert session is not None
    kept = [event.id for event in session.events]
    assert kept == [f"e1-{n}" for n in range(len(kept) + 1) if n != 2][: len(kept) - 1] + kept[-1:]


async def test_bad_sessions_and_states(source: Path, target: PsqlpyConfig) -> None:
    """A state that is no object, an id that is too long, an event of no session."""
    change(source, "UPDATE sessions SET state = '[1]' WHERE id = 's1'")
    change(source, "UPDATE user_states SET state = '{' WHERE app_name = 'cafe' AND user_id = 'ada'")
    with sqlite3.connect(source) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("UPDATE sessions SET id = ? WHERE id = 's3'", ("y" * 129,))
        connection.execute("UPDATE events SET session_id = ? WHERE session_id = 's3'", ("y" * 129,))
        connection.execute("UPDATE events SET session_id = 'gone' WHERE session_id = 's4' AND id = 'e4-0'")
    report = await migrate(source, target)
    assert (report.sessions.copied, report.sessions.left_out, report.states.left_out) == (6, 2, 1)
    reasons = {problem.session_id: problem.reason for problem in report.problems if problem.session_id}
    assert "its state is list" in reasons["s1"]
    assert "129 characters" in reasons["y" * 129]
    assert "there is no session" in reasons["gone"]
    assert report.uncounted == []


async def test_a_longer_key_length(source: Path, target: PsqlpyConfig) -> None:
    """Tables that are made now can take longer identifiers."""
    with sqlite3.connect(source) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("UPDATE sessions SET id = ? WHERE id = 's3'", ("y" * 129,))
        connection.execute("UPDATE events SET session_id = ? WHERE session_id = 's3'", ("y" * 129,))
    report = await migrate(source, target, MigrationOptions(key_length=200))
    assert report.complete
    with pytest.raises(ValueError, match="key_length='200'"):
        await migrate(source, target)


async def test_a_foreign_class_in_a_pickle(place: Path, target: PsqlpyConfig) -> None:
    """Schema v0: the event is named, and what its pickle asked for did not happen."""
    url = f"sqlite+aiosqlite:///{place}/adk.db"
    mark = place / "mark"
    async with database_service(url, v0=True) as service:
        await fill(service)

    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(mark),)

    actions = EventActions.model_construct(state_delta={"x": Evil()})
    change(place / "adk.db", "UPDATE events SET actions = ? WHERE id = 'e1-2'", pickle.dumps(actions))
    report = await migrate(url, target)
    assert (report.sessions.copied, report.sessions.left_out) == (7, 1)
    (problem,) = report.problems
    assert problem.name == "e1-2"
    assert "posix.mkdir" in problem.reason
    assert not mark.exists()


# What is no source: nothing is written, not even a table.


@pytest.fixture
def untouched(database: Database) -> Any:
    """The target has no table afterwards."""
    yield
    (rows,) = run_sql(database.dsn, "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'")
    assert [row for row in rows if row["tablename"].startswith("adk_")] == []


@pytest.mark.usefixtures("untouched")
class TestNoSource:
    """Each says what was found, and what was looked for."""

    async def test_nothing_there(self, place: Path, target: PsqlpyConfig) -> None:
        with pytest.raises(SourceError, match=r"there is no .*/absent"):
            await migrate(place / "absent", target)

    async def test_another_file(self, place: Path, target: PsqlpyConfig) -> None:
        (place / "notes.txt").write_text("hello")
        with pytest.raises(SourceError, match="neither an SQLite database nor an export"):
            await migrate(place / "notes.txt", target)

    async def test_a_torn_file(self, source: Path, target: PsqlpyConfig) -> None:
        cut(source, 3_000)
        with pytest.raises(SourceError, match="no SQLite database that can be read"):
            await migrate(source, target)

    async def test_another_database(self, place: Path, target: PsqlpyConfig) -> None:
        change(place / "other.db", "CREATE TABLE pets (name TEXT)")
        with pytest.raises(SourceError, match="no tables of ADK; there are: pets"):
            await migrate(place / "other.db", target)

    async def test_an_empty_folder(self, place: Path, target: PsqlpyConfig) -> None:
        with pytest.raises(SourceError, match="holds nothing of ADK"):
            await migrate(place, target)

    async def test_half_a_schema(self, source: Path, target: PsqlpyConfig) -> None:
        change(source, "ALTER TABLE events RENAME COLUMN event_data TO data")
        change(source, "DROP TABLE user_states")
        with pytest.raises(SourceError, match=r"no column event_data.*no table user_states"):
            await migrate(source, target)

    @pytest.mark.parametrize("v0", [False, True], ids=["v1", "v0"])
    async def test_half_a_schema_of_the_database_service(
        self, place: Path, target: PsqlpyConfig, v0: bool
    ) -> None:
        url = f"sqlite+aiosqlite:///{place}/adk.db"
        async with database_service(url, v0=v0) as service:
            await fill(service)
        change(
            place / "adk.db",
            f"ALTER TABLE events RENAME COLUMN {'author' if v0 else 'invocation_id'} TO other",
        )
        change(place / "adk.db", "DROP TABLE app_states")
        with pytest.raises(SourceError, match=r"table events has no column .*there is no table app_states"):
            await migrate(url, target)

    async def test_an_empty_postgresql(self, target: PsqlpyConfig, database: Database) -> None:
        with pytest.raises(SourceError, match="no tables of ADK, SQLSpec or adk-psqlpy"):
            await migrate(database.dsn, target)

    async def test_a_server_that_is_not_there(self, target: PsqlpyConfig) -> None:
        url = "postgresql+asyncpg://someone:hush-hush@127.0.0.1:1/nowhere"
        with pytest.raises(SourceError, match="cannot be read") as refused:
            await migrate(url, target, MigrationOptions(source=SourceOptions(kind="adk")))
        assert "hush" not in str(refused.value)

    async def test_no_url(self, target: PsqlpyConfig) -> None:
        with pytest.raises(SourceError, match="scheme gopher"):
            await migrate("gopher://x/y", target)

    async def test_a_table_of_the_name_that_is_not_ours(
        self, source: Path, target: PsqlpyConfig, database: Database
    ) -> None:
        run_sql(database.dsn, "CREATE TABLE adk_sessions (id text)")
        with pytest.raises(ValueError, match="adk-psqlpy did not make"):
            await migrate(source, target)
        run_sql(database.dsn, "DROP TABLE adk_sessions")


async def test_both_schemas_in_one_database(
    target: PsqlpyConfig, ours: PsqlpySessionService, database: Database
) -> None:
    """ADK's tables and another set of ours: it has to be said which are meant."""
    async with database_service(database.dsn.replace("postgresql://", "postgresql+asyncpg://")) as service:
        events = await fill(service)
        await PsqlpyADKStore(target, "old_sessions", "old_events").create_tables()
        options = {"session_table": "old_sessions", "events_table": "old_events"}
        with pytest.raises(SourceError, match="tables of adk and of adk-psqlpy: say which"):
            await migrate(database.dsn, target, MigrationOptions(source=SourceOptions(**options)))
        report = await migrate(database.dsn, target, MigrationOptions(source=SourceOptions("adk", **options)))
        assert report.events.copied == events
        assert await assert_same_sessions(service, ours) == events


async def test_the_source_is_not_written_to(source: Path, target: PsqlpyConfig) -> None:
    """The file is as it was, and may be read-only."""
    before = frozen(source)
    await migrate(source, target)
    assert frozen(source) == before
