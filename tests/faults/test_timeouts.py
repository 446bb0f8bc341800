"""Statements that PostgreSQL stops after `read_timeout_sec`, `list_timeout_sec` or `write_timeout_sec`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import psqlpy
import pytest
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions

from adk_psqlpy import PsqlpySessionService
from adk_psqlpy.errors import OperationTimeoutError
from servers import Database, held

from .deadlines import within
from .quiet import whole

Open = Callable[..., PsqlpySessionService]
KEY = {"app_name": "app", "user_id": "u"}
ROW = "SELECT FROM adk_sessions WHERE user_id = 'u' AND id = 's-0' FOR UPDATE"
TABLE = "LOCK TABLE adk_sessions IN ACCESS EXCLUSIVE MODE"


@pytest.mark.parametrize("sessions", [1, 8], ids=["alone", "among others"])
async def test_an_append_that_is_stopped(database: Database, open_service: Open, sessions: int) -> None:
    """Undone with all its deltas, and its caller is told; others' are stored; again, it is stored once."""
    service = open_service(database.dsn, write_timeout_sec=0.3)
    await service.store.create_tables()
    opened = [await service.create_session(**KEY, session_id=f"s-{n}") for n in range(sessions)]
    events = [
        Event(author="agent", actions=EventActions(state_delta={"k": n, "user:k": n} if n == 0 else {"k": n}))
        for n in range(sessions)
    ]
    appends = [service.append_event(session, event) for session, event in zip(opened, events, strict=True)]
    async with held(database, ROW):
        stopped, *others = await within(10, asyncio.gather(*appends, return_exceptions=True))
        assert others == events[1:]
    assert isinstance(stopped, OperationTimeoutError)
    assert isinstance(stopped, TimeoutError)
    assert isinstance(stopped, psqlpy.exceptions.DatabaseError)
    assert "stopped a write after 0.3 s (write_timeout_sec of pool_config) and undid it" in str(stopped)
    found = await service.get_session(**KEY, session_id="s-0")
    assert found is not None
    assert (found.events, found.state, found.last_update_time) == ([], {}, opened[0].last_update_time)
    assert await within(10, service.append_event(opened[0], events[0])) is events[0]
    for session in opened:
        assert len(session.events) == 1
        stored = await service.get_session(**KEY, session_id=session.id)
        assert stored is not None
        assert stored.events == session.events
    await whole(service, database)


@pytest.mark.parametrize("kind", ["read", "list"])
async def test_a_read_that_is_stopped(database: Database, open_service: Open, kind: str) -> None:
    """The caller is told which setting it was; the next call works."""
    service = open_service(database.dsn, **{f"{kind}_timeout_sec": 0.2})
    await service.store.create_tables()
    session = await service.create_session(**KEY, session_id="s-0")

    async def call() -> object:
        if kind == "read":
            return await service.get_session(**KEY, session_id="s-0")
        return (await service.list_sessions(**KEY)).sessions[0]

    async with held(database, TABLE):
        with pytest.raises(OperationTimeoutError, match=rf"a {kind} after 0\.2 s \({kind}_timeout_sec"):
            await within(10, call())
    assert await within(10, call()) == session
    await whole(service, database)
