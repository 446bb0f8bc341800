"""The edges of types: times, bytes, enumerations, objects that are not JSON, and what is refused by name."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import uuid
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from google.adk.events import Event, EventActions
from google.genai import types
from pydantic import BaseModel

from adk_psqlpy import _native
from servers import run_sql

from . import rows
from .compare import assert_same
from .test_values import through

if TYPE_CHECKING:
    from google.adk.sessions import Session

    from adk_psqlpy import PsqlpySessionService
    from servers import Database

NANOSECONDS = [1_700_000_000 + step * 1e-9 for step in range(0, 2000, 100)] + [
    step * 1e-9 for step in range(-3, 4)
]
TIMES = [
    *(
        0.0,
        1.0,
        -1.0,
        -0.5,
        1e-6,
        5e-7,
        1e-7,
        5e-324,
        0.1 + 0.2,
        1.7e9 + 1 / 3,
        2.0**31,
        2.0**33 + 0.123456789,
    ),
    *(253402300799.999999, 253402300800.0, 9e12, -62135596800.5, -210_866_803_200.0, 9.2e12),
]


def read_back(event: Event) -> Event:
    """The event, stored and read, with the stand-in for the server."""
    (made,) = _native.decode_events(rows.stored([event]), place="here")
    return made


def dumped(event: Event) -> dict[str, Any]:
    """What pydantic writes of the event."""
    return event.model_dump(mode="json", exclude_none=True)


async def nothing_stored(service: PsqlpySessionService, session: Session, database: Database) -> None:
    """Assert that the session is as it was created."""
    ((events,), (stored,)) = run_sql(
        database.dsn, "SELECT count(*) AS n FROM adk_events", "SELECT state, revision FROM adk_sessions"
    )
    assert events["n"] == 0
    assert stored == {"state": {}, "revision": stored["revision"]}
    await service.append_event(session, Event(author="a"))  # and the object is as current as before


# Times.


async def test_every_time_comes_back(service: PsqlpySessionService, session: Session) -> None:
    """A timestamp keeps the bits that PostgreSQL's microseconds drop."""
    sent = [Event(author="a", timestamp=seconds) for seconds in TIMES + NANOSECONDS]
    for event, expected in zip(await through(service, session, sent), sent, strict=True):
        assert_same(event.timestamp, expected.timestamp)


async def test_the_column_holds_the_nearest_microsecond(
    service: PsqlpySessionService, session: Session, database: Database
) -> None:
    """What SQL sees of a time is rounded, not cut."""
    await through(
        service,
        session,
        [Event(author="a", timestamp=seconds) for seconds in (0.9999996, 1.7e9 + 0.1234567, -1.5)],
    )
    seen = run_sql(
        database.dsn, 'SELECT extract(epoch FROM "timestamp")::text AS at FROM adk_events ORDER BY seq'
    )
    assert [row["at"] for row in seen[0]] == ["1.000000", "1700000000.123457", "-1.500000"]


@pytest.mark.parametrize(
    "seconds",
    [
        float("nan"),
        float("inf"),
        float("-inf"),
        1e300,
        -210_866_803_201.0,
        9_223_372_036_860.0,
        9_224_318_016_001.0,
    ],
)
async def test_a_time_that_postgresql_cannot_hold(
    service: PsqlpySessionService, session: Session, database: Database, seconds: float
) -> None:
    """A timestamp out of range is refused by name, and nothing is stored."""
    event = Event(author="a", timestamp=seconds, actions=EventActions(state_delta={"k": 1}))
    with pytest.raises(ValueError, match=r"timestamp.* is outside what is kept"):
        await service.append_event(session, event)
    await nothing_stored(service, session, database)


# Bytes.


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\xff",
        b"\xfb\xff\xfe",
        b"a",
        b"ab",
        b"abc",
        *(bytes(range(256))[:end] for end in range(20, 257, 7)),
    ],
    ids=len,
)
def test_bytes(data: bytes) -> None:
    """Bytes are URL-safe base64 with padding, as pydantic writes them, and come back."""
    part = types.Part(inline_data=types.Blob(data=data, mime_type="m"), thought_signature=data)
    event = Event(author="a", content=types.Content(parts=[part]))
    assert_same(read_back(event).content, event.content)
    row = rows.normalised(_native.encode_event(event, 128))
    assert rows.fields_of(row)["content"] == dumped(event)["content"]


