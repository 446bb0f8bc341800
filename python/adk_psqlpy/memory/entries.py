"""Making rows of memories, and memories of rows."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Final

from google.adk.events.event import Event
from google.adk.memory.memory_entry import MemoryEntry
from google.genai import types
from psqlpy.extra_types import CustomType
from pydantic_core import to_jsonable_python

from adk_psqlpy import _native
from adk_psqlpy.checks import check_identifier
from adk_psqlpy.connections import binary
from adk_psqlpy.connections.lanes import Decoders, Row
from adk_psqlpy.memory.words import words
from adk_psqlpy.sql import event_columns

_CONTENT: Final = event_columns.NAMES.index("content")
_ESCAPED: Final = re.compile("[\0\ud800-\udfff\ufdd0]")
_LONGEST_TTL: Final = timedelta(days=365_000)
_BATCH_BYTES: Final = 8_000_000
_COLUMNS: Final = ("text", "text", "timestamptz", "text", "jsonb", "jsonb", "text", "timestamptz")


@dataclass(slots=True)
class Stored:
    """One memory as a row; times are microseconds since the Unix epoch."""

    id: str
    author: str | None
    micros: int
    time_text: str | None
    content: bytes
    metadata: bytes
    text: str
    expires: int | None
    embedding: str | None = None
    words: str | None = None
    """The words to index; `None` for those of `text`."""


def searched_text(content: types.Content | None) -> str:
    """The text of a content that is searched: its text parts without thoughts, as in ADK's SQLite memory
    service.
    """
    if content is None:
        return ""
    parts = content.parts or ()
    return " ".join(part.text for part in parts if part.text and not part.thought)


def of_event(event: Event, metadata: bytes, ttl_micros: int | None, key_length: int) -> Stored:
    """Make a row of an event. Its time to live counts from the event's own time, so adding the event again
    does not extend it.

    Raises:
        ValueError: the id is too long or cannot be stored, or the timestamp is outside what is kept.
    """
    text = searched_text(event.content)
    identity = event.id
    if not identity:
        told = f"{event.author}:{event.timestamp}:{event.content!r}".encode("utf-8", "surrogatepass")
        identity = hashlib.sha256(told).hexdigest()[:32]
    check_key("event.id", identity, key_length)
    micros = round(event.timestamp * 1e6)
    content = encode_content(event.content, event.timestamp)
    expires = None if ttl_micros is None else micros + ttl_micros
    return Stored(identity, event.author, micros, None, content, metadata, text, expires)


def of_entry(entry: MemoryEntry, identity: str, metadata: bytes, now: int, ttl_micros: int | None) -> Stored:
    """Make a row of an explicit memory. Its time to live counts from now, because its own time may be any
    text.
    """
    content = encode_content(entry.content, 0.0)
    expires = None if ttl_micros is None else now + ttl_micros
    micros = _micros_of(entry.timestamp, now)
    text = searched_text(entry.content)
    return Stored(identity, entry.author, micros, entry.timestamp or "", content, metadata, text, expires)


def encode_content(content: types.Content | None, timestamp: float) -> bytes:
    """A content as jsonb. The event encoder keeps U+0000, NaN and other values that JSONB refuses."""
    event = Event(id="-", author="-", invocation_id="-", content=content, timestamp=timestamp)
    encoded = _native.encode_event(event, 1)[_CONTENT]
    assert encoded is not None, "an event with content has that column"
    return encoded


def encode_metadata(metadata: Mapping[str, object], name: str = "custom_metadata") -> bytes:
    """Metadata as a jsonb object. Values that are not JSON, such as dates, are written as pydantic writes
    them.

    Raises:
        ValueError: it is not a mapping with str keys, or a value has no JSON form.
    """
    if not isinstance(metadata, Mapping):
        raise ValueError(f"{name} must be a dict, not {type(metadata).__name__}")
    for key in metadata:
        if not isinstance(key, str):
            raise ValueError(f"keys of {name} must be str, not {type(key).__name__}: {key!r}")
    encoded = _native.encode_json(dict(metadata))
    if encoded is None:
        try:
            encoded = _native.encode_json(to_jsonable_python(dict(metadata)))
        except ValueError as error:
            raise ValueError(f"{name} holds a value that has no JSON form: {error}") from error
    if encoded is None:
        raise ValueError(f"{name} holds a value that has no JSON form")
    return encoded


def check_key(name: str, value: object, key_length: int) -> None:
    """Refuse an identifier that cannot be stored, as `check_identifier` does."""
    check_identifier(name, value, key_length, "PsqlpyMemoryService")


def columns(rows: Sequence[Stored], *, vectors: bool) -> list[CustomType]:
    """The array parameters of `MemoryStatements.add`, with one element for each row."""
    values = [
        [
            row.id.encode(),
            column_text(row.author),
            binary.timestamptz(row.micros),
            column_text(row.time_text),
            row.content,
            row.metadata,
            (words(row.text) if row.words is None else row.words).encode(),
            None if row.expires is None else binary.timestamptz(row.expires),
            *([None if row.embedding is None else row.embedding.encode()] if vectors else []),
        ]
        for row in rows
    ]
    return binary.arrays((*_COLUMNS, "text") if vectors else _COLUMNS, values)


def texts(values: Sequence[str]) -> CustomType:
    """A parameter of type `text[]`."""
    (array,) = binary.arrays(("text",), [[value.encode()] for value in values])
    return array


def column_text(value: str | None) -> bytes | None:
    """A text. Characters that PostgreSQL's text cannot hold are escaped, as the crate escapes JSON."""
    if value is None:
        return None
    if _ESCAPED.search(value):
        encoded = _native.encode_json(value)
        assert encoded is not None, "a str is a JSON value"
        value = str(json.loads(encoded[1:]))
    return value.encode()


