"""Sources that the installed google-adk writes: every session reads as it did through ADK's own service."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from google.adk.cli.utils.local_storage import PerAgentDatabaseSessionService
from google.adk.sessions import DatabaseSessionService
from google.adk.sessions.schemas.v0 import Base as BaseV0
from google.adk.sessions.sqlite_session_service import SqliteSessionService
from sqlalchemy.ext.asyncio import create_async_engine

from adk_psqlpy.admin.migrate import MigrationOptions, SourceOptions, TableNames, migrate
from servers import run_sql

from .support import APPS, assert_all_copied, assert_same_sessions, conversation, fill, said

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from google.adk.sessions import BaseSessionService

    from adk_psqlpy import PsqlpyConfig, PsqlpySessionService
    from servers import Database


@asynccontextmanager
async def database_service(url: str, *, v0: bool = False) -> AsyncIterator[DatabaseSessionService]:
    """ADK's service; on tables of schema v0, it goes on with these."""
    if v0:
        engine = create_async_engine(url)
        async with engine.begin() as connection:
            await connection.run_sync(BaseV0.metadata.create_all)
        await engine.dispose()
    async with DatabaseSessionService(url) as service:
        yield service


async def moved(
    service: BaseSessionService,
    source: str | Path,
    target: PsqlpyConfig,
    ours: PsqlpySessionService,
    *,
    pickled: bool = False,
) -> list[str]:
    """Fill a source through its service, migrate it, compare; the differences that the report names."""
    events = await fill(service)
    report = await migrate(source, target)
    assert_all_copied(report, sessions=8, events=events)
    assert await assert_same_sessions(service, ours, schemes=not pickled) == events
    again = await migrate(source, target)
    assert again.complete
    assert (again.sessions.copied, again.sessions.equal, again.events.equal) == (0, 8, events)
    return report.differences


async def assert_schemes_as_written(ours: PsqlpySessionService) -> None:
    """ADK reads the scheme of a pickled API key as one of another class; the migration does not."""
    session = await ours.get_session(app_name="cafe", user_id="ada", session_id="s1")
    assert session is not None
    (configs,) = filter(None, (event.actions.requested_auth_configs for event in session.events))
    assert configs == conversation_actions()


def conversation_actions() -> dict[str, object]:
    """What the conversations ask credentials for, as their writer had it."""
    (configs,) = filter(None, (event.actions.requested_auth_configs for event in conversation(1)))
    return configs


async def test_sqlite_v1(place: Path, target: PsqlpyConfig, ours: PsqlpySessionService) -> None:
    """`DatabaseSessionService` on SQLite; the source given as ADK's URL."""
    url = f"sqlite+aiosqlite:///{place}/adk.db"
    async with database_service(url) as service:
        differences = await moved(service, url, target, ours)
    assert any("NaN" in text for text in differences)


async def test_sqlite_v1_by_its_file(place: Path, target: PsqlpyConfig, ours: PsqlpySessionService) -> None:
    """The file alone is recognised."""
    async with database_service(f"sqlite+aiosqlite:///{place}/adk.db") as service:
        await moved(service, place / "adk.db", target, ours)


async def test_sqlite_v0(place: Path, target: PsqlpyConfig, ours: PsqlpySessionService) -> None:
    """Schema v0: actions are pickled."""
    url = f"sqlite+aiosqlite:///{place}/adk.db"
    async with database_service(url, v0=True) as service:
        differences = await moved(service, url, target, ours, pickled=True)
    assert any("schema v0 has no columns" in text for text in differences)
    await assert_schemes_as_written(ours)


@pytest.mark.parametrize("v0", [False, True], ids=["v1", "v0"])
async def test_postgresql(
    database: Database, target: PsqlpyConfig, ours: PsqlpySessionService, v0: bool
) -> None:
    """Within one database: ADK's tables and ours stand beside each other."""
    url = database.dsn.replace("postgresql://", "postgresql+asyncpg://")
    async with database_service(url, v0=v0) as service:
        differences = await moved(service, url, target, ours, pickled=v0)
    assert any("sorts the keys" in text for text in differences)
    if v0:
        await assert_schemes_as_written(ours)


async def test_postgresql_without_a_driver(
    database: Database, target: PsqlpyConfig, ours: PsqlpySessionService
) -> None:
    """A plain postgresql:// URL: the tables tell whose they are; a driver that is installed reads them."""
    async with database_service(database.dsn.replace("postgresql://", "postgresql+asyncpg://")) as service:
        await moved(service, database.dsn, target, ours)


async def test_sqlite_session_service(place: Path, target: PsqlpyConfig, ours: PsqlpySessionService) -> None:
    """`SqliteSessionService`: events of one time stay in the order of their appends."""
    path = place / "session.db"
    service = SqliteSessionService(str(path))
    session = await service.create_session(app_name=APPS[0], user_id="ties", session_id="t")
    for text in "zyxwv":
        await service.append_event(session, said(text, seconds=5))
    events = await fill(service)
    report = await migrate(path, target)
    assert_all_copied(report, sessions=9, events=events + 5)
    assert await assert_same_sessions(service, ours) == events + 5


