"""Several processes on one database: racing for the same keys, for the same sessions, and killed."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from adk_psqlpy import PsqlpySessionService
from servers import Database

from .deadlines import until
from .ledger import Entry, Findings, Ledger, compare
from .quiet import backends, settled, whole
from .racers import START_LIMIT_SEC, one_user, race
from .workload import create_sessions

Open = Callable[..., PsqlpySessionService]
Seen = Callable[[str, int, Findings], None]
PROCESSES = 4


@contextmanager
def processes(
    database: Database, directory: Path, shares: list[list[str]], appends: int
) -> Iterator[list[BaseProcess]]:
    """One process a share of session ids, all past their start; ended at the end."""
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(len(shares) + 1)
    started = [
        context.Process(
            target=race,
            args=(database.dsn, directory / f"ledger-{n}", f"p{n}", share, appends, ready),
        )
        for n, share in enumerate(shares)
    ]
    for each in started:
        each.start()
    try:
        ready.wait(START_LIMIT_SEC)
        yield started
    finally:
        for each in started:
            each.kill()
            each.join()


def entries_in(directory: Path) -> dict[str, Entry]:
    """What all the processes noted."""
    return Ledger.read(*directory.glob("ledger-*"))


async def joined(started: list[BaseProcess], limit: float) -> None:
    """Wait for their ends; each must have gone well, unless it was killed."""
    deadline = time.monotonic() + limit
    for each in started:
        await asyncio.to_thread(each.join, max(0.0, deadline - time.monotonic()))
    assert [each.exitcode for each in started] == [0] * len(started)


def deadlocks(database: Database) -> int:
    """How many were resolved by ending a transaction. Backends report on leaving, at the latest."""
    query = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    return sum(map(int, database.server.on_each_node(database.dsn, query)))


@pytest.mark.parametrize("appends", [40, pytest.param(2000, marks=pytest.mark.torture)])
async def test_16_sessions_race_for_shared_state(
    database: Database, open_service: Open, tmp_path: Path, seen: Seen, appends: int
) -> None:
    """16 sessions of one user, in 4 processes, write the same and their own `user:` and `app:` keys."""
    service, before = open_service(database.dsn), deadlocks(database)
    await service.store.create_tables()
    ids = await create_sessions(service, 16, one_user)
    shares = [ids[number::PROCESSES] for number in range(PROCESSES)]
    with processes(database, tmp_path, shares, appends) as started:
        await joined(started, 60 + appends)
    entries = entries_in(tmp_path)
    assert len(entries) == 16 * appends
    findings = await compare(service, entries, database.dsn)
    assert findings.acknowledged == 16 * appends
    seen("race for user: and app: keys, 16 sessions in 4 processes", 16 * appends, findings)
    await whole(service, database)
    assert deadlocks(database) == before


@pytest.mark.parametrize("appends", [15, pytest.param(400, marks=pytest.mark.torture)])
async def test_processes_race_for_two_sessions(
    database: Database, open_service: Open, tmp_path: Path, seen: Seen, appends: int
) -> None:
    """4 processes append to the same 2 sessions: who is told that it is stale reads anew and repeats."""
    service, before = open_service(database.dsn), deadlocks(database)
    await service.store.create_tables()
    ids = await create_sessions(service, 2, one_user)
    with processes(database, tmp_path, [ids] * PROCESSES, appends) as started:
        await joined(started, 60 + appends)
    entries = entries_in(tmp_path)
    findings = await compare(service, entries, database.dsn)
    assert findings.acknowledged == 2 * PROCESSES * appends
    seen("race for 2 sessions, 4 processes", 2 * PROCESSES * appends, findings)
    await whole(service, database)
    assert deadlocks(database) == before


async def test_a_killed_process(database: Database, open_service: Open, tmp_path: Path, seen: Seen) -> None:
    """SIGKILL to a writing process: what it was told is there, its connections are gone, others go on."""
    service, before = open_service(database.dsn), deadlocks(database)
    await service.store.create_tables()
    ids = await create_sessions(service, 4, one_user)
    endless = 1_000_000
    with processes(database, tmp_path, [ids, ids], endless) as started:

        async def written(more_than: int) -> bool:
            entries = await asyncio.to_thread(entries_in, tmp_path)
            return sum(each.acknowledged is not None for each in entries.values()) > more_than

        await until(lambda: written(100), 30, "100 appends")
        started[0].kill()
        known = len(entries_in(tmp_path))
        await until(lambda: written(known + 50), 30, "the other's appends")
    await settled(database)

    async def gone() -> bool:
        return not await backends(database)

    await service.close()
    await until(gone, 10, "every connection closed")
    findings = await compare(service, entries_in(tmp_path), database.dsn)
    seen("kill -9 of a writing process", 2, findings)
    await whole(service, database)
    assert deadlocks(database) == before
