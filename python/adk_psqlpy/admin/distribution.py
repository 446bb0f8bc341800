"""Distributing all tables of a database over the nodes of a Citus cluster."""

from __future__ import annotations

from adk_psqlpy.admin.table_names import TableNames
from adk_psqlpy.artifacts import PsqlpyArtifactService
from adk_psqlpy.config import PsqlpyConfig
from adk_psqlpy.memory import PsqlpyMemoryService
from adk_psqlpy.memory.made_table import distribute_memories
from adk_psqlpy.recorded import recorded_of
from adk_psqlpy.sessions.store import PsqlpyADKStore
from adk_psqlpy.sql.artifact_tables import ArtifactTables
from adk_psqlpy.sql.delegated import DelegatedStatements
from adk_psqlpy.sql.delegated_travel import DelegatedTravelStatements
from adk_psqlpy.sql.distribution import (
    READY,
    locked,
    shards,
)
from adk_psqlpy.sql.memory import MemoryTable
from adk_psqlpy.sql.shard_tables import DistributedTables


async def distribute_tables(
    config: PsqlpyConfig, names: TableNames | None = None, key_length: int = 128
) -> dict[str, int]:
    """Distribute the tables of sessions, memory and artifacts by `user_id`; make those that are missing.

    Existing tables keep the settings that they were made with; `key_length` is for new ones. Safe to call
    again, and from many processes.

    Returns:
        The number of shards of each table. It is 0 for a table that is copied to every node, and -1 for one
        that is on the coordinator.

    Raises:
        psqlpy.exceptions.Error: the database has no extension citus, the cluster has no worker nodes, this
            server is one of them, or the role may not distribute the tables. The message says which.
    """
    names = names or TableNames()
    lanes = config.lanes
    await lanes.batch(READY)
    tables, artifacts = names.tables, ArtifactTables(names.artifact_table)
    memories = MemoryTable(names.memory_table)
    length = int((await recorded_of(lanes, tables.metadata)).get("key_length", key_length))
    store = PsqlpyADKStore(config, names.session_table, names.events_table, key_length=length)
    await store.create_tables(distributed=True)
    # Shards that were split since then have no functions of their own.
    distributed = DistributedTables.of(tables)
    await lanes.batch(locked(DelegatedStatements(distributed).functions))
    length = int((await recorded_of(lanes, artifacts.metadata)).get("key_length", key_length))
    await PsqlpyArtifactService(config, names.artifact_table, key_length=length).create_tables(
        distributed=True
    )
    await lanes.batch(locked(DelegatedTravelStatements(distributed).functions(artifacts)))
    recorded = await recorded_of(lanes, memories.metadata)
    if f"{memories.name}.schema_version" in recorded:
        # The language of the memory table does not matter here.
        prefix = f"{memories.name}."
        of_table = {key[len(prefix) :]: value for key, value in recorded.items() if key.startswith(prefix)}
        dimensions = of_table.get("dimensions")
        number_of = None if dimensions is None else int(dimensions)
        await distribute_memories(lanes, memories, number_of, of_table)
    else:
        service = PsqlpyMemoryService(config, names.memory_table, key_length=key_length)
        await service.create_tables(distributed=True)
    of_no_user = [tables.app_states, tables.metadata, artifacts.metadata]
    listed = [*tables.by_user, *of_no_user, *artifacts.by_user, memories.memories]
    found: dict[str, int] = dict(await lanes.fetch(shards(), [listed], kind="read"))
    return {table.replace('"', ""): int(found[table]) for table in listed}
