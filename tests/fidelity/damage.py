"""Rows that no encoder wrote: JSON texts and binary arrays with bytes changed, cut off and put in."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from google.adk.events import Event

from adk_psqlpy import _native

from . import rows
from .compare import assert_same
from .proof import REFUSALS
from .strategies import Builder

if TYPE_CHECKING:
    from random import Random

BYTES = b'{}[]",:\\/0123456789-+.eEtrufalsn \t\n\x00\x01\x1f\x7f\x80\xbf\xc3\xed\xef\xff'


def damaged(random: Random, data: bytes) -> bytes:
    """The bytes with a few of them changed, removed, doubled or moved."""
    out = bytearray(data)
    for _ in range(random.choice([1, 1, 1, 1, 3])):
        at, act = random.randrange(len(out) + 1), random.randrange(5)
        span = out[at : at + random.choice([1, 1, 4, 16])]
        if act == 0:
            out[at : at + 1] = bytes([random.choice(BYTES)])
        elif act == 1:
            out[at:at] = bytes([random.choice(BYTES)])
        elif act == 2:
            del out[at : at + len(span)]
        elif act == 3:
            out[at:at] = span
        else:
            del out[at:]
    return bytes(out)


def check_text(random: Random) -> bool:
    """Assert that a damaged JSON text is read as pydantic reads it, or refused by both; whether it was."""
    row = dict(
        zip(rows.NAMES, rows.normalised(_native.encode_event(Builder(random).event(), 128)), strict=True)
    )
    row = {
        name: row[name] if name in ("id", "timestamp", "actions", "content") else None for name in rows.NAMES
    }
    name = random.choice([name for name in ("actions", "content") if row[name] is not None])
    text = damaged(random, row[name].removeprefix(b"\1"))
    row[name] = (b"\1" if name == "content" else b"") + text
    arrays = rows.arrays([list(row.values())])
    try:
        expected = Event.model_validate(
            rows.fields_of(list(row.values())) | {name: rows.plain(_strict(text))}
        )
    except REFUSALS as error:
        refused = error
    else:
        (made,) = _native.decode_events(arrays, place="damage")
        assert_same(made, expected)
        return True
    try:
        made = _native.decode_events(arrays, place="damage")
    except REFUSALS:
        return False
    raise AssertionError(f"{text!r}: Python refuses it, {refused}, but it was read as {made!r}")


def _strict(text: bytes) -> Any:
    value = rows.loads(text.decode(), rows.Number)
    json.dumps(value, ensure_ascii=False).encode()  # raises on \ud800, which is JSON to Python only
    return value


def check_arrays(random: Random) -> bool:
    """Assert that damaged arrays, if they are refused, are refused in our words; whether they were read."""
    events = [Builder(random).event() for _ in range(3)]
    arrays = list(rows.stored(events))
    index = random.randrange(len(arrays))
    arrays[index] = damaged(random, arrays[index])
    try:
        made = _native.decode_events(tuple(arrays), place="damage")
    except REFUSALS as error:
        # genai's AttributeErrors and TypeErrors go out as they are.
        if isinstance(error, ValueError) and not str(error).startswith("damage"):
            raise AssertionError(f"does not say where: {error}") from error
        return False
    assert all(isinstance(event, Event) for event in made)
    return True
