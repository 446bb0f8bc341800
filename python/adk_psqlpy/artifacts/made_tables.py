"""Making the tables of an artifact service, bringing them to the newest version, and distributing them."""

from __future__ import annotations

from collections.abc import Mapping

from adk_psqlpy.connections.lanes import Lanes
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.row_security import keep_secured, make_secured, refuse_both
from adk_psqlpy.sql.artifact_tables import SCHEMA_VERSION, ArtifactTables, create_tables, made_with
from adk_psqlpy.sql.artifacts import ArtifactStatements
from adk_psqlpy.sql.delegated_artifacts import DelegatedArtifactStatements
from adk_psqlpy.sql.distribution import distribute, drop_local_copies
from adk_psqlpy.sql.migrate import record_sealed
from adk_psqlpy.sql.recorded import check_made_with, check_server, recorded_version
from adk_psqlpy.sql.row_security import of_artifacts


class MadeTables:
    """The tables of one service, and the statements for them in `sql`."""

    def __init__(self, tables: ArtifactTables, key_length: int, lanes: Lanes, *, sealed: bool) -> None:
        """Nothing is sent yet. `sealed`: whether the service seals, which is recorded."""
        self._sealed = sealed
        self.tables = tables
        self.key_length = key_length
        self.sql = ArtifactStatements(tables)
        self._lanes = lanes
        self._created = False

    async def ready(self) -> None:
        """Make the tables if this is the first use."""
        # If several tasks are the first ones, all of them do it: they take turns in the server.
        if not self._created:
            await self.create(distributed=False, row_security=False)

    async def create(self, *, distributed: bool, row_security: bool) -> None:
        """Make the tables as `PsqlpyArtifactService.create_tables` says."""
        ((number, metadata),) = await self._lanes.fetch(
            self.sql.version, [self.tables.metadata], kind="read", repeat=Repeat.READ
        )
        check_server(number)
        recorded = await self._recorded() if metadata is not None else {}
        if recorded_version(recorded, SCHEMA_VERSION, self.tables.artifacts) < SCHEMA_VERSION:
            batch = create_tables(self.tables, self.key_length)
            await make_secured(self._lanes, batch, of_artifacts(self.tables), wanted=row_security)
            recorded = await self._recorded()
        if self._sealed and "sealed" not in recorded:
            await self._lanes.batch(record_sealed(self.tables.metadata))
        if distributed or "distributed" in recorded:
            await refuse_both(self._lanes, of_artifacts(self.tables), secured=row_security, asked=distributed)
            await self._distribute(recorded)
        await keep_secured(self._lanes, of_artifacts(self.tables), wanted=row_security)
        self._created = True

    async def _distribute(self, recorded: Mapping[str, str]) -> None:
        """Distribute tables that are not distributed yet, and write through functions from now on."""
        sql = DelegatedArtifactStatements(self.tables)
        if recorded.get("functions") != sql.version_of_functions:
            t = self.tables
            await self._lanes.batch(distribute(t.metadata, t.by_user, [], sql.functions))
            await self._lanes.batch(drop_local_copies([*t.by_user, t.metadata]))
        self.sql = sql

    async def _recorded(self) -> dict[str, str]:
        recorded: dict[str, str] = dict(await self._lanes.fetch(self.sql.metadata, [], repeat=Repeat.READ))
        given = made_with(self.tables, self.key_length)
        check_made_with(recorded, given, self.tables.metadata, "another artifact_table")
        return recorded
