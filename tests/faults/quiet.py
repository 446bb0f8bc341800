"""After the storm: nothing is running, nothing is open, nothing is left checked out."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from adk_psqlpy import PsqlpyConfig, PsqlpySessionService
from servers import Database, run_sql

from .deadlines import until, within

LIMIT_SEC = 10.0
_APPLICATION = "adk-psqlpy"  # the connections of the package; the test's own have no name


async def backends(database: Database) -> list[dict[str, Any]]:
    """The server's processes for this package's connections to the database."""
    query = (
        "SELECT pid, state, wait_event_type, left(query, 200) AS query FROM pg_stat_activity"
        f" WHERE datname = '{database.name}' AND application_name = '{_APPLICATION}'"
    )
    (rows,) = await asyncio.to_thread(run_sql, database.server.dsn, query)
    return rows


async def settled(database: Database, limit: float = LIMIT_SEC) -> None:
    """Wait until no statement runs and no transaction is open, the ghosts of cancelled calls included."""
    busy: list[dict[str, Any]] = []

    async def idle() -> bool:
        busy[:] = [row for row in await backends(database) if row["state"] != "idle"]
        return not busy

    try:
        await until(idle, limit, "all backends idle")
    except AssertionError as error:
        raise AssertionError(f"{error}: {busy}") from None


async def whole(service: PsqlpySessionService, database: Database) -> None:
    """Nothing is checked out, users get their share of the pool, the service works, and after its close no
    backend is left."""
    await settled(database)
    config = service.store.config
    assert isinstance(config, PsqlpyConfig)
    pool = await config.create_pool()

    async def back() -> bool:
        status, lanes = pool.status(), config.lanes
        return bool(lanes.in_flight == 0 and status.available == status.size - lanes.held)

    await until(back, LIMIT_SEC, "every connection given back")
    async with AsyncExitStack() as stack:
        # The service's own statements keep one.
        for _ in range(pool.status().max_size - 1):
            connection = await within(LIMIT_SEC, stack.enter_async_context(config.provide_connection()))
            assert await within(LIMIT_SEC, connection.fetch_val("SELECT 1")) == 1
    session = await within(LIMIT_SEC, service.create_session(app_name="whole", user_id="u"))
    await within(LIMIT_SEC, service.delete_session(app_name="whole", user_id="u", session_id=session.id))
    await within(LIMIT_SEC, service.close())

    async def gone() -> bool:
        return not await backends(database)

    await until(gone, LIMIT_SEC, "every connection closed")
