"""ADK's rewind on this service: `Runner.rewind_async` unchanged, and the state that it leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from google.adk.agents import BaseAgent
from google.adk.events import Event, EventActions
from google.adk.runners import Runner
from google.adk.sessions import InMemorySessionService

from adk_psqlpy.errors import UnknownStateError
from adk_psqlpy.seal import Seal
from contract.events import delta, said
from keys import fresh_seal
from servers import Database, run_sql
from store.support import contents

from .test_points import KEY, read

if TYPE_CHECKING:
    from google.adk.sessions import BaseSessionService

    from adk_psqlpy import PsqlpySessionService


@pytest.fixture(params=["plain", "sealed"])
def seal(request: pytest.FixtureRequest) -> Seal | None:
    """The whole suite runs with a store that seals, too."""
    return fresh_seal() if request.param == "sealed" else None


async def rewind(service: BaseSessionService, invocation: str) -> None:
    """As ADK's API server does it."""
    runner = Runner(app_name="app", agent=BaseAgent(name="agent"), session_service=service)
    await runner.rewind_async(user_id="user", session_id="s", rewind_before_invocation_id=invocation)


async def turns(service: BaseSessionService, state: dict[str, Any]) -> None:
    """Three invocations that change state."""
    session = await service.create_session(**KEY, state=state)
    for number, change in enumerate(
        ({"tier": "iron", "a": 1}, {"a": 2, "b": [1]}, {"b": [2], "c": None, "app:x": 1})
    ):
        await service.append_event(session, said("?", invocation_id=f"i{number}"))
        await service.append_event(session, delta(change, invocation_id=f"i{number}"))


@pytest.mark.parametrize(
    ("invocation", "expected"),
    [
        ("i0", {"tier": "gold", "n": [0], "a": None, "b": None, "c": None}),
        ("i1", {"tier": "iron", "n": [0], "a": 1, "b": None, "c": None}),
        ("i2", {"tier": "iron", "n": [0], "a": 2, "b": [1], "c": None}),
    ],
)
async def test_the_state_at_creation_comes_back(
    service: PsqlpySessionService, invocation: str, expected: dict[str, Any]
) -> None:
    """What was set at creation is there again; keys that came later are None, as ADK leaves them."""
    await turns(service, {"tier": "gold", "n": [0]})
    await rewind(service, invocation)
    session = await read(service)
    assert session.state == expected | {"app:x": 1}
    assert session.events[-1].actions.rewind_before_invocation_id == invocation


async def test_adk_alone_forgets_it() -> None:
    """The case that this is for: ADK's own service loses the state at creation (google-adk 2.13)."""
    service = InMemorySessionService()
    await turns(service, {"tier": "gold"})
    await rewind(service, "i0")
    session = await service.get_session(**KEY)
    assert session is not None
    assert session.state["tier"] is None


@pytest.mark.parametrize("invocation", ["i0", "i1", "i2"])
async def test_where_events_tell_all_it_is_as_adk_makes_it(
    service: PsqlpySessionService, invocation: str
) -> None:
    """Of a session that was created without state, the delta is the one that ADK computes."""
    memory = InMemorySessionService()
    for each in (service, memory):
        await turns(each, {})
        await rewind(each, invocation)
    theirs, ours = await memory.get_session(**KEY), await read(service)
    assert theirs is not None
    assert ours.state == theirs.state
    assert ours.events[-1].actions.state_delta == theirs.events[-1].actions.state_delta


async def test_changes_without_an_event_come_back(service: PsqlpySessionService) -> None:
    """What update_session_state changed before the point is there again; what it changed after is not."""
    await service.create_session(**KEY, state={"k": 0})
    await service.store.update_session_state("app", "user", "s", {"k": 1})
    await service.append_event(await read(service), delta({"k": 2}, invocation_id="i"))
    await service.store.update_session_state("app", "user", "s", {"k": 3, "late": 1})
    await rewind(service, "i")
    assert (await read(service)).state == {"k": 1, "late": None}


async def test_a_rewind_after_a_rewind(service: PsqlpySessionService) -> None:
    """Rewinds add up: each goes to the state as it was before the invocation that it names."""
    await turns(service, {"tier": "gold"})
    await rewind(service, "i2")
    await rewind(service, "i1")
    session = await read(service)
    assert (session.state["tier"], session.state["a"], session.state["b"]) == ("iron", 1, None)
    await service.append_event(session, delta({"tier": "lead"}, invocation_id="i3"))
    await rewind(service, "i3")
    assert (await read(service)).state["tier"] == "iron"


async def test_an_append_that_is_repeated(service: PsqlpySessionService) -> None:
    """A rewind's event whose answer was lost can be appended once more, as any other."""
    await turns(service, {"tier": "gold"})
    first, second = await read(service), await read(service)
    event = Event(
        author="user",
        invocation_id="r",
        actions=EventActions(rewind_before_invocation_id="i0", state_delta={"tier": None, "user:u": 1}),
    )
    await service.append_event(first, event)
    assert event.actions.state_delta["tier"] == "gold"
    await service.append_event(second, event)
    stored = await read(service)
    assert stored.state["tier"] == second.state["tier"] == "gold"
    assert stored.state["user:u"] == 1
    assert len(stored.events) == len(second.events) == 7


async def test_an_invocation_that_is_not_stored(service: PsqlpySessionService) -> None:
    """A recorded event of a rewind whose invocation is not in the session is stored as it is given."""
    session = await service.create_session(**KEY, state={"tier": "gold"})
    actions = EventActions(rewind_before_invocation_id="elsewhere", state_delta={"tier": None})
    event = await service.append_event(session, Event(author="user", actions=actions))
    assert event.actions.state_delta == {"tier": None}


async def test_unknown_state(service: PsqlpySessionService, database: Database) -> None:
    """A session whose initial state is not known is not rewound: nothing is written."""
    await turns(service, {"tier": "gold"})
    run_sql(database.dsn, "UPDATE adk_sessions SET initial_state = NULL")
    before = contents(database.dsn)
    with pytest.raises(UnknownStateError, match="created with is not"):
        await rewind(service, "i1")
    assert contents(database.dsn) == before
