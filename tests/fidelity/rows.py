"""What PostgreSQL does between the encoder and the decoder, in Python: many events a second without a server.

`test_differential` holds it against a real server. Beside it, `Stored` reads a row without the crate: an
implementation of the storage's own rules (escapes, whole texts, order hints) that shares no line with it.
"""

from __future__ import annotations

import base64
import json
import math
import re
import struct
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any

from google.adk.events import Event
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from adk_psqlpy import _native

NAMES = [name for name, _ in _native.EVENT_COLUMNS]
TYPES = dict(_native.EVENT_COLUMNS)
OWN = NAMES[: _native.OWN_ARRAYS]
RARE = NAMES[_native.OWN_ARRAYS :]
OIDS = {"varchar": 1043, "timestamptz": 1184, "bytea": 17, "jsonb": 3802, "text": 25, "boolean": 16}
# The fields with a column of their own.
COLUMN_FIELDS = {key for key in Event.model_fields if key in TYPES or f"{key}_json" in TYPES}
# The fields that are kept as JSON, in a column of their own or in `extra`.
JSON_FIELDS = {
    key
    for key in Event.model_fields
    if TYPES.get(key, "jsonb") in ("jsonb", "bytea") or f"{key}_json" in TYPES
}
EPOCH_MICROS = 946_684_800_000_000

Row = Sequence[bytes | None]


class Number(str):
    """The digits of a JSON number."""

    __slots__ = ()


def numeric(text: str) -> Number:
    """A number as `numeric` prints it: no exponent, no sign on a zero, every digit kept."""
    if "e" not in text and "E" not in text and not text.startswith("-0"):
        return Number(text)
    value = Decimal(text)
    return Number(format(value.copy_abs() if value == 0 else value, "f"))


def loads(text: str | bytes, number: Callable[[str], Number] = numeric) -> Any:
    """JSON as PostgreSQL reads it for jsonb: no NaN, the last of equal keys, numbers as `numeric`."""
    return json.loads(text, parse_int=number, parse_float=number, parse_constant=_refuse)


def _refuse(constant: str) -> Any:
    raise ValueError(f"invalid input syntax for type json: {constant}")


def _text(value: str) -> str:
    value.encode()  # raises on lone surrogates, as PostgreSQL does
    if "\0" in value:
        raise ValueError("unsupported Unicode escape sequence: \\u0000 cannot be converted to text")
    return encode_basestring(value)


def jsonb(value: Any) -> str:
    """A value of `loads` as jsonb prints it: keys by length, then by bytes."""
    if isinstance(value, Number):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        members = sorted((len(key.encode()), key.encode(), key) for key in value)
        return "{" + ", ".join(f"{_text(key)}: {jsonb(value[key])}" for _, _, key in members) + "}"
    if isinstance(value, list):
        return "[" + ", ".join([jsonb(each) for each in value]) + "]"
    return "null" if value is None else "true" if value else "false"


def array(oid: int, values: Sequence[bytes | None]) -> bytes:
    """`array_send`'s bytes."""
    head = struct.pack(">iiIii", 1, int(None in values), oid, len(values), 1)
    null = struct.pack(">i", -1)
    elements = (null if value is None else struct.pack(">i", len(value)) + value for value in values)
    return head + b"".join(elements)


def normalised(row: Row) -> list[bytes | None]:
    """The row as the table holds it: its jsonb values printed by PostgreSQL."""
    stored = []
    for value, (_, sql_type) in zip(row, _native.EVENT_COLUMNS, strict=True):
        if value is not None and sql_type == "jsonb":
            assert value[0] == 1
            stored.append(b"\1" + jsonb(loads(value[1:])).encode())
        else:
            stored.append(value)
    return stored


def arrays(rows: Iterable[Row]) -> tuple[bytes, ...]:
    """The arrays that the read statement gives for normalised rows."""
    own: list[list[bytes | None]] = [[] for _ in OWN]
    rare: list[bytes | None] = []
    for row in rows:
        for values, value in zip(own, row, strict=False):
            values.append(value)
        rare.append(_rare(row))
    oids = [OIDS[TYPES[name]] for name in OWN]
    return (*(array(oid, values) for oid, values in zip(oids, own, strict=True)), array(OIDS["jsonb"], rare))


