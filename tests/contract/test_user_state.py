"""get_user_state: a user's state without a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .events import APP, USER, delta

if TYPE_CHECKING:
    from google.adk.sessions import BaseSessionService


async def test_nothing_is_an_empty_dict(service: BaseSessionService) -> None:
    """A user without state, or without anything at all, has an empty dict."""
    assert await service.get_user_state(app_name=APP, user_id=USER) == {}
    await service.create_session(app_name=APP, user_id=USER, state={"k": 1, "app:a": 1})
    assert await service.get_user_state(app_name=APP, user_id=USER) == {}


async def test_raw_keys(service: BaseSessionService) -> None:
    """The keys come without the user: prefix, whichever operation wrote them."""
    session = await service.create_session(app_name=APP, user_id=USER, state={"user:a": {"deep": [1, None]}})
    await service.append_event(session, delta({"user:b": 2, "user:temp:c": 3}))
    assert await service.get_user_state(app_name=APP, user_id=USER) == {
        "a": {"deep": [1, None]},
        "b": 2,
        "temp:c": 3,
    }


async def test_scoped_to_app_and_user(service: BaseSessionService) -> None:
    """The same user in another app, and another user in the same app, have states of their own."""
    for app, user in [("a", "u"), ("a", "v"), ("b", "u")]:
        await service.create_session(app_name=app, user_id=user, state={"user:who": app + user})
    assert await service.get_user_state(app_name="a", user_id="u") == {"who": "au"}
    assert await service.get_user_state(app_name="a", user_id="v") == {"who": "av"}
    assert await service.get_user_state(app_name="b", user_id="u") == {"who": "bu"}
    assert await service.get_user_state(app_name="b", user_id="v") == {}


async def test_the_result_is_detached(service: BaseSessionService) -> None:
    """Changing the returned dict changes nothing stored."""
    await service.create_session(app_name=APP, user_id=USER, state={"user:a": [1]})
    state = await service.get_user_state(app_name=APP, user_id=USER)
    state["a"].append(2)
    state["b"] = 1
    assert await service.get_user_state(app_name=APP, user_id=USER) == {"a": [1]}


async def test_none_is_a_value(service: BaseSessionService) -> None:
    """A key set to None stays, with None: a delta never removes a key."""
    session = await service.create_session(app_name=APP, user_id=USER, state={"user:a": 1})
    await service.append_event(session, delta({"user:a": None}))
    assert await service.get_user_state(app_name=APP, user_id=USER) == {"a": None}
