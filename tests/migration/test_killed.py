"""A migration that is killed at any point, and started again, ends equal; no session is ever seen in part."""

from __future__ import annotations

import asyncio
import random
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from google.adk.sessions.sqlite_session_service import SqliteSessionService

from adk_psqlpy import PsqlpyConfig, PsqlpySessionService
from adk_psqlpy.admin.migrate import MigrationStoppedError, migrate
from servers import Database, run_sql

from .support import assert_same_sessions, fill, folder_in_memory, said

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
LIMIT_SEC = 120
WHOLE = """
SELECT count(*) AS sessions, count(*) FILTER (WHERE e.n <> s.revision) AS partial
FROM adk_sessions AS s CROSS JOIN LATERAL (
    SELECT count(*) AS n FROM adk_events AS e
    WHERE (e.app_name, e.user_id, e.session_id) = (s.app_name, s.user_id, s.id)
) AS e
"""


@pytest.fixture(scope="module")
def written() -> Iterator[Path]:
    """48 sessions with 24 events each, and one of 1,500. ADK takes 5 s to write them, so it is done once."""

    async def write(path: Path) -> None:
        service = SqliteSessionService(str(path))
        await fill(service, sessions=12)
        session = await service.create_session(app_name="shop", user_id="long", session_id="long")
        for number in range(1_500):
            await service.append_event(session, said(f"turn {number}", seconds=number))

    with folder_in_memory() as folder:
        # A thread of its own: asyncio.run would unset this thread's current loop.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(lambda: asyncio.run(write(folder / "session.db"))).result()
        yield folder / "session.db"


@pytest.fixture
def source(written: Path, place: Path) -> SqliteSessionService:
    """A service on a copy of that file."""
    shutil.copy(written, place / "session.db")
    return SqliteSessionService(str(place / "session.db"))


async def run_until(place: Path, dsn: str, steps: int) -> bool:
    """Start a migration and kill it after so many records; whether it was done before."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.migration.crash", str(place / "session.db"), dsn),
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}:{ROOT / 'python'}", "PATH": "/usr/bin:/bin"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    seen, done = 0, False
    async for line in process.stdout:
        seen += 1
        done = done or line == b"done\n"
        if seen == steps:
            process.kill()
    _, error = await asyncio.wait_for(process.communicate(), LIMIT_SEC)
    assert process.returncode in (0, -9), error.decode()
    return done


async def test_killed_again_and_again(
    source: SqliteSessionService, place: Path, database: Database, ours: PsqlpySessionService
) -> None:
    """kill -9 after a random number of records, each time a little later; in between, only whole sessions."""
    chance = random.Random(7)
    done, kills, steps, stored = False, 0, 1, 0
    while not done:
        done = await run_until(place, database.dsn, steps)
        kills += not done
        steps += chance.randrange(10, 40)
        (tables, *_) = run_sql(database.dsn, "SELECT to_regclass('adk_sessions') IS NOT NULL AS there")
        if tables[0]["there"]:
            # The server ends the transaction of a client that is gone when it next looks.
            ((row,),) = run_sql(database.dsn, WHOLE)
            assert row["partial"] == 0
            assert row["sessions"] >= stored
            stored = row["sessions"]
    assert kills >= 3
    assert stored == 49
    assert await assert_same_sessions(source, ours) > 1_500


async def test_connections_that_break(
    source: SqliteSessionService,
    place: Path,
    database: Database,
    target: PsqlpyConfig,
    ours: PsqlpySessionService,
) -> None:
    """The server ends the connection in the middle of a transaction: it stops and says so, and goes on."""

    async def end_connections() -> None:
        while True:
            run_sql(
                database.dsn,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid() AND xact_start IS NOT NULL AND query LIKE 'COPY%'",
            )
            await asyncio.sleep(0)

    async def until_it_stops() -> None:
        while True:
            await migrate(place / "session.db", target)
            run_sql(database.dsn, "TRUNCATE adk_sessions CASCADE")

    breaking = asyncio.create_task(end_connections())
    try:
        with pytest.raises(MigrationStoppedError, match="Run the same command again") as stopped:
            await asyncio.wait_for(until_it_stops(), LIMIT_SEC)
    finally:
        breaking.cancel()
    assert not stopped.value.report.finished
    ((row,),) = run_sql(database.dsn, WHOLE)
    assert row["partial"] == 0
    report = await migrate(place / "session.db", target)
    assert report.complete
    assert await assert_same_sessions(source, ours) > 1_500


async def test_two_at_once(
    source: SqliteSessionService,
    place: Path,
    target: PsqlpyConfig,
    database: Database,
    ours: PsqlpySessionService,
) -> None:
    """Two processes carry the same source: each session is written by one of them, and both see it equal."""
    async with PsqlpyConfig({"dsn": database.dsn}) as other:
        reports = await asyncio.gather(
            migrate(place / "session.db", target), migrate(place / "session.db", other)
        )
    assert all(report.complete for report in reports)
    assert sum(report.sessions.copied for report in reports) == 49
    assert await assert_same_sessions(source, ours) > 1_500


async def test_cancelled(
    source: SqliteSessionService, place: Path, target: PsqlpyConfig, database: Database
) -> None:
    """A task that is cancelled gives its connection back clean, and leaves whole sessions only."""
    for steps in (1, 5, 20, 45):
        seen = 0
        reached = asyncio.Event()

        def count(_: object) -> None:
            nonlocal seen
            seen += 1
            if seen >= steps:  # noqa: B023 - read in this round
                reached.set()  # noqa: B023

        from adk_psqlpy.admin.migrate import MigrationOptions

        task = asyncio.create_task(migrate(place / "session.db", target, MigrationOptions(on_progress=count)))
        await asyncio.wait_for(reached.wait(), LIMIT_SEC)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        ((row,),) = run_sql(database.dsn, WHOLE)
        assert row["partial"] == 0
    assert (await migrate(place / "session.db", target)).complete
