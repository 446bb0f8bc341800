"""Looking at a session as it was: state_at and get_session_at."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from google.adk.errors import StaleSessionError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events import Event
from google.adk.sessions import Session

from adk_psqlpy import PsqlpySessionService
from adk_psqlpy.errors import NoSuchPointError, UnknownStateError
from adk_psqlpy.seal import Seal
from contract.events import delta, said
from keys import fresh_seal
from servers import Database, run_sql

KEY = {"app_name": "app", "user_id": "user", "session_id": "s"}


@pytest.fixture(params=["plain", "sealed"])
def seal(request: pytest.FixtureRequest) -> Seal | None:
    """The whole suite runs with a store that seals, too."""
    return fresh_seal() if request.param == "sealed" else None


async def told(service: PsqlpySessionService) -> Session:
    """A session with two invocations, a change of state without an event between them, and shared state."""
    session = await service.create_session(
        **KEY, state={"tier": "gold", "n": 0, "app:a": "old", "user:u": "old"}
    )
    await service.append_event(session, said("hello", id="e1", invocation_id="first"))
    await service.append_event(session, delta({"n": 1, "x": [1]}, id="e2", invocation_id="first"))
    await service.store.update_session_state("app", "user", "s", {"tier": "iron", "user:u": "new"})
    session = await read(service)
    await service.append_event(session, delta({"n": None, "app:a": "new"}, id="e4", invocation_id="second"))
    await service.append_event(session, delta({"n": 5, "temp:t": 1}, id="e5", invocation_id="second"))
    return await read(service)


async def read(service: PsqlpySessionService, session_id: str = "s") -> Session:
    """A session as it is stored."""
    found = await service.get_session(app_name="app", user_id="user", session_id=session_id)
    assert found is not None
    return found


SHARED = {"app:a": "new", "user:u": "new"}
STATES = {
    0: {"tier": "gold", "n": 0},
    1: {"tier": "gold", "n": 0},
    2: {"tier": "gold", "n": 1, "x": [1]},
    3: {"tier": "iron", "n": 1, "x": [1]},
    4: {"tier": "iron", "n": None, "x": [1]},
    5: {"tier": "iron", "n": 5, "x": [1]},
}


@pytest.mark.parametrize("seq", STATES)
async def test_by_seq(service: PsqlpySessionService, seq: int) -> None:
    """State at a revision is the state at creation and all deltas up to there; shared state is today's."""
    session = await told(service)
    assert await service.state_at(session, at_seq=seq) == STATES[seq] | SHARED
    then = await service.get_session_at(session, at_seq=seq)
    assert then.state == STATES[seq] | SHARED
    assert then.events == [event for event in session.events if int(event.id[1:]) <= seq]


@pytest.mark.parametrize(("event_id", "seq"), [("e1", 1), ("e2", 2), ("e4", 4), ("e5", 5)])
async def test_by_event(service: PsqlpySessionService, event_id: str, seq: int) -> None:
    """The point at an event includes it; the event or its id names it."""
    session = await told(service)
    (event,) = (event for event in session.events if event.id == event_id)
    assert await service.state_at(session, at_event=event) == STATES[seq] | SHARED
    assert await service.state_at(session, at_event=event_id) == STATES[seq] | SHARED
    assert (await service.get_session_at(session, at_event=event)).events[-1] == event


@pytest.mark.parametrize(("invocation", "seq"), [("first", 0), ("second", 3)])
async def test_before_an_invocation(service: PsqlpySessionService, invocation: str, seq: int) -> None:
    """The point before an invocation is before its first event, after what changed state without an event."""
    session = await told(service)
    assert await service.state_at(session, before_invocation_id=invocation) == STATES[seq] | SHARED


@pytest.mark.parametrize("invocation", ["i" * 256, "i" * 257, "i" * 256 + "j", "nul\0", "\ud800", "\ufdd0"])
async def test_invocation_ids_of_any_kind(service: PsqlpySessionService, invocation: str) -> None:
    """Invocation ids that are longer than their column, or hold what text cannot, are told apart."""
    session = await service.create_session(**KEY)
    for number, each in enumerate(("i" * 256, "i" * 257, "i" * 256 + "j", "nul\0", "\ud800", "\ufdd0")):
        await service.append_event(session, delta({"last": number}, invocation_id=each))
        if each == invocation:
            expected = {"last": number - 1} if number else {}
    assert await service.state_at(session, before_invocation_id=invocation) == expected