# Behind 64 characters a decoder may go by vectors.
@pytest.mark.parametrize("before", ["", "AbC_-9z0" * 8], ids=["short", "long"])
@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "_-8=",
            "+/8=",
            "AA",
            "AA==",
            "A",
            "AAA",
            "AAA=",
            "AAAA=",
            " AA==",
            "AA==\n",
            "AB==",
            "AAB=",
            "=",
            "é",
        ),
        *(f"AAAA{bad}{'AAAA' * 15}AAA" for bad in "+/=-_ \n.\x7f"),
        *("AA==AAAA" * 8, "AA==" + "AAAA" * 16),
    ],
)
def test_bytes_of_other_writers(before: str, text: str) -> None:
    """Any other text for bytes is read, or refused, as pydantic does."""
    part = {"thought_signature": before + text}
    fields = {"id": "e", "timestamp": rows.Number("1.5"), "content": {"parts": [part]}}
    arrays = rows.arrays([rows.row_of(fields)])
    try:
        expected = Event.model_validate(rows.plain(fields))
    except ValueError:
        with pytest.raises(ValueError, match="thought_signature"):
            _native.decode_events(arrays, place="here")
    else:
        assert_same(_native.decode_events(arrays, place="here"), [expected])


# Enumerations.


@pytest.mark.parametrize("value", ["STOP", "stop", "Stop", "A_NEWER_REASON", "a newer reason", ""])
def test_members_known_and_unknown(value: str) -> None:
    """A member that the installed genai lacks is kept, with the warning that pydantic's reading gives."""
    fields = {"id": "e", "timestamp": rows.Number("1.5"), "finish_reason": value}
    with warnings.catch_warnings(record=True) as expected_warnings:
        warnings.simplefilter("always")
        expected = Event.model_validate(rows.plain(fields))
    with warnings.catch_warnings(record=True) as made_warnings:
        warnings.simplefilter("always")
        (made,) = _native.decode_events(rows.arrays([rows.row_of(fields)]), place="here")
    assert [str(each.message) for each in made_warnings] == [str(each.message) for each in expected_warnings]
    assert [each.category for each in made_warnings] == [each.category for each in expected_warnings]
    assert_same(made, expected)


@pytest.mark.filterwarnings("ignore:.* is not a valid FinishReason:UserWarning")
async def test_an_unknown_member_is_stored(service: PsqlpySessionService, session: Session) -> None:
    """An event read with such a member can be stored again."""
    event = Event.model_validate({"author": "a", "finish_reason": "A_NEWER_REASON"})
    (read,) = await through(service, session, [event])
    assert_same(read.finish_reason, event.finish_reason)


# Events that were not made the usual way.


class Marked(Event):
    """An application's own event."""

    mark: str | None = None


def test_a_subclass() -> None:
    """A subclass is written as its dump, and read as the Event that pydantic makes of that."""
    event = Marked(
        author="a", id="e", mark="m", custom_metadata={"z": 1, "a": 2}, content=types.Content(parts=[])
    )
    row = rows.normalised(_native.encode_event(event, 128))
    assert rows.fields_of(row) == dumped(event)
    assert_same(read_back(event), Event.model_validate(dumped(event)))


