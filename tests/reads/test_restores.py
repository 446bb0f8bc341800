"""Servers that go back in time: what a history was read from is gone, and its numbers are given out again."""

from __future__ import annotations

import asyncio
import shutil
import time
from typing import TYPE_CHECKING, Any

import psqlpy
import pytest

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig
from contract.events import said
from faults.crash import LIMIT_SEC, CrashServer
from servers import run_sql, wheel_binaries

from .conftest import KEY, Reads, observed_reads

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from google.adk.events.event import Event

    from adk_psqlpy.sessions.stored import StoredSession

# WAL of commits that do not ask for it is written late.
SETTINGS = {"max_prepared_transactions": "2", "wal_writer_delay": "10s", "autovacuum": "off"}
VERSIONS = "SELECT seq, xmin::text, ctid::text, tableoid::text FROM adk_events ORDER BY seq"


@pytest.fixture
def crashing() -> Iterator[CrashServer]:
    """A server that may be killed."""
    with CrashServer(wheel_binaries(), SETTINGS) as server:
        yield server


@pytest.fixture
async def reads(crashing: CrashServer) -> Reads:
    """Both stores on it, with a session of three events that was read."""
    config = PsqlpyConfig(pool_config={"dsn": crashing.dsn, "max_db_pool_size": 4, "retry_sec": 30})
    plain = PsqlpyADKStore(config, history_cache_bytes=0)
    await plain.create_tables()
    both = observed_reads(PsqlpyADKStore(config), plain, crashing.dsn)
    await both.create(spoken("old"))
    await both.read()
    return both


def spoken(text: str) -> list[Event]:
    return [said(f"{text} {n}", seconds=n) for n in range(3)]


def heard(session: StoredSession | None) -> list[str | None]:
    assert session is not None
    return [event.content.parts[0].text for event in session.events if event.content and event.content.parts]


def versions(server: CrashServer) -> list[dict[str, Any]]:
    """What tells rows apart, but for the server that they are on."""
    return run_sql(server.dsn, VERSIONS)[0]


async def test_a_failover_that_lost_commits(crashing: CrashServer, reads: Reads, tmp_path: Path) -> None:
    """Others take their places, with the same numbers of transactions, in the same places, another text.

    The files of the server before those commits stand for a standby's. pg_basebackup, a snapshot of the disk
    and a restore to a point of time come to the same.
    """
    crashing.halt()
    shutil.copytree(crashing.data, tmp_path / "standby", symlinks=True)
    crashing.restart()
    await reads.append(spoken("lost"))
    await reads.read()
    await reads.read()
    lost = versions(crashing)

    crashing.kill()
    shutil.rmtree(crashing.data)
    shutil.copytree(tmp_path / "standby", crashing.data, symlinks=True)
    for path in (crashing.data, *crashing.data.rglob("*")):
        crashing.own(path)
    crashing.restart()
    await reads.append(spoken("other"))

    assert versions(crashing) == lost, "their versions tell the rows apart: this proves nothing"
    assert heard(await reads.read())[3:] == ["other 0", "other 1", "other 2"]


async def test_a_crash_that_lost_commits(crashing: CrashServer, reads: Reads) -> None:
    """A backend is killed, and with it commits that were not flushed. The postmaster stays the same."""
    run_sql(crashing.dsn, "ALTER SYSTEM SET synchronous_commit = off", "SELECT pg_reload_conf()")
    started = "SELECT pg_postmaster_start_time() AS at"
    before = run_sql(crashing.dsn, started)
    deadline = time.monotonic() + LIMIT_SEC
    while True:
        run_sql(crashing.dsn, "CHECKPOINT")
        at = len(heard(await reads.read()))
        await reads.append(spoken("lost"))
        await reads.read()
        await reads.read()
        lost = versions(crashing)
        await crash(crashing)
        # Not by the store that keeps histories: it is not to see the session as it is now.
        if len(heard(await reads.plain.get_session(*KEY))) == at:
            break
        assert time.monotonic() < deadline, "nothing was ever lost"
    await reads.append(spoken("other"))
    assert versions(crashing) == lost, "their versions tell the rows apart: this proves nothing"
    assert run_sql(crashing.dsn, started) == before
    assert heard(await reads.read())[at:] == ["other 0", "other 1", "other 2"]


async def crash(server: CrashServer) -> None:
    """Kill a backend, and wait until the server is up again."""
    idle = (
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    server.kill_backend(run_sql(server.dsn, idle)[0][0]["pid"])
    deadline = time.monotonic() + LIMIT_SEC
    while True:
        try:
            run_sql(server.dsn, "SELECT 1")
        except psqlpy.Error:  # noqa: PERF203 - the loop waits on purpose
            assert time.monotonic() < deadline, "the server did not come up again"
            await asyncio.sleep(0.05)  # between two looks
        else:
            return


async def test_a_restart(crashing: CrashServer, reads: Reads) -> None:
    """Everything is read once, and kept from then on."""
    crashing.halt()
    crashing.restart()
    for _ in range(3):
        await reads.read()
    assert reads.counted[-3:] == [(0, 3), (3, 0), (3, 0)]


async def test_a_prepared_transaction(crashing: CrashServer, reads: Reads) -> None:
    """An edit in two phases is seen when the second is done."""
    reads.sql("BEGIN", "UPDATE adk_events SET author = 'x' WHERE seq = 2", "PREPARE TRANSACTION 'edit'")
    await reads.read()
    assert reads.last == (3, 0)
    reads.sql("COMMIT PREPARED 'edit'")
    found = await reads.read()
    assert found is not None
    assert [event.author for event in found.events] == ["user", "x", "user"]
