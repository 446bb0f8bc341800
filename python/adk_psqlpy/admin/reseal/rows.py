"""Going over a table with sealed columns, and writing rows anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from psqlpy.extra_types import CustomType

from adk_psqlpy.connections.binary import parameter, raw
from adk_psqlpy.connections.lanes import Decoders, Lanes, Row
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.sql.reseal import SealedTable

KEY: Final = (("app_name", "varchar"), ("user_id", "varchar"))
"""The first columns of every primary key, except that of the apps' states."""

_AT_ONCE: Final = 16
_LOWEST: Final = {"bigint": -1, "bytea": b""}

Values = tuple[bytes | None, ...]
Resealing = Callable[[tuple[Any, ...], Values], Awaitable["Values | None"]]
"""Takes a row's key and sealed columns. Returns the columns to write instead, or `None` for no change."""


@dataclass(frozen=True)
class Work:
    """A table to go over.

    Attributes:
        what: the field of `Resealed` that counts its rows.
        table: its columns and statements.
        resealing: how one row is sealed anew.
    """

    what: str
    table: SealedTable
    resealing: Resealing


async def go_over(
    lanes: Lanes, table: SealedTable, portion: int, work: Callable[[Row], Awaitable[bool]]
) -> AsyncIterator[tuple[int, int]]:
    """Do `work` for each row, about `portion` rows at a time. Yield how many rows were read and written.

    The portions are ranges of keys. They are chosen at the beginning, so the function ends, however fast
    others add rows. A row that is added meanwhile is read only if its key lies in a later range.
    """
    turns = asyncio.Semaphore(_AT_ONCE)

    async def in_turn(row: Row) -> bool:
        async with turns:
            return await work(row)

    decoders: Decoders = dict.fromkeys((name for name, _ in table.columns), raw)
    ends = await lanes.fetch(table.ends, [portion], kind="list", repeat=Repeat.READ)
    last = [_LOWEST.get(kind, "") for _, kind in table.key]
    for end in ends:
        given = [*parameters(last), *parameters(end)]
        rows = await lanes.fetch(table.page, given, decoders, kind="list", repeat=Repeat.READ)
        written = await asyncio.gather(*map(in_turn, rows))
        last = list(end)
        yield len(rows), sum(written)


def rewriting(lanes: Lanes, table: SealedTable, resealing: Resealing) -> Callable[[Row], Awaitable[bool]]:
    """The `work` for `go_over` that seals a row of the table anew. It returns whether it wrote the row."""
    decoders: Decoders = dict.fromkeys((name for name, _ in table.columns), raw)
    width = len(table.key)

    async def rewrite(row: Row) -> bool:
        key = row[:width]
        while True:
            values = row[width:]
            sealed = await resealing(key, values)
            if sealed is None:
                return False
            given = [*parameters(key), *map(parameter, values), *map(parameter, sealed)]
            if await lanes.fetch(table.rewrite, given, repeat=Repeat.AFTER_FAILURE):
                return True
            # The row was deleted, or another process sealed it anew first, perhaps with another key.
            rows = await lanes.fetch(table.row, parameters(key), decoders, kind="list", repeat=Repeat.READ)
            if not rows:
                return False
            row = rows[0]

    return rewrite


def parameters(key: list[Any] | tuple[Any, ...]) -> list[Any]:
    """The values of a key as the driver takes them."""
    return [CustomType(value) if isinstance(value, bytes) else value for value in key]
