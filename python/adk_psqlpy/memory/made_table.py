"""Making the table of a memory service, bringing it to the newest version, and distributing it."""

from __future__ import annotations

from collections.abc import Mapping

from psqlpy.exceptions import NotSupportedError

from adk_psqlpy.connections.lanes import Lanes
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.row_security import keep_secured, make_secured, refuse_both
from adk_psqlpy.sql.delegated_memory import DelegatedMemoryStatements
from adk_psqlpy.sql.distribution import distribute, drop_local_copies
from adk_psqlpy.sql.memory import (
    MEMORY_SCHEMA_VERSION,
    MemoryStatements,
    MemoryTable,
    create_memory_table,
    text_search_configuration,
)
from adk_psqlpy.sql.recorded import check_made_with, check_server, recorded_version
from adk_psqlpy.sql.row_security import of_memories


async def distribute_memories(
    lanes: Lanes, table: MemoryTable, dimensions: int | None, recorded: Mapping[str, str]
) -> DelegatedMemoryStatements:
    """Distribute a table that is not distributed yet, with its functions, and give the statements for it.

    `recorded` is what the metadata table says, without the prefix of the table.
    """
    sql = DelegatedMemoryStatements(table, dimensions)
    if recorded.get("functions") != sql.version_of_functions:
        await lanes.batch(
            distribute(table.metadata, [table.memories], [], sql.functions, prefix=f"{table.name}.")
        )
        await lanes.batch(drop_local_copies([table.memories, table.metadata]))
    return sql


class MadeTable:
    """The table of one service, with the settings that it is made with."""

    def __init__(
        self,
        table: MemoryTable,
        lanes: Lanes,
        *,
        language: str,
        key_length: int,
        dimensions: int | None,
        sealed: bool,
    ) -> None:
        """Nothing is sent yet. See `PsqlpyMemoryService` for the settings."""
        self.table = table
        self._lanes = lanes
        self.language = language
        self.key_length = key_length
        self.dimensions = dimensions
        self._sealed = sealed
        self._sql: MemoryStatements | None = None

    async def statements(self) -> MemoryStatements:
        """Give the statements for the table; the first call makes it."""
        if self._sql is None:
            await self.create(distributed=False, row_security=False)
        assert self._sql is not None
        return self._sql

    async def create(self, *, distributed: bool, row_security: bool) -> None:
        """Make the table as `PsqlpyMemoryService.create_tables` says."""
        sql = MemoryStatements(self.table, self.dimensions)
        schema, name = text_search_configuration(self.language)
        ((number, there, known, languages, has_vectors),) = await self._lanes.fetch(
            sql.setting, [self.table.metadata, schema, name], repeat=Repeat.READ
        )
        check_server(number)
        if not known:
            raise ValueError(
                f"language {self.language!r} is not a text search configuration of this database; there are "
                f"{languages}"
            )
        if self.dimensions is not None and not has_vectors:
            raise NotSupportedError(
                "embed needs the extension pgvector, which is not in this database or not on the search "
                "path: run CREATE EXTENSION vector (as a role with that right), or leave embed out"
            )
        recorded = await self._recorded(sql) if there else {}
        version = recorded_version(recorded, MEMORY_SCHEMA_VERSION, self.table.memories)
        lacks_vectors = self.dimensions is not None and "dimensions" not in recorded
        if version < MEMORY_SCHEMA_VERSION or lacks_vectors:
            batch = create_memory_table(
                self.table, self.key_length, self.language, self.dimensions, sealed=self._sealed
            )
            await make_secured(self._lanes, batch, of_memories(self.table), wanted=row_security)
            recorded = await self._recorded(sql)
        dimensions = recorded.get("dimensions")
        number_of = None if dimensions is None else int(dimensions)
        if distributed or "distributed" in recorded:
            await refuse_both(self._lanes, of_memories(self.table), secured=row_security, asked=distributed)
            self._sql = await distribute_memories(self._lanes, self.table, number_of, recorded)
        else:
            await keep_secured(self._lanes, of_memories(self.table), wanted=row_security)
            self._sql = MemoryStatements(self.table, number_of)

    async def _recorded(self, sql: MemoryStatements) -> dict[str, str]:
        """What is recorded about the table, after checking that it was made with this service's settings."""
        recorded: dict[str, str] = dict(
            await self._lanes.fetch(sql.recorded, [self.table.name], repeat=Repeat.READ)
        )
        given = {"language": self.language, "key_length": str(self.key_length)}
        if self.dimensions is not None:
            given["dimensions"] = str(self.dimensions)
        check_made_with(recorded, given, self.table.metadata, "another memory_table")
        if recorded and ("sealed" in recorded) != self._sealed:
            have, has = ("without", "with") if self._sealed else ("with", "without")
            raise ValueError(
                f"{self.table.memories} was made {have} a seal, and this service is {has} one: plain words "
                "beside hashed ones would tell what these are. Use the same, or another memory_table"
            )
        return recorded
