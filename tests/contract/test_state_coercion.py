"""State values that JSON does not have: what is stored in their place, and who is told.

The measure is ADK's database service: a backend that stores state must leave behind what it leaves.
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import logging
import uuid
from typing import Any

import pytest
from google.adk.sessions import BaseSessionService
from pydantic import BaseModel

from .backends import differs
from .events import APP, USER, delta, stored

AS_IS = "keeps the Python object itself"
WARNING = "not JSON-serializable"


class Point(BaseModel):
    """A model with a default and a None, to see which of its fields are stored."""

    x: int
    y: float = 1.5
    label: str | None = None


class Colour(enum.Enum):
    """An enum whose values are not its names."""

    RED = "r"


class Opaque:
    """A class that nothing knows how to serialize."""

    def __repr__(self) -> str:
        return "<opaque>"


def function() -> None:
    """A callable, as tools put them into state by mistake."""


# name -> (given, stored); the values that need no replacement and raise no warning.
FAITHFUL: dict[str, tuple[Any, Any]] = {
    "datetime": (dt.datetime(2026, 1, 2, 3, 4, 5, 678, dt.timezone.utc), "2026-01-02T03:04:05.000678Z"),
    "naive datetime": (dt.datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05"),
    "date": (dt.date(2026, 1, 2), "2026-01-02"),
    "time": (dt.time(3, 4, 5), "03:04:05"),
    "timedelta": (dt.timedelta(days=1, seconds=2), "P1DT2S"),
    "model": (Point(x=1), {"x": 1, "y": 1.5, "label": None}),
    "set": ({"one"}, ["one"]),
    "frozenset": (frozenset({1}), [1]),
    "tuple": ((1, ("a", None)), [1, ["a", None]]),
    "bytes": ("wörld".encode(), "wörld"),
    "enum": (Colour.RED, "r"),
    "uuid": (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    "decimal": (decimal.Decimal("1.50"), "1.50"),
    "complex": (1 + 2j, "1+2j"),
    "int keys": ({1: "a", 2: {3: "b"}}, {"1": "a", "2": {"3": "b"}}),
    "nested": ({"list": [Point(x=2), (3,)]}, {"list": [{"x": 2, "y": 1.5, "label": None}, [3]]}),
}
# Inside an event, state_delta is part of the event's own dump, which leaves out what is None in a model
# and writes bytes as base64; for all other kinds both places hold the same.
IN_EVENT: dict[str, Any] = {
    "model": {"x": 1, "y": 1.5},
    "bytes": "d8O2cmxk",
    "nested": {"list": [{"x": 2, "y": 1.5}, [3]]},
}
# The same as FAITHFUL for values that are replaced by their string form, with a warning.
REPLACED: dict[str, tuple[Any, Any]] = {
    "function": (function, repr(function)),
    "object": (Opaque(), "<opaque>"),
    "class": (Opaque, repr(Opaque)),
    "nested": ({"list": [1, function]}, {"list": [1, repr(function)]}),
}
SCOPES = ["", "app:", "user:"]

stored_as_json = differs(in_memory=AS_IS)


def scoped(values: dict[str, Any]) -> dict[str, Any]:
    """Each value under its name, in each of the three scopes."""
    return {scope + name: value for scope in SCOPES for name, value in values.items()}


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The warnings of values that were replaced, whichever module logged them."""
    return [r.message for r in caplog.records if r.levelno == logging.WARNING and WARNING in r.message]


GIVEN = scoped({name: given for name, (given, _) in FAITHFUL.items()})
EXPECTED = scoped({name: expected for name, (_, expected) in FAITHFUL.items()})


@stored_as_json
async def test_at_creation(service: BaseSessionService, caplog: pytest.LogCaptureFixture) -> None:
    """A rich value in the state given to create_session is stored, and returned, in its JSON form."""
    session = await service.create_session(app_name=APP, user_id=USER, state=GIVEN)
    assert session.state == EXPECTED
    assert await stored(service, session) == session
    assert warnings_in(caplog) == []


