"""append_event: what is stored, what the caller's session then holds, and what is refused."""

from __future__ import annotations

import asyncio

import pytest
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events import EventActions
from google.adk.sessions import BaseSessionService, Session

from .backends import differs
from .events import APP, USER, at, delta, said, stored, texts, varied

VARIED = varied()
# Dumped by field name, as the database service does it, an auth scheme reads back as another class.
AUTH = "actions: auth"


@pytest.fixture
async def session(service: BaseSessionService) -> Session:
    """An empty session."""
    return await service.create_session(app_name=APP, user_id=USER, session_id="s")


async def test_returns_the_event(service: BaseSessionService, session: Session) -> None:
    """The very event that was given comes back, and is the last one of the caller's session."""
    event = said("hi")
    assert await service.append_event(session, event) is event
    assert session.events == [event]
    assert session.events[-1] is event


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=differs(database="an API key scheme reads back as a CustomAuthScheme"))
        if kind == AUTH
        else kind
        for kind in VARIED
    ],
)
async def test_every_kind_of_event_reads_back(
    service: BaseSessionService, session: Session, kind: str
) -> None:
    """Whatever an event holds, the session read equals the caller's."""
    event = VARIED[kind].model_copy(deep=True)
    await service.append_event(session, event)
    found = await stored(service, session)
    assert found == session
    assert found.events == [VARIED[kind]]


async def test_a_conversation_reads_back(service: BaseSessionService, session: Session) -> None:
    """After each of many appends of all kinds, the session read equals the caller's."""
    for kind, event in varied().items():
        if kind != AUTH:
            await service.append_event(session, event)
            assert await stored(service, session) == session
    assert len(session.events) == len(VARIED) - 1


async def test_a_read_session_goes_on(service: BaseSessionService, session: Session) -> None:
    """A session that was read, whole or in part, takes appends like the one created."""
    for n in range(5):
        session = await stored(service, session)
        await service.append_event(session, said(str(n), seconds=n))
    assert texts(await stored(service, session)) == ["0", "1", "2", "3", "4"]


async def test_partial_events_are_not_stored(service: BaseSessionService, session: Session) -> None:
    """A partial event comes back as it is; neither the storage nor the caller's session takes it."""
    before = await stored(service, session)
    event = said("chu", partial=True, actions=EventActions(state_delta={"k": 1, "temp:t": 1}))
    assert await service.append_event(session, event) is event
    assert event.actions.state_delta == {"k": 1, "temp:t": 1}
    assert session == before
    assert await stored(service, session) == before


async def test_temp_state_lives_in_memory(service: BaseSessionService, session: Session) -> None:
    """temp: keys reach the caller's state, leave the event, and are never stored."""
    event = delta({"temp:t": 1, "k": 2}, seconds=0)
    await service.append_event(session, event)
    assert session.state == {"temp:t": 1, "k": 2}
    assert event.actions.state_delta == {"k": 2}
    found = await stored(service, session)
    assert found.state == {"k": 2}
    assert found.events[0].actions.state_delta == {"k": 2}


async def test_temp_state_does_not_come_back(service: BaseSessionService, session: Session) -> None:
    """A later append does not store the temp: keys that an earlier one left in memory."""
    await service.append_event(session, delta({"temp:t": 1}, seconds=0))
    await service.append_event(session, delta({"k": 1}, seconds=1))
    assert session.state == {"temp:t": 1, "k": 1}
    assert (await stored(service, session)).state == {"k": 1}


async def test_state_is_overwritten_key_by_key(service: BaseSessionService, session: Session) -> None:
    """A delta replaces the values of its keys whole, sets None as a value, and touches no other key."""
    for n, change in enumerate([{"a": {"x": 1}, "b": 1}, {"a": {"y": 2}}, {"b": None}, {}]):
        await service.append_event(session, delta(change, seconds=n))
    assert session.state == {"a": {"y": 2}, "b": None}
    assert await stored(service, session) == session


