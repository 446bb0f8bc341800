"""append_event through a session that storage has moved past: refused whole, never half-applied."""

from __future__ import annotations

import asyncio

import pytest
from google.adk.errors import StaleSessionError
from google.adk.sessions import BaseSessionService, Session
from google.adk.sessions.base_session_service import GetSessionConfig

from .backends import Backend, differs
from .events import APP, USER, at, delta, said, stored, texts

NO_CHECK = "has no stale check: it appends to what is stored"


@pytest.fixture
async def session(service: BaseSessionService) -> Session:
    """A session with one event."""
    session = await service.create_session(app_name=APP, user_id=USER, session_id="s", state={"k": 0})
    await service.append_event(session, said("base", seconds=0))
    return session


def by_hand(session: Session, **changes: object) -> Session:
    """A session built from plain values, as code that kept it elsewhere would: no storage marker."""
    values = {name: getattr(session, name) for name in type(session).model_fields}
    return Session(**(values | changes))


@differs(in_memory=NO_CHECK)
async def test_the_second_writer_is_refused(service: BaseSessionService, session: Session) -> None:
    """Of two copies of one revision the first to append wins, the other gets StaleSessionError."""
    other = await stored(service, session)
    await service.append_event(session, said("first", seconds=1))
    with pytest.raises(StaleSessionError):
        await service.append_event(other, said("second", seconds=2))
    assert texts(await stored(service, session)) == ["base", "first"]


@differs(in_memory=NO_CHECK)
async def test_nothing_is_half_applied(service: BaseSessionService, session: Session) -> None:
    """A refused append changes neither the events nor any state, stored or in the caller's session."""
    other = await stored(service, session)
    before = other.model_copy(deep=True)
    await service.append_event(session, said("first", seconds=1))
    with pytest.raises(StaleSessionError):
        await service.append_event(other, delta({"k": 1, "app:a": 1, "user:u": 1}, seconds=2))
    assert other == before
    assert await stored(service, session) == session
    assert await service.get_user_state(app_name=APP, user_id=USER) == {}
    sibling = await service.create_session(app_name=APP, user_id=USER)
    assert sibling.state == {}


@differs(in_memory=NO_CHECK)
async def test_stale_stays_stale(service: BaseSessionService, session: Session) -> None:
    """Trying again with the same copy is refused again."""
    other = await stored(service, session)
    await service.append_event(session, said("first", seconds=1))
    for n in range(3):
        with pytest.raises(StaleSessionError):
            await service.append_event(other, said("second", seconds=2 + n))
    assert texts(await stored(service, session)) == ["base", "first"]


async def test_stale_is_a_value_error(service: BaseSessionService) -> None:
    """Callers that catch ValueError, as they had to before the error had a name, still do."""
    assert issubclass(StaleSessionError, ValueError)


@differs(in_memory=NO_CHECK)
async def test_reload_then_append(service: BaseSessionService, session: Session) -> None:
    """After a refusal a fresh read takes the append."""
    other = await stored(service, session)
    await service.append_event(session, said("first", seconds=1))
    event = said("second", seconds=2)
    with pytest.raises(StaleSessionError):
        await service.append_event(other, event)
    other = await stored(service, session)
    await service.append_event(other, event)
    assert texts(other) == ["base", "first", "second"]
    assert await stored(service, session) == other


@differs(database="takes the event's timestamp for the revision, so a tie goes unseen")
@differs(in_memory=NO_CHECK)
async def test_equal_timestamps_are_seen(service: BaseSessionService, session: Session) -> None:
    """A write in between is noticed though its event carries the timestamp of the one before."""
    other = await stored(service, session)
    await service.append_event(session, said("first", seconds=0))
    with pytest.raises(StaleSessionError):
        await service.append_event(other, said("second", seconds=1))


@differs(in_memory=NO_CHECK)
async def test_an_earlier_timestamp_is_seen(service: BaseSessionService, session: Session) -> None:
    """A write in between is noticed though its event's clock went back."""
    other = await stored(service, session)
    await service.append_event(session, said("first", seconds=-5))
    with pytest.raises(StaleSessionError):
        await service.append_event(other, said("second", seconds=1))


