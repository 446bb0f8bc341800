"""Where connections come from: the package's own configuration, or another one that lends psqlpy's."""

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
    """What lanes need from the owner of the connections."""

    @property
    def lane_settings(self) -> LaneSettings:
        """How many connections, how long."""
        ...

    async def may_pass(self, failure: BaseException) -> bool:
        """Whether this failure to connect is worth another try."""
        ...

    async def behind_pooler(self) -> bool:
        """Whether a connection may have another server process in its next transaction."""
        ...

    async def acquire(self) -> Connection:
        """Take a connection out of the pool. Raises `psqlpy.exceptions.Error`."""
        ...

    def give_back(self, connection: Connection) -> None:
        """Give a connection back as it is. Also works after the event loop was closed."""
        ...

    def has_room(self) -> bool:
        """Whether there is a connection that nobody waits for."""
        ...


@runtime_checkable
class LendsConnections(Protocol):
    """A configuration of another package, such as SQLSpec's `PsqlpyConfig`."""

    def provide_connection(self, *args: Any, **kwargs: Any) -> AbstractAsyncContextManager[Connection]:
        """Lend a psqlpy connection for the time of the block."""
        ...


class Borrowed:
    """Connections lent by another configuration, each for as long as a lane needs it."""

    def __init__(self, lender: LendsConnections) -> None:
        """Borrow from `lender.provide_connection()`."""
        self._lender = lender
        self._reached = False
        self._blocks: dict[Connection, AbstractAsyncContextManager[Connection]] = {}
        self._leaving: set[asyncio.Task[bool | None]] = set()
        # Half of the pool's default size, so that its owner keeps connections. The actual size is not known.
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
        """It is not known; borrowed connections get no time limits."""
        return False

    def give_back(self, connection: Connection) -> None:
        """Leave the block, in the background."""
        block = self._blocks.pop(connection)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # the loop was closed, and leaving the block needs one
            connection.close()
            return
        task = loop.create_task(_leave(block))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def has_room(self) -> bool:
        """It is not known; the number of lanes is kept small instead."""
        return True


async def _leave(block: AbstractAsyncContextManager[Connection]) -> bool | None:
    return await block.__aexit__(None, None, None)
