"""Forks: sessions of another one's history."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.sessions.base_session_service import GetSessionConfig

from adk_psqlpy.errors import NoSuchPointError, UnknownStateError
from adk_psqlpy.seal import Seal
from adk_psqlpy.sessions.sealed_events import SEALED
from contract.events import delta, said
from fidelity.proof import event_of
from keys import fresh_seal
from servers import Database, run_sql
from store.support import contents

from .test_points import KEY, NOWHERE, SHARED, STATES, read, told

if TYPE_CHECKING:
    from adk_psqlpy import PsqlpySessionService


@pytest.fixture(params=["plain", "sealed"])
def seal(request: pytest.FixtureRequest) -> Seal | None:
    """The whole suite runs with a store that seals, too."""
    return fresh_seal() if request.param == "sealed" else None


@pytest.mark.parametrize("seq", STATES)
async def test_a_fork(service: PsqlpySessionService, seq: int) -> None:
    """A fork has the events up to the point and the state there, and goes on from there."""
    session = await told(service)
    fork = await service.fork_session(session, at_seq=seq)
    assert fork.id != session.id
    assert fork.state == STATES[seq] | SHARED
    assert fork.events == [event for event in session.events if int(event.id[1:]) <= seq]
    assert fork == await read(service, fork.id)
    before = list(fork.events)
    await service.append_event(fork, delta({"n": 9}, id="e9"))
    assert [event.id for event in (await read(service, fork.id)).events] == [
        *(event.id for event in before),
        "e9",
    ]
    assert await read(service) == session


async def test_the_whole(service: PsqlpySessionService) -> None:
    """Without a point, the fork is of the session as it is stored, whatever the object holds."""
    session = await told(service)
    old = await service.get_session_at(session, at_seq=1)
    old._storage_update_marker = None
    fork = await service.fork_session(old, session_id=" branch ")
    assert fork.id == "branch"
    assert (fork.events, fork.state) == (session.events, session.state)


async def test_every_column_goes_along(
    service: PsqlpySessionService, database: Database, seal: Seal | None
) -> None:
    """Rows of the fork are those of the session but for the session's id, whatever the events hold.

    What is sealed is sealed anew: there the events that are read have to be equal.
    """
    session = await service.create_session(**KEY)
    events = [event_of(seed) for seed in range(40)]
    for number, event in enumerate(events):
        event.id, event.partial = f"e{number}", None
        event.actions.state_delta = {"app:a": 1, "k": number}
        event.actions.rewind_before_invocation_id = None
        await service.append_event(session, event)
    session = await read(service)
    fork = await service.fork_session(session, session_id="fork")
    assert fork.events == session.events
    anew = ["session_id", *(SEALED if seal is not None else ())]
    left_out = "', '".join(anew)
    rows = f"""SELECT (to_jsonb(e) - ARRAY['{left_out}'])::text AS row FROM adk_events AS e
        WHERE session_id = '{{}}' ORDER BY seq"""
    original, copied = run_sql(database.dsn, rows.format("s"), rows.format("fork"))
    assert len(original) == 40
    assert original == copied


async def test_a_fork_knows_its_past(service: PsqlpySessionService) -> None:
    """Earlier points of the origin are the same points of the fork; a fork of a fork is like any other."""
    session = await told(service)
    fork = await service.fork_session(session, at_seq=4)
    again = await service.fork_session(fork, at_event="e2")
    for seq in range(5):
        assert await service.state_at(fork, at_seq=seq) == STATES[seq] | SHARED
    assert again.state == STATES[2] | SHARED
    assert await service.state_at(again, at_seq=0) == STATES[0] | SHARED


async def test_what_is_done_to_one_does_not_touch_the_other(service: PsqlpySessionService) -> None:
    """Deleting or changing the origin leaves the fork as it is, and the other way round."""
    session = await told(service)
    fork = await service.fork_session(session, before_invocation_id="second")
    other = await service.fork_session(session, at_seq=5)
    await service.append_event(session, delta({"n": 10}))
    assert await read(service, fork.id) == fork
    await service.delete_session(**KEY)
    assert await read(service, fork.id) == fork
    assert await service.state_at(fork, at_seq=0) == STATES[0] | SHARED
    await service.delete_session(app_name="app", user_id="user", session_id=fork.id)
    assert await read(service, other.id) == other


async def test_where_forks_come_from(service: PsqlpySessionService) -> None:
    """A fork's origin is recorded and listed, also when the origin is gone; deleted forks are not listed."""
    session = await told(service)
    one = await service.fork_session(session, at_seq=2)
    two = await service.fork_session(session)
    three = await service.fork_session(one, at_seq=1)
    assert await service.get_origin(session) is None
    origin = await service.get_origin(one)
    assert origin is not None
    assert (origin.session_id, origin.origin_id, origin.origin_revision) == (one.id, "s", 2)
    assert origin.create_time == one.last_update_time
    assert origin.origin_exists
    assert [(fork.session_id, fork.origin_revision) for fork in await service.list_forks(session)] == [
        (one.id, 2),
        (two.id, 5),
    ]
    assert [fork.session_id for fork in await service.list_forks(one)] == [three.id]
    await service.delete_session(**KEY)
    assert [fork.origin_exists for fork in await service.list_forks(session)] == [False, False]
    await service.create_session(**KEY)
    assert [fork.origin_exists for fork in await service.list_forks(session)] == [False, False]
    await service.delete_session(app_name="app", user_id="user", session_id=one.id)
    assert [fork.session_id for fork in await service.list_forks(session)] == [two.id]


