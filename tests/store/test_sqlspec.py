"""SQLSpec's own `PsqlpyConfig` under a store: its pool, its connections."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import psqlpy
import pytest
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions

from adk_psqlpy import PsqlpyADKStore, PsqlpySessionService

if TYPE_CHECKING:
    from servers import Database

sqlspec = pytest.importorskip("sqlspec.adapters.psqlpy", reason="SQLSpec needs Python 3.11 or newer")


async def test_a_pool_of_sqlspec(database: Database) -> None:
    """Sessions on connections that SQLSpec lends; few are kept, and all are given back at the end."""
    config = sqlspec.PsqlpyConfig(connection_config={"dsn": database.dsn, "max_db_pool_size": 5})
    store = PsqlpyADKStore(config)
    await store.create_tables()
    service = PsqlpySessionService(store)
    sessions = await asyncio.gather(
        *(service.create_session(app_name="app", user_id=f"u{n}", session_id="s") for n in range(20))
    )
    await asyncio.gather(
        *(
            service.append_event(session, Event(author="user", actions=EventActions(state_delta={"k": 1})))
            for session in sessions
        )
    )
    for session in sessions:
        assert session == await service.get_session(
            app_name="app", user_id=session.user_id, session_id=session.id
        )
    async with config.provide_connection() as connection:
        rows = (await connection.fetch("SELECT count(*) AS n FROM adk_events")).result()
    assert rows == [{"n": 20}]

    await service.close()
    pool = await config.provide_pool()
    lent = [await asyncio.wait_for(pool.connection(), 10) for _ in range(5)]
    for connection in lent:
        connection.close()
    await config.close_pool()


async def test_a_broken_connection_of_sqlspec(database: Database) -> None:
    """A read whose backend was ended is repeated on another connection of its pool."""
    config = sqlspec.PsqlpyConfig(connection_config={"dsn": database.dsn, "max_db_pool_size": 2})
    store = PsqlpyADKStore(config)
    await store.create_tables()
    await store.create_session("app", "user", "s")
    async with config.provide_connection() as connection:
        await connection.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid != pg_backend_pid()"
        )
    assert await store.get_session("app", "user", "s") is not None
    await store.close()
    await config.close_pool()


@pytest.mark.parametrize("config", [None, "postgresql://localhost/x", {"dsn": "x"}, psqlpy.ConnectionPool])
def test_what_lends_no_connections(config: object) -> None:
    """Anything else is refused by name."""
    with pytest.raises(ValueError, match=r"config must be a PsqlpyConfig, or have provide_connection\(\)"):
        PsqlpyADKStore(config)  # type: ignore[arg-type]
