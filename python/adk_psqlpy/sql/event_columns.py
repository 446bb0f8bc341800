"""The columns of an event, in the order in which the crate reads and writes them."""

from __future__ import annotations

from typing import Final

from adk_psqlpy import _native

TYPES: Final = dict(_native.EVENT_COLUMNS)
"""Names and types of PostgreSQL."""

NAMES: Final = tuple(TYPES)

OWN: Final = NAMES[: _native.OWN_ARRAYS]
"""Those that are read as an array each."""

RARE: Final = NAMES[_native.OWN_ARRAYS :]
"""Those that few events have. They are read as one text of JSON."""

ARRAYS: Final = (*OWN, "rare")
"""The arrays of a chunk of events, as `_native.decode_events` takes them."""


def quoted(names: tuple[str, ...] = NAMES, of: str = "") -> str:
    """The names for SQL, separated by commas; `of` is a table's alias."""
    prefix = f"{of}." if of else ""
    return ", ".join(f'{prefix}"{name}"' for name in names)
