"""Opening, closing, and several services on one set of data."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.adk.sessions import BaseSessionService, Session

from .backends import Backend, differs
from .events import APP, USER, delta, said, stored, texts

NO_CLOSE = "has nothing to close, and no context manager"
NOT_PERSISTENT = "its data are its own"


async def test_is_a_session_service(service: BaseSessionService) -> None:
    """The service is one of ADK's, which is what a Runner asks for."""
    assert isinstance(service, BaseSessionService)


async def test_flush_changes_nothing(service: BaseSessionService) -> None:
    """flush() may be called at any time, as a Runner does on closing; the service goes on."""
    await service.flush()
    session = await service.create_session(app_name=APP, user_id=USER)
    await service.append_event(session, said("hi"))
    await service.flush()
    assert await stored(service, session) == session
    await service.append_event(session, said("more"))
    assert texts(await stored(service, session)) == ["hi", "more"]


@differs(in_memory=NO_CLOSE, raises=AttributeError)
async def test_close_twice(backend: Backend) -> None:
    """close() may be called more than once, and on a service that was never used."""
    async with backend.open() as service:
        closable: Any = service
        await closable.close()
        await closable.close()


@differs(in_memory=NO_CLOSE, raises=(AttributeError, TypeError))
async def test_context_manager(backend: Backend) -> None:
    """`async with service` gives the service itself and closes it, with what it stored kept."""
    async with backend.open() as opened:
        manager: Any = opened
        async with manager as service:
            assert service is opened
            session = await service.create_session(app_name=APP, user_id=USER, session_id="s")
            await service.append_event(session, said("hi"))
    async with backend.open() as service:
        assert await stored(service, session) == session


@differs(in_memory=NO_CLOSE, raises=(AttributeError, TypeError))
async def test_context_manager_lets_errors_through(backend: Backend) -> None:
    """An error inside the block reaches the caller."""
    async with backend.open() as opened:
        manager: Any = opened
        with pytest.raises(ZeroDivisionError):
            async with manager:
                _ = 1 / 0


async def test_persistent_is_what_the_backend_says(backend: Backend) -> None:
    """A second service finds what the first one stored where, and only where, the backend is persistent."""
    async with backend.open() as first:
        session = await first.create_session(app_name=APP, user_id=USER, session_id="s")
        await first.append_event(session, said("hi"))
    async with backend.open() as second:
        found = await second.get_session(app_name=APP, user_id=USER, session_id="s")
        assert (found == session) is backend.persistent
        assert (found is not None) is backend.persistent


@differs(in_memory=NOT_PERSISTENT)
async def test_a_restart_goes_on(backend: Backend) -> None:
    """A new service carries on a conversation: history, all three states, and the order of events."""
    for n in range(4):
        async with backend.open() as service:
            session = await service.get_session(app_name=APP, user_id=USER, session_id="s")
            if session is None:
                session = await service.create_session(app_name=APP, user_id=USER, session_id="s")
            await service.append_event(session, delta({f"k{n}": n, "app:n": n, "user:n": n}, seconds=n))
    async with backend.open() as service:
        found = await service.get_session(app_name=APP, user_id=USER, session_id="s")
        assert found is not None
        assert found.state == {"k0": 0, "k1": 1, "k2": 2, "k3": 3, "app:n": 3, "user:n": 3}
        assert len(found.events) == 4


@differs(in_memory=NOT_PERSISTENT)
async def test_services_side_by_side(backend: Backend) -> None:
    """Services on one database see each other's work at once, and take turns on one session."""
    async with backend.open() as one, backend.open() as two:
        session = await one.create_session(app_name=APP, user_id=USER, session_id="s")
        for n, service in enumerate([one, two, one, two]):
            found = await service.get_session(app_name=APP, user_id=USER, session_id="s")
            assert found is not None
            await service.append_event(found, delta({"user:n": n}, seconds=n))
        assert await stored(one, session) == await stored(two, session) == found
        assert await one.get_user_state(app_name=APP, user_id=USER) == {"n": 3}
        await two.delete_session(app_name=APP, user_id=USER, session_id="s")
        assert (await one.list_sessions(app_name=APP)).sessions == []


@differs(database="creates its tables without a lock: the others' CREATE TABLE fails")
async def test_first_use_of_an_empty_database_by_many(backend: Backend) -> None:
    """Services that start at once on an empty database all come up."""
    services = await asyncio.gather(*(backend.connect() for _ in range(6)))
    outcomes = await asyncio.gather(
        *(s.create_session(app_name=APP, user_id=USER, session_id=str(n)) for n, s in enumerate(services)),
        return_exceptions=True,
    )
    for service in services:
        await backend.disconnect(service)
    assert [type(o) for o in outcomes] == [Session] * 6


def test_one_event_loop_after_another(backend: Backend) -> None:
    """A service made in one event loop works in the next, as in scripts with several asyncio.run."""
    if not backend.any_loop:
        pytest.skip(
            f"{backend.name} does not promise it: its connections belong to the loop that opened them"
        )
    service = asyncio.run(backend.connect())
    session = asyncio.run(service.create_session(app_name=APP, user_id=USER, session_id="s"))
    asyncio.run(service.append_event(session, said("hi", seconds=0)))
    assert asyncio.run(stored(service, session)) == session
    asyncio.run(backend.disconnect(service))