@stored_as_json
async def test_in_a_delta(service: BaseSessionService, caplog: pytest.LogCaptureFixture) -> None:
    """A rich value in a state delta is stored in its JSON form, in the state and in the event."""
    session = await service.create_session(app_name=APP, user_id=USER)
    await service.append_event(session, delta(GIVEN, seconds=0))
    found = await stored(service, session)
    assert found.state == EXPECTED
    assert found.events[0].actions.state_delta == EXPECTED | scoped(IN_EVENT)
    assert warnings_in(caplog) == []


async def test_the_caller_keeps_the_values(service: BaseSessionService) -> None:
    """The caller's session holds the values it appended, not their JSON form, until it is read again."""
    session = await service.create_session(app_name=APP, user_id=USER)
    await service.append_event(session, delta(GIVEN, seconds=0))
    assert session.state == GIVEN
    assert all(session.state[key] is value for key, value in GIVEN.items())


async def test_json_values_are_left_alone(
    service: BaseSessionService, caplog: pytest.LogCaptureFixture
) -> None:
    """JSON's own values keep value and type, and nobody is warned."""
    state = {
        "i": 1,
        "f": 1.5,
        "t": True,
        "n": None,
        "s": "",
        "l": [],
        "d": {},
        "": "empty key",
        "é ": [1, [2]],
    }
    session = await service.create_session(app_name=APP, user_id=USER, state=state)
    await service.append_event(session, delta({f"2{k}": v for k, v in state.items()}, seconds=0))
    found = await stored(service, session)
    assert {k: repr(v) for k, v in found.state.items()} == {
        k: repr(v) for k, v in (state | {f"2{k}": v for k, v in state.items()}).items()
    }
    assert warnings_in(caplog) == []


@pytest.mark.parametrize("kind", REPLACED)
@stored_as_json
async def test_replaced_at_creation(
    service: BaseSessionService, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What has no JSON form is stored as a string, the rest of the state as it is, with a warning."""
    given, expected = REPLACED[kind]
    session = await service.create_session(app_name=APP, user_id=USER, state={"k": given, "user:b": (1,)})
    assert session.state == {"k": expected, "user:b": [1]}
    assert await stored(service, session) == session
    assert warnings_in(caplog)


@pytest.mark.parametrize("kind", REPLACED)
@stored_as_json
async def test_replaced_in_a_delta(
    service: BaseSessionService, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The same in a state delta: a string in the state and in the event, with a warning."""
    given, expected = REPLACED[kind]
    session = await service.create_session(app_name=APP, user_id=USER)
    await service.append_event(session, delta({"k": given, "user:b": (1,)}, seconds=0))
    found = await stored(service, session)
    assert found.state == {"k": expected, "user:b": [1]}
    assert found.events[0].actions.state_delta == found.state
    assert warnings_in(caplog)


NO_TEXT = {"k": b"\xff", "user:u": 1}


@stored_as_json
async def test_bytes_that_are_no_text_at_creation(service: BaseSessionService) -> None:
    """Bytes that are not UTF-8 have no JSON form: UnicodeDecodeError, a ValueError, and nothing is stored."""
    with pytest.raises(UnicodeDecodeError):
        await service.create_session(app_name=APP, user_id=USER, session_id="s", state=NO_TEXT)
    assert await service.get_session(app_name=APP, user_id=USER, session_id="s") is None
    assert await service.get_user_state(app_name=APP, user_id=USER) == {}


@stored_as_json
async def test_bytes_that_are_no_text_in_a_delta(service: BaseSessionService) -> None:
    """The same in a state delta: neither the event nor any of its state is stored."""
    session = await service.create_session(app_name=APP, user_id=USER, session_id="s")
    before = await stored(service, session)
    with pytest.raises(UnicodeDecodeError):
        await service.append_event(session, delta(NO_TEXT, seconds=0))
    assert session == before
    assert await stored(service, session) == before
    assert await service.get_user_state(app_name=APP, user_id=USER) == {}
