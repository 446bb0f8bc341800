"""Finding the node of a Citus cluster that has a user's rows, to send appends to one node together."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import Final

from psqlpy.exceptions import Error

from adk_psqlpy.connections.lanes import Lanes
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.sessions.groups import AppendGroups
from adk_psqlpy.sql import Statements
from adk_psqlpy.sql.delegated import DelegatedStatements
from adk_psqlpy.telemetry import Telemetry

logger = logging.getLogger("adk_psqlpy.sessions.nodes")

# Shards move when a cluster is rebalanced. A group that is sent to the old node is still stored, but slower.
_FRESH_SEC: Final = 600.0
_REMEMBERED: Final = 100_000
_AT_ONCE: Final = 1_000


class Nodes:
    """The known nodes of users, for one event loop. Nobody waits for a look-up."""

    def __init__(self, lanes: Lanes, sql: DelegatedStatements) -> None:
        """Ask by `lanes`."""
        self._lanes = lanes
        self._sql = sql
        self._known: dict[str, tuple[int, int]] = {}
        self._since = time.monotonic()
        self._wanted: dict[str, None] = {}
        self._asking: asyncio.Task[None] | None = None

    def of(self, user_id: str) -> int | None:
        """The user's node. If it is not known yet, the result is `None`, and it is looked up in the
        background.
        """
        if time.monotonic() - self._since > _FRESH_SEC or len(self._known) > _REMEMBERED:
            self._known = {}
            self._since = time.monotonic()
        found = self._known.get(user_id)
        if found is not None:
            return found[0]
        if len(self._wanted) < _AT_ONCE:
            self._wanted[user_id] = None
            if self._asking is None:
                self._asking = asyncio.get_running_loop().create_task(self._ask())
        return None

    def shard_of(self, user_id: str) -> int:
        """The user's shard, to sort by; 0 where it is not known."""
        return self._known.get(user_id, (0, 0))[1]

    async def _ask(self) -> None:
        try:
            while self._wanted:
                users, self._wanted = list(self._wanted), {}
                rows = await self._lanes.fetch(
                    self._sql.node_of_users, [users], kind="read", repeat=Repeat.READ
                )
                self._known.update(
                    zip(users, ((int(group), int(shard)) for group, shard in rows), strict=True)
                )
        except Error as error:
            # Appends are sent one by one until the node is known.
            self._wanted = {}
            logger.debug("the nodes of users were not found: %s", error)
        finally:
            self._asking = None


class Queues:
    """The queues of appends in one event loop: a single one, or one for each node of a cluster."""

    def __init__(self, lanes: Lanes, sql: Statements, telemetry: Telemetry) -> None:
        """Send by `lanes`; tell `telemetry` how large the groups are."""
        self._nodes = Nodes(lanes, sql) if isinstance(sql, DelegatedStatements) else None
        shard_of = None if self._nodes is None else self._nodes.shard_of
        self.lock_waits = asyncio.Semaphore(max(1, lanes.limit // 2))
        """For appends that are likely to wait for a lock. Each keeps a connection meanwhile, and some must be
        left for the others.
        """
        self._new = partial(AppendGroups, lanes, sql, telemetry, self.lock_waits, shard_of)
        self._queues: dict[int | None, AppendGroups] = {}

    def of(self, user_id: str) -> AppendGroups | None:
        """The queue of the user's node; `None` if the node is not known yet."""
        node = None
        if self._nodes is not None and (node := self._nodes.of(user_id)) is None:
            return None
        found = self._queues.get(node)
        if found is None:
            found = self._queues[node] = self._new()
        return found
