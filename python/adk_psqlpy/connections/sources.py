"""Where connections come from: the package's own configuration, or another that lends psqlpy's."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from psqlpy import Connection

from adk_psqlpy.connections.retry import RetryPolicy

Kind = Literal["read", "list", "write"]
"""The classes of operations that may have a `statement_timeout` each."""


@dataclass(frozen=True, slots=True)
class LaneSettings:
    """How the package's own statements use connections."""

    limit: int = 10
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    timeouts_sec: Mapping[Kind, float] = field(default_factory=dict)


class ConnectionSource(Protocol):
    """What lanes need of whoever has the connections."""

    @property
    def lane_settings(self) -> LaneSettings:
        """How many connections, how long."""
        ...

    async def may_pass(self, failure: BaseException) -> bool:
        """Whether this failure to connect is worth another try."""
        ...

    async def behind_pooler(self) -> bool:
        """Whether a connection may be another server's from one transaction to the next."""
        ...

    async def acquire(self) -> Connection:
        """Take a connection out of the pool. Raises `psqlpy.exceptions.Error`."""
        ...

    def give_back(self, connection: Connection) -> None:
        """Give a connection back as it is. Also works after the event loop was closed."""
        ...

    def has_room(self) -> bool:
        """Whether a connection could be had that nobody waits for."""
        ...


@runtime_checkable
class LendsConnections(Protocol):
    """A configuration of another package, such as SQLSpec's `PsqlpyConfig`."""

    def provide_connection(self, *args: Any, **kwargs: Any) -> AbstractAsyncContextManager[Connection]:
        """Lend a psqlpy connection for the time of the block."""
        ...


class Borrowed:
    """Connections that another configuration lends, each for as long as a lane needs it."""

    def __init__(self, lender: LendsConnections) -> None:
        """Borrow from `lender.provide_connection()`."""
        self._lender = lender
        self._reached = False
        self._blocks: dict[Connection, AbstractAsyncContextManager[Connection]] = {}
        self._leaving: set[asyncio.Task[bool | None]] = set()
        # Half of a pool whose size is not known, so that its owner keeps connections.
        self.lane_settings = LaneSettings(limit=4)

    async def acquire(self) -> Connection:
        """Enter a block of the lender's."""
        block = self._lender.provide_connection()
        connection = await block.__aenter__()
        self._blocks[connection] = block
        self._reached = True
        return connection

    async def may_pass(self, failure: BaseException) -> bool:  # noqa: ARG002 - the protocol's
        """Whether it worked before."""
        return self._reached

    async def behind_pooler(self) -> bool:
        """Not known; no limits are set on connections that are borrowed."""
        return False

    def give_back(self, connection: Connection) -> None:
        """Leave the block, in the background."""
        block = self._blocks.pop(connection)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # the loop was closed: what the block would do needs one
            connection.close()
            return
        task = loop.create_task(_leave(block))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def has_room(self) -> bool:
        """Not known; the limit is kept small instead."""
        return True


async def _leave(block: AbstractAsyncContextManager[Connection]) -> bool | None:
    return await block.__aexit__(None, None, None)