def _rare(row: Row) -> bytes | None:
    values = dict(zip(NAMES, row, strict=True))
    if all(values[name] is None for name in RARE):
        return None
    members = {name: None if values[name] is None else _printed(name, values[name]) for name in RARE}
    order = sorted(members, key=lambda name: (len(name), name))
    return b"\1{" + ", ".join(f'"{name}": {members[name] or "null"}' for name in order).encode() + b"}"


def _printed(name: str, value: bytes) -> str:
    match TYPES[name]:
        case "jsonb":
            return value[1:].decode()
        case "boolean":
            return "true" if value == b"\1" else "false"
        case _:
            return _text(value.decode())


def stored(events: Iterable[Event], key_length: int = 128) -> tuple[bytes, ...]:
    """Events as the read statement gives them."""
    return arrays([normalised(_native.encode_event(event, key_length)) for event in events])


# The storage's rules, read without the crate.

_ESCAPE = re.compile("\ufdd0(0000|fdd0|d[89a-f][0-9a-f]{2})")
_FLOATS = {
    "\ufdd0NaN": math.nan,
    "\ufdd0Infinity": math.inf,
    "\ufdd0-Infinity": -math.inf,
    "\ufdd0-0.0": -0.0,
}


def unescaped(text: str) -> str:
    """The string that a stored text stands for."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)


Order = dict[tuple[str, int], dict[int, list[int]]]


def plain(value: Any, order: Order | None = None) -> Any:
    """A value of `loads` with escapes undone, numbers read, and keys in the order of a hint."""
    count = iter(range(10**9))
    order = order or {}

    def read(value: Any) -> Any:
        if isinstance(value, Number):
            return float(value) if set(value) & set(".eE") else int(value)
        if isinstance(value, str):
            return _FLOATS[value] if value in _FLOATS else unescaped(value)
        if isinstance(value, list):
            return [read(each) for each in value]
        if isinstance(value, dict):
            number = next(count)
            runs = order.get((fingerprint(value), len(value)), {})
            first = max((first for first in runs if first <= number), default=None)
            places = None if first is None else runs[first]
            members = [(unescaped(key), read(each)) for key, each in value.items()]
            return dict(members if places is None else [members[place] for place in places])
        return value

    return read(value)


def hint(text: str) -> Order:
    """An order hint: by the fingerprint and the number of an object's keys, from which object on which order:
    the place among the stored keys of each key as appended."""
    order: Order = {}
    for keys, places in (entry.split(":") for entry in text.split(" ")[1:]):
        (print_, _, first), places_ = keys.partition("@"), [int(place) for place in places.split(",")]
        order.setdefault((print_, len(places_)), {})[int(first or 0)] = places_
    return order


def fingerprint(keys: Iterable[str]) -> str:
    """The fingerprint of an object's keys as stored: eight hexadecimal digits."""
    return f"{_hash(keys) >> 32:08x}"


def document_fingerprint(document: Any) -> str:
    """The fingerprint of all keys of a document, a value of `loads`."""
    count, total = iter(range(1, 10**9)), 0

    def add(value: Any) -> None:
        nonlocal total
        if isinstance(value, dict):
            total += _mixed(_hash(value), next(count))
        for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            add(each)

    add(document)
    return f"{total >> 32 & 0xFFFFFFFF:08x}"


def _hash(keys: Iterable[str]) -> int:
    state = 0
    for key in (key.encode() for key in keys):
        whole = len(key) // 8 * 8
        for word in [key[at : at + 8] for at in range(0, whole + 1, 8)]:
            state = _mixed(state, int.from_bytes(word, "little"))
        state = _mixed(state, len(key))
    return state


def _mixed(state: int, word: int) -> int:
    rotated = (state << 5 | state >> 59) & (1 << 64) - 1
    return (rotated ^ word) * 0x517CC1B727220A95 & (1 << 64) - 1


