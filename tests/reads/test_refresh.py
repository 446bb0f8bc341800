"""`service.refresh(session)`: an object that is up to date again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.adk.errors import StaleSessionError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.sessions.base_session_service import GetSessionConfig
from google.adk.sessions.session import Session

from adk_psqlpy import PsqlpySessionService
from contract.events import at, delta, said, stored, texts

from .conftest import KEY, Reads

NAMED = {"app_name": KEY[0], "user_id": KEY[1], "session_id": KEY[2]}


@pytest.fixture
async def session(service: PsqlpySessionService, reads: Reads) -> Session:
    """A session with two events, as an object that was read."""
    await reads.create([said("one", seconds=1), said("two", seconds=2)])
    found = await service.get_session(**NAMED)
    assert found is not None
    return found


async def test_what_others_appended(service: PsqlpySessionService, reads: Reads, session: Session) -> None:
    """Only that is sent, and the object can be appended to again."""
    await reads.append([delta({"k": 1, "app:k": 2, "user:k": 3}, seconds=3)])
    with pytest.raises(StaleSessionError):
        await service.append_event(session, said("stale", seconds=4))
    events, state = session.events, session.state
    assert await service.refresh(session) is session
    assert reads.last == (2, 1)
    assert session == await stored(service, session)
    assert session._storage_update_marker == (await stored(service, session))._storage_update_marker
    assert session.events is events
    assert session.state is state
    assert (state["k"], state["app:k"], state["user:k"]) == (1, 2, 3)
    await service.append_event(session, said("next", seconds=4))
    assert texts(session)[-1] == "next"


async def test_temporary_state_is_kept(service: PsqlpySessionService, session: Session) -> None:
    session.state["temp:x"] = object()
    kept = session.state["temp:x"]
    session.state["gone"] = 1
    await service.refresh(session)
    assert session.state["temp:x"] is kept
    assert "gone" not in session.state


async def test_the_callers_changes_are_gone(service: PsqlpySessionService, session: Session) -> None:
    session.events[0].author = "changed"
    session.events.append(said("never appended"))
    await service.refresh(session)
    assert session == await stored(service, session)


async def test_with_a_config(service: PsqlpySessionService, reads: Reads, session: Session) -> None:
    await reads.append([said("three", seconds=3)])
    await service.refresh(session, config=GetSessionConfig(num_recent_events=2))
    assert texts(session) == ["two", "three"]
    await service.refresh(session, config=GetSessionConfig(after_timestamp=at(3)))
    assert texts(session) == ["three"]
    await service.refresh(session)
    assert texts(session) == ["one", "two", "three"]


async def test_a_session_that_is_gone(service: PsqlpySessionService, reads: Reads, session: Session) -> None:
    before = session.model_copy(deep=True)
    await reads.plain.delete_session(*KEY)
    with pytest.raises(SessionNotFoundError, match="Session s not found"):
        await service.refresh(session)
    assert session == before


async def test_a_session_made_anew(service: PsqlpySessionService, reads: Reads, session: Session) -> None:
    await reads.plain.delete_session(*KEY)
    await reads.create([said("other", seconds=9)])
    await service.refresh(session)
    assert texts(session) == ["other"]
    await service.append_event(session, said("next", seconds=10))


async def test_beside_appends_to_the_same_object(service: PsqlpySessionService, session: Session) -> None:
    """Neither loses what the other did."""
    await asyncio.gather(
        *(service.append_event(session, said(f"more {number}")) for number in range(10)),
        *(service.refresh(session) for _ in range(10)),
    )
    assert session == await stored(service, session)
    assert len(session.events) == 12


@pytest.mark.parametrize(
    ("given", "chosen", "message"),
    [
        (None, None, "session must be a Session, not NoneType"),
        (Session(id="s", app_name="app", user_id="user"), {"num_recent_events": 1}, "config must be a"),
    ],
)
async def test_bad_input(service: PsqlpySessionService, given: Any, chosen: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        await service.refresh(given, config=chosen)
