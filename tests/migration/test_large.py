"""A large source streams through constant memory. `make torture` runs it; `MIGRATION_EVENTS` is how large."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from google.adk.sessions.sqlite_session_service import SqliteSessionService

from servers import run_sql

from .support import model_said

if TYPE_CHECKING:
    from servers import Database

ROOT = Path(__file__).parents[2]
EVENTS = int(os.environ.get("MIGRATION_EVENTS", "1000000"))
MEGABYTES = 250
"""What the process may take at most, ADK's modules included, however many events there are."""

PROGRAM = """
import asyncio, resource, sys
from adk_psqlpy import PsqlpyConfig
from adk_psqlpy.admin.migrate import migrate

async def main(source, dsn):
    async with PsqlpyConfig({"dsn": dsn}) as target:
        report = await migrate(source, target)
    assert report.complete, (report.problems[:3], report.uncounted)
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = round(used.ru_utime + used.ru_stime)
    print(report.sessions.copied, report.events.copied, used.ru_maxrss // 1024, seconds)

asyncio.run(main(*sys.argv[1:]))
"""


async def grown(path: Path) -> int:
    """A file of the service with so many events: half of them in one session, 50 in each of the others."""
    service = SqliteSessionService(str(path))
    session = await service.create_session(app_name="app", user_id="u", session_id="long")
    await service.append_event(session, model_said("x" * 400, id="e"))
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA synchronous = OFF")
    small = EVENTS // 100
    connection.execute(
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?) INSERT INTO sessions "
        "SELECT app_name, 'u' || n % 1000, 's' || n, '{}', create_time, update_time FROM sessions, n",
        (small,),
    )
    copied = (
        "INSERT INTO events SELECT 'e' || n, e.app_name, s.user_id, s.id, e.invocation_id, e.timestamp + n, "
        "json_set(e.event_data, '$.id', 'e' || n, '$.timestamp', e.timestamp + n) "
        "FROM (SELECT * FROM events LIMIT 1) AS e, sessions AS s, n WHERE {which}"
    )
    numbers = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?) "
    connection.execute(numbers + copied.format(which="s.id = 'long'"), (EVENTS - small * 50 - 1,))
    connection.execute(numbers + copied.format(which="s.id <> 'long'"), (50,))
    connection.commit()
    connection.close()
    return small + 1


@pytest.mark.torture
async def test_memory_stays(place: Path, database: Database) -> None:
    """Every event is carried, read back and compared; the peak of memory is that of a small migration."""
    sessions = await grown(place / "session.db")
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, str(place / "session.db"), database.dsn),
        env={"PYTHONPATH": str(ROOT / "python"), "PATH": "/usr/bin:/bin"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await process.communicate()
    assert process.returncode == 0, error.decode()
    copied, events, peak, used = map(int, out.split())
    passed = time.monotonic() - began
    told = f"{events:,} events in {passed:.0f} s ({used} s of CPU), at most {peak} MB"
    sys.stderr.write(f"\n{told}\n")
    assert (copied, events) == (sessions, EVENTS)
    ((row,),) = run_sql(database.dsn, "SELECT count(*) AS n FROM adk_events")
    assert row["n"] == EVENTS
    assert peak < MEGABYTES
