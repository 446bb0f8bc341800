"""append_event once more with an event that is stored already: a caller that retries doubles nothing."""

from __future__ import annotations

import pytest
from google.adk.errors import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.sessions import BaseSessionService, Session
from sqlalchemy.exc import IntegrityError

from .backends import differs
from .events import APP, USER, delta, said, stored, texts

DOUBLE = "runs into its primary key"


@pytest.fixture
async def session(service: BaseSessionService) -> Session:
    """An empty session."""
    return await service.create_session(app_name=APP, user_id=USER, session_id="s")


@differs(database=DOUBLE, raises=IntegrityError)
async def test_the_same_event_twice(service: BaseSessionService, session: Session) -> None:
    """The same event given again is returned, and neither stored nor kept in the session twice."""
    event = delta({"k": 1, "user:u": 1}, seconds=0)
    await service.append_event(session, event)
    assert await service.append_event(session, event) is event
    assert session.events == [event]
    assert await stored(service, session) == session


@differs(database=DOUBLE, raises=IntegrityError)
async def test_an_equal_event_twice(service: BaseSessionService, session: Session) -> None:
    """An equal copy of the event counts as the same one, and its state delta is not applied again."""
    first = delta({"k": 1, "user:u": 1}, seconds=0)
    again = first.model_copy(deep=True)
    await service.append_event(session, first)
    await service.append_event(session, delta({"k": 2, "user:u": 2}, seconds=1))
    await service.append_event(session, again)
    found = await stored(service, session)
    assert len(found.events) == 2
    assert found.state == {"k": 2, "user:u": 2}
    assert found.last_update_time == session.last_update_time


@differs(database=DOUBLE, raises=IntegrityError)
async def test_the_conversation_goes_on(service: BaseSessionService, session: Session) -> None:
    """After a second delivery the session takes further events."""
    event = said("one", seconds=0)
    await service.append_event(session, event)
    await service.append_event(session, event.model_copy(deep=True))
    await service.append_event(session, said("two", seconds=1))
    assert texts(await stored(service, session)) == ["one", "two"]


@differs(
    in_memory="leaves the copy as it was, without the event",
    database="calls the copy stale",
    raises=(AssertionError, StaleSessionError),
)
async def test_a_retry_whose_answer_was_lost(service: BaseSessionService, session: Session) -> None:
    """A caller that never heard of its own success retries, and then holds what is stored."""
    unaware = session.model_copy(deep=True)
    event = delta({"k": 1}, seconds=0)
    await service.append_event(session, event)
    await service.append_event(unaware, event.model_copy(deep=True))
    assert unaware == await stored(service, session)
    await service.append_event(unaware, said("more", seconds=1))
    assert unaware == await stored(service, session)
    assert len(unaware.events) == 2


@differs(
    in_memory="stores both under the one id",
    database=DOUBLE,
    raises=(pytest.fail.Exception, IntegrityError),
)
async def test_another_event_under_a_used_id(service: BaseSessionService, session: Session) -> None:
    """A different event under an id that is taken is refused by name, not dropped in silence."""
    await service.append_event(session, said("one", seconds=0, id="e"))
    before = await stored(service, session)
    with pytest.raises(AlreadyExistsError, match="another event"):
        await service.append_event(session, delta({"k": 1}, seconds=1, id="e"))
    assert session == before
    assert await stored(service, session) == before