def make_folders(*folders: Path) -> None:
    """Agents' folders."""
    for folder in folders:
        folder.mkdir(parents=True)


async def test_the_local_storage_of_adk_web(
    place: Path, target: PsqlpyConfig, ours: PsqlpySessionService
) -> None:
    """A database beside each agent, one agent in a folder of folders, and one of ADK's own agents."""
    apps = ("cafe", "team.shop", "__builtin")
    make_folders(place / "cafe", place / "team" / "shop")
    async with PerAgentDatabaseSessionService(agents_root=place) as service:
        events = await fill(service, apps=apps)
        report = await migrate(place, target)
        assert "3 of databases and folders" in report.source
        assert_all_copied(report, sessions=12, events=events)
        assert await assert_same_sessions(service, ours, apps=apps) == events


async def test_more_sessions_than_a_page(
    place: Path, target: PsqlpyConfig, ours: PsqlpySessionService
) -> None:
    """Pages of sessions meet without a gap: 250 sessions, every third without an event."""
    url = f"sqlite+aiosqlite:///{place}/adk.db"
    async with database_service(url) as service:
        for number in range(250):
            session = await service.create_session(
                app_name=APPS[number % 2], user_id=f"u{number % 7}", session_id=f"{number * 37 % 250}"
            )
            if number % 3:
                await service.append_event(session, said(f"{number}", seconds=number))
        report = await migrate(url, target)
        assert_all_copied(report, sessions=250, events=166)
        assert await assert_same_sessions(service, ours) == 166


async def test_times_of_another_zone(place: Path, target: PsqlpyConfig, ours: PsqlpySessionService) -> None:
    """Early releases wrote the host's local time: said so, an event of v0 gets the time that was meant."""
    from zoneinfo import ZoneInfo

    url = f"sqlite+aiosqlite:///{place}/adk.db"
    zone = ZoneInfo("America/New_York")
    async with database_service(url, v0=True) as service:
        session = await service.create_session(app_name="app", user_id="u", session_id="s")
        await service.append_event(session, said("hello", seconds=0))
    await migrate(url, target, MigrationOptions(source=SourceOptions(naive_zone=zone)))
    read = await ours.get_session(app_name="app", user_id="u", session_id="s")
    assert read is not None
    assert (
        read.events[0].timestamp - session.events[0].timestamp == 4 * 3600
    )  # 18 May 2033, daylight saving time


async def test_create_times_are_kept(
    database: Database, target: PsqlpyConfig, ours: PsqlpySessionService
) -> None:
    """To the microsecond, and so are the times of shared state."""
    async with database_service(database.dsn.replace("postgresql://", "postgresql+asyncpg://")) as service:
        await fill(service)
    await migrate(database.dsn, target)
    for table in ("sessions", "app_states", "user_states"):
        columns = ["update_time", "create_time"][: 2 if table == "sessions" else 1]
        theirs = ", ".join(columns)
        mine = ", ".join(f"{column} AT TIME ZONE 'UTC' AS {column}" for column in columns)
        rows, kept = run_sql(
            database.dsn,
            f"SELECT {theirs} FROM {table} ORDER BY {theirs}",
            f"SELECT {mine} FROM adk_{table} ORDER BY {theirs}",
        )
        assert rows
        assert kept == rows


async def test_migrated_sessions_go_on(
    place: Path, target: PsqlpyConfig, ours: PsqlpySessionService, database: Database
) -> None:
    """Appends come behind what was carried, and state merges; the state at creation is not known."""
    url = f"sqlite+aiosqlite:///{place}/adk.db"
    async with database_service(url) as service:
        await fill(service)
    await migrate(url, target)
    session = await ours.get_session(app_name="cafe", user_id="ada", session_id="s1")
    assert session is not None
    before = list(session.events)
    await ours.append_event(session, said("further", seconds=9_000))
    read = await ours.get_session(app_name="cafe", user_id="ada", session_id="s1")
    assert read is not None
    assert read.events[:-1] == before
    assert read.events[-1].content == said("further").content
    ((row,),) = run_sql(database.dsn, "SELECT count(initial_state) AS known FROM adk_sessions")
    assert row["known"] == 0
    report = await migrate(url, target)
    assert (report.sessions.equal, report.sessions.different) == (7, 1)
    (problem,) = report.problems
    assert "the target has another session with this id" in problem.reason
    assert not report.complete


async def test_other_tables_of_the_target(place: Path, target: PsqlpyConfig, database: Database) -> None:
    """Names with a schema, which is made where it is missing."""
    url = f"sqlite+aiosqlite:///{place}/adk.db"
    async with database_service(url) as service:
        events = await fill(service)
    names = TableNames("agents.conversations", "agents.turns")
    report = await migrate(url, target, MigrationOptions(names=names))
    assert_all_copied(report, sessions=8, events=events)
    ((row,),) = run_sql(database.dsn, "SELECT count(*) AS n FROM agents.turns")
    assert row["n"] == events
