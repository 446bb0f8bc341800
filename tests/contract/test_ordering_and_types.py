"""The shape of what comes back: the order of keys, and the types of values.

An event that reads back in another order is, to a model provider's prompt cache, another event.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from google.adk.events import Event, EventActions
from google.genai import types

from .backends import differs
from .events import APP, USER, answered, args_of, at, called, delta, stored, varied

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.adk.sessions import BaseSessionService

JSONB = "JSONB sorts the keys by length, then by bytes"
# Neither alphabetical nor by length, at three depths and inside a list.
SHUFFLED: dict[str, Any] = {
    "zeta": 1,
    "b": {"zz": 1, "aaa": 2, "m": [{"y": 1, "x": 2}]},
    "alpha": 2,
    "10": 3,
    "9": 4,
    "B": 5,
}

WHERE: dict[str, tuple[Callable[[], Event], Callable[[Event], Any]]] = {
    "function arguments": (lambda: called(SHUFFLED), args_of),
    "function response": (lambda: answered(SHUFFLED), lambda e: e.get_function_responses()[0].response),
    "state delta": (lambda: delta(SHUFFLED), lambda e: e.actions.state_delta),
    "custom metadata": (lambda: Event(author="a", custom_metadata=SHUFFLED), lambda e: e.custom_metadata),
    "output": (lambda: Event(author="a", output=SHUFFLED), lambda e: e.output),
    "agent state": (
        lambda: Event(author="a", actions=EventActions(agent_state=SHUFFLED)),
        lambda e: e.actions.agent_state,
    ),
    "artifact delta": (
        lambda: Event(author="a", actions=EventActions(artifact_delta={"z": 0, "a": 1, "m": 2})),
        lambda e: e.actions.artifact_delta,
    ),
}


async def read_back(service: BaseSessionService, event: Event) -> Event:
    """The event as it is read after an append to a new session."""
    session = await service.create_session(app_name=APP, user_id=USER)
    await service.append_event(session, event)
    return (await stored(service, session)).events[0]


@differs(database=JSONB)
@pytest.mark.parametrize("where", WHERE)
async def test_keys_keep_their_order(service: BaseSessionService, where: str) -> None:
    """The keys of a dict in an event read back in the order in which they were appended, at any depth."""
    build, pick = WHERE[where]
    expected = json.dumps(pick(build()))
    assert json.dumps(pick(await read_back(service, build()))) == expected


@differs(database=JSONB)
async def test_every_window_keeps_the_order(service: BaseSessionService) -> None:
    """The order holds in each of many events, however their keys differ."""
    keys = ["q", "ab", "c", "", "é", "\U0001f600", "A", "a.b", "0"]
    session = await service.create_session(app_name=APP, user_id=USER)
    for n in range(len(keys)):
        turned = keys[n:] + keys[:n]
        await service.append_event(
            session, called({key: {"z": n, "a": n} for key in turned}, timestamp=at(n))
        )
    found = await stored(service, session)
    assert [json.dumps(args_of(e)) for e in found.events] == [json.dumps(args_of(e)) for e in session.events]


@differs(database="JSONB sorts keys, so the JSON of most events changes")
async def test_the_dump_is_the_same(service: BaseSessionService) -> None:
    """Every kind of event dumps to the same JSON text before and after."""
    for event in varied().values():
        expected = event.model_dump_json()
        assert (await read_back(service, event)).model_dump_json() == expected


INTEGERS = [0, 1, -1, 2**31, 2**53 + 1, -(2**63), 2**63 - 1]
FLOATS = [0.0, 1.0, -1.5, 0.1, 1e-7, 3.0]


async def test_scalars_keep_value_and_type(service: BaseSessionService) -> None:
    """A number, bool, string or None stays what it is: 1 an int, 1.0 a float, True a bool, "1" text."""
    values = [*INTEGERS, *FLOATS, True, False, "", "1", "true", None]
    args = args_of(
        await read_back(service, called({"l": values, **{str(n): v for n, v in enumerate(values)}}))
    )
    assert repr(args["l"]) == repr(values)
    assert repr([args[str(n)] for n in range(len(values))]) == repr(values)


async def test_none_is_kept_where_it_is_a_value(service: BaseSessionService) -> None:
    """None inside a dict or list is kept: the key is there, with None."""
    value = {"a": None, "l": [None, {"b": None}], "d": {"c": None}}
    assert args_of(await read_back(service, called(value))) == value
    found = await read_back(service, Event(author="a", output=value, custom_metadata=value))
    assert (found.output, found.custom_metadata) == (value, value)


async def test_empty_is_not_none(service: BaseSessionService) -> None:
    """Empty strings, lists, dicts and contents read back as such, not as None."""
    event = called({}, branch="", error_message="", custom_metadata={}, long_running_tool_ids=set())
    found = await read_back(service, event)
    assert found == event
    assert (found.branch, found.error_message, found.custom_metadata) == ("", "", {})
    assert found.long_running_tool_ids == set()
    bare = await read_back(service, Event(author="a", content=types.Content(role="model", parts=[])))
    assert bare.content == types.Content(role="model", parts=[])


async def test_false_is_not_none(service: BaseSessionService) -> None:
    """A flag that was set to False reads back as False, one that was not set as None."""
    found = await read_back(service, Event(author="a", turn_complete=False, partial=False))
    assert (found.turn_complete, found.partial, found.interrupted) == (False, False, None)
