"""Memories, sealed anew, and their search words hashed anew."""

from __future__ import annotations

from typing import Any, Final

from google.genai import types

from adk_psqlpy import _native
from adk_psqlpy.admin.reseal.rows import KEY, Values, Work
from adk_psqlpy.connections.lanes import Lanes
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.memory.entries import Stored, as_written, column_text, searched_text
from adk_psqlpy.memory.sealing import Sealing
from adk_psqlpy.seal.seal import Seal
from adk_psqlpy.sql.memory import MemoryStatements, MemoryTable
from adk_psqlpy.sql.reseal import SealedTable

_COLUMNS: Final = (("timestamp_text", "text"), ("content", "jsonb"), ("custom_metadata", "jsonb"))
# A sealed memory has no language: its words are hashes.
_WORDS: Final = ("words", "to_tsvector('simple', {}::text)")


async def is_sealed(lanes: Lanes, table: MemoryTable) -> bool:
    """Whether the table was made with a seal."""
    recorded = await lanes.fetch(MemoryStatements(table, None).recorded, [table.name], repeat=Repeat.READ)
    return "sealed" in dict(recorded)


def table_of(table: MemoryTable, seal: Seal) -> Work:
    """The table of one memory service."""
    key = (*KEY, ("id", "varchar"), ("session_id", "varchar"))
    sealed = SealedTable(table.memories, key, _COLUMNS, derived=(_WORDS,))
    return Work("memories", sealed, lambda key, values: _again(seal, key, values))


async def _again(seal: Seal, key: tuple[Any, ...], values: Values) -> Values | None:
    """The newly sealed columns and the words for them; `None` if nothing has to be written."""
    app_name, user_id, identity, session_id = key
    time_text, content, metadata = values
    if content is None or metadata is None:  # deleted
        return None
    shown = None if time_text is None else as_written(time_text)
    current = await seal.current(app_name, user_id)
    sealed = [(content, "jsonb"), (metadata, "jsonb"), *([(shown.encode(), "text")] if shown else [])]
    if all(_native.sealed_with(value, form=form) == current for value, form in sealed):
        return None
    sealing = Sealing(seal)
    row = (identity, None, 0.0, shown, content, metadata, session_id)
    *_, shown, content, metadata = await sealing.opened([app_name, user_id], row)
    place = f"memory {identity!r} of session {session_id!r} of user {user_id!r} in app {app_name!r}"
    said = types.Content.model_validate(_native.decode_json(content, place=place))
    stored = Stored(identity, None, 0, shown, content, metadata, searched_text(said), None)
    await sealing.rows([app_name, user_id, session_id], [stored])
    assert stored.words is not None, "they were hashed just now"
    return (column_text(stored.time_text), stored.content, stored.metadata, stored.words.encode())
