"""The columns of stored events, opened and sealed: for another session, or with another key."""

from __future__ import annotations

from typing import Final

from adk_psqlpy import _native
from adk_psqlpy.seal.seal import Seal
from adk_psqlpy.sql import event_columns

Key = tuple[str, str, str]

SEALED: Final = ("actions", "content", "extra", "grounding_metadata", "custom_metadata")
"""The columns of events that are sealed. A sealed event's `error_message` is in `extra`."""

_MESSAGE: Final = event_columns.NAMES.index("error_message")
# What stands in `error_message` where its text is in `extra` (rust/src/seal.rs).
HIDDEN: Final = "\ufdd0seal1:".encode()


async def opened_event(
    seal: Seal, key: Key, event_id: str, columns: list[bytes | None]
) -> list[bytes | None]:
    """Open what is sealed in the columns, in the order of `sql.event_columns`; the rest is as it was.

    Raises:
        SealError: a value does not open. `MissingKeyError`: its key is missing.
    """
    found = list(columns)
    for name in SEALED:
        value = columns[event_columns.NAMES.index(name)]
        if value is not None:
            found[event_columns.NAMES.index(name)] = await opened_column(seal, key, event_id, name, value)
    return found


async def opened_column(seal: Seal, key: Key, event_id: str, name: str, value: bytes) -> bytes:
    """One column of an event, opened if it is sealed."""
    app_name, user_id, session_id = key
    place = ("event", app_name, user_id, [session_id.encode(), event_id.encode(), name.encode()])
    whose = f"session {session_id!r} of user {user_id!r} in app {app_name!r}"
    told = f"{whose}, event {event_id!r}, column {name}"
    return await seal.opening(
        lambda: _native.open_value(value, seal.keys, place, form=event_columns.TYPES[name], told=told)
    )


async def sealed_event(seal: Seal, key: Key, columns: list[bytes | None]) -> list[bytes | None]:
    """Seal what `opened_event` gave, with the current key, for a session.

    A plain `error_message` goes into `extra`; one that is there already stays there.
    """
    message = columns[_MESSAGE]
    is_hidden = message == HIDDEN
    given = list(columns)
    if is_hidden:
        given[_MESSAGE] = None
    key_id = await seal.current(key[0], key[1])
    sealed = list(_native.seal_event(given, key_id, (seal.keys, *key)))
    if is_hidden:
        sealed[_MESSAGE] = message
    return sealed
