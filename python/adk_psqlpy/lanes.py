"""How the package's own statements reach the server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from psqlpy import Connection

Decoders = dict[str, Callable[[bytes], Any]]
"""By lower-case column name: what to make of a column's binary value. Not called for NULL."""

Row = tuple[Any, ...]


class ConnectionSource(Protocol):
    """What a store needs of a configuration: `PsqlpyConfig`, or another that lends psqlpy connections."""

    async def acquire(self) -> Connection:
        """Take a connection out of the pool; its `close()` gives it back as it is."""
        ...


class Lanes:
    """Runs single statements, each a transaction by itself.

    Such a statement leaves nothing behind on its connection, cancelled or not: the server finishes it, and
    what comes next on the connection waits for that. So the connection goes back without being cleaned.
    """

    def __init__(self, source: ConnectionSource) -> None:
        """Take connections from `source`."""
        self._source = source

    async def fetch(self, sql: str, parameters: list[Any], decoders: Decoders | None = None) -> list[Row]:
        """Run one statement; give its rows as tuples.

        Raises:
            psqlpy.exceptions.Error: the server refused it, or could not be reached.
        """
        connection = await self._source.acquire()
        try:
            result = await connection.fetch(sql, parameters)
        finally:
            connection.close()
        return result.result(as_tuple=True, custom_decoders=decoders)

    async def batch(self, sql: str) -> None:
        """Run several statements as one simple query, which is one transaction."""
        connection = await self._source.acquire()
        try:
            await connection.execute_batch(sql)
        finally:
            connection.close()
