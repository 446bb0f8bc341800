"""create_session: who gets which id, and what the returned session holds."""

from __future__ import annotations

import asyncio

import pytest
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.sessions import BaseSessionService, Session

from .backends import differs
from .events import APP, USER, said, stored

NO_STRIP = "keeps the blanks as part of the id"


async def test_returns_what_was_asked_for(service: BaseSessionService) -> None:
    """The new session carries its app, user, id and state, has no events and a time of last update."""
    session = await service.create_session(app_name=APP, user_id=USER, session_id="s", state={"k": "v"})
    assert (session.app_name, session.user_id, session.id) == (APP, USER, "s")
    assert session.state == {"k": "v"}
    assert session.events == []
    assert session.last_update_time > 0


async def test_get_equals_what_create_returned(service: BaseSessionService) -> None:
    """A read right after the creation equals the session that was returned."""
    session = await service.create_session(
        app_name=APP, user_id=USER, state={"k": {"n": [1, 2.5, None, True]}, "app:a": 1, "user:u": "x"}
    )
    assert await stored(service, session) == session


async def test_generates_an_id(service: BaseSessionService) -> None:
    """Without an id each session gets one of its own."""
    sessions = [await service.create_session(app_name=APP, user_id=USER) for _ in range(3)]
    assert all(s.id for s in sessions)
    assert len({s.id for s in sessions}) == 3


@differs(database=NO_STRIP)
async def test_a_padded_id_is_stripped(service: BaseSessionService) -> None:
    """Blanks around a given id are not part of it."""
    session = await service.create_session(app_name=APP, user_id=USER, session_id="  s\t\n")
    assert session.id == "s"
    assert await service.get_session(app_name=APP, user_id=USER, session_id="s") == session


@differs(database=NO_STRIP)
async def test_a_padded_id_finds_the_session(service: BaseSessionService) -> None:
    """Reading and deleting strip the id as creating does."""
    session = await service.create_session(app_name=APP, user_id=USER, session_id="s")
    assert await service.get_session(app_name=APP, user_id=USER, session_id=" s ") == session
    await service.delete_session(app_name=APP, user_id=USER, session_id=" s ")
    assert await service.get_session(app_name=APP, user_id=USER, session_id="s") is None


@pytest.mark.parametrize("blank", ["", "   ", "\t\n"], ids=["empty", "spaces", "tab"])
@differs(database="stores the blank id as it is")
async def test_a_blank_id_is_no_id(service: BaseSessionService, blank: str) -> None:
    """An empty or blank id means the same as none: one is generated."""
    first = await service.create_session(app_name=APP, user_id=USER, session_id=blank)
    assert first.id.strip()
    second = await service.create_session(app_name=APP, user_id=USER, session_id=blank)
    assert second.id != first.id


async def test_an_existing_id_is_refused(service: BaseSessionService) -> None:
    """Creating an id a second time raises, and changes nothing: neither the session nor shared state."""
    session = await service.create_session(
        app_name=APP, user_id=USER, session_id="s", state={"k": 1, "app:a": 1}
    )
    await service.append_event(session, said("kept"))
    with pytest.raises(AlreadyExistsError):
        await service.create_session(
            app_name=APP, user_id=USER, session_id="s", state={"k": 2, "app:a": 2, "user:u": 2}
        )
    assert await stored(service, session) == session
    assert await service.get_user_state(app_name=APP, user_id=USER) == {}


@differs(database="' s ' is another id to it")
async def test_an_existing_id_is_refused_padded(service: BaseSessionService) -> None:
    """The padded spelling of an existing id exists, too."""
    await service.create_session(app_name=APP, user_id=USER, session_id="s")
    with pytest.raises(AlreadyExistsError):
        await service.create_session(app_name=APP, user_id=USER, session_id=" s ")


async def test_an_id_belongs_to_app_and_user(service: BaseSessionService) -> None:
    """The same id under another user or app is another session."""
    scopes = [("app", "user"), ("app", "user2"), ("app2", "user")]
    for n, (app, user) in enumerate(scopes):
        session = await service.create_session(app_name=app, user_id=user, session_id="s", state={"n": n})
        await service.append_event(session, said(f"to {n}"))
    for n, (app, user) in enumerate(scopes):
        session = await service.get_session(app_name=app, user_id=user, session_id="s")
        assert session is not None
        assert session.state == {"n": n}
        assert [e.content.parts[0].text for e in session.events] == [f"to {n}"]


