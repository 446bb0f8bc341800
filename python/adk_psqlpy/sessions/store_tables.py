"""Making the tables of a store, bringing them to the newest version, and distributing them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from weakref import WeakKeyDictionary

from psqlpy.exceptions import DatabaseError, Error, NotSupportedError

from adk_psqlpy.connections.lanes import Lanes
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.row_security import keep_secured, make_secured, refuse_both
from adk_psqlpy.seal.seal import Seal
from adk_psqlpy.sessions.search import EventSearch, refuse_search_of_sealed
from adk_psqlpy.sql import (
    INDEX_SETS,
    LOCK_SEC,
    READING,
    SCHEMA_VERSION,
    IndexSet,
    Statements,
    Tables,
    change_indexes,
    create_tables,
    made_with,
)
from adk_psqlpy.sql.audit import RECORD as AUDIT_RECORD
from adk_psqlpy.sql.audit import create_audit
from adk_psqlpy.sql.delegated import DelegatedStatements
from adk_psqlpy.sql.distribution import distribute, drop_local_copies
from adk_psqlpy.sql.following import change_notify
from adk_psqlpy.sql.listing import ListingStatements
from adk_psqlpy.sql.migrate import record_sealed
from adk_psqlpy.sql.partials import create_partials, distribute_partials
from adk_psqlpy.sql.recorded import check_made_with, check_server, recorded_version
from adk_psqlpy.sql.row_security import of_sessions
from adk_psqlpy.sql.shard_tables import DistributedTables
from adk_psqlpy.sql.views import Views


class StoreTables:
    """The tables of one store. `adk_metadata` records their version and settings."""

    def __init__(
        self,
        tables: Tables,
        key_length: int,
        lanes: Lanes,
        *,
        seal: Seal | None,
        on_first_use: bool,
        use: Callable[[DelegatedStatements], None],
    ) -> None:
        """Nothing is sent yet.

        Args:
            tables: their names.
            key_length: the longest identifier; see `PsqlpyADKStore`.
            lanes: what to send statements by.
            seal: the store's.
            on_first_use: whether `ready` makes the tables.
            use: called with the statements for distributed tables, once the tables are known to be
                distributed.
        """
        self.tables = tables
        self.key_length = key_length
        self._lanes = lanes
        self._sql = Statements(tables)
        self._secured = of_sessions(tables)
        self._seal = seal
        self._wanted = on_first_use
        self._is_ready = False
        self._use = use
        self.search = EventSearch(tables, key_length, lanes, self.recorded)
        # One task makes the tables while the others of its event loop wait. Other loops take turns in the
        # server.
        self._making: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()

    async def create(
        self,
        *,
        index_set: IndexSet | None = None,
        notify: bool | None = None,
        event_search: bool | str | None = None,
        views: bool = False,
        distributed: bool = False,
        waiting_index: bool = False,
        row_security: bool = False,
        audit: bool = False,
    ) -> None:
        """Make the tables and what is asked for, as `PsqlpyADKStore.create_tables` says."""
        if index_set is not None and index_set not in INDEX_SETS:
            known = " or ".join(repr(each) for each in INDEX_SETS)
            raise ValueError(f"index_set must be {known}, not {index_set!r}")
        ((number, metadata),) = await self._lanes.fetch(
            self._sql.version, [self.tables.metadata], repeat=Repeat.READ
        )
        check_server(number)
        recorded = await self.recorded() if metadata is not None else {}
        if recorded_version(recorded, SCHEMA_VERSION, self.tables.sessions) < SCHEMA_VERSION:
            await self._make(create_tables(self.tables, self.key_length), row_security)
            recorded = await self.recorded()
        if self._seal is not None:
            if event_search is not False and "event_search" in recorded:
                refuse_search_of_sealed(self._seal, self.tables.event_words)
            if "sealed" not in recorded:
                await self._lanes.batch(record_sealed(self.tables.metadata))
        if index_set is not None and recorded.get("index_set", READING) != index_set:
            await self._change_indexes(index_set)
        if notify is not None and ("notify" in recorded) != notify:
            await self._lanes.batch(change_notify(self.tables, wanted=notify))
        if distributed or "distributed" in recorded:
            await refuse_both(self._lanes, self._secured, secured=row_security, asked=distributed)
            await self._distribute(recorded)
        if event_search is not None:
            if event_search:
                refuse_search_of_sealed(self._seal)
            if event_search and (distributed or "distributed" in recorded):
                raise NotSupportedError("event_search is for one server, and these tables are distributed")
            await self.search.change(event_search, recorded, row_security=row_security)
        if views and "views" in recorded:
            await self._lanes.batch(Views(self.tables).create())
        elif views:
            await self._make(Views(self.tables).create(), row_security)
        if waiting_index:
            await self._create_waiting_index()
        if audit and AUDIT_RECORD not in recorded:
            await self._make(create_audit(self.tables), row_security)
        if row_security and "partials.schema_version" not in recorded:
            await self._make(create_partials(self.tables, self.key_length), row_security)
        await keep_secured(self._lanes, self._secured, wanted=row_security)
        self._wanted = False
        self._is_ready = True

    async def _make(self, batch: str, row_security: bool) -> None:
        await make_secured(self._lanes, batch, self._secured, wanted=row_security)

    async def _distribute(self, recorded: Mapping[str, str]) -> None:
        """Distribute tables that are not distributed yet, and write through functions from now on."""
        for kind in ("event_search", "notify"):
            if kind in recorded and "distributed" not in recorded:
                raise NotSupportedError(
                    f"{kind} is for one server, and {self.tables.sessions} has it, so nothing was "
                    f"distributed: call create_tables({kind}=False) first"
                )
        t, sql = self.tables, DelegatedStatements(DistributedTables.of(self.tables))
        copied: list[str] = []
        if recorded.get("functions") != sql.version_of_functions:
            await self._lanes.batch(distribute(t.metadata, t.by_user, [t.app_states], sql.functions))
            copied = [*t.by_user, t.metadata]
        if "partials.schema_version" in recorded and "partials.distributed" not in recorded:
            await self._lanes.batch(distribute_partials(t))
            copied.append(t.partials)
        if copied:
            # Last: no table that refers to a local copy may be left.
            await self._lanes.batch(drop_local_copies(copied))
        self._use(sql)

    async def ready(self) -> None:
        """Make the tables on the first use, if that is wanted; else look once whether they are distributed.

        Raises:
            psqlpy.exceptions.DatabaseError: they are, and not by this version of the package.
        """
        if self._is_ready:
            return
        async with self._making.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
            if self._wanted:
                await self.create()
            elif not self._is_ready:
                await self._look()

    async def _look(self) -> None:
        """On distributed tables, statements of one server are slow, and some of them fail. On a connection
        where Citus failed to plan a statement, it delegates no call any more. So it is asked before.
        """
        asked = await self._lanes.fetch(
            self._sql.may_be_distributed, [self.tables.metadata], kind="read", repeat=Repeat.READ
        )
        if asked[0][0]:
            recorded: dict[str, str] = dict(
                await self._lanes.fetch(self._sql.metadata, [], kind="read", repeat=Repeat.READ)
            )
            if "distributed" in recorded:
                sql = DelegatedStatements(DistributedTables.of(self.tables))
                if recorded.get("functions") != sql.version_of_functions:
                    raise DatabaseError(
                        f"{self.tables.sessions} is distributed, but not by this version of the package: "
                        "call `await store.create_tables()` first"
                    )
                self._use(sql)
        self._is_ready = True

    async def _change_indexes(self, index_set: IndexSet) -> None:
        try:
            await self._lanes.batch(change_indexes(self.tables, index_set))
        except Error as error:
            raise type(error)(
                f"the indexes of {self.tables.sessions} were not changed to the set {index_set!r}: {error}. "
                "Only the table's owner can do it, and no other transaction may hold the table for longer "
                f"than {LOCK_SEC} s. create_tables() may be called again at any time"
            ) from error

    async def _create_waiting_index(self) -> None:
        """Make the index that finds waiting calls, while others read and write. It may be called again.

        Raises:
            psqlpy.exceptions.Error: the server did not let it be made, or an earlier attempt was cut off.
        """
        sql = ListingStatements(self.tables)
        found = await self._lanes.fetch(sql.index_is_valid, [sql.index_name], repeat=Repeat.READ)
        if not found:
            await self._lanes.batch(sql.create_index)
        elif not found[0][0]:
            raise DatabaseError(
                f"the index {sql.index_name} is not valid: it is being made by another process, or an "
                f"earlier attempt was cut off. In the latter case, DROP INDEX {sql.index_name} and call again"
            )

    async def recorded(self) -> dict[str, str]:
        """Read `adk_metadata`, and check that the tables were made with this store's settings."""
        recorded: dict[str, str] = dict(await self._lanes.fetch(self._sql.metadata, [], repeat=Repeat.READ))
        given = made_with(self.tables, self.key_length)
        check_made_with(recorded, given, self.tables.metadata, "a session_table with another prefix")
        return recorded
