"""Stored bytes that no encoder wrote: a ValueError that says where, and a process that goes on."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

import pytest
from google.adk.events import Event
from google.genai import types

from adk_psqlpy import _native
from servers import run_sql

from . import rows

if TYPE_CHECKING:
    from google.adk.sessions import Session

    from adk_psqlpy import PsqlpySessionService
    from servers import Database

PLACE = "session 's' of app 'a'"
JSON_COLUMNS = [
    "actions",
    "content",
    "extra",
    "long_running_tool_ids_json",
    "grounding_metadata",
    "custom_metadata",
]
TEXT_COLUMNS = [*(name for name in rows.OWN if name != "timestamp"), "branch", "custom_metadata"]
MEGABYTE = 1 << 20


def read(*events: dict[str, bytes]) -> list[Event]:
    """Events of these columns, ids and times apart; the rare ones together, as the statement sends them."""
    own: list[list[bytes | None]] = [[] for _ in rows.OWN]
    rare: list[bytes | None] = []
    for number, columns in enumerate(events):
        row: dict[str, bytes | None] = {
            "id": b"e-%d" % number,
            "timestamp": bytes(8),
            "author": b"user",
            **columns,
        }
        for values, name in zip(own, rows.OWN, strict=True):
            values.append(row.get(name))
        members = [b'"%s": %s' % (name.encode(), row[name]) for name in rows.RARE if name in row]
        rare.append(b"\1{" + b", ".join(members) + b"}" if members else None)
    oids = [rows.OIDS[rows.TYPES[name]] for name in rows.OWN]
    arrays = [rows.array(oid, values) for oid, values in zip(oids, own, strict=True)]
    return _native.decode_events((*arrays, rows.array(rows.OIDS["jsonb"], rare)), place=PLACE)


def document(column: str, text: bytes) -> bytes:
    """A JSON text in the form in which the column's value arrives."""
    if column == "long_running_tool_ids_json":  # text, which travels as a JSON string
        return rows._text(text.decode()).encode()
    return b"\1" + text if column in ("content", "extra") else text


def refused(*events: dict[str, bytes]) -> str:
    """The message with which such rows are refused."""
    with pytest.raises(ValueError, match=re.escape(PLACE)) as error:
        read(*events)
    assert type(error.value) is ValueError
    return str(error.value)


def assert_located(message: str, column: str, *, event: str = "e-1") -> None:
    """Assert that a message names session, event and column (rare ones travel as one), and the position."""
    place = column if column in rows.OWN else f"({column}|rare)"
    assert re.match(rf'{re.escape(PLACE)}, event "{event}", column {place}: .* \(at byte \d+\)$', message), (
        message
    )


@pytest.mark.parametrize("column", JSON_COLUMNS)
@pytest.mark.parametrize(
    ("text", "what", "position"),
    [
        (b"", "the text ends", 0),
        (b'{"a": ', "the text ends", 6),
        (b'{"a": tru}', "no JSON value", 6),
        (b'{"a" 1}', "no JSON value", 5),
        (b'{"a": 1,}', "no JSON value", 8),
        (b"{'a': 1}", "no JSON value", 1),
        (b'{"a": 01}', "not a JSON number", 6),
        (b'{"a": -}', "not a JSON number", 6),
        (b'{"a": NaN}', "no JSON value", 6),
        (rb'{"a": "\x"}', "not a JSON escape", 7),
        (rb'{"a": "\ud800"}', "not a JSON escape", 7),
        (b'{"a": "\x01"}', "a control character", 7),
        (b'{"a": 1} {}', "more text behind", 9),
    ],
)
def test_text_that_is_not_json(column: str, text: bytes, what: str, position: int) -> None:
    """Whichever column it stands in, the message says what was found at which byte of which event."""
    message = refused({}, {column: document(column, text)})
    assert_located(message, column)
    if column in ("actions", "content", "extra", "long_running_tool_ids_json"):
        assert what in message
        assert message.endswith(f"(at byte {position})")


@pytest.mark.parametrize("column", TEXT_COLUMNS)
def test_bytes_that_are_not_utf8(column: str) -> None:
    """A text of any column with a byte that UTF-8 has no place for."""
    plain = {"id": b"\xff", "invocation_id": b"\xc3", "author": b"a\xed\xa0\x80"}
    value = plain.get(column) or document(column, b'{"\xff": "\xc3"}')
    message = refused({}, {column: value})
    assert_located(message, column, event="\ufffd" if column == "id" else "e-1")
    assert "not UTF-8" in message


@pytest.mark.parametrize("value", [b"", b"\0" * 7, b"\0" * 9, b"\x7f" + b"\xff" * 7])
def test_timestamps_that_are_none(value: bytes) -> None:
    """A timestamp of another width, and infinity, which is no float of seconds."""
    assert_located(refused({}, {"timestamp": value}), "timestamp")


@pytest.mark.parametrize("value", [b"", b"{}", b"\0{}", b"\2{}"])
def test_jsonb_of_another_version(value: bytes) -> None:
    """The version byte is PostgreSQL's promise about the rest."""
    for column in ("content", "extra"):
        message = refused({}, {column: value})
        assert_located(message, column)
        assert "not a jsonb value" in message