async def test_without_a_point(service: PsqlpySessionService) -> None:
    """Without a point, it is the session as it is stored now, whatever the object holds."""
    session = await told(service)
    old = session.model_copy(deep=True)
    await service.append_event(session, delta({"n": 6}, id="e6"))
    assert await service.state_at(old) == session.state
    assert (await service.get_session_at(old)).events == session.events


async def test_what_is_read_is_for_looking_at(service: PsqlpySessionService) -> None:
    """An append to an earlier session is refused as stale; at the newest point it is taken."""
    session = await told(service)
    then = await service.get_session_at(session, at_seq=4)
    with pytest.raises(StaleSessionError):
        await service.append_event(then, said("again"))
    assert (await read(service)).events == session.events
    now = await service.get_session_at(session, at_seq=5)
    await service.append_event(now, said("again", id="e6"))
    assert [event.id for event in (await read(service)).events] == ["e1", "e2", "e4", "e5", "e6"]


async def test_the_time_of_an_earlier_session(service: PsqlpySessionService) -> None:
    """It was last updated by its last event, or when it was created."""
    session = await service.create_session(**KEY)
    created = session.last_update_time
    await service.append_event(session, said("a", seconds=1.25))
    await service.append_event(session, said("b", seconds=2))
    assert (await service.get_session_at(session, at_seq=0)).last_update_time == created
    assert (await service.get_session_at(session, at_seq=1)).last_update_time == session.events[0].timestamp


VALUES: list[Any] = [
    {"a": [1, 2.0, -0.0, 1e16, None, True, {"b": {}}]},
    float("inf"),
    "a NUL \0, a lone \ud800 and a \ufdd0",
    2**70,
    "",
]


@pytest.mark.parametrize("value", VALUES, ids=ascii)
async def test_values(service: PsqlpySessionService, value: Any) -> None:
    """Values and keys come out of the replay as they come out of the stored state."""
    session = await service.create_session(**KEY, state={"made": value, "nul\0": value})
    await service.append_event(session, delta({"delta": value, "k\ud800": value}))
    await service.store.update_session_state("app", "user", "s", {"log": value, "k\ufdd0": value})
    stored = (await read(service)).state
    await service.append_event(await read(service), delta({"delta": 1}))
    then = await service.state_at(session, at_seq=2)
    assert repr(dict(sorted(then.items()))) == repr(dict(sorted(stored.items())))


async def test_objects_in_deltas_have_what_the_state_has(service: PsqlpySessionService) -> None:
    """What is no JSON value, such as a time, is replayed as it was merged; bytes are as in the event."""
    session = await service.create_session(**KEY)
    at = datetime(2026, 1, 2, tzinfo=timezone.utc)
    await service.append_event(session, delta({"time": at, "set": {1}, "tuple": (1, 2), "bytes": b"x"}))
    stored = (await read(service)).state
    await service.append_event(session, delta({"n": 1}))
    assert stored["bytes"] == "x"
    assert await service.state_at(session, at_seq=1) == stored | {"bytes": "eA=="}


# Refusals.


NOWHERE: list[dict[str, Any]] = [
    {"at_seq": 6},
    {"at_seq": 2**63 - 1},
    {"at_event": "e3"},
    {"at_event": Event(id="e9", author="user", timestamp=0.0)},
    {"at_event": ""},
    {"before_invocation_id": "third"},
]


@pytest.mark.parametrize("where", NOWHERE, ids=repr)
async def test_no_such_point(service: PsqlpySessionService, where: dict[str, Any]) -> None:
    """A point that the session does not have is refused by name."""
    session = await told(service)
    with pytest.raises(NoSuchPointError, match="session 's' of user 'user' in app 'app' has no"):
        await service.state_at(session, **where)
    with pytest.raises(NoSuchPointError):
        await service.get_session_at(session, **where)


