"""Values in PostgreSQL's binary format, which the driver accepts and returns as bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from psqlpy.extra_types import CustomType

from adk_psqlpy import _native

_EPOCH_MICROS: Final = 946_684_800_000_000  # from the Unix epoch to PostgreSQL's, 2000-01-01

# pg_type's OIDs of the types that arrays of the package have.
_OIDS: Final = {
    "varchar": 1043,
    "bigint": 20,
    "timestamptz": 1184,
    "jsonb": 3802,
    "bytea": 17,
    "text": 25,
    "boolean": 16,
}


def raw(value: bytes) -> bytes:
    """Decode nothing: the crate reads the column's bytes."""
    return value


def seconds(value: bytes) -> float:
    """Decode a timestamptz to seconds since the Unix epoch, exact to the microsecond."""
    return (int.from_bytes(value, "big", signed=True) + _EPOCH_MICROS) / 1e6


def unix_micros(value: bytes) -> int:
    """Decode a timestamptz to microseconds since the Unix epoch."""
    return int.from_bytes(value, "big", signed=True) + _EPOCH_MICROS


def timestamptz(unix_micros: int) -> bytes:
    """Encode microseconds since the Unix epoch as a timestamptz."""
    return (unix_micros - _EPOCH_MICROS).to_bytes(8, "big", signed=True)


def parameter(value: bytes | None) -> CustomType | None:
    """Wrap a binary value for the driver; `None` is NULL."""
    return None if value is None else CustomType(value)


def arrays(types: Sequence[str], rows: Iterable[list[bytes | None]]) -> list[CustomType]:
    """Turn rows into parameters: one array for each column, of these types; `None` is NULL."""
    return [CustomType(array) for array in _native.encode_arrays([_OIDS[name] for name in types], list(rows))]
