"""Distributed tables, for the statements on a cluster, and the tables of one shard, for the bodies of functions."""

from __future__ import annotations

from adk_psqlpy.sql.artifact_tables import ArtifactTables
from adk_psqlpy.sql.functions import on_shard
from adk_psqlpy.sql.memory import MemoryTable
from adk_psqlpy.sql.tables import Tables


class DistributedTables(Tables):
    """Of sessions. The state of an app is on the coordinator, so it is read by a statement of its own."""

    @classmethod
    def of(cls, tables: Tables) -> DistributedTables:
        """The same tables."""
        return cls(tables.session_table, tables.events_table)

    @property
    def state_of_app(self) -> str:
        """NULL."""
        return "NULL::jsonb"


class TablesOfShard(DistributedTables):
    """Of sessions."""

    @property
    def sessions(self) -> str:
        """Sessions."""
        return on_shard(super().sessions)

    @property
    def events(self) -> str:
        """Events."""
        return on_shard(super().events)

    @property
    def user_states(self) -> str:
        """States of users."""
        return on_shard(super().user_states)

    @property
    def state_log(self) -> str:
        """Changes of state without an event."""
        return on_shard(super().state_log)

    @property
    def forks(self) -> str:
        """Where forks come from."""
        return on_shard(super().forks)


class MemoryTableOfShard(MemoryTable):
    """Of memories."""

    @property
    def memories(self) -> str:
        """Memories."""
        return on_shard(super().memories)


class ArtifactTablesOfShard(ArtifactTables):
    """Of artifacts."""

    @property
    def artifacts(self) -> str:
        """Versions."""
        return on_shard(super().artifacts)

    @property
    def names(self) -> str:
        """Artifacts."""
        return on_shard(super().names)

    @property
    def contents(self) -> str:
        """Contents."""
        return on_shard(super().contents)

    @property
    def blobs(self) -> str:
        """Uploads."""
        return on_shard(super().blobs)

    @property
    def chunks(self) -> str:
        """Bytes."""
        return on_shard(super().chunks)
