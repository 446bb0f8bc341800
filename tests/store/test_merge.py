"""`stale_policy="merge"`: an append after what others wrote brings the object up to date."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from google.adk.errors import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions

from adk_psqlpy import PsqlpySessionService

if TYPE_CHECKING:
    from google.adk.sessions.session import Session

    from adk_psqlpy import PsqlpyADKStore

KEY = {"app_name": "app", "user_id": "user", "session_id": "s"}


def event(name: str, **state: object) -> Event:
    return Event(id=name, author="user", actions=EventActions(state_delta=state))


def ids(session: Session) -> list[str]:
    return [each.id for each in session.events]


@pytest.fixture
def merging(store: PsqlpyADKStore) -> PsqlpySessionService:
    return PsqlpySessionService(store, stale_policy="merge")


async def loaded(service: PsqlpySessionService) -> Session:
    session = await service.get_session(**KEY)
    assert session is not None
    return session


async def test_the_object_catches_up(merging: PsqlpySessionService) -> None:
    """Events that were missed come before the appended one; state and time are the stored ones."""
    mine = await merging.create_session(**KEY, state={"k": 0})
    theirs = await loaded(merging)
    await merging.append_event(theirs, event("t1", k=1))
    await merging.append_event(theirs, event("t2", other=2, **{"user:u": 2, "app:a": 2}))
    appended = event("m1", k=3, **{"temp:t": 1})
    assert await merging.append_event(mine, appended) is appended
    assert ids(mine) == ["t1", "t2", "m1"]
    assert mine.events[-1] is appended
    assert mine.state == {"k": 3, "other": 2, "user:u": 2, "app:a": 2, "temp:t": 1}
    del mine.state["temp:t"]
    assert mine == await loaded(merging)


async def test_the_next_append_is_not_stale(merging: PsqlpySessionService) -> None:
    """After it the object is current, also for a service that raises."""
    mine = await merging.create_session(**KEY)
    await merging.append_event(await loaded(merging), event("t1"))
    await merging.append_event(mine, event("m1"))
    await PsqlpySessionService(merging.store).append_event(mine, event("m2"))
    assert ids(await loaded(merging)) == ids(mine) == ["t1", "m1", "m2"]


async def test_many_writers(merging: PsqlpySessionService) -> None:
    """Thirty-two objects of one session, appended to at once: every event is there, each object agrees."""
    await merging.create_session(**KEY)
    objects = [await loaded(merging) for _ in range(32)]
    services = [PsqlpySessionService(merging.store, stale_policy="merge") for _ in objects]

    async def write(number: int) -> None:
        for turn in range(5):
            appended = event(f"{number}-{turn}", **{f"k{number}": turn})
            await services[number].append_event(objects[number], appended)

    await asyncio.gather(*map(write, range(32)))
    final = await loaded(merging)
    assert len(final.events) == 160
    assert final.state == {f"k{number}": 4 for number in range(32)}
    for own, session in enumerate(objects):
        assert ids(session) == ids(final)[: len(session.events)]
        assert [each for each in ids(session) if each.startswith(f"{own}-")] == [
            f"{own}-{n}" for n in range(5)
        ]


async def test_appended_twice(merging: PsqlpySessionService) -> None:
    """An append whose answer was lost is repeated after others wrote: stored once, the object catches up."""
    mine = await merging.create_session(**KEY)
    copy = mine.model_copy(deep=True)
    await merging.append_event(copy, event("m1", k=1).model_copy(update={"timestamp": 5.0}))
    await merging.append_event(await loaded(merging), event("t1"))
    await merging.append_event(mine, event("m1", k=1).model_copy(update={"timestamp": 5.0}))
    assert ids(mine) == ["m1", "t1"]
    assert mine == await loaded(merging)


async def test_another_event_of_that_id(merging: PsqlpySessionService) -> None:
    """It is refused, as with any policy."""
    mine = await merging.create_session(**KEY)
    await merging.append_event(await loaded(merging), event("m1", k=1))
    with pytest.raises(AlreadyExistsError):
        await merging.append_event(mine, event("m1", k=2))


async def test_what_cannot_be_merged(merging: PsqlpySessionService) -> None:
    """A session that is gone, or was made again, is not the one that the object was loaded from."""
    mine = await merging.create_session(**KEY)
    await merging.delete_session(**KEY)
    with pytest.raises(SessionNotFoundError):
        await merging.append_event(mine, event("m1"))
    await merging.create_session(**KEY)
    with pytest.raises(StaleSessionError):
        await merging.append_event(mine, event("m1"))
    assert ids(await loaded(merging)) == []


def test_unknown_policy(store: PsqlpyADKStore) -> None:
    """Refused by name."""
    with pytest.raises(ValueError, match="stale_policy must be 'raise' or 'merge', not 'ignore'"):
        PsqlpySessionService(store, stale_policy="ignore")  # type: ignore[arg-type]