async def test_shared_state_reaches_other_sessions(service: BaseSessionService, session: Session) -> None:
    """app: keys appear in every session of the app, user: keys in the user's, others nowhere else."""
    mine = await service.create_session(app_name=APP, user_id=USER)
    theirs = await service.create_session(app_name=APP, user_id="other")
    foreign = await service.create_session(app_name="other", user_id=USER)
    await service.append_event(session, delta({"app:a": [1], "user:u": 2, "k": 3}))
    assert session.state == {"app:a": [1], "user:u": 2, "k": 3}
    assert (await stored(service, mine)).state == {"app:a": [1], "user:u": 2}
    assert (await stored(service, theirs)).state == {"app:a": [1]}
    assert (await stored(service, foreign)).state == {}


async def test_shared_state_of_others_waits_for_a_read(service: BaseSessionService, session: Session) -> None:
    """A session in hand keeps its view of shared state: what others wrote comes with the next read."""
    other = await service.create_session(app_name=APP, user_id=USER)
    await service.append_event(other, delta({"app:a": 1, "user:u": 1}))
    await service.append_event(session, delta({"user:v": 2}))
    assert session.state == {"user:v": 2}
    assert (await stored(service, session)).state == {"app:a": 1, "user:u": 1, "user:v": 2}


async def test_concurrent_shared_deltas_are_all_kept(service: BaseSessionService) -> None:
    """Sessions that write different app: and user: keys at once lose none of them."""
    sessions = [await service.create_session(app_name=APP, user_id=USER) for _ in range(12)]
    await asyncio.gather(
        *(service.append_event(s, delta({f"app:a{n}": n, f"user:u{n}": n})) for n, s in enumerate(sessions))
    )
    expected = {f"app:a{n}": n for n in range(12)} | {f"user:u{n}": n for n in range(12)}
    assert (await stored(service, sessions[0])).state == expected


async def test_unknown_session(service: BaseSessionService, session: Session) -> None:
    """An append to a session that was never stored raises SessionNotFoundError and leaves it as it is."""
    for unknown in (
        Session(app_name=APP, user_id=USER, id="no"),
        Session(app_name=APP, user_id="no", id="s"),
        Session(app_name="no", user_id=USER, id="s"),
    ):
        before = unknown.model_copy(deep=True)
        with pytest.raises(SessionNotFoundError):
            await service.append_event(unknown, delta({"k": 1, "app:a": 1, "user:u": 1}))
        assert unknown == before
    assert (await stored(service, session)).state == {}


async def test_deleted_session(service: BaseSessionService, session: Session) -> None:
    """An append to a session that was deleted raises SessionNotFoundError and does not bring it back."""
    await service.append_event(session, said("hi"))
    await service.delete_session(app_name=APP, user_id=USER, session_id=session.id)
    with pytest.raises(SessionNotFoundError):
        await service.append_event(session, delta({"user:u": 1}))
    assert texts(session) == ["hi"]
    assert await service.get_session(app_name=APP, user_id=USER, session_id=session.id) is None
    assert await service.get_user_state(app_name=APP, user_id=USER) == {}


@pytest.mark.parametrize("seconds", [0.0, 0.5, 0.123456, 0.1234567, -1_000_000_000.0])
async def test_last_update_time_follows_the_event(
    service: BaseSessionService, session: Session, seconds: float
) -> None:
    """The session's time of last update is the last event's timestamp, to the microsecond."""
    await service.append_event(session, said("hi", seconds=seconds))
    assert session.last_update_time == pytest.approx(at(seconds), rel=0, abs=1e-6)
    assert (await stored(service, session)).last_update_time == session.last_update_time
    [listed] = (await service.list_sessions(app_name=APP)).sessions
    assert listed.last_update_time == session.last_update_time


@differs(in_memory="stores the caller's own event object")
async def test_the_stored_event_is_detached(service: BaseSessionService, session: Session) -> None:
    """Changing the event after the append changes nothing stored."""
    event = delta({"k": [1]}, seconds=0)
    await service.append_event(session, event)
    event.author = "changed"
    event.actions.state_delta["k"].append(2)
    found = await stored(service, session)
    assert found.events[0].author == "user"
    assert found.state == {"k": [1]}


async def test_the_same_event_id_in_two_sessions(service: BaseSessionService, session: Session) -> None:
    """Event ids are unique within a session only: another session takes the same event."""
    other = await service.create_session(app_name=APP, user_id=USER, session_id="t")
    for target in (session, other):
        await service.append_event(target, said("hi", seconds=0, id="e"))
    assert texts(await stored(service, session)) == texts(await stored(service, other)) == ["hi"]