BAD: list[dict[str, Any]] = [
    {"at_seq": -1},
    {"at_seq": True},
    {"at_seq": "1"},
    {"at_seq": 2**63},
    {"at_event": 1},
    {"at_event": "\0"},
    {"at_event": "e" * 129},
    {"before_invocation_id": ""},
    {"before_invocation_id": 1},
    {"at_seq": 1, "at_event": "e1"},
    {"at_seq": 0, "before_invocation_id": "first"},
]


@pytest.mark.parametrize("where", BAD, ids=repr)
async def test_bad_points(service: PsqlpySessionService, where: dict[str, Any]) -> None:
    """What cannot be a point, or is two, is a ValueError that names the argument."""
    session = await service.create_session(**KEY)
    with pytest.raises(
        ValueError, match=" and ".join(sorted(where)) if len(where) == 1 else "name one point"
    ):
        await service.state_at(session, **where)


async def test_no_session(service: PsqlpySessionService) -> None:
    """A session that is not stored, and one that was made anew under its id, are not found."""
    session = await told(service)
    with pytest.raises(ValueError, match="session must be a Session, not str"):
        await service.state_at("s")  # type: ignore[arg-type]
    await service.delete_session(**KEY)
    for made_anew in (False, True):
        if made_anew:
            await service.create_session(**KEY)
        with pytest.raises(SessionNotFoundError, match="'s'"):
            await service.state_at(session, at_seq=0)
        with pytest.raises(SessionNotFoundError):
            await service.get_session_at(session)
    assert await service.state_at(Session(id="s", app_name="app", user_id="user")) == SHARED


async def test_unknown_initial_state(service: PsqlpySessionService, database: Database) -> None:
    """Of a session whose initial state is not known, only the state now can be told; the events always."""
    session = await told(service)
    run_sql(database.dsn, "UPDATE adk_sessions SET initial_state = NULL")
    for seq in range(5):
        with pytest.raises(UnknownStateError, match="created with is not"):
            await service.state_at(session, at_seq=seq)
    assert await service.state_at(session, at_seq=5) == session.state
    assert await service.state_at(session) == session.state


GAPS = {
    "an event deleted": "DELETE FROM adk_events WHERE id = 'e2'",
    "a change of state from an older version": (
        """UPDATE adk_sessions SET state = state || '{"n": 7}', revision = revision + 1"""
    ),
}


@pytest.mark.parametrize("gap", GAPS)
async def test_changes_that_are_not_recorded(
    service: PsqlpySessionService, database: Database, gap: str
) -> None:
    """After a revision that is neither an event nor in the log, state is refused; before it and now, told."""
    session = await told(service)
    run_sql(database.dsn, GAPS[gap])
    session = await read(service)
    await service.append_event(session, delta({"n": 8}, id="e9"))
    newest = 6 if "deleted" in gap else 7
    first_missing = 2 if "deleted" in gap else 6
    assert await service.state_at(session, at_seq=first_missing - 1) == STATES[first_missing - 1] | SHARED
    for seq in range(first_missing, newest):
        with pytest.raises(UnknownStateError, match=f"1 of the {seq} changes"):
            await service.state_at(session, at_seq=seq)
    assert (await service.state_at(session, at_seq=newest))["n"] == 8


async def test_edited_events_count_as_edited(
    service: PsqlpySessionService, database: Database, seal: Seal | None
) -> None:
    """State is replayed from the deltas as they are stored: a redacted one shows in what comes after it."""
    if seal is not None:
        pytest.skip("SQL cannot edit a sealed event")
    session = await told(service)
    # Read first, then written: Citus takes no function that is STABLE, as `convert_to` is, in an UPDATE.
    ((edited,),) = run_sql(
        database.dsn,
        """SELECT quote_literal(convert_to(jsonb_set(convert_from(actions, 'UTF8')::jsonb,
           '{state_delta,n}', '"redacted"')::text, 'UTF8')::text) AS actions
           FROM adk_events WHERE id = 'e2'""",
    )
    run_sql(database.dsn, f"UPDATE adk_events SET actions = {edited['actions']} WHERE id = 'e2'")
    assert (await service.state_at(session, at_seq=3))["n"] == "redacted"
    assert (await service.state_at(session))["n"] == 5
