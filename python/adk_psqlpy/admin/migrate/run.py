"""Carrying the records of a source into a target."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from psqlpy.exceptions import Error

from adk_psqlpy.admin.migrate.artifacts import ArtifactWriter
from adk_psqlpy.admin.migrate.memories import MemoryWriter
from adk_psqlpy.admin.migrate.records import (
    MemoryRecord,
    Problem,
    Record,
    SessionEvents,
    SessionHead,
    SharedState,
)
from adk_psqlpy.admin.migrate.report import MigrationProgress, MigrationReport, MigrationStoppedError
from adk_psqlpy.admin.migrate.sessions import SessionWriter
from adk_psqlpy.admin.migrate.sources import Source, SourceOptions, open_source
from adk_psqlpy.admin.migrate.states import StateWriter
from adk_psqlpy.admin.table_names import TableNames
from adk_psqlpy.artifacts.service import PsqlpyArtifactService
from adk_psqlpy.config import PsqlpyConfig
from adk_psqlpy.connections.lanes import lanes_of
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.memory.service import PsqlpyMemoryService
from adk_psqlpy.recorded import recorded_of
from adk_psqlpy.seal.seal import Seal
from adk_psqlpy.sessions.store import PsqlpyADKStore
from adk_psqlpy.sql.carry import CarryStatements
from adk_psqlpy.sql.recorded import check_sealed

AHEAD: Final = 8
"""How many records are read ahead while earlier ones are written."""

_T = TypeVar("_T")
OnProgress = Callable[[MigrationProgress], None]


@dataclass(frozen=True)
class MigrationOptions:
    """Options of a migration.

    Args:
        source: what the source cannot tell by itself.
        names: the target's tables.
        key_length: the longest identifier of the target's tables, if they are made now.
        language: of the target's memory table, if it is made now.
        seal: seals what is written, and opens what the target holds. A target that is recorded as sealed is
            refused without it.
        dry_run: read and compare everything, and write nothing.
        keep_rest: carry a session without those of its events that cannot be carried. Otherwise such a
            session is left out whole.
        on_progress: called now and then with how far it is.
        on_problem: called with each problem, also with those beyond the 1,000 that the report keeps.
    """

    source: SourceOptions = field(default_factory=SourceOptions)
    names: TableNames = field(default_factory=TableNames)
    key_length: int = 128
    language: str = "simple"
    seal: Seal | None = None
    dry_run: bool = False
    keep_rest: bool = False
    on_progress: OnProgress | None = None
    on_problem: Callable[[Problem], None] | None = None


async def migrate(
    source: str | Path | Source, target: PsqlpyConfig, options: MigrationOptions | None = None
) -> MigrationReport:
    """Carry sessions, states, memories and artifacts into adk-psqlpy's tables. Missing tables are made.

    Nothing that the target has is changed: what is equal is skipped, what differs is reported. Each session
    is carried as a whole or not at all. It is then read back, and its digest is compared with the source's.
    So a migration that was killed goes on when it is called again. One more call after the end proves that
    everything is there.

    Args:
        source: a SQLAlchemy URL as ADK's `DatabaseSessionService` takes it; a `postgresql://` URL of
            SQLSpec's tables or of adk-psqlpy's; an SQLite file; an export; a folder of agents, or of a
            `FileArtifactService`.
        target: where to; its pool stays open.
        options: see `MigrationOptions`.

    Raises:
        SourceError: the source is not one, or lacks tables or columns; nothing was written.
        ValueError: the target's tables were made with other settings, or there are tables of these names that
            are not adk-psqlpy's; nothing was written.
        ImportError: what reads the source is not installed.
        MigrationStoppedError: the source or the target failed on the way. What was carried is complete and
            stays.
        psqlpy.exceptions.Error: the target could not be reached, or refused the tables.
    """
    options = options or MigrationOptions()
    if not isinstance(source, Source):
        source = await open_source(source, options.source, target, options.names.session_table)
    async with source:
        expected = await source.count()
        report = MigrationReport(
            source.description,
            f"{options.names.session_table} and others",
            options.dry_run,
            expected,
            on_problem=options.on_problem,
        )
        carrying = _Carrying(target, options, report)
        await carrying.prepare()
        try:
            async for record in ahead(source.read(), AHEAD):
                await carrying.take(record)
            await carrying.finish()
        except _failures() as error:
            raise MigrationStoppedError(
                f"stopped after {report.sessions.seen:,} sessions: {error}. The sessions moved so far are "
                "complete and stay in the target. Run the same command again to go on",
                report,
            ) from error
        finally:
            await carrying.close()
        report.differences = list(source.differences)
        report.finished = True
    return report


def _failures() -> tuple[type[Exception], ...]:
    """The errors that stop a migration: those of the target, of files, and of the sources' drivers."""
    import sqlite3

    try:
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError:
        return (Error, OSError, sqlite3.Error)
    return (Error, OSError, sqlite3.Error, SQLAlchemyError)


