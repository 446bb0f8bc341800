"""The shards of distributed tables, for what visits one after another."""

from __future__ import annotations

from psqlpy.exceptions import DatabaseError

from adk_psqlpy.connections.lanes import Lanes
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.recorded import recorded_of
from adk_psqlpy.sql.delegated_prune import shard_keys


async def is_distributed(lanes: Lanes, metadata: str, prefix: str = "") -> bool:
    """Whether the tables of a service are distributed, by what its table `metadata` (quoted) records."""
    return f"{prefix}distributed" in await recorded_of(lanes, metadata)


async def users_of_shards(lanes: Lanes, metadata: str, prefix: str, table: str) -> list[str]:
    """For each shard of a table a user id that belongs there; empty where the table is not distributed.

    Args:
        lanes: where to ask.
        metadata: the table that records whether it is distributed, quoted.
        prefix: before the key of what is recorded.
        table: the table, quoted.

    Raises:
        psqlpy.exceptions.DatabaseError: a shard is for so few users that none was found.
    """
    if not await is_distributed(lanes, metadata, prefix):
        return []
    rows = await lanes.fetch(shard_keys(table), [], repeat=Repeat.READ)
    missed = (rows[0][1] if rows else 1) - len(rows)
    if missed:
        raise DatabaseError(
            f"no user id was found for {missed} shards of {table}, as their ranges are so small that few "
            "users are in them. A shard is visited by the id of a user, so nothing in this table was looked "
            "at. Such shards come from isolate_tenant_to_new_shard()"
        )
    return [user for user, _ in rows]
