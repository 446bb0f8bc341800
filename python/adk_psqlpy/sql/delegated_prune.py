"""Retention for distributed tables: the statements of `sql.prune`, for one shard after another.

Each statement is one task on the node of the shard. There it behaves as on a single server: it skips locked rows, and
portions take turns.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from adk_psqlpy.sql.artifacts import ArtifactStatements
from adk_psqlpy.sql.distribution import locked
from adk_psqlpy.sql.functions import ShardStatement, define_hold_shards
from adk_psqlpy.sql.prune import PruneArtifacts, PruneMemories, PruneStatements
from adk_psqlpy.sql.shard_tables import ArtifactTablesOfShard, MemoryTableOfShard, TablesOfShard

_KEY: Final = ("app_name", "user_id", "id")
_KEYS: Final = (("apps", "text[]"), ("users", "text[]"), ("ids", "text[]"))
_NUMBERS: Final = (("numbers", "bigint[]"),)
_PAGE: Final = (
    *(("app", "text"), ("usr", "text"), ("session", "text"), ("apps", "text[]")),
    *(("before", "timestamptz"), ("keep", "bigint"), ("most", "bigint")),
)
_FOUND: Final = (*((name, "varchar") for name in _KEY), ("number", "bigint"), ("events", "bigint"))
_COUNT: Final = (("number", "bigint"),)
_PLACE: Final = (("place", "bigint"),)


def shard_keys(table: str) -> str:
    """A user id for each shard of a table (quoted). The ids are found by trying 50 for each shard, which is enough
    to find one for every shard."""
    shards = f"SELECT count(*) FROM pg_dist_shard WHERE logicalrelid = '{table}'::regclass"
    return f"""
    SELECT DISTINCT ON (get_shard_id_for_distribution_column('{table}', n::text)) n::text, ({shards})
    FROM generate_series(1, 50 * ({shards})) AS n
    ORDER BY get_shard_id_for_distribution_column('{table}', n::text)
    """


def definitions(statements: Iterable[ShardStatement], table: str) -> str:
    """A batch that creates the missing functions in the schema of `table`."""
    return locked((define_hold_shards(table), *(each.definition for each in statements)))


@dataclass(frozen=True)
class _OnShard:
    """Calls of functions on the shard that has `key`."""

    key: str

    def _call(self, function: ShardStatement) -> str:
        given = [f"${place}" for place in range(1, len(function.parameters))]
        return function.call_with([*given, f"'{self.key}'"])


def _function(
    table: str,
    purpose: str,
    parameters: tuple[tuple[str, str], ...],
    returns: tuple[tuple[str, str], ...],
    statement: str,
) -> ShardStatement:
    return ShardStatement(
        table=table,
        purpose=f"prune_{purpose}",
        parameters=(*parameters, ("on_shard_of", "varchar")),
        returns=returns,
        body=statement,
        by="on_shard_of",
        elsewhere=False,
    )


@dataclass(frozen=True)
class DelegatedPrune(PruneStatements, _OnShard):
    """As `PruneStatements`, for one shard."""

    @cached_property
    def functions(self) -> dict[str, ShardStatement]:
        """What the statements call."""
        own = PruneStatements(TablesOfShard(self.tables.session_table, self.tables.events_table))
        home = self.tables.session_table
        keys = (*_KEYS, *_NUMBERS)
        end = (*_PAGE[:3], ("cut", "bigint"), ("most", "bigint"))
        return {
            "idle": _function(home, "idle", _PAGE, _FOUND, own.idle_sessions),
            "sessions": _function(home, "sessions", keys, _PLACE, own.delete_sessions),
            "old": _function(home, "old", _PAGE, _FOUND, own.old_events),
            "end": _function(home, "end", end, _COUNT, own.portion_end),
            "events": _function(home, "events", keys, _COUNT, own.delete_events),
        }

    @cached_property
    def idle_sessions(self) -> str:
        """As `PruneStatements.idle_sessions`."""
        return self._call(self.functions["idle"])

    @cached_property
    def delete_sessions(self) -> str:
        """As `PruneStatements.delete_sessions`."""
        return self._call(self.functions["sessions"])

    @cached_property
    def old_events(self) -> str:
        """As `PruneStatements.old_events`."""
        return self._call(self.functions["old"])

    @cached_property
    def portion_end(self) -> str:
        """As `PruneStatements.portion_end`."""
        return self._call(self.functions["end"])

    @cached_property
    def delete_events(self) -> str:
        """As `PruneStatements.delete_events`."""
        return self._call(self.functions["events"])


@dataclass(frozen=True)
class DelegatedPruneMemories(PruneMemories, _OnShard):
    """As `PruneMemories`, for one shard."""

    @cached_property
    def functions(self) -> dict[str, ShardStatement]:
        """What the statements call."""
        own = PruneMemories(MemoryTableOfShard(self.table.memory_table))
        given = (("at", "timestamptz"), ("apps", "text[]"))
        return {
            "count": _function(self.table.memory_table, "count", given, _COUNT, own.count),
            "delete": _function(
                self.table.memory_table, "memories", (*given, ("most", "bigint")), _COUNT, own.delete
            ),
        }

    @cached_property
    def count(self) -> str:
        """As `PruneMemories.count`."""
        return self._call(self.functions["count"])

    @cached_property
    def delete(self) -> str:
        """As `PruneMemories.delete`."""
        return self._call(self.functions["delete"])


@dataclass(frozen=True)
class DelegatedPruneArtifacts(PruneArtifacts, _OnShard):
    """As `PruneArtifacts`, for one shard, with the statement of `ArtifactStatements` that retention needs."""

    @cached_property
    def functions(self) -> dict[str, ShardStatement]:
        """What the statements call."""
        home = self.artifacts.artifact_table
        tables = ArtifactTablesOfShard(home)
        sessions = TablesOfShard(self.sessions.session_table, self.sessions.events_table)
        own = PruneArtifacts(tables, sessions)
        page = (*_PAGE[:3], ("name_hash", "bytea"), *_PAGE[3:5], ("most", "bigint"))
        found = (
            *((name, "varchar") for name in _KEY),
            *(("name_hash", "bytea"), ("number", "bigint"), ("versions", "bigint"), ("bytes", "bigint")),
        )
        keys = (*_KEYS, ("hashes", "bytea[]"), *_NUMBERS)
        most, before = ("most", "bigint"), ("before", "timestamptz")
        sizes = (("contents", "bigint"), ("bytes", "bigint"))
        collect = ArtifactStatements(tables).collect_portion
        return {
            "orphans": _function(home, "orphans", page, found, own.orphans),
            "delete": _function(home, "artifacts", keys, _PLACE, own.delete),
            "unused": _function(home, "unused", (before,), (*sizes, ("uploads", "bigint")), own.unused),
            "uploads": _function(home, "uploads", (before, most), _COUNT, own.clear_uploads),
            "collect": _function(home, "contents", (most,), sizes, collect),
        }

    @cached_property
    def orphans(self) -> str:
        """As `PruneArtifacts.orphans`."""
        return self._call(self.functions["orphans"])

    @cached_property
    def delete(self) -> str:
        """As `PruneArtifacts.delete`."""
        return self._call(self.functions["delete"])

    @cached_property
    def unused(self) -> str:
        """As `PruneArtifacts.unused`."""
        return self._call(self.functions["unused"])

    @cached_property
    def clear_uploads(self) -> str:
        """As `PruneArtifacts.clear_uploads`."""
        return self._call(self.functions["uploads"])

    @cached_property
    def collect_portion(self) -> str:
        """As `ArtifactStatements.collect_portion`."""
        return self._call(self.functions["collect"])
