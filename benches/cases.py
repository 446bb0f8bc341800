"""What `crate.rs` times on the side of Python: the extension module and its rivals, on the same events.

A case is a group (`decode/text_turn`), a number of events, and callables by name. All of a group have been
called once by the time `cases` gives it, and what they returned was compared.
"""

from __future__ import annotations

import gc
import json
import struct
from collections.abc import Callable, Iterator
from typing import Any

import orjson
from google.adk.events.event import Event

import make_shapes
from adk_psqlpy import _native

Case = tuple[str, int, dict[str, Callable[[], Any]]]

KEY_LENGTH = 128
MIXED = 1_000
# Of pg_type.
_OID = {"varchar": 1043, "timestamptz": 1184, "bytea": 17, "jsonb": 3802}


def cases() -> Iterator[Case]:
    """Decoding and encoding, a case a shape and one for a whole conversation."""
    if _native.DEBUG_BUILD:
        raise ImportError("adk_psqlpy._native is a debug build, some ten times slower: `make build`")
    for name in make_shapes.ALL:
        yield from _cases_of(name, [make_shapes.shape(name)])
    yield from _cases_of(f"mixed_{MIXED}", make_shapes.mixed(MIXED))


def _cases_of(name: str, events: list[Event]) -> Iterator[Case]:
    dumps = [event.model_dump(mode="json", exclude_none=True) for event in events]
    texts = [event.model_dump_json(exclude_none=True).encode() for event in events]
    columns = arrays(events)
    decoders: dict[str, Callable[[], Any]] = {
        "adk_psqlpy": lambda: _native.decode_events(columns, place=name),
        "model_validate": lambda: [Event.model_validate(dump) for dump in dumps],
        "loads + model_validate": lambda: [Event.model_validate(orjson.loads(text)) for text in texts],
        "model_validate_json": lambda: [Event.model_validate_json(text) for text in texts],
        "orjson.loads": lambda: [orjson.loads(text) for text in texts],
    }
    for rival, decode in decoders.items():
        expected: list[Any] = dumps if rival == "orjson.loads" else events
        assert decode() == expected, f"decode {name}: {rival} gives something else"
    # Collections during a measurement look at what the measurement makes, not at what stands already.
    gc.collect()
    gc.freeze()
    yield f"decode/{name}", len(events), decoders

    encoders: dict[str, Callable[[], Any]] = {
        "adk_psqlpy": lambda: [_native.encode_event(event, KEY_LENGTH) for event in events],
        "model_dump_json": lambda: [event.model_dump_json(exclude_none=True) for event in events],
        "model_dump": lambda: [event.model_dump(mode="json", exclude_none=True) for event in events],
    }
    # Ours makes columns, so it is compared by what they are read back as.
    again = _native.decode_events(arrays(events), place=name)
    assert [event.model_dump(mode="json", exclude_none=True) for event in again] == dumps, name
    assert [json.loads(text) for text in encoders["model_dump_json"]()] == dumps, name
    assert encoders["model_dump"]() == dumps, name
    yield f"encode/{name}", len(events), encoders


def arrays(events: list[Event]) -> tuple[bytes | None, ...]:
    """The events as the read statement hands them over: `array_agg` a column, the rare ones together."""
    names = [name for name, _ in _native.EVENT_COLUMNS]
    types = dict(_native.EVENT_COLUMNS)
    rows = [dict(zip(names, _native.encode_event(event, KEY_LENGTH), strict=True)) for event in events]
    own, rare = names[: _native.OWN_ARRAYS], names[_native.OWN_ARRAYS :]
    columns = [_array(types[name], [_stored(types[name], row[name]) for row in rows]) for name in own]
    return (*columns, _array("jsonb", [_object(row, rare, types) for row in rows]))


def _array(sql_type: str, values: list[bytes | None]) -> bytes:
    header = struct.pack(">iiIii", 1, int(None in values), _OID[sql_type], len(values), 1)
    return header + b"".join(
        struct.pack(">i", -1) if value is None else struct.pack(">i", len(value)) + value for value in values
    )


def _stored(sql_type: str, value: bytes | None) -> bytes | None:
    """A value as PostgreSQL sends it back: its own layout of jsonb, the others as they are."""
    return value if value is None or sql_type != "jsonb" else _jsonb(json.loads(value[1:]))


def _object(row: dict[str, bytes | None], names: list[str], types: dict[str, str]) -> bytes | None:
    """`jsonb_build_object` of the rare columns; NULL where all of them are."""
    read: dict[str, Callable[[bytes], Any]] = {
        "jsonb": lambda value: json.loads(value[1:]),
        "boolean": lambda value: value == b"\x01",
    }
    if all(row[name] is None for name in names):
        return None
    return _jsonb(
        {
            name: None if value is None else read.get(types[name], bytes.decode)(value)
            for name in names
            for value in [row[name]]
        }
    )


def _jsonb(value: Any) -> bytes:
    return b"\x01" + json.dumps(_sorted(value), ensure_ascii=False).encode()


def _sorted(value: Any) -> Any:
    """Keys in jsonb's order: shorter ones first, then by bytes."""
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
        return {key: _sorted(value[key]) for key in keys}
    return [_sorted(item) for item in value] if isinstance(value, list) else value