async def test_racing_creates_have_one_winner(service: BaseSessionService) -> None:
    """Of many creates of one id at once exactly one succeeds; the others are told that it exists."""
    await service.create_session(app_name=APP, user_id=USER, session_id="another")
    outcomes = await asyncio.gather(
        *(
            service.create_session(app_name=APP, user_id=USER, session_id="s", state={"n": n})
            for n in range(8)
        ),
        return_exceptions=True,
    )
    winners = [o for o in outcomes if isinstance(o, Session)]
    losers = [o for o in outcomes if not isinstance(o, Session)]
    assert len(winners) == 1
    assert {type(o) for o in losers} == {AlreadyExistsError}
    assert await stored(service, winners[0]) == winners[0]


async def first_sessions_at_once(service: BaseSessionService) -> None:
    """Twelve first sessions of an app and user, all at once, each with a user: key of its own."""
    await asyncio.gather(
        *(
            service.create_session(app_name=APP, user_id=USER, session_id=f"s{n}", state={f"user:u{n}": n})
            for n in range(12)
        )
    )


async def test_racing_first_sessions_of_an_app(service: BaseSessionService) -> None:
    """Many first sessions of an app and user at once all succeed."""
    await first_sessions_at_once(service)
    listed = await service.list_sessions(app_name=APP, user_id=USER)
    assert {s.id for s in listed.sessions} == {f"s{n}" for n in range(12)}


@differs(
    database="reads, changes and writes back the whole user state: racing creates lose each other's keys"
)
async def test_racing_creates_lose_no_shared_state(service: BaseSessionService) -> None:
    """The shared state given to sessions created at once is all there."""
    await first_sessions_at_once(service)
    assert await service.get_user_state(app_name=APP, user_id=USER) == {f"u{n}": n for n in range(12)}


async def test_state_is_split_by_scope(service: BaseSessionService) -> None:
    """At creation app: goes to the app, user: to the user, the rest to the session, temp: nowhere."""
    session = await service.create_session(
        app_name=APP, user_id=USER, state={"k": 1, "app:a": 2, "user:u": 3, "temp:t": 4}
    )
    assert session.state == {"k": 1, "app:a": 2, "user:u": 3}
    sibling = await service.create_session(app_name=APP, user_id=USER)
    assert sibling.state == {"app:a": 2, "user:u": 3}
    stranger = await service.create_session(app_name=APP, user_id="other")
    assert stranger.state == {"app:a": 2}
    foreigner = await service.create_session(app_name="other", user_id=USER)
    assert foreigner.state == {}


async def test_shared_state_is_merged_not_replaced(service: BaseSessionService) -> None:
    """Shared state given at creation is added to what is there, key by key; the newest value wins."""
    await service.create_session(app_name=APP, user_id=USER, state={"app:a": 1, "app:b": 1, "user:u": 1})
    session = await service.create_session(app_name=APP, user_id=USER, state={"app:b": 2, "user:v": 2})
    assert session.state == {"app:a": 1, "app:b": 2, "user:u": 1, "user:v": 2}


async def test_the_returned_session_is_detached(service: BaseSessionService) -> None:
    """Changing the returned session, or the state passed in, changes nothing stored."""
    given = {"k": {"deep": [1]}, "app:a": {"deep": [1]}}
    session = await service.create_session(app_name=APP, user_id=USER, state=given)
    before = await stored(service, session)
    session.state["k"]["deep"].append(2)
    session.state["app:a"]["deep"].append(2)
    session.state["new"] = 1
    session.events.append(said("never appended"))
    assert await stored(service, session) == before
    assert before.state == {"k": {"deep": [1]}, "app:a": {"deep": [1]}}


@differs(in_memory="keeps the caller's own values")
async def test_the_given_state_is_detached(service: BaseSessionService) -> None:
    """Changing the dict that was passed in afterwards changes nothing stored."""
    given = {"k": {"deep": [1]}}
    session = await service.create_session(app_name=APP, user_id=USER, state=given)
    given["k"]["deep"].append(2)
    assert (await stored(service, session)).state == {"k": {"deep": [1]}}