def as_written(value: bytes) -> str:
    """A text as it was given to `column_text`."""
    text = value.decode()
    if "\ufdd0" in text:
        return str(_native.decode_json(b"\x01" + json.dumps(text).encode(), place="author of a memory"))
    return text


ROW: Final[Decoders] = {
    "author": as_written,
    "timestamp": binary.seconds,
    "timestamp_text": as_written,
    "content": binary.raw,
    "custom_metadata": binary.raw,
}


def entry_of(row: Row) -> MemoryEntry:
    """A found row as ADK's entry. As in ADK, an event's time is shown in local time without a zone."""
    identity, author, seconds, time_text, content, metadata = row
    place = f"memory {identity!r}"
    shown = datetime.fromtimestamp(seconds).isoformat() if time_text is None else time_text or None
    return MemoryEntry(
        id=identity,
        author=author,
        timestamp=shown,
        content=types.Content.model_validate(_native.decode_json(content, place=place)),
        custom_metadata=_native.decode_json(metadata, place=place),
    )


def _micros_of(written: str | None, now: int) -> int:
    """The time in a text, for sorting; the present time if the text has none that can be stored."""
    try:
        moment = datetime.fromisoformat((written or "").replace("Z", "+00:00"))
    except ValueError:
        return now
    if moment.tzinfo is None:
        moment = moment.astimezone()
    since = moment - datetime(1970, 1, 1, tzinfo=timezone.utc)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def ttl_micros(value: timedelta | float) -> int:
    """A time to live in microseconds.

    Raises:
        ValueError: it is not a time, not positive, or too long.
    """
    if isinstance(value, bool) or not isinstance(value, (timedelta, int, float)):
        raise ValueError(f"ttl must be a timedelta or seconds, not {type(value).__name__}")
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if not 0 < seconds <= _LONGEST_TTL.total_seconds():
        raise ValueError(f"ttl must be more than zero and at most {_LONGEST_TTL.days} days, not {value!r}")
    return round(seconds * 1e6)


def parts(rows: list[Stored]) -> Iterator[list[Stored]]:
    """Split rows into lots, so that large contents are not sent in one statement."""
    part: list[Stored] = []
    size = 0
    for row in rows:
        if part and size + len(row.content) > _BATCH_BYTES:
            yield part
            part, size = [], 0
        part.append(row)
        size += len(row.content)
    if part:
        yield part
