"""Lists for a product: filters, both orders, and what waits for somebody."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from google.adk.events import Event, EventActions
from google.genai import types

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from adk_psqlpy.sessions.listing import WaitingCall
from contract.events import at, said
from servers import Database, run_sql
from where import one_server

if TYPE_CHECKING:
    from google.adk.sessions import Session


def asks(call_id: str, *, name: str = "approve", **fields: Any) -> Event:
    """An agent's long-running call."""
    call = types.FunctionCall(id=call_id, name=name, args={"amount": 5})
    content = types.Content(role="model", parts=[types.Part(function_call=call)])
    return Event(author="agent", content=content, long_running_tool_ids={call_id}, **fields)


def answers(call_id: str, *, author: str = "user", name: str = "approve") -> Event:
    """A function response: the user's answer, or what the tool itself said."""
    response = types.FunctionResponse(id=call_id, name=name, response={"ok": True})
    content = types.Content(role="user", parts=[types.Part(function_response=response)])
    return Event(author=author, content=content)


async def session_of(
    service: PsqlpySessionService,
    user: str,
    session_id: str,
    state: dict[str, Any] | None = None,
    *events: Event,
) -> Session:
    session = await service.create_session(app_name="app", user_id=user, session_id=session_id, state=state)
    for event in events:
        await service.append_event(session, event)
    return session


async def ids(service: PsqlpySessionService, **arguments: Any) -> list[str]:
    return [each.id for each in (await service.list_sessions(app_name="app", **arguments)).sessions]


@pytest.fixture
async def five(service: PsqlpySessionService) -> PsqlpySessionService:
    """Five sessions of two users, updated at second 1 to 5; d has a call that waits."""
    states: list[dict[str, Any]] = [
        {"status": "open", "tags": ["a", "b"], "app:shop": 1},
        {"status": "open", "customer": {"id": 1, "tier": "gold"}},
        {"status": "done"},
        {},
        {"status": "open", "tags": ["b"], "title": "Refund"},
    ]
    for number, (name, state) in enumerate(zip("abcde", states, strict=True), start=1):
        events = [asks("fc-1", timestamp=at(number))] if name == "d" else [said("x", seconds=number)]
        await session_of(service, "one" if number % 2 else "two", name, state, *events)
    return service


FILTERS: list[tuple[dict[str, Any], str]] = [
    ({}, "abcde"),
    ({"newest_first": True}, "edcba"),
    ({"newest_first": False}, "abcde"),
    ({"state": {"status": "open"}}, "abe"),
    ({"state": {"tags": ["b"]}}, "ae"),
    ({"state": {"customer": {"tier": "gold"}}}, "b"),
    ({"state": {"status": "open"}, "user_id": "one", "newest_first": True}, "ea"),
    ({"state": {"status": "lost"}}, ""),
    ({"state": {}}, "abcde"),
    ({"updated_from": at(2)}, "bcde"),
    ({"updated_before": at(2)}, "a"),
    ({"updated_from": at(2), "updated_before": at(4), "newest_first": True}, "cb"),
    ({"waiting": True}, "d"),
    ({"waiting": False}, "abce"),
    ({"waiting": True, "user_id": "one"}, ""),
    ({"waiting": False, "user_id": "two", "state": {"status": "open"}}, "b"),
]


@pytest.mark.parametrize(("filters", "expected"), FILTERS, ids=repr)
async def test_filters(five: PsqlpySessionService, filters: dict[str, Any], expected: str) -> None:
    """Filters and orders by themselves and together; a state is found as PostgreSQL's @> finds it."""
    assert "".join(await ids(five, **filters)) == expected


@pytest.mark.parametrize(("filters", "expected"), FILTERS, ids=repr)
@pytest.mark.parametrize("size", [1, 2])
async def test_pages(five: PsqlpySessionService, filters: dict[str, Any], expected: str, size: int) -> None:
    """Page by page, with any filter and in either order, it is the whole list."""
    found, after = "", None
    while True:
        page = (await five.list_sessions(app_name="app", limit=size, after=after, **filters)).sessions
        if not page:
            break
        assert len(page) <= size
        found += "".join(session.id for session in page)
        after = page[-1]
    assert found == expected


