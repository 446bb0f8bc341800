"""No connection to be had: the server has no slot left, or the pool has lent all it has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import psqlpy
import pytest
from google.adk.events.event import Event
from psqlpy.exceptions import Error

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from servers import BinaryServer, Database, run_sql

from .deadlines import within
from .quiet import whole

Open = Callable[..., PsqlpySessionService]
WAITS: dict[str, Any] = {"acquire_timeout_sec": 2, "retry_sec": 2}
BOUND_SEC = 8
"""What an operation may take with these settings before it fails, on a busy machine."""


@pytest.fixture(scope="module")
def small_server(binaries: Path) -> Iterator[BinaryServer]:
    """Five slots for ordinary roles: eight, of which three are kept for superusers."""
    with BinaryServer(binaries, {"max_connections": "8", "max_wal_senders": "0"}) as server:
        run_sql(server.dsn, "CREATE ROLE agent LOGIN")
        yield server


@pytest.fixture
def small_database(small_server: BinaryServer) -> Iterator[Database]:
    """A database of `agent` there."""
    run_sql(small_server.dsn, "CREATE DATABASE small OWNER agent")
    yield Database("small", small_server.database_dsn("small", user="agent"), small_server)
    run_sql(small_server.dsn, "DROP DATABASE small WITH (FORCE)")


@asynccontextmanager
async def slots_taken(database: Database) -> AsyncIterator[None]:
    """Other clients hold every slot that the server has."""
    held: list[psqlpy.Connection] = []

    async def take() -> None:
        held.append(await psqlpy.connect(dsn=database.dsn))

    try:
        while len(held) < 100:
            try:
                await take()
            except Error:  # noqa: PERF203 - none is left
                break
        assert 0 < len(held) < 100
        yield
    finally:
        for connection in held:
            connection.close()


async def test_a_server_without_slots(small_database: Database, open_service: Open) -> None:
    """A bounded wait, then an error; when the others have left, the same calls work."""
    service = open_service(small_database.dsn, 3, **WAITS)
    await service.store.create_tables()
    session = await service.create_session(app_name="app", user_id="u", session_id="s")
    await whole(service, small_database)  # and no connection is open
    event = Event(author="user")
    async with slots_taken(small_database):
        with pytest.raises(Error):
            await within(BOUND_SEC, service.append_event(session, event))
        with pytest.raises(Error):
            await within(BOUND_SEC, service.get_session(app_name="app", user_id="u", session_id="s"))
    await within(BOUND_SEC, insisted(service, session, event))
    assert await service.get_session(app_name="app", user_id="u", session_id="s") == session
    await whole(service, small_database)


async def insisted(service: PsqlpySessionService, session: object, event: Event) -> None:
    """Append; a slot is free a moment after its client has left, when the backend has ended."""
    while True:
        try:
            await service.append_event(session, event)  # type: ignore[arg-type]
        except Error:  # noqa: PERF203 - until it has
            await asyncio.sleep(0.05)
        else:
            return


async def test_the_error_says_what_to_set(small_database: Database, open_service: Open) -> None:
    service = open_service(small_database.dsn, 3, **WAITS)
    await service.store.create_tables()
    await service.close()
    async with slots_taken(small_database):
        with pytest.raises(
            Error, match=r"max_connections.*max_db_pool_size|max_db_pool_size.*max_connections"
        ):
            await within(BOUND_SEC, service.list_sessions(app_name="app"))


async def test_slots_that_come_free_are_waited_for(small_database: Database, open_service: Open) -> None:
    """The others leave after a second: no error at all."""
    service = open_service(small_database.dsn, 3, **WAITS)
    await service.store.create_tables()
    session = await service.create_session(app_name="app", user_id="u")
    await service.close()
    async with slots_taken(small_database):
        append = asyncio.ensure_future(service.append_event(session, Event(author="user")))
        await asyncio.wait({append}, timeout=1)
        assert not append.done(), append.result()
    await within(BOUND_SEC, append)
    await whole(service, small_database)


async def test_a_first_connection_waits_for_a_slot(small_database: Database, open_service: Open) -> None:
    """A service that starts while the server is full waits too: the server says that it has none left."""
    await open_service(small_database.dsn, 2, **WAITS).store.create_tables()
    starting = open_service(small_database.dsn, 2, acquire_timeout_sec=5, retry_sec=20)
    async with slots_taken(small_database):
        created = asyncio.ensure_future(
            starting.create_session(app_name="app", user_id="u", session_id="first")
        )
        done, _ = await asyncio.wait({created}, timeout=0.5)
        assert not done
    assert (await within(BOUND_SEC, created)).id == "first"


class LeavesLate(PsqlpyConfig):
    """Slots come free between the server's refusal and the question whether it may pass."""

    free: Callable[[], Awaitable[None]]

    async def may_pass(self, failure: BaseException) -> bool:
        """Ask when a slot is free."""
        await self.free()
        return await super().may_pass(failure)


async def test_a_slot_that_is_free_before_the_server_is_asked(small_database: Database) -> None:
    """The refusal itself says why: the server is not asked for a reason that it has no longer."""
    async with PsqlpyConfig(pool_config={"dsn": small_database.dsn}) as config:
        await PsqlpyADKStore(config).create_tables()
    starting = LeavesLate(pool_config={"dsn": small_database.dsn, "max_db_pool_size": 2})
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(slots_taken(small_database))

        async def free() -> None:
            await stack.aclose()
            while True:
                try:
                    connection = await psqlpy.connect(dsn=small_database.dsn)
                except Error:  # noqa: PERF203 - until the backend of one that left has ended
                    await asyncio.sleep(0.02)
                else:
                    connection.close()
                    return

        starting.free = free
        service = PsqlpySessionService(PsqlpyADKStore(starting))
        created = await within(
            BOUND_SEC, service.create_session(app_name="app", user_id="u", session_id="late")
        )
        assert created.id == "late"
        await service.close()


async def test_a_pool_that_is_lent_out(database: Database, open_service: Open) -> None:
    """Users hold every connection that the pool lends: the service's own calls work on connections of its
    own, or fail after a bounded wait with an error that says what to set; and they work afterwards."""
    service = open_service(database.dsn, 3, **WAITS)
    await service.store.create_tables()
    session = await service.create_session(app_name="app", user_id="u", session_id="s")
    config = service.store.config
    async with AsyncExitStack() as stack:
        lent = 0
        while lent < 3:
            entering = asyncio.ensure_future(stack.enter_async_context(config.provide_connection()))
            done, _ = await asyncio.wait({entering}, timeout=2)
            if not done:
                entering.cancel()
                break
            lent += 1
        assert lent > 0, "users got no connection at all"
        event = Event(author="user")
        try:
            await within(BOUND_SEC, service.append_event(session, event))
        except Error as error:
            assert "max_db_pool_size" in str(error)  # noqa: PT017 - it need not fail
    await within(BOUND_SEC, service.append_event(session, event))
    assert await service.get_session(app_name="app", user_id="u", session_id="s") == session
    await whole(service, database)


async def test_a_pool_that_comes_back(database: Database, open_service: Open) -> None:
    """The same, and the connections come back while calls wait for them: none fails."""
    service = open_service(database.dsn, 3, **WAITS)
    await service.store.create_tables()
    sessions = [await service.create_session(app_name="app", user_id="u") for _ in range(12)]
    async with service.store.config.provide_connection(), service.store.config.provide_connection():
        appends = asyncio.gather(*(service.append_event(each, Event(author="user")) for each in sessions))
        await asyncio.wait({appends}, timeout=0.3)
    await within(BOUND_SEC, appends)
    await whole(service, database)
