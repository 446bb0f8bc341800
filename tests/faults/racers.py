"""A process of its own that appends, for tests with several: started by `multiprocessing`, method spawn."""

from __future__ import annotations

import asyncio
from multiprocessing.synchronize import Barrier
from pathlib import Path

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService

from .deadlines import within
from .ledger import Ledger
from .workload import Writer

ONE_USER = "everybody"
START_LIMIT_SEC = 60


def one_user(session_id: str) -> str:
    """The same user for every session, so that all race for `user:` state."""
    return ONE_USER


def race(dsn: str, ledger: Path, name: str, ids: list[str], appends: int, ready: Barrier) -> None:
    """One writer a session of `ids`, each appending so many events; an error ends the process with 1.

    Args:
        dsn: the database.
        ledger: this process's file.
        name: of this process, part of the writers' names.
        ids: the sessions.
        appends: events a writer.
        ready: all processes start to append together.
    """
    asyncio.run(_race(dsn, ledger, name, ids, appends, ready))


async def _race(dsn: str, file: Path, name: str, ids: list[str], appends: int, ready: Barrier) -> None:
    ledger = Ledger(file)
    async with PsqlpySessionService(
        PsqlpyADKStore(PsqlpyConfig({"dsn": dsn, "max_db_pool_size": 4}))
    ) as service:
        await service.store.create_tables()
        writers = [
            Writer(service, ledger, f"{name}.{number}", [each], user=one_user)
            for number, each in enumerate(ids)
        ]
        await asyncio.to_thread(ready.wait, START_LIMIT_SEC)
        tasks = [asyncio.ensure_future(each.run(lambda: False, appends)) for each in writers]
        await within(60 + appends, asyncio.gather(*tasks))
