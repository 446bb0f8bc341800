"""The base of all operations of a store: its settings, the checks of keys, and sending statements."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from psqlpy.exceptions import DatabaseError, Error

from adk_psqlpy.checks import LONGEST_KEY, check_identifier, whole
from adk_psqlpy.config import PsqlpyConfig
from adk_psqlpy.connections.lanes import Decoders, Row, lanes_of
from adk_psqlpy.connections.replica import reads_of
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.connections.sources import Kind, LendsConnections
from adk_psqlpy.errors import OperationTimeoutError, PoolTimeoutError
from adk_psqlpy.following.following import Following, FollowSettings
from adk_psqlpy.seal.seal import Seal, checked_seal
from adk_psqlpy.sessions import arguments
from adk_psqlpy.sessions.decoders import SESSION
from adk_psqlpy.sessions.histories import HISTORY_CACHE_BYTES, Histories
from adk_psqlpy.sessions.hook import BeforeAppend
from adk_psqlpy.sessions.kept_reads import KeptReads
from adk_psqlpy.sessions.limits import StateSizes
from adk_psqlpy.sessions.nodes import Queues
from adk_psqlpy.sessions.paging import Pages
from adk_psqlpy.sessions.store_tables import StoreTables
from adk_psqlpy.sessions.values import Values
from adk_psqlpy.sql import Statements, Tables
from adk_psqlpy.sql.delegated import DelegatedStatements
from adk_psqlpy.sql.delegated_kept import DelegatedKeptStatements
from adk_psqlpy.telemetry import Telemetry

_T = TypeVar("_T")


class Operations:
    """The settings of a store, and how its operations reach the server. `PsqlpyADKStore` is built on it."""

    def __init__(
        self,
        config: LendsConnections,
        session_table: str = "adk_sessions",
        events_table: str = "adk_events",
        *,
        key_length: int = 128,
        group_appends: bool = True,
        history_cache_bytes: int | None = HISTORY_CACHE_BYTES,
        tables_on_first_use: bool = False,
        follow_settings: FollowSettings | None = None,
        seal: Seal | None = None,
        before_append: BeforeAppend | None = None,
    ) -> None:
        self.config = config
        self.tables = Tables(session_table, events_table)
        self.key_length = whole("key_length", key_length, LONGEST_KEY)
        self.group_appends = group_appends
        self._sql: Statements = Statements(self.tables)
        self._queues: WeakKeyDictionary[asyncio.AbstractEventLoop, Queues] = WeakKeyDictionary()
        self._lanes = lanes_of(config)
        self._reads = reads_of(config, self._lanes)
        self._telemetry = config.telemetry if isinstance(config, PsqlpyConfig) else Telemetry()
        tables = ("sessions", "events", "app_states", "user_states")
        self._collections = {each: getattr(self.tables, each).replace('"', "") for each in tables}
        self.seal = checked_seal(seal)
        self.before_append = before_append
        self._values = Values(seal)
        self._pages = self._pages_of(self._sql)
        # Kept events would be readable without their key, and for longer than the seal remembers it.
        kept_bytes = arguments.history_cache_bytes(history_cache_bytes)
        self._histories = Histories(0 if seal is not None else kept_bytes)
        self._kept_reads = KeptReads(
            self._sql, self._read, SESSION, self._pages, self._histories, self._telemetry
        )
        self._state_sizes = StateSizes()
        self._made = StoreTables(
            self.tables,
            self.key_length,
            self._lanes,
            seal=seal,
            on_first_use=tables_on_first_use,
            use=self._write_through,
        )
        self.following = Following(
            config,
            self._lanes,
            self.tables,
            self._read,
            follow_settings or FollowSettings(),
            self._values.events,
        )

    def _write_through(self, sql: DelegatedStatements) -> None:
        """Use the statements of distributed tables from now on."""
        self._sql = sql
        self._pages = self._pages_of(sql)
        self._kept_reads.write_through(DelegatedKeptStatements(sql.tables), self._pages)
        self._queues.clear()
        self.following.use_distributed()

    def _pages_of(self, sql: Statements) -> Pages:
        return Pages(sql, self._read, partial(self._lanes.fetch, kind="read"), SESSION, self._values.events)

    async def _read(
        self, sql: str, parameters: list[Any], decoders: Decoders | None = None, *, kind: Kind = "read"
    ) -> list[Row]:
        return await self._fetch(sql, parameters, decoders, kind, Repeat.READ)

    async def _write(
        self, sql: str, parameters: list[Any], decoders: Decoders | None = None, *, repeat: Repeat
    ) -> list[Row]:
        return await self._fetch(sql, parameters, decoders, "write", repeat)

    async def _fetch(
        self, sql: str, parameters: list[Any], decoders: Decoders | None, kind: Kind, repeat: Repeat
    ) -> list[Row]:
        await self._made.ready()
        return await self._explained(self._lanes.fetch(sql, parameters, decoders, kind=kind, repeat=repeat))

    async def _with_app_state(
        self, app_name: str, reading: Coroutine[Any, Any, _T]
    ) -> tuple[_T, bytes | None]:
        """Await `reading`, and return with its result the state of the app, as it is stored.

        Where tables are distributed, it is read at the same time, since no other statement gives it. On one
        server it is `None`: the statement that reads gives it.
        """
        if not isinstance(self._sql, DelegatedStatements):
            return await reading, None
        # `reading` gets no task of its own: that would hold the result a moment longer, and kept events are
        # handed out again only if nobody holds them.
        beside = asyncio.create_task(self._read(self._sql.app_state, [app_name], SESSION))
        beside.add_done_callback(_take_note)
        try:
            found = await reading
            rows = await beside
        finally:
            beside.cancel()
        return found, rows[0][0] if rows else None

    async def _explained(self, statement: Awaitable[_T]) -> _T:
        """Run a statement, and explain its failure if the tables are missing."""
        try:
            return await statement
        except (OperationTimeoutError, PoolTimeoutError):
            raise
        except Error as error:
            # The driver's errors differ only in translatable text, so the likely cause is looked up.
            if not await self._tables_present():
                raise DatabaseError(
                    f"there is no table {self.tables.sessions} on the search path of this connection: "
                    "call `await store.create_tables()` first, or check session_table and the database"
                ) from error
            raise

    async def _tables_present(self) -> bool:
        try:
            rows = await self._lanes.fetch(self._sql.tables_present, [self.tables.sessions], kind="read")
        except Error:
            # The server cannot be asked; the first failure says more.
            return True
        return bool(rows[0][0])

    def _check_key(self, app_name: str, user_id: str, session_id: str) -> None:
        self._check(app_name=app_name, user_id=user_id, session_id=session_id)

    def _check(self, **identifiers: str) -> None:
        for name, value in identifiers.items():
            check_identifier(name, value, self.key_length, "PsqlpyADKStore")


def _take_note(task: asyncio.Task[Any]) -> None:
    """Its failure is nobody's concern if what it was for has failed."""
    if not task.cancelled():
        task.exception()