async def test_what_is_read_back(service: PsqlpySessionService) -> None:
    """The returned object holds the events that the config asks for; all are stored."""
    session = await told(service)
    fork = await service.fork_session(session, config=GetSessionConfig(num_recent_events=0))
    assert fork.events == []
    assert fork.state == session.state
    assert (await read(service, fork.id)).events == session.events
    await service.append_event(fork, said("more", id="e6"))
    assert len((await read(service, fork.id)).events) == 5


async def test_users_share_nothing(service: PsqlpySessionService, database: Database) -> None:
    """A fork is made of the session of this user in this app, though others have one of the same id."""
    session = await told(service)
    for app, user in (("app", "other"), ("other", "user")):
        other = await service.create_session(app_name=app, user_id=user, session_id="s", state={"k": 1})
        await service.append_event(other, delta({"n": 100}, id="e1"))
    fork = await service.fork_session(session, at_seq=2, session_id="f")
    assert fork.state == STATES[2] | SHARED
    ((*rows,),) = run_sql(database.dsn, "SELECT app_name, user_id FROM adk_sessions WHERE id = 'f'")
    assert rows == [{"app_name": "app", "user_id": "user"}]


# While others write.


async def test_a_session_that_is_being_appended_to(service: PsqlpySessionService) -> None:
    """Each fork is the session at one moment: events without a gap, and the state that belongs to them."""
    session = await service.create_session(**KEY, state={"n": 0})

    async def append() -> None:
        for number in range(1, 121):
            await service.append_event(session, delta({"n": number, f"k{number % 7}": number}))
            if number % 10 == 0:
                await asyncio.sleep(0)  # let the forks take turns

    async def fork() -> list[Any]:
        reader = await read(service)
        return [await service.fork_session(reader) for _ in range(12)]

    _, *made = await asyncio.gather(append(), *(fork() for _ in range(4)))
    whole = await read(service)
    lengths = set()
    for each in [each for forks in made for each in forks]:
        count = len(each.events)
        lengths.add(count)
        assert each.events == whole.events[:count]
        assert each.state["n"] == count
        assert each.state == await service.state_at(whole, at_seq=count)
    assert len(lengths) > 4, "no fork was made while events were appended"


async def test_forks_with_one_id(service: PsqlpySessionService) -> None:
    """Of forks that race for an id one is made, and the others are told that it exists."""
    session = await told(service)
    outcomes = await asyncio.gather(
        *(service.fork_session(session, at_seq=n % 6, session_id="f") for n in range(8)),
        return_exceptions=True,
    )
    made = [each for each in outcomes if not isinstance(each, BaseException)]
    assert len(made) == 1
    assert all(isinstance(each, AlreadyExistsError) for each in outcomes if each is not made[0])
    assert await read(service, "f") == made[0]


# Refusals: nothing is written.


@pytest.mark.parametrize("where", NOWHERE, ids=repr)
async def test_no_such_point(
    service: PsqlpySessionService, database: Database, where: dict[str, Any]
) -> None:
    """A fork at a point that is not there is refused."""
    session = await told(service)
    before = contents(database.dsn)
    with pytest.raises(NoSuchPointError):
        await service.fork_session(session, **where)
    assert contents(database.dsn) == before


async def test_an_id_that_is_taken(service: PsqlpySessionService, database: Database) -> None:
    """A fork onto the id of another session, or of the session itself, is refused."""
    session = await told(service)
    await service.create_session(app_name="app", user_id="user", session_id="t", state={"k": 1})
    before = contents(database.dsn)
    for taken in ("s", "t", " t "):
        with pytest.raises(AlreadyExistsError, match=taken.strip()):
            await service.fork_session(session, at_seq=1, session_id=taken)
    assert contents(database.dsn) == before


async def test_unknown_state(service: PsqlpySessionService, database: Database) -> None:
    """A session whose initial state is not known is forked as it is now, and not at an earlier point."""
    session = await told(service)
    run_sql(database.dsn, "UPDATE adk_sessions SET initial_state = NULL")
    before = contents(database.dsn)
    with pytest.raises(UnknownStateError, match="created with is not"):
        await service.fork_session(session, at_seq=4)
    assert contents(database.dsn) == before
    fork = await service.fork_session(session)
    assert (fork.events, fork.state) == (session.events, session.state)
    with pytest.raises(UnknownStateError):
        await service.state_at(fork, at_seq=4)


async def test_no_session(service: PsqlpySessionService, database: Database) -> None:
    """A session that is not stored, or was made anew since it was read, is not forked."""
    session = await told(service)
    await service.delete_session(**KEY)
    for made_anew in (False, True):
        if made_anew:
            await service.create_session(**KEY)
        before = contents(database.dsn)
        with pytest.raises(SessionNotFoundError):
            await service.fork_session(session, at_seq=0)
        assert contents(database.dsn) == before


BAD: list[dict[str, Any]] = [
    {"session_id": 1},
    {"session_id": "\0"},
    {"session_id": "s" * 129},
    {"at_seq": -1},
    {"at_seq": 1, "at_event": "e1"},
    {"config": {"num_recent_events": 1}},
    {"artifacts": "artifacts"},
]


@pytest.mark.parametrize("arguments", BAD, ids=repr)
async def test_bad_arguments(
    service: PsqlpySessionService, database: Database, arguments: dict[str, Any]
) -> None:
    """What cannot be is a ValueError, before anything is sent."""
    session = await told(service)
    before = contents(database.dsn)
    with pytest.raises(ValueError, match=next(reversed(arguments)) + "|name one point"):
        await service.fork_session(session, **arguments)
    assert contents(database.dsn) == before
