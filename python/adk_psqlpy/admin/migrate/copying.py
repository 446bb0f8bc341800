"""Rows in COPY's binary format (PostgreSQL manual, COPY, "Binary Format")."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import Struct
from typing import Final

_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER: Final = b"\xff\xff"
_NULL: Final = b"\xff\xff\xff\xff"
_LENGTH: Final = Struct(">i")
_COUNT: Final = Struct(">h")


def fields(values: Sequence[bytes | None]) -> bytes:
    """The fields of a row, from values in the binary formats of their types; `None` is NULL."""
    parts: list[bytes] = []
    for value in values:
        if value is None:
            parts.append(_NULL)
        else:
            parts.append(_LENGTH.pack(len(value)))
            parts.append(value)
    return b"".join(parts)


def rows(count: int, tuples: Iterable[bytes]) -> bytes:
    """The data for COPY: rows of `count` fields each, as `fields` makes them."""
    start = _COUNT.pack(count)
    return b"".join([_HEADER, *(part for row in tuples for part in (start, row)), _TRAILER])