def fields_of(row: Row) -> dict[str, Any]:
    """The fields of the event that a normalised row holds, as JSON values."""
    values = dict(zip(NAMES, row, strict=True))
    extra = loads((values.pop("extra") or b"\1{}")[1:])
    hints = extra.pop("$order", {})
    for key, text in hints.items():
        document = extra[key] if key in extra else loads((values[key] or b"")[1:])
        assert text.split(" ")[0] == document_fingerprint(document), key
    orders = {key: hint(text) for key, text in hints.items()}
    whole, exact = extra.pop("$whole", {}), extra.pop("$timestamp", None)
    fields = {key: plain(value, orders.get(key)) for key, value in extra.items()}
    for name, value in values.items():
        if value is None:
            continue
        match TYPES[name]:
            case "timestamptz":
                seconds = (int.from_bytes(value, "big", signed=True) + EPOCH_MICROS) / 1e6
                fields[name] = seconds if exact is None else plain(exact)
            case "jsonb":
                fields[name] = plain(loads(value[1:]), orders.get(name))
            case "bytea":
                fields[name] = plain(loads(value, Number))
            case "boolean":
                fields[name] = value == b"\1"
            case "text":
                fields["long_running_tool_ids"] = plain(loads(value))
            case _:
                assert name not in whole or unescaped(whole[name]) != unescaped(value.decode())
                fields[name] = unescaped(whole.get(name, value.decode()))
    return fields


def raw_fields_of(row: Row) -> dict[str, Any]:
    """The fields whose values are JSON, as values of `loads`, with the two that every event needs."""
    values = dict(zip(NAMES, row, strict=True))
    extra = loads((values["extra"] or b"\1{}")[1:])
    fields = {key: value for key, value in extra.items() if not key.startswith("$")}
    for name, value in values.items():
        if value is not None and name != "extra" and TYPES[name] in ("jsonb", "bytea", "text"):
            fields[name.removesuffix("_json")] = loads(
                value.removeprefix(b"\1"), numeric if TYPES[name] == "jsonb" else Number
            )
    assert values["id"] is not None
    return fields | {"id": values["id"].decode(), "timestamp": Number("1700000000.25")}


def row_of(fields: dict[str, Any]) -> list[bytes | None]:
    """A normalised row that holds these JSON values (of `loads`): what some other writer may have stored."""
    row: dict[str, bytes | None] = dict.fromkeys(NAMES)
    extra: dict[str, Any] = {}
    for key, value in fields.items():
        name = "long_running_tool_ids_json" if key == "long_running_tool_ids" else key
        if value is None and name in TYPES:
            continue
        match TYPES.get(name):
            case None:
                extra[key] = value
            case "timestamptz":
                micros = round(float(value) * 1e6)
                row[name] = (micros - EPOCH_MICROS).to_bytes(8, "big", signed=True)
                if micros / 1e6 != float(value):
                    extra["$timestamp"] = value
            case "jsonb":
                row[name] = b"\1" + jsonb(value).encode()
            case "bytea" | "text":
                row[name] = jsonb(value).encode()
            case "boolean":
                row[name] = b"\1" if value else b"\0"
            case _:
                row[name] = value.encode()
    if extra:
        row["extra"] = b"\1" + jsonb(extra).encode()
    return list(row.values())


def ideal(value: Any) -> Any:
    """`model_dump(mode="json", exclude_none=True)`, with the documented exceptions: NaN, infinities and lone
    surrogates in keys are kept, and `requested_auth_configs` is written by alias."""
    if isinstance(value, BaseModel):
        dump = {}
        for name in type(value).model_fields:
            inner = value.__dict__[name]
            if inner is None:
                continue
            if name == "requested_auth_configs":
                dump[name] = to_jsonable_python(inner, by_alias=True, exclude_none=True)
            elif name == "long_running_tool_ids":
                dump[name] = sorted(inner)
            else:
                dump[name] = ideal(inner)
        return dump
    if isinstance(value, dict):
        return {key: ideal(inner) for key, inner in value.items()}
    if isinstance(value, (list, set)):
        return [ideal(inner) for inner in value]
    if isinstance(value, bytes):
        return base64.urlsafe_b64encode(value).decode()
    return getattr(value, "value", value)


def instant(seconds: float) -> datetime:
    """A time as Python shows it, for comparison with SQL."""
    return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=seconds)
