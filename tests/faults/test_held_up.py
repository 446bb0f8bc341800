"""What waits for somebody else's lock does not hold up the rest."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import psqlpy
import pytest
from google.adk.events.event import Event
from google.adk.sessions import Session

from adk_psqlpy import PsqlpySessionService
from servers import Database

from .deadlines import until, within
from .quiet import whole
from .workload import user_of

Open = Callable[..., PsqlpySessionService]
HELD_UP_SEC = 0.5
"""For how long one statement may hold up others at most."""
POOL = 4


@asynccontextmanager
async def locked(database: Database, *session_ids: str) -> AsyncIterator[None]:
    """Another client's transaction holds the rows of these sessions."""
    connection = await psqlpy.connect(dsn=database.dsn)
    try:
        # A statement each, with the user: Citus locks rows of one shard at a time.
        row = "SELECT FROM adk_sessions WHERE user_id = '{}' AND id = '{}' FOR UPDATE"
        await connection.execute_batch(
            "; ".join(["BEGIN", *(row.format(user_of(each), each) for each in session_ids)])
        )
        yield
        await connection.execute_batch("ROLLBACK")
    finally:
        connection.close()


@pytest.mark.parametrize("locks", [1, POOL - 1, 2 * POOL])
async def test_a_lock_holds_up_its_own_session_only(
    database: Database, open_service: Open, locks: int
) -> None:
    """Appends to locked sessions wait; those to others, and reads of all, go on meanwhile."""
    service = open_service(database.dsn, POOL)
    await service.store.create_tables()
    ids = [f"s-{number}" for number in range(locks + 8)]
    sessions = [
        await service.create_session(app_name="app", user_id=user_of(each), session_id=each) for each in ids
    ]

    async def timed(call: Callable[[], object]) -> float:
        began = time.monotonic()
        await call()  # type: ignore[misc]
        return time.monotonic() - began

    def append(session: Session) -> Callable[[], object]:
        return lambda: service.append_event(session, Event(author="agent"))

    def get(session: Session) -> Callable[[], object]:
        return lambda: service.get_session(app_name="app", user_id=session.user_id, session_id=session.id)

    # On a cluster an append of a user whose node is not known yet goes by itself, not in a group.
    for _ in range(2):
        await asyncio.gather(*(append(session)() for session in sessions))
    async with locked(database, *ids[:locks]):
        held = [asyncio.ensure_future(timed(append(session))) for session in sessions[:locks]]

        async def some_wait() -> bool:
            return await asyncio.to_thread(database.waiting_for_locks) >= 1

        await until(some_wait, 10, "appends that wait for the locks")
        slowest = 0.0
        for _ in range(20):
            calls = [*map(append, sessions[locks:]), *map(get, sessions)]
            # The bound, and what a busy machine adds to it.
            took = await within(HELD_UP_SEC + 3, asyncio.gather(*map(timed, calls)))
            slowest = max(slowest, *took)
        assert not any(task.done() for task in held)
    await within(10, asyncio.gather(*held))
    assert slowest < HELD_UP_SEC + 1
    for session in sessions:
        found = await service.get_session(app_name="app", user_id=session.user_id, session_id=session.id)
        assert found == session
    await whole(service, database)


@pytest.mark.parametrize("locks", [2, 3])
async def test_a_read_that_was_begun_with_locked_appends(
    database: Database, open_service: Open, locks: int
) -> None:
    """Sent behind the first on its connection, then moved, perhaps behind the next: it is answered all the
    same, since connections are left."""
    service = open_service(database.dsn, 10)
    await service.store.create_tables()
    ids = [f"s-{number}" for number in range(locks + 1)]
    sessions = [
        await service.create_session(app_name="app", user_id=user_of(each), session_id=each) for each in ids
    ]
    async with locked(database, *ids[:locks]):
        held = [
            asyncio.ensure_future(service.append_event(each, Event(author="agent")))
            for each in sessions[:locks]
        ]
        other = sessions[-1]
        read = service.get_session(app_name="app", user_id=other.user_id, session_id=other.id)
        assert await within(HELD_UP_SEC * locks + 3, read) == other
    await within(10, asyncio.gather(*held))
    await whole(service, database)


@pytest.mark.parametrize("waiting", [1, 2 * POOL])
async def test_a_lock_on_shared_state(database: Database, open_service: Open, waiting: int) -> None:
    """Somebody holds the app's state: appends without `app:` keys and reads go on, those with them wait."""
    service = open_service(database.dsn, POOL)
    await service.store.create_tables()
    sessions = [
        await service.create_session(app_name="app", user_id="u", session_id=f"s-{n}", state={"app:k": n})
        for n in range(waiting + 4)
    ]
    other = await psqlpy.connect(dsn=database.dsn)
    await other.execute_batch("BEGIN; SELECT FROM adk_app_states FOR UPDATE")
    held = []
    for number, session in enumerate(sessions[:waiting]):
        event = Event(author="agent")
        event.actions.state_delta = {"app:k": "late", f"app:k{number}": number}
        held.append(asyncio.ensure_future(service.append_event(session, event)))

    async def waits() -> bool:
        return await asyncio.to_thread(database.waiting_for_locks) >= 1

    await until(waits, 10, "an append that waits")
    for _ in range(40):
        calls = [service.append_event(each, Event(author="agent")) for each in sessions[waiting:]]
        await within(HELD_UP_SEC + 3, asyncio.gather(*calls))
        found = await within(
            HELD_UP_SEC + 3, service.get_session(app_name="app", user_id="u", session_id="s-0")
        )
        assert found is not None
    assert not any(each.done() for each in held)
    await other.execute_batch("ROLLBACK")
    other.close()
    await within(10, asyncio.gather(*held))
    assert await service.store.get_app_state("app") == {"k": "late"} | {f"k{n}": n for n in range(waiting)}
    await whole(service, database)
