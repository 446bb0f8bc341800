"""list_sessions: whose sessions, in which order, and what each of them holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .backends import differs
from .events import APP, USER, at, delta, said, stored

if TYPE_CHECKING:
    from google.adk.sessions import BaseSessionService, Session


async def updated(service: BaseSessionService, user: str, session_id: str, seconds: float) -> Session:
    """A session whose last update is at the given time."""
    session = await service.create_session(app_name=APP, user_id=user, session_id=session_id)
    await service.append_event(session, said("hi", seconds=seconds))
    return session


async def keys(service: BaseSessionService, user: str | None = None, app: str = APP) -> list[tuple[str, str]]:
    """User and id of the listed sessions, in the order of the list."""
    listed = await service.list_sessions(app_name=app, user_id=user)
    return [(s.user_id, s.id) for s in listed.sessions]


async def test_nothing_is_an_empty_list(service: BaseSessionService) -> None:
    """An unknown app or user has an empty list of sessions."""
    assert await keys(service) == []
    await updated(service, USER, "s", 0)
    assert await keys(service, "other") == []
    assert await keys(service, USER, app="other") == []


async def test_one_user(service: BaseSessionService) -> None:
    """With a user only that user's sessions of that app are listed."""
    await updated(service, "a", "1", 0)
    await updated(service, "b", "2", 1)
    await updated(service, "a", "3", 2)
    await service.create_session(app_name="other", user_id="a", session_id="4")
    assert await keys(service, "a") == [("a", "1"), ("a", "3")]


async def test_all_users(service: BaseSessionService) -> None:
    """Without a user the sessions of all users of that app are listed."""
    await updated(service, "a", "1", 0)
    await updated(service, "b", "1", 1)
    await service.create_session(app_name="other", user_id="a", session_id="4")
    assert await keys(service) == [("a", "1"), ("b", "1")]


async def test_an_empty_user_is_a_user(service: BaseSessionService) -> None:
    """The empty string is a user like another, not a way to say all of them."""
    await updated(service, "a", "1", 0)
    assert await keys(service, "") == []


async def test_oldest_update_first(service: BaseSessionService) -> None:
    """The session updated last is the last of the list, whenever it was created."""
    first = await updated(service, "a", "x", 0)
    await updated(service, "b", "y", 1)
    await updated(service, "a", "z", 2)
    assert await keys(service) == [("a", "x"), ("b", "y"), ("a", "z")]
    await service.append_event(first, said("again", seconds=3))
    assert await keys(service) == [("b", "y"), ("a", "z"), ("a", "x")]


async def test_ties_by_user_and_id(service: BaseSessionService) -> None:
    """Sessions updated at one moment are ordered by user, then by id."""
    for user, session_id in [("b", "1"), ("a", "2"), ("b", "0"), ("a", "10"), ("a", "1")]:
        await updated(service, user, session_id, 5)
    assert await keys(service) == [("a", "1"), ("a", "10"), ("a", "2"), ("b", "0"), ("b", "1")]


async def test_the_listed_sessions_have_no_events(service: BaseSessionService) -> None:
    """A listed session is the stored one without its events."""
    session = await service.create_session(app_name=APP, user_id=USER, state={"k": 1, "app:a": 1})
    await service.append_event(session, delta({"k": 2, "user:u": 3}, seconds=0))
    [listed] = (await service.list_sessions(app_name=APP, user_id=USER)).sessions
    assert listed.events == []
    assert listed.last_update_time == session.last_update_time == at(0)
    assert listed.state == session.state


async def test_state_is_merged(service: BaseSessionService) -> None:
    """Each listed session has its own state, its app's and its own user's."""
    await service.create_session(app_name=APP, user_id="a", session_id="1", state={"k": 1, "user:u": "a's"})
    await service.create_session(app_name=APP, user_id="b", session_id="2", state={"k": 2, "user:u": "b's"})
    await service.create_session(app_name=APP, user_id="c", session_id="3", state={"app:a": 0})
    states = {s.user_id: s.state for s in (await service.list_sessions(app_name=APP)).sessions}
    assert states == {
        "a": {"k": 1, "app:a": 0, "user:u": "a's"},
        "b": {"k": 2, "app:a": 0, "user:u": "b's"},
        "c": {"app:a": 0},
    }
    [only] = (await service.list_sessions(app_name=APP, user_id="b")).sessions
    assert only.state == states["b"]


async def test_the_list_is_detached(service: BaseSessionService) -> None:
    """Changing a listed session changes nothing stored."""
    session = await service.create_session(app_name=APP, user_id=USER, state={"k": [1], "app:a": [1]})
    before = await stored(service, session)
    [listed] = (await service.list_sessions(app_name=APP)).sessions
    listed.state["k"].append(2)
    listed.state["app:a"].append(2)
    assert await stored(service, session) == before


@differs(database="puts one app state (and one user state) object into all of them")
async def test_the_listed_sessions_share_nothing(service: BaseSessionService) -> None:
    """Changing one listed session's shared state leaves the others' as it was read."""
    await service.create_session(app_name=APP, user_id=USER, session_id="1", state={"app:a": [1]})
    await service.create_session(app_name=APP, user_id=USER, session_id="2")
    first, second = (await service.list_sessions(app_name=APP)).sessions
    first.state["app:a"].append(2)
    assert second.state["app:a"] == [1]


async def test_a_listed_session_takes_appends(service: BaseSessionService) -> None:
    """An append through a listed session, which is current though it has no events, is stored."""
    await updated(service, USER, "s", 0)
    [listed] = (await service.list_sessions(app_name=APP, user_id=USER)).sessions
    await service.append_event(listed, said("more", seconds=1))
    assert len((await stored(service, listed)).events) == 2