class _Carrying:
    """The writers of one migration, each made when the first record for it comes."""

    def __init__(self, target: PsqlpyConfig, options: MigrationOptions, report: MigrationReport) -> None:
        self._target = target
        self._options = options
        self._report = report
        self._write = not options.dry_run
        names = options.names
        self._store = PsqlpyADKStore(
            target,
            names.session_table,
            names.events_table,
            key_length=options.key_length,
            seal=options.seal,
        )
        self._sessions: SessionWriter | None = None
        self._states: StateWriter | None = None
        self._memories: MemoryWriter | None = None
        self._artifacts: ArtifactWriter | None = None

    async def prepare(self) -> None:
        """Make the tables, or in a dry run look whether they exist."""
        tables = self._store.tables
        there = await self._there(tables.sessions, tables.metadata, "--session-table and --events-table")
        if there:
            await self._refuse_plain(tables.metadata)
        if self._write:
            await self._store.create_tables()
            there = True
        report, store = self._report, self._store
        self._states = StateWriter(
            lanes_of(self._target), store, report, write=self._write, tables_there=there
        )
        self._sessions = SessionWriter(
            self._target,
            store,
            report,
            write=self._write,
            keep_rest=self._options.keep_rest,
            tables_there=there,
        )

    async def _refuse_plain(self, metadata: str) -> None:
        sealing = self._options.seal is not None
        recorded = await recorded_of(lanes_of(self._target), metadata)
        check_sealed(recorded, sealing=sealing, tables=metadata)

    async def _there(self, table: str, metadata: str, otherwise: str) -> bool:
        """Whether the target has tables of this package.

        Raises:
            ValueError: there is a table of that name that this package did not make.
        """
        ((here, recorded),) = await lanes_of(self._target).fetch(
            CarryStatements(self._store.tables).made_here, [table, metadata], kind="read", repeat=Repeat.READ
        )
        if here and not recorded:
            raise ValueError(
                f"the target has a table {table} that adk-psqlpy did not make, perhaps SQLSpec's. Give "
                f"other names ({otherwise}), with a schema in front if you like: agents.adk_sessions"
            )
        return bool(here)

    async def take(self, record: Record) -> None:
        """The next record of the source."""
        assert self._sessions is not None
        assert self._states is not None
        if isinstance(record, SessionEvents):
            await self._sessions.add(record)
        elif isinstance(record, SessionHead):
            await self._sessions.begin(record)
        elif isinstance(record, SharedState):
            await self._states.add(record)
        elif isinstance(record, Problem):
            await self._problem(record)
        else:
            await self._sessions.commit()
            if isinstance(record, MemoryRecord):
                await (await self._memory_writer()).add(record)
            else:
                await (await self._artifact_writer()).add(record)
        self._tell()

    async def _problem(self, problem: Problem) -> None:
        assert self._sessions is not None
        assert self._states is not None
        if problem.kind == "state":
            self._states.refuse(problem)
        elif problem.kind == "session":
            await self._sessions.refuse(problem)
        elif problem.kind == "event":
            await self._sessions.add(SessionEvents(problems=[problem]))
        elif problem.kind == "memory":
            (await self._memory_writer()).refuse(problem)
        elif problem.kind == "artifact":
            (await self._artifact_writer()).refuse(problem)
        else:
            self._report.problem(problem)

    async def _memory_writer(self) -> MemoryWriter:
        if self._memories is None:
            options = self._options
            service = PsqlpyMemoryService(
                self._target,
                options.names.memory_table,
                language=options.language,
                key_length=options.key_length,
                seal=options.seal,
            )
            there = await self._there(service.table.memories, service.table.metadata, "--memory-table")
            if self._write:
                await service.create_tables()
                there = True
            self._memories = MemoryWriter(service, self._report, write=self._write, tables_there=there)
        return self._memories

    async def _artifact_writer(self) -> ArtifactWriter:
        if self._artifacts is None:
            options = self._options
            service = PsqlpyArtifactService(
                self._target,
                options.names.artifact_table,
                key_length=options.key_length,
                seal=options.seal,
            )
            there = await self._there(service.tables.artifacts, service.tables.metadata, "--artifact-table")
            if there:
                await self._refuse_plain(service.tables.metadata)
            if self._write:
                await service.create_tables()
                there = True
            self._artifacts = ArtifactWriter(service, self._report, write=self._write, tables_there=there)
        return self._artifacts

    def _tell(self) -> None:
        if self._options.on_progress is None or self._sessions is None:
            return
        report = self._report
        self._options.on_progress(
            MigrationProgress(
                report.sessions.seen,
                self._sessions.events_taken,
                report.memories.seen,
                report.artifacts.seen,
                report.expected,
            )
        )

    async def finish(self) -> None:
        """Write what is buffered."""
        assert self._sessions is not None
        assert self._states is not None
        await self._states.finish()
        await self._sessions.commit()
        if self._memories is not None:
            await self._memories.finish()
        self._tell()

    async def close(self) -> None:
        """Undo what was not committed."""
        if self._sessions is not None:
            await self._sessions.close()


async def ahead(records: AsyncIterator[_T], most: int) -> AsyncIterator[_T]:
    """The same records, with up to `most` of them read ahead.

    So the source can wait for its database while the target's database works, and the other way round.
    """
    queue: asyncio.Queue[_T | BaseException | None] = asyncio.Queue(most)

    async def fill() -> None:
        try:
            async for record in records:
                await queue.put(record)
        except Exception as error:  # noqa: BLE001 - handed on, and raised where the records are read
            await queue.put(error)
        else:
            await queue.put(None)

    task = asyncio.create_task(fill())
    try:
        while (record := await queue.get()) is not None:
            if isinstance(record, BaseException):
                raise record
            yield record
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
