"""Dict keys come back in the order in which they were appended, everywhere in an event."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from google.adk.events import Event, EventActions
from google.genai import types
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adk_psqlpy import _native

from . import rows
from .compare import assert_same
from .test_values import PLACES, through

if TYPE_CHECKING:
    from google.adk.sessions import Session

    from adk_psqlpy import PsqlpySessionService

KEYS = [
    "zeta",
    "a",
    "",
    "B",
    "b",
    "aa",
    "é",
    "日本",
    "10",
    "9",
    "\0",
    "\ud83d",
    "\ufdd0",
    "$order",
    "model_version",
    "x" * 300,
]


def shuffled(seed: int, depth: int = 3) -> dict[str, Any]:
    """A dict of dicts and lists of dicts, keys in an order of the seed's."""
    source = random.Random(seed)
    keys = source.sample(KEYS, len(KEYS))
    if depth == 0:
        return dict.fromkeys(keys, seed)
    return {
        key: [1, shuffled(seed + 1, depth - 1)] if number == 3 else shuffled(seed + 2, 0)
        for number, key in enumerate(keys)
    }


@pytest.mark.parametrize("place", PLACES)
async def test_nested_dicts(service: PsqlpySessionService, session: Session, place: str) -> None:
    """Dicts in dicts in lists, in every place where any JSON may stand."""
    put, take = PLACES[place]
    values = [shuffled(seed) for seed in range(5)]
    read = await through(service, session, [Event(author="a", **put(value)) for value in values])
    for event, value in zip(read, values, strict=True):
        assert_same(take(event), value, place)


async def test_dicts_of_models(service: PsqlpySessionService, session: Session) -> None:
    """The dicts whose values are models or numbers, too."""
    actions = EventActions.model_validate(
        {
            "artifact_delta": {"z.png": 1, "a.txt": 0, "user:b": 2},
            "requested_tool_confirmations": {"fc-9": {"hint": "h"}, "fc-10": {"payload": {"z": 1, "a": 2}}},
        }
    )
    (event,) = await through(service, session, [Event(author="a", actions=actions)])
    assert_same(event.actions, Event.model_validate({"actions": rows.ideal(actions)}).actions)


async def test_many_dicts_in_one_event(service: PsqlpySessionService, session: Session) -> None:
    """Parallel calls: each keeps its own order, those that need no hint between those that do."""
    args = [dict.fromkeys(keys, 1) for keys in ("ba", "ab", "cab", "", "a", "zyx")]
    parts = [types.Part(function_call=types.FunctionCall(name="f", args=each)) for each in args]
    event = Event(
        author="a",
        content=types.Content(parts=parts),
        custom_metadata={"b": 1, "a": 2},
        output={"d": 1, "c": 2},
    )
    (read,) = await through(service, session, [event])
    assert [list(call.args or {}) for call in read.get_function_calls()] == [list(each) for each in args]
    assert_same(read.custom_metadata, event.custom_metadata)
    assert_same(read.output, event.output)


async def test_model_fields_stay_in_the_order_of_the_model(
    service: PsqlpySessionService, session: Session
) -> None:
    """The JSON that pydantic writes of an event is the same before and after, byte for byte."""
    event = Event(
        author="a",
        content=types.Content(role="model", parts=[types.Part(text="t", thought=True)]),
        output={"b": 1, "a": {}},
    )
    (read,) = await through(service, session, [event])
    assert read.model_dump_json() == event.model_dump_json()


KEY = st.sampled_from(KEYS) | st.text(max_size=4)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.recursive(
        st.integers(0, 3),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEY, inner, max_size=6),
        max_leaves=25,
    )
)
def test_any_order(value: Any) -> None:
    """Whatever the dicts: the same keys in the same order."""
    for place, (put, take) in PLACES.items():
        (event,) = _native.decode_events(rows.stored([Event(author="a", **put({"v": value}))]), place=place)
        assert_same(take(event), {"v": value}, place)


SHAPES = st.lists(st.lists(st.sampled_from(KEYS), max_size=4, unique=True), min_size=1, max_size=3)


@st.composite
def tables(draw: st.DrawFn) -> list[Any]:
    """Long lists of dicts of a few shapes, some of them with such lists inside: the same keys in several
    orders, and keys that are equal but not the same object."""
    shapes = draw(SHAPES)
    shapes += [shape[::-1] for shape in shapes]
    again = st.booleans()

    def row(depth: int) -> dict[str, Any]:
        keys = draw(st.sampled_from(shapes))
        copies = ["".join(list(key)) for key in keys] if draw(again) else keys
        return {key: table(depth + 1) if depth < 2 and draw(st.integers(0, 9)) == 0 else 1 for key in copies}

    def table(depth: int) -> list[Any]:
        return [row(depth) for _ in range(draw(st.sampled_from([0, 3, 4, 9])))]

    return table(0)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(tables())
def test_rows(value: list[Any]) -> None:
    """The rows of tables, whose keys and orders are shared."""
    for place, (put, take) in PLACES.items():
        event = Event(author="a", **put({"v": value}))
        row = rows.normalised(_native.encode_event(event, 128))
        (read,) = _native.decode_events(rows.arrays([row]), place=place)
        assert_same(take(read), {"v": value}, place)
        assert_same(take(Event.model_validate(rows.fields_of(row))), {"v": value}, place)


def test_a_key_that_is_no_string_among_rows() -> None:
    """Written as pydantic writes it, between rows that are like each other."""
    value: list[Any] = [{"b": n, "a": n} for n in range(5)]
    value[3:3] = [{"b": 1, 2: {"d": 1, "c": 2}}]
    (event,) = _native.decode_events(rows.stored([Event(author="a", output=value)]), place="here")
    value[3] = {"b": 1, "2": {"d": 1, "c": 2}}
    assert_same(event.output, value)


def test_rows_share_a_hint() -> None:
    """A thousand rows need no more of it than one."""
    hints = []
    for count in (1, 1000):
        output = [{"id": n, "price": 1.5, "name": "x"} for n in range(count)]
        row = rows.normalised(_native.encode_event(Event(author="a", output=output), 128))
        extra = rows.loads((row[rows.NAMES.index("extra")] or b"")[1:])
        hints.append(extra["$order"]["output"].split(" ")[1:])
    assert hints[0] == hints[1]
    assert len(hints[0]) == 1


def test_a_hint_costs_nothing_where_it_is_not_needed() -> None:
    """An event whose dicts are in JSONB's order has no hint in `extra`."""
    row = rows.normalised(
        _native.encode_event(Event(author="a", custom_metadata={"a": 1, "b": {"c": 1}}), 128)
    )
    assert b"$order" not in (row[rows.NAMES.index("extra")] or b"")
