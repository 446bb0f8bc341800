"""Texts that are being streamed, sealed anew."""

from __future__ import annotations

from typing import Any, Final

from adk_psqlpy import _native
from adk_psqlpy.admin.reseal.rows import KEY, Values, Work
from adk_psqlpy.admin.reseal.values import resealed
from adk_psqlpy.seal.seal import Seal
from adk_psqlpy.sql import Tables
from adk_psqlpy.sql.reseal import SealedTable
from adk_psqlpy.streaming.partials import sealed_place

_COLUMNS: Final = (("content", "text"), ("error", "text"))
# The names of the columns in the associated data.
_NAMES: Final = ("text", "error")


def table_of(tables: Tables, seal: Seal) -> Work:
    """The table of one store. The texts keep their version, so sealing them anew wakes no reader."""
    stream = (("invocation_id", "text"), ("author", "text"), ("branch", "text"))
    key = (*KEY, ("session_id", "varchar"), *stream)
    table = SealedTable(tables.partials, key, _COLUMNS)
    return Work("texts", table, lambda key, values: _again(seal, key, values))


async def _again(seal: Seal, key: tuple[Any, ...], values: Values) -> Values | None:
    app_name, user_id, session_id, *stream = key
    current = await seal.current(app_name, user_id)
    if all(value is None or _native.sealed_with(value, form="text") == current for value in values):
        return None
    sealed: list[bytes | None] = []
    for name, value in zip(_NAMES, values, strict=True):
        if value is None:
            sealed.append(None)
            continue
        place = sealed_place((app_name, user_id, session_id), [*stream, name])
        told = f"text of {stream[1]!r} in session {session_id!r} of user {user_id!r}, {name}"
        sealed.append(await resealed(seal, value, place, "text", told))
    return tuple(sealed)