async def test_ties(service: PsqlpySessionService) -> None:
    """Sessions of one time are ordered by user and id; newest first is exactly the reverse, in pages too."""
    dice = random.Random(5)
    for number in range(24):
        name = f"{dice.choice('aZé_')}{number}"
        await session_of(service, dice.choice(["u", "U", "ü"]), name, None, said("x", seconds=number % 3))
    forwards = await ids(service)
    assert await ids(service, newest_first=True) == forwards[::-1]
    paged, after = [], None
    while page := (
        await service.list_sessions(app_name="app", limit=5, after=after, newest_first=True)
    ).sessions:
        paged += [session.id for session in page]
        after = page[-1]
    assert paged == forwards[::-1]


async def test_what_is_listed(five: PsqlpySessionService) -> None:
    """A filtered list has what the plain one has: state of all scopes, times, no events."""
    plain = {each.id: each for each in (await five.list_sessions(app_name="app")).sessions}
    (found,) = (await five.list_sessions(app_name="app", state={"title": "Refund"})).sessions
    assert found == plain["e"]
    assert found.state == {"status": "open", "tags": ["b"], "title": "Refund", "app:shop": 1}
    assert found.events == []


async def test_titles(five: PsqlpySessionService) -> None:
    """A session's title is the text in its state, where there is one."""
    listed = (await five.list_sessions(app_name="app")).sessions
    assert [five.title(session) for session in listed] == [None, None, None, None, "Refund"]
    assert [five.title(session, key="status") for session in listed[:3]] == ["open", "open", "done"]
    assert five.title(listed[0], key="tags") is None


BAD: list[dict[str, Any]] = [
    {"state": "open"},
    {"state": {"app:shop": 1}},
    {"state": {"user:u": 1}},
    {"updated_from": "yesterday"},
    {"updated_before": float("nan")},
    {"waiting": 1},
    {"newest_first": 1},
]


@pytest.mark.parametrize("filters", BAD, ids=repr)
async def test_bad_filters(service: PsqlpySessionService, filters: dict[str, Any]) -> None:
    """What cannot be a filter is a ValueError that names it."""
    name = next(iter(filters))
    with pytest.raises(ValueError, match="the state to look for" if name == "state" else name):
        await service.list_sessions(app_name="app", **filters)


# What waits.


async def test_a_call_that_waits(service: PsqlpySessionService) -> None:
    """A long-running call waits for the user's function response; what the tool says does not answer it."""
    session = await session_of(
        service, "u", "s", None, asks("fc-1", id="e1", invocation_id="i", timestamp=at(1))
    )
    (call,) = await service.list_paused(app_name="app")
    assert (call.user_id, call.session_id, call.event_id, call.seq) == ("u", "s", "e1", 1)
    assert (call.invocation_id, call.timestamp, call.call_id) == ("i", at(1), "fc-1")
    assert (call.name, call.args) == ("approve", {"amount": 5})
    await service.append_event(session, answers("fc-1", author="agent"))
    assert len(await service.list_paused(app_name="app")) == 1
    await service.append_event(session, answers("fc-2"))
    assert len(await service.list_paused(app_name="app")) == 1
    await service.append_event(session, answers("fc-1"))
    assert await service.list_paused(app_name="app") == []
    assert await ids(service, waiting=True) == []


async def test_calls_that_do_not_wait(service: PsqlpySessionService) -> None:
    """Calls that are not long-running do not wait; of several in an event each waits for its own answer."""
    plain = asks("fc-1")
    plain.long_running_tool_ids = set()
    session = await session_of(service, "u", "s", None, plain)
    assert await service.list_paused(app_name="app") == []
    both = asks("fc-2")
    both.long_running_tool_ids = {"fc-2", "fc-3", "nul\0"}
    await service.append_event(session, both)
    await service.append_event(session, answers("fc-2"))
    calls = await service.list_paused(app_name="app")
    assert {(call.call_id, call.name) for call in calls} == {("fc-3", None), ("nul\0", None)}