def test_a_subclass_inside() -> None:
    """So is a subclass of a model beneath it."""

    class Call(types.FunctionCall):
        pass

    part = types.Part.model_construct(function_call=Call(name="f", args={"z": 1, "a": 2}))
    event = Event(author="a", content=types.Content.model_construct(parts=[part]))
    assert_same(read_back(event), Event.model_validate(dumped(event)))


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")
@pytest.mark.parametrize(
    "fields",
    [
        {"author": "a", "id": "e", "timestamp": 5.5},
        {"author": "a", "id": "e", "timestamp": 5},
        {"author": "a", "id": "e", "timestamp": 5.5, "content": {"parts": [{"text": "t"}], "role": "user"}},
        {"author": "a", "id": "e", "timestamp": 5.5, "actions": {"state_delta": {"b": 1, "a": 2}}},
        {"author": "a", "id": "e", "timestamp": 5.5, "long_running_tool_ids": ["b", "a"]},
        {"author": "a", "id": "e", "timestamp": 5.5, "avg_logprobs": 1},
        {"author": "a", "id": "e", "timestamp": 5.5, "finish_reason": "STOP"},
    ],
    ids=lambda fields: list(fields)[-1],
)
def test_a_constructed_event(fields: dict[str, Any]) -> None:
    """`model_construct` checks nothing: such an event is written as its dump."""
    event = Event.model_construct(**fields)
    assert_same(read_back(event), Event.model_validate(dumped(event)))


@pytest.mark.parametrize(
    "fields",
    [{"turn_complete": 1}, {"author": 5}, {"branch": 5}, {"timestamp": "now"}],
    ids=lambda fields: next(iter(fields)),
)
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")
def test_a_constructed_event_that_no_column_holds(fields: dict[str, Any]) -> None:
    """A value of another type than its column's is refused by name."""
    event = Event.model_construct(**{"author": "a", "id": "e", "timestamp": 5.5, **fields})
    with pytest.raises(
        ValueError, match=f"event field {next(iter(fields))}: not a value that this column holds"
    ):
        _native.encode_event(event, 128)


def test_assigned_fields() -> None:
    """What was assigned after construction is stored as it is."""
    event = Event(author="a", content=types.Content(parts=[types.Part(text="x")]))
    event.content.parts[0].text = "y"  # type: ignore[union-attr,index]
    event.branch = "b"
    event.custom_metadata = {"later": 1}
    assert_same(read_back(event), Event.model_validate(dumped(event)))


# Objects that are not JSON.


class Colour(enum.Enum):
    RED = "red"


class Size(enum.IntEnum):
    LARGE = 3


class Inner(BaseModel):
    name: str = "n"
    none: str | None = None
    at: datetime.datetime = datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)


@dataclasses.dataclass
class Point:
    x: int
    y: float | None = None


class Text(str):
    __slots__ = ()


class Keyed(dict):  # type: ignore[type-arg]
    pass


