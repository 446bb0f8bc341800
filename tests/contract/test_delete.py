"""delete_session: what goes, and what stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .events import APP, USER, delta, said, stored, texts

if TYPE_CHECKING:
    from google.adk.sessions import BaseSessionService


async def test_a_deleted_session_is_gone(service: BaseSessionService) -> None:
    """After its deletion a session is neither found nor listed."""
    session = await service.create_session(app_name=APP, user_id=USER, session_id="s")
    await service.append_event(session, said("hi"))
    await service.delete_session(app_name=APP, user_id=USER, session_id="s")
    assert await service.get_session(app_name=APP, user_id=USER, session_id="s") is None
    assert (await service.list_sessions(app_name=APP, user_id=USER)).sessions == []


async def test_others_stay(service: BaseSessionService) -> None:
    """Only the session of exactly this app, user and id goes: same ids elsewhere keep their events."""
    for app, user, session_id in [("a", "u", "s"), ("a", "u", "t"), ("a", "v", "s"), ("b", "u", "s")]:
        session = await service.create_session(app_name=app, user_id=user, session_id=session_id)
        await service.append_event(session, said(f"{app}{user}{session_id}"))
    await service.delete_session(app_name="a", user_id="u", session_id="s")
    for app, user, session_id in [("a", "u", "t"), ("a", "v", "s"), ("b", "u", "s")]:
        found = await service.get_session(app_name=app, user_id=user, session_id=session_id)
        assert texts(found) == [f"{app}{user}{session_id}"]


async def test_deleting_what_is_missing_is_no_error(service: BaseSessionService) -> None:
    """Deleting an unknown session, or one a second time, does nothing."""
    session = await service.create_session(app_name=APP, user_id=USER, session_id="s")
    await service.delete_session(app_name=APP, user_id=USER, session_id="other")
    await service.delete_session(app_name="nowhere", user_id="nobody", session_id="s")
    assert await stored(service, session) == session
    await service.delete_session(app_name=APP, user_id=USER, session_id="s")
    await service.delete_session(app_name=APP, user_id=USER, session_id="s")


async def test_shared_state_survives(service: BaseSessionService) -> None:
    """What a session wrote to its app's and user's state outlives it; its own state goes with it."""
    session = await service.create_session(
        app_name=APP, user_id=USER, session_id="s", state={"app:a": 1, "k": 1}
    )
    await service.append_event(session, delta({"user:u": 2}))
    await service.delete_session(app_name=APP, user_id=USER, session_id="s")
    assert await service.get_user_state(app_name=APP, user_id=USER) == {"u": 2}
    again = await service.create_session(app_name=APP, user_id=USER, session_id="s")
    assert again.state == {"app:a": 1, "user:u": 2}


async def test_a_recreated_session_starts_empty(service: BaseSessionService) -> None:
    """A session created anew under a deleted one's id has no events and takes new ones, old ids included."""
    session = await service.create_session(app_name=APP, user_id=USER, session_id="s", state={"k": 1})
    event = said("before", seconds=0)
    await service.append_event(session, event)
    await service.delete_session(app_name=APP, user_id=USER, session_id="s")
    again = await service.create_session(app_name=APP, user_id=USER, session_id="s")
    assert (again.events, again.state) == ([], {})
    assert await stored(service, again) == again
    await service.append_event(again, event.model_copy(deep=True))
    assert await stored(service, again) == again
    assert texts(again) == ["before"]