async def test_a_call_that_was_rewound(service: PsqlpySessionService) -> None:
    """A rewind to before the call undoes it; one to after it does not."""
    session = await session_of(
        service,
        "u",
        "s",
        {},
        said("?", invocation_id="i1"),
        asks("fc-1", invocation_id="i1"),
        said("?", invocation_id="i2"),
    )
    for invocation, waiting in (("i2", 1), ("i1", 0)):
        actions = EventActions(rewind_before_invocation_id=invocation)
        await service.append_event(session, Event(author="user", invocation_id="r", actions=actions))
        assert len(await service.list_paused(app_name="app")) == waiting


async def test_whose_calls(service: PsqlpySessionService) -> None:
    """Of one user, or of all of an app, the oldest first; the same ids elsewhere answer nothing here."""
    for number, user in enumerate(("u", "v", "u"), start=1):
        await session_of(service, user, f"s{number}", None, asks("fc-1", timestamp=at(9 - number)))
    other = await service.create_session(app_name="other", user_id="u", session_id="s1")
    await service.append_event(other, asks("fc-1"))
    third = await service.get_session(app_name="app", user_id="u", session_id="s3")
    assert third is not None
    await service.append_event(third, answers("fc-1"))
    assert [call.session_id for call in await service.list_paused(app_name="app")] == ["s2", "s1"]
    assert [call.session_id for call in await service.list_paused(app_name="app", user_id="u")] == ["s1"]


async def test_pages_of_calls(service: PsqlpySessionService) -> None:
    """Each call once, in the order of the whole list, also of one event and of one moment."""
    for number, (user, second) in enumerate((("u", 3), ("v", 1), ("u", 1), ("w", 1)), start=1):
        call = asks("fc-1", timestamp=at(second))
        call.long_running_tool_ids = {"fc-1", "fc-2", "fc-0"}
        await session_of(service, user, f"s{number}", None, call)
    for user_id in (None, "u"):
        whole = await service.list_paused(app_name="app", user_id=user_id)
        assert len(whole) == (12 if user_id is None else 6)
        for limit in (1, 2, 5, 100):
            pages: list[WaitingCall] = []
            while page := await service.list_paused(
                app_name="app", user_id=user_id, limit=limit, after=pages[-1] if pages else None
            ):
                assert len(page) <= limit
                pages += page
            assert pages == whole
    first = whole[0]
    await service.append_event(
        await read(service, first), answers(first.call_id)
    )  # the call that a page ends with may have been answered meanwhile
    assert await service.list_paused(app_name="app", user_id="u", after=first) == whole[1:]


async def read(service: PsqlpySessionService, call: WaitingCall) -> Session:
    """The session that a call waits in."""
    session = await service.get_session(app_name="app", user_id=call.user_id, session_id=call.session_id)
    assert session is not None
    return session


@pytest.mark.parametrize("given", [{"after": "e"}, {"limit": -1}, {"limit": 1.5}])
async def test_pages_that_cannot_be(service: PsqlpySessionService, given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(given))):
        await service.list_paused(app_name="app", **given)


@one_server("it looks at one server's plan")
async def test_the_index(config: PsqlpyConfig, database: Database) -> None:
    """The partial index is made on demand, again is harmless, and what waits is found by it alone."""
    store = PsqlpyADKStore(config)
    await store.create_tables()
    service = PsqlpySessionService(store)
    await session_of(service, "u", "s", None, asks("fc-1"))
    for _ in range(2):
        await store.create_tables(waiting_index=True)
    run_sql(
        database.dsn,
        """INSERT INTO adk_events (id, session_id, app_name, user_id, seq, author)
           SELECT 'e' || n, 's', 'app', 'u', n, 'agent' FROM generate_series(2, 20000) AS n""",
        "ANALYZE adk_events",
    )
    sql = service.store._sql.listing.waiting_calls(one_user=False).replace("$1", "'app'")
    plan = "\n".join(row["QUERY PLAN"] for row in run_sql(database.dsn, f"EXPLAIN {sql}")[0])
    assert "Index Scan using idx_adk_events_long_calls on adk_events e" in plan
    assert len(await service.list_paused(app_name="app")) == 1