FOREIGN: dict[str, Any] = {
    "datetime": datetime.datetime(2024, 1, 2, 3, 4, 5, 678, tzinfo=datetime.timezone.utc),
    "date": datetime.date(2024, 1, 2),
    "time": datetime.time(3, 4),
    "timedelta": datetime.timedelta(days=1, seconds=2.5),
    "decimal": decimal.Decimal("1.50"),
    "uuid": uuid.UUID(int=5),
    "tuple": (1, (2.5, None)),
    "set": {"one"},
    "frozenset": frozenset({1}),
    "dataclass": Point(1),
    "model": Inner(),
    "genai model": types.Part(text="t"),
    "bytes": b"\xfb\xff",
    "bytearray": bytearray(b"\xfb\xff"),
    "enum": Colour.RED,
    "int enum": Size.LARGE,
    "str subclass": Text("t"),
    "dict subclass": Keyed(b=1, a=2),
    "int keys": {2: "b", 1: "a"},
    "mixed keys": {"b": 1, 1: 2, None: 3, 2.5: 5},
    "enum keys": {Colour.RED: 1},
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("depth", [0, 1])
def test_objects_that_are_not_json(name: str, depth: int) -> None:
    """An object in a field of type Any is stored as pydantic dumps it."""
    value = FOREIGN[name] if depth == 0 else {"z": [FOREIGN[name]], "a": None}
    events = [
        Event(author="a", id="e", custom_metadata={"v": value, "n": None}),
        Event(author="a", id="e", output=value),
        Event(author="a", id="e", actions=EventActions(state_delta={"v": value})),
        Event(author="a", id="e", actions=EventActions(agent_state={"v": value}, set_model_response=value)),
        Event(
            author="a",
            id="e",
            content=types.Content(
                parts=[types.Part(function_response=types.FunctionResponse(response={"v": value}))]
            ),
        ),
    ]
    for event in events:
        row = rows.normalised(_native.encode_event(event, 128))
        assert_same(rows.fields_of(row), dumped(event), order=False)
        assert_same(read_back(event), Event.model_validate(dumped(event)))


@pytest.mark.parametrize("place", ["state_delta", "agent_state"])
def test_objects_that_pydantic_cannot_dump_either(place: str, caplog: pytest.LogCaptureFixture) -> None:
    """ADK's serializers put a text in the place of a function, with a warning; so is it stored."""
    event = Event(
        author="a",
        id="e",
        actions=EventActions(**{place: {"f": len, "z": 1, "a": datetime.date(2024, 1, 2)}}),
    )
    assert_same(read_back(event), Event.model_validate(dumped(event)))
    assert "Failed to serialize" in caplog.text


async def test_an_object_that_nobody_can_dump(
    service: PsqlpySessionService, session: Session, database: Database
) -> None:
    """Where pydantic refuses an object, so does the append, and nothing is stored."""
    with pytest.raises(ValueError, match="Unable to serialize unknown type"):
        await service.append_event(session, Event(author="a", custom_metadata={"f": len}))
    await nothing_stored(service, session, database)


# Limits.


def nested(depth: int, *, lists: bool) -> Any:
    """A value of so many containers."""
    value: Any = 1
    for _ in range(depth):
        value = [value] if lists else {"k": value}
    return value


@pytest.mark.parametrize("lists", [True, False])
async def test_deep_values(service: PsqlpySessionService, session: Session, *, lists: bool) -> None:
    """A value nested 500 deep comes back, which pydantic cannot even dump."""
    value = {"k": nested(500, lists=lists)}
    sent = [
        Event(author="a", custom_metadata=value),
        Event(author="a", actions=EventActions(state_delta=value)),
    ]
    read = await through(service, session, sent)
    assert_same(read[0].custom_metadata, value)
    assert_same(read[1].actions.state_delta, value)
    found = await service.get_session(app_name="app", user_id="user", session_id=session.id)
    assert found is not None
    assert_same(found.state, value)


def circular() -> dict[str, Any]:
    """A dict that holds itself."""
    value: dict[str, Any] = {}
    value["self"] = value
    return value


UNSTORABLE = {
    "too deep": (lambda: {"k": nested(520, lists=True)}, "nested deeper than 512 levels"),
    "circular": (circular, "nested deeper than 512 levels"),
    # The interpreter says "4300 digits" from 3.11 on, and "4300" before.
    "5,000 digits": (lambda: {"k": 10**5000}, r"limit \(4300"),
}


@pytest.mark.parametrize("name", UNSTORABLE)
@pytest.mark.parametrize("place", ["custom_metadata", "output", "actions", "state"])
async def test_values_without_end(
    service: PsqlpySessionService, session: Session, database: Database, name: str, place: str
) -> None:
    """A value that is too deep or too long is refused by the name of its field, and nothing is stored."""
    make, words = UNSTORABLE[name]
    value = make()
    if place == "state":
        with pytest.raises(ValueError, match=words):
            await service.create_session(app_name="app", user_id="user", state=value)
    else:
        event = Event(author="a")
        setattr(
            event,
            place,
            EventActions.model_construct(**dict(event.actions) | {"state_delta": value})
            if place == "actions"
            else value,
        )
        with pytest.raises(ValueError, match=f"event field {place}.*{words}"):
            await service.append_event(session, event)
    await nothing_stored(service, session, database)


async def test_4300_digits(service: PsqlpySessionService, session: Session) -> None:
    """The longest integer that Python reads comes back."""
    value = {"k": 10**4299}
    (event,) = await through(service, session, [Event(author="a", custom_metadata=value)])
    assert_same(event.custom_metadata, value)
