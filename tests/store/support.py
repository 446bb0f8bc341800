"""What the tests of the store share: opening stores, and looking beside them."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig
from adk_psqlpy.sessions.stored import Version
from servers import run_sql
from where import on_cluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

LIMIT_SEC = 10
KEY = ("app", "user", "s")


@asynccontextmanager
async def store_at(
    dsn: str, *tables: str, create: bool = True, **options: Any
) -> AsyncIterator[PsqlpyADKStore]:
    """A store on a pool of its own; its tables made, on a cluster distributed, unless told otherwise."""
    async with PsqlpyConfig(pool_config={"dsn": dsn, "max_db_pool_size": 4}) as config:
        store = PsqlpyADKStore(config, *tables, **options)
        if create:
            await store.create_tables(distributed=on_cluster())
        yield store


async def version(store: PsqlpyADKStore, *key: str) -> Version:
    """The version that a stored session is at."""
    last = await store.last_event(*(key or KEY))
    assert last is not None
    return last[0]


async def until(condition: Callable[[], bool]) -> None:
    """Look at a condition until it holds."""
    deadline = time.monotonic() + LIMIT_SEC
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        await asyncio.sleep(0.01)  # between two looks


async def all_back(config: PsqlpyConfig) -> None:
    """Wait until no connection is checked out but by lanes, and these have nothing in flight."""
    pool = await config.create_pool()

    def back() -> bool:
        status = pool.status()
        lanes = config.lanes
        return bool(lanes.in_flight == 0 and status.available == status.size - lanes.held)

    await until(back)


def contents(dsn: str) -> str:
    """Every row of the tables as one text: equal before and after, nothing was written."""
    tables = (
        *("adk_sessions", "adk_events", "adk_app_states", "adk_user_states"),
        *("adk_state_log", "adk_forks"),
    )
    rows = (f"'{t}', (SELECT jsonb_agg(to_jsonb(t) ORDER BY to_jsonb(t)) FROM {t} AS t)" for t in tables)
    (((row,),),) = (run_sql(dsn, f"SELECT jsonb_build_object({', '.join(rows)})::text AS rows"),)
    return str(row["rows"])