@pytest.mark.parametrize("index", range(_native.OWN_ARRAYS + 1))
@pytest.mark.parametrize(
    "header",
    [
        (-1, 0, 25, 1, 1),
        (2, 0, 25, 1, 1),
        (6, 0, 25, 1, 1),
        (2**31 - 1, 0, 25, 1, 1),
        (1, 0, 25, -1, 1),
        (1, 0, 25, 2, 1),
        (1, 0, 25, 2**31 - 1, 1),
        (1, 0, 25, -(2**31), 1),
    ],
)
def test_a_header_that_lies(index: int, header: tuple[int, ...]) -> None:
    """Dimensions and lengths that the bytes do not bear out."""
    arrays = list(rows.stored([Event(id="e", author="user")]))
    arrays[index] = struct.pack(">iiIii", *header) + arrays[index][20:]
    column = rows.OWN[index] if index < len(rows.OWN) else "rare"
    with pytest.raises(
        ValueError, match=rf"^{re.escape(PLACE)}, event .*, column {column}: .* \(at byte \d+"
    ):
        _native.decode_events(tuple(arrays), place=PLACE)


@pytest.mark.parametrize("index", range(_native.OWN_ARRAYS + 1))
@pytest.mark.parametrize("length", [-2, -(2**31), 2**31 - 1, 2**31 - 20, 1000])
def test_an_element_that_lies(index: int, length: int) -> None:
    """An element longer than what is left, or of a negative length that is not NULL's."""
    arrays = list(rows.stored([Event(id="e", author="user")]))
    arrays[index] = arrays[index][:20] + struct.pack(">i", length) + arrays[index][24:]
    column = rows.OWN[index] if index < len(rows.OWN) else "rare"
    event = "" if column == "id" else "e"
    with pytest.raises(
        ValueError, match=rf'^{re.escape(PLACE)}, event "{event}", column {column}: .* \(at byte 20'
    ):
        _native.decode_events(tuple(arrays), place=PLACE)


def test_arguments_that_are_no_arrays() -> None:
    """Other types and other counts are refused as Python refuses arguments."""
    arrays = rows.stored([Event(id="e", author="user")])
    for bad in [arrays[:-1], (*arrays, arrays[0])]:
        with pytest.raises(ValueError, match="takes 8 arrays"):
            _native.decode_events(bad, place=PLACE)
    with pytest.raises(TypeError):
        _native.decode_events((*arrays[:-1], "text"), place=PLACE)  # type: ignore[arg-type]


@pytest.mark.parametrize("column", JSON_COLUMNS)
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_100_000_brackets(column: str, opening: bytes, closing: bytes) -> None:
    """Refused in every column, closed or not, where the nesting is too deep: the stack never ends."""
    for text in (opening * 100_000 + b"1" + closing * 100_000, opening * 100_000):
        prefix = b'{"output": ' if column == "extra" else b'{"k": '
        message = refused({}, {column: document(column, prefix + text + b"}")})
        assert_located(message, column)
        assert "nested too deep" in message


@pytest.mark.parametrize("filler", ["x", "ü", '\\"'], ids=["ascii", "two bytes", "escapes"])
def test_a_string_of_100_megabytes(filler: str) -> None:
    """Read if it is whole, refused at its end if it is not."""
    count = 100 * MEGABYTE // len(filler.encode())
    text = filler.encode() * count
    head, tail = b'\1{"parts": [{"text": "', b'"}], "role": "user"}'
    (event,) = read({"content": head + text + tail})
    assert event.content is not None
    assert event.content.parts is not None
    assert event.content.parts[0].text == filler.removeprefix("\\") * count
    message = refused({}, {"content": head + text})
    assert_located(message, "content")
    assert message.endswith(f"the text ends inside a value (at byte {len(head + text) - 1})")


def test_a_number_of_a_megabyte() -> None:
    """Python itself refuses to read integers of so many digits."""
    message = refused({"content": b'\1{"role": ' + b"9" * MEGABYTE + b"}"})
    assert "content" in message
    assert len(message) < 1000


async def test_a_malformed_row_of_a_table(
    service: PsqlpySessionService, session: Session, database: Database
) -> None:
    """What SQL can put into the columns that are not JSONB; the other sessions are read as ever."""
    other = await service.create_session(app_name="app", user_id="user", session_id="other")
    for each in (session, other):
        await service.append_event(each, Event(id="e-1", author="user", content=types.UserContent("Hello")))
    for change, column in [
        (r"actions = '\xff'", "actions"),
        ("actions = convert_to('{\"state_delta\": ', 'UTF8')", "actions"),
        ("actions = convert_to(repeat('[', 100000), 'UTF8')", "actions"),
        ("actions = NULL, long_running_tool_ids_json = '[1'", "long_running_tool_ids_json"),
    ]:
        run_sql(database.dsn, f"UPDATE adk_events SET {change} WHERE session_id = 's'")
        where = rf"session 's'.* event \"e-1\", column {column}: .* \(at byte \d+\)$"
        with pytest.raises(ValueError, match=where):
            await service.get_session(app_name="app", user_id="user", session_id="s")
    found = await service.get_session(app_name="app", user_id="user", session_id="other")
    assert found is not None
    assert len(found.events) == 1
