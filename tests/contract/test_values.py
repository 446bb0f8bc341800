"""Values at the edge of JSON and PostgreSQL: stored exactly, or refused by name. Never altered in silence."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
from google.adk.events import Event
from sqlalchemy.exc import DBAPIError

from .backends import differs
from .events import APP, USER, args_of, at, called, delta, said, stored

if TYPE_CHECKING:
    from google.adk.sessions import BaseSessionService

NULLED = "stores null in its place"
REFUSED = "the server refuses it: the append fails"
# A surrogate in a key fails before that, in pydantic.
REFUSED_IN_KEYS = differs(database=REFUSED, raises=(DBAPIError, UnicodeEncodeError))

EXACT = {
    "integers": [2**53 + 1, 2**64, -(2**70), 10**100],
    "floats": [0.1, 1e-7, 5e-324, 123456789.123456789],
    "look like escapes": ["\\u0000", "\\ud800", "\\\\u0000"],
    "control characters": "\x01\x1f\x7f\u2028",
    "noncharacters": "\ufffe\uffff\U0010ffff",
}
ALTERED_BY_JSONB = {
    "1e16": 1e16,
    "-0.0": -0.0,
    "1e300": 1e300,
    "-1e22": -1e22,
    "float max": 1.7976931348623157e308,
}
NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
NOT_TEXT = {
    "nul": "a\x00b",
    "nul and its escape": "\x00\\u0000",
    "high surrogate": "\ud83d",
    "low surrogate": "a\udc00b",
}


def params(values: dict[str, Any], *marks: pytest.MarkDecorator) -> list[Any]:
    """One parameter for each value, named."""
    return [pytest.param(value, id=name, marks=marks) for name, value in values.items()]


async def in_arguments(service: BaseSessionService, value: Any) -> Any:
    """The value as it comes back from the arguments of a function call."""
    session = await service.create_session(app_name=APP, user_id=USER)
    await service.append_event(session, called({"v": value}))
    return args_of((await stored(service, session)).events[0])["v"]


async def in_delta(service: BaseSessionService, value: Any) -> Any:
    """The value as it comes back from state that an event set, in all three scopes."""
    session = await service.create_session(app_name=APP, user_id=USER)
    await service.append_event(session, delta({"k": value, "app:k": value, "user:k": value}))
    state = (await stored(service, session)).state
    assert repr(state["app:k"]) == repr(state["user:k"]) == repr(state["k"])
    return state["k"]


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(list(EXACT.values()), id="exact"),
        *params(ALTERED_BY_JSONB, differs(database="JSONB writes it back as another number")),
        *params(NOT_FINITE, differs(database=NULLED)),
        *params(NOT_TEXT, differs(database=REFUSED, raises=DBAPIError)),
    ],
)
async def test_in_an_event(service: BaseSessionService, value: Any) -> None:
    """A value in an event reads back exactly: same value, same type, same bits."""
    assert repr(await in_arguments(service, value)) == repr(value)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(list(EXACT.values()), id="exact"),
        *params(ALTERED_BY_JSONB, differs(database="JSONB writes it back as another number")),
        *params(NOT_FINITE, differs(database=REFUSED, raises=DBAPIError)),
        *params(NOT_TEXT, differs(database=REFUSED, raises=DBAPIError)),
    ],
)
async def test_in_state(service: BaseSessionService, value: Any) -> None:
    """A value in session, app or user state reads back exactly."""
    assert repr(await in_delta(service, value)) == repr(value)


@pytest.mark.parametrize("value", params(NOT_TEXT, REFUSED_IN_KEYS))
async def test_in_keys_and_texts(service: BaseSessionService, value: str) -> None:
    """Text that UTF-8 or PostgreSQL cannot hold is kept in keys, contents and messages, too."""
    session = await service.create_session(app_name=APP, user_id=USER)
    event = said(value, error_message=value, branch=value, custom_metadata={value: {value: value}})
    await service.append_event(session, event)
    assert (await stored(service, session)).events == [event]


@pytest.mark.parametrize("value", params(NOT_TEXT, REFUSED_IN_KEYS))
async def test_at_creation(service: BaseSessionService, value: str) -> None:
    """The same in the state given to create_session."""
    session = await service.create_session(
        app_name=APP, user_id=USER, state={value: value, f"user:{value}": [value]}
    )
    assert session.state == {value: value, f"user:{value}": [value]}
    assert await stored(service, session) == session


@pytest.mark.parametrize("seconds", [0.1, 0.1234567, 0.99999999, 1e-7, -1_999_999_999.75, 1e9 + 0.3])
async def test_timestamps_keep_every_bit(service: BaseSessionService, seconds: float) -> None:
    """An event's timestamp reads back exactly, though PostgreSQL keeps microseconds."""
    session = await service.create_session(app_name=APP, user_id=USER)
    await service.append_event(session, said("hi", seconds=seconds))
    assert (await stored(service, session)).events[0].timestamp == at(seconds)


@pytest.mark.parametrize("field", ["error_message", "error_code", "branch", "author", "model_version"])
async def test_long_texts(service: BaseSessionService, field: str) -> None:
    """Texts longer than any column are kept whole."""
    session = await service.create_session(app_name=APP, user_id=USER)
    event = said("hi", **{field: "é" * 5000}) if field != "author" else Event(author="é" * 5000)
    await service.append_event(session, event)
    assert (await stored(service, session)).events == [event]


@differs(database="its column has 256 characters: the append fails", raises=DBAPIError)
async def test_a_long_invocation_id(service: BaseSessionService) -> None:
    """An invocation id has no limit that a caller would meet."""
    session = await service.create_session(app_name=APP, user_id=USER)
    await service.append_event(session, said("hi", invocation_id="i" * 1000))
    assert (await stored(service, session)).events[0].invocation_id == "i" * 1000


@pytest.mark.parametrize("key", ["app_name", "user_id", "session_id"])
@differs(
    in_memory="has no limit",
    database="leaves it to the server: a DBAPIError",
    raises=(pytest.fail.Exception, DBAPIError),
)
async def test_a_key_too_long(service: BaseSessionService, key: str) -> None:
    """A key longer than 128 characters is refused by a ValueError that names it, and nothing is stored."""
    keys = {"app_name": APP, "user_id": USER, "session_id": "s"} | {key: "x" * 129}
    with pytest.raises(ValueError, match=key):
        await service.create_session(**keys, state={"app:a": 1})
    assert (await service.list_sessions(app_name=APP)).sessions == []


async def test_unicode_everywhere(service: BaseSessionService) -> None:
    """Keys, ids and values in any script are the same afterwards, unnormalised."""
    text = "Ä\u0041\u0308 日本 \U0001f469\u200d\U0001f680 \u202eabc \"'\\%s{}$1"
    session = await service.create_session(
        app_name=text, user_id=text, session_id=f"x{text}x", state={text: text}
    )
    await service.append_event(session, said(text, seconds=0, id=text, branch=text))
    assert await stored(service, session) == session
    assert session.id == f"x{text}x"


async def test_a_large_event(service: BaseSessionService) -> None:
    """An event of some megabytes, as with an image in it, is stored like another."""
    session = await service.create_session(app_name=APP, user_id=USER)
    event = called({"big": "x" * 3_000_000, "rows": list(range(10_000))})
    await service.append_event(session, event)
    assert (await stored(service, session)).events == [event]


async def test_deep_nesting(service: BaseSessionService) -> None:
    """A value nested a hundred deep reads back."""
    value: Any = 1
    for n in range(100):
        value = {"k": value} if n % 2 else [value]
    assert await in_arguments(service, value) == value
    assert await in_delta(service, value) == value
