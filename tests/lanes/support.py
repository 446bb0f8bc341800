"""What the tests of lanes share: another client that holds locks, and a look at what waits for them."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from psqlpy import connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from psqlpy import Connection

LIMIT_SEC = 10

WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
)


@asynccontextmanager
async def locker(dsn: str, *statements: str) -> AsyncIterator[Connection]:
    """Another client, in a transaction that has run `statements`; rolled back at the end.

    Gives a second connection, outside of the transaction, in which pg_stat_activity would stand still.
    """
    connection, watcher = await connect(dsn=dsn), await connect(dsn=dsn)
    await connection.execute("BEGIN")
    for statement in statements:
        await connection.execute(statement)
    yield watcher
    await connection.execute("ROLLBACK")
    connection.close()
    watcher.close()


async def count(connection: Connection, sql: str) -> int:
    """The number that a query gives."""
    return int((await connection.fetch(sql)).result(as_tuple=True)[0][0])


async def until(condition: Callable[[], Awaitable[Any]]) -> None:
    """Ask until the answer is true."""
    deadline = time.monotonic() + LIMIT_SEC
    while not await condition():
        assert time.monotonic() < deadline, "the condition never held"
        await asyncio.sleep(0.01)  # between two looks


async def soon(awaitable: Awaitable[Any]) -> Any:
    """Await what nothing may hold up: the tests hold their locks for as long as it takes."""
    return await asyncio.wait_for(awaitable, LIMIT_SEC)