@differs(in_memory=NO_CHECK)
async def test_racing_writers_have_one_winner(service: BaseSessionService, session: Session) -> None:
    """Of many appends at once through copies of one revision exactly one is stored."""
    copies = [await stored(service, session) for _ in range(8)]
    outcomes = await asyncio.gather(
        *(service.append_event(copy, said(str(n), seconds=1 + n)) for n, copy in enumerate(copies)),
        return_exceptions=True,
    )
    losers = [o for o in outcomes if isinstance(o, BaseException)]
    assert {type(o) for o in losers} == {StaleSessionError}
    assert len(losers) == 7
    assert len((await stored(service, session)).events) == 2


@differs(
    in_memory="a second service has data of its own",
    raises=(AssertionError, pytest.fail.Exception, TypeError),
)
async def test_two_services_have_one_winner(
    backend: Backend, service: BaseSessionService, session: Session
) -> None:
    """The same holds for writers in two services, as two processes would be."""
    async with backend.open() as second:
        other = await second.get_session(app_name=APP, user_id=USER, session_id=session.id)
        assert other == session
        outcomes = await asyncio.gather(
            service.append_event(session, said("mine", seconds=1)),
            second.append_event(other, said("theirs", seconds=2)),
            return_exceptions=True,
        )
        assert sorted(type(o).__name__ for o in outcomes) == ["Event", StaleSessionError.__name__]
        assert len((await stored(second, session)).events) == 2


async def test_one_object_shared_by_tasks(service: BaseSessionService, session: Session) -> None:
    """Tasks that append at once through one session object, as parallel agents do, are all stored."""
    await asyncio.gather(*(service.append_event(session, said(str(n), seconds=1 + n)) for n in range(8)))
    assert sorted(texts(session)[1:]) == [str(n) for n in range(8)]
    assert {e.id for e in (await stored(service, session)).events} == {e.id for e in session.events}


async def test_another_sessions_write_is_no_conflict(service: BaseSessionService, session: Session) -> None:
    """Writes to shared state through another session do not make this one stale."""
    sibling = await service.create_session(app_name=APP, user_id=USER)
    await service.append_event(sibling, delta({"app:a": 1, "user:u": 1}))
    await service.append_event(session, delta({"app:b": 1, "user:v": 1}))
    assert len((await stored(service, session)).events) == 2


@pytest.mark.parametrize("updated", [0.0, 0.5, 1.0], ids=["never", "before", "as stored"])
async def test_by_hand_and_current(service: BaseSessionService, session: Session, updated: float) -> None:
    """A session built by hand is taken where its last event is the stored one."""
    mine = by_hand(session, last_update_time=updated * at(0))
    await service.append_event(mine, said("more", seconds=1))
    assert texts(await stored(service, session)) == ["base", "more"]
    await service.append_event(mine, said("and more", seconds=2))
    assert texts(await stored(service, session)) == ["base", "more", "and more"]


async def test_by_hand_and_empty(service: BaseSessionService) -> None:
    """A session built by hand without events is taken where none are stored."""
    await service.create_session(app_name=APP, user_id=USER, session_id="s")
    mine = Session(app_name=APP, user_id=USER, id="s")
    await service.append_event(mine, said("first", seconds=1))
    assert texts(await stored(service, mine)) == ["first"]


@differs(in_memory=NO_CHECK)
@pytest.mark.parametrize("events", ["none", "older"])
async def test_by_hand_and_stale(service: BaseSessionService, session: Session, events: str) -> None:
    """A session built by hand that lacks the newest stored event, and is older, is stale."""
    mine = by_hand(session, events=[] if events == "none" else list(session.events))
    await service.append_event(session, said("first", seconds=1))
    with pytest.raises(StaleSessionError):
        await service.append_event(mine, said("second", seconds=2))
    assert texts(await stored(service, session)) == ["base", "first"]


async def test_by_hand_from_a_window(service: BaseSessionService, session: Session) -> None:
    """Sent as JSON and back, a session read without events is taken: its time of update is the stored one."""
    window = await service.get_session(
        app_name=APP, user_id=USER, session_id=session.id, config=GetSessionConfig(num_recent_events=0)
    )
    assert window is not None
    received = Session.model_validate_json(window.model_dump_json())
    await service.append_event(received, said("more", seconds=1))
    assert texts(await stored(service, session)) == ["base", "more"]


@differs(in_memory=NO_CHECK)
async def test_recreated_meanwhile(service: BaseSessionService, session: Session) -> None:
    """A copy of a session that was deleted and created anew under its id is stale."""
    await service.delete_session(app_name=APP, user_id=USER, session_id=session.id)
    await service.create_session(app_name=APP, user_id=USER, session_id=session.id)
    with pytest.raises(StaleSessionError):
        await service.append_event(session, said("ghost", seconds=1))
