"""Any value, through the real server: the same value of the same type, in the same order, to the bit."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
from google.adk.events import Event, EventActions
from google.genai import types
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from adk_psqlpy import _native

from . import rows
from .compare import assert_same
from .strategies import FLOATS, INTEGERS, LONG_TEXTS, TEXTS, json_values

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.adk.sessions import Session

    from adk_psqlpy import PsqlpySessionService

# Every place of an event where any JSON may stand: how it is put there, and how it is taken out.
PLACES: dict[str, tuple[Callable[[Any], dict[str, Any]], Callable[[Event], Any]]] = {
    "args": (
        lambda value: _part(function_call=types.FunctionCall(name="f", args=value)),
        lambda event: event.get_function_calls()[0].args,
    ),
    "response": (
        lambda value: _part(function_response=types.FunctionResponse(name="f", response=value)),
        lambda event: event.get_function_responses()[0].response,
    ),
    "custom_metadata": (lambda value: {"custom_metadata": value}, lambda event: event.custom_metadata),
    "output": (lambda value: {"output": value}, lambda event: event.output),
    "agent_state": (
        lambda value: {"actions": EventActions(agent_state=value)},
        lambda event: event.actions.agent_state,
    ),
    "state_delta": (
        lambda value: {"actions": EventActions(state_delta=value)},
        lambda event: event.actions.state_delta,
    ),
}
CORPUS = {
    "floats": FLOATS,
    "more floats": [sign * 10.0**exponent * 1.1 for exponent in range(-320, 308, 7) for sign in (1, -1)],
    "integers": INTEGERS,
    "texts": TEXTS,
    "long texts": LONG_TEXTS,
    "by key": {text: text for text in [*TEXTS, *LONG_TEXTS]},
    "nested": {"a": [{}, [], [[]], {"": {"": None}}, [None, True, False, 0, 0.0, ""]]},
}


def _part(**fields: Any) -> dict[str, Any]:
    return {"content": types.Content(role="model", parts=[types.Part(**fields)])}


async def through(service: PsqlpySessionService, session: Session, events: list[Event]) -> list[Event]:
    """The events as they are read back."""
    for event in events:
        await service.append_event(session, event)
    found = await service.get_session(
        app_name=session.app_name, user_id=session.user_id, session_id=session.id
    )
    assert found is not None
    return found.events


@pytest.mark.parametrize("place", PLACES)
async def test_the_corpus(service: PsqlpySessionService, session: Session, place: str) -> None:
    """The values that somebody's storage lost once, wherever a value may stand in an event."""
    put, take = PLACES[place]
    values: list[dict[str, Any]] = [{name: value} for name, value in CORPUS.items()]
    read = await through(service, session, [Event(author="a", **put(value)) for value in values])
    for event, value in zip(read, values, strict=True):
        assert_same(take(event), value, place)


async def test_the_corpus_as_state(service: PsqlpySessionService) -> None:
    """The same in session, app and user state, at creation and by delta; JSONB orders the keys there."""
    state = {prefix + name: value for prefix in ("", "app:", "user:") for name, value in CORPUS.items()}
    session = await service.create_session(app_name="app", user_id="user", state=state)
    assert_same(session.state, state, order=False)
    await service.append_event(
        session, Event(author="a", actions=EventActions(state_delta={"later": CORPUS, "app:later": CORPUS}))
    )
    found = await service.get_session(app_name="app", user_id="user", session_id=session.id)
    assert found is not None
    assert_same(found.state, state | {"later": CORPUS, "app:later": CORPUS}, order=False)


async def test_any_value_on_the_server(service: PsqlpySessionService, store: Any) -> None:
    """Values of Hypothesis's choice: fifty of them an event, in each of the places, and as state."""
    batches: list[dict[str, Any]] = []

    @settings(
        max_examples=12, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(st.lists(json_values(), min_size=50, max_size=50))
    def collect(values: list[Any]) -> None:
        batches.append({f"v{index}": value for index, value in enumerate(values)})

    collect()
    for number, batch in enumerate(batches):
        session = await service.create_session(
            app_name=f"app {number}",
            user_id="user",
            state=batch | {f"app:{key}": value for key, value in batch.items()},
        )
        read = await through(
            service, session, [Event(author="a", **put(batch)) for put, _ in PLACES.values()]
        )
        for event, (place, (_, take)) in zip(read, PLACES.items(), strict=True):
            assert_same(take(event), batch, place)
        found = await service.get_session(app_name=f"app {number}", user_id="user", session_id=session.id)
        assert found is not None
        expected = batch | {f"app:{key}": value for key, value in batch.items()}
        assert_same(found.state, expected, "state", order=False)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(json_values())
def test_any_value(value: Any) -> None:
    """The same many times over, with the stand-in for the server; Hypothesis finds the smallest failure."""
    for place, (put, take) in PLACES.items():
        (event,) = _native.decode_events(rows.stored([Event(author="a", **put({"v": value}))]), place=place)
        assert_same(take(event), {"v": value}, place)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(json_values())
def test_any_json(value: Any) -> None:
    """A lone value, as a memory or an artifact's metadata holds one."""
    stored = _native.encode_json(value)
    assert stored is not None
    text = b"\1" + rows.jsonb(rows.loads(stored[1:])).encode()
    assert_same(_native.decode_json(text, place="here"), value, order=False)


@settings(max_examples=200, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_float_is_the_number_that_sql_sees(value: float) -> None:
    """A finite float is a JSON number with a fraction, so that it compares as a number and is no integer."""
    stored = _native.encode_json(value)
    assert stored is not None
    text = stored[1:].decode()
    if value == 0 and math.copysign(1, value) < 0:
        assert text == '"\ufdd0-0.0"'
    else:
        assert "." in text
        assert float(text) == value


async def test_a_float_stays_a_float_beside_its_integer(
    service: PsqlpySessionService, session: Session
) -> None:
    """1 and 1.0 are equal to Python and different here."""
    value = {"i": 10**16, "f": 1e16, "one": 1, "one.0": 1.0, "true": True}
    (event,) = await through(service, session, [Event(author="a", custom_metadata=value)])
    assert_same(event.custom_metadata, value)


async def test_typed_numbers(service: PsqlpySessionService, session: Session) -> None:
    """A float field holds every float, an integer field every integer."""
    sent = [Event(author="a", avg_logprobs=value) for value in FLOATS]
    sent += [Event(author="a", actions=EventActions(artifact_delta={"f": value})) for value in INTEGERS]
    for event, expected in zip(await through(service, session, sent), sent, strict=True):
        assert_same(event.avg_logprobs, expected.avg_logprobs)
        assert_same(event.actions.artifact_delta, expected.actions.artifact_delta)
