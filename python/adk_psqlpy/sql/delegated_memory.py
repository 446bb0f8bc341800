"""Adding memories where the table is distributed: the statement of `sql.memory` on the shard of the user."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Final

from adk_psqlpy.sql.distribution import digest
from adk_psqlpy.sql.functions import ShardStatement, define_hold_shards
from adk_psqlpy.sql.memory import MemoryStatements
from adk_psqlpy.sql.shard_tables import MemoryTableOfShard

_ADDED: Final = (
    *(("app", "varchar"), ("usr", "varchar"), ("session", "varchar"), ("language", "text")),
    *(("now", "timestamptz"), ("ids", "text[]"), ("authors", "text[]"), ("times", "timestamptz[]")),
    *(("times_text", "text[]"), ("contents", "jsonb[]"), ("metadata", "jsonb[]"), ("words", "text[]")),
    ("expire", "timestamptz[]"),
)


@dataclass(frozen=True)
class DelegatedMemoryStatements(MemoryStatements):
    """The statements for a distributed table: adding memories is the call of a function."""

    @property
    def functions(self) -> list[str]:
        """What makes the functions."""
        made = [self._add(replace=replace).definition for replace in (False, True)]
        return [define_hold_shards(self.table.memory_table), *made]

    @cached_property
    def version_of_functions(self) -> str:
        """What is recorded under `functions` where the table and these functions are distributed."""
        return digest((*self.functions, self.table.memories))

    @cache  # noqa: B019 - as in `MemoryStatements`
    def add(self, *, replace: bool) -> str:
        """As `MemoryStatements.add`."""
        return self._add(replace=replace).call

    def _add(self, *, replace: bool) -> ShardStatement:
        vectors = () if self.dimensions is None else (("vectors", "text[]"),)
        on_shard = MemoryStatements(MemoryTableOfShard(self.table.memory_table), self.dimensions)
        return ShardStatement(
            table=self.table.memory_table,
            purpose="replace_memories" if replace else "add_memories",
            parameters=(*_ADDED, *vectors),
            returns=(("number", "bigint"),),
            body=on_shard.add(replace=replace),
        )
