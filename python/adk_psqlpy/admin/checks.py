"""The checks of `doctor` that ask the server."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass
from functools import cached_property

from psqlpy.exceptions import Error

from adk_psqlpy.admin.access import SecuredTables
from adk_psqlpy.admin.access_checks import of_access
from adk_psqlpy.admin.doctor import Finding
from adk_psqlpy.admin.load_checks import of_load
from adk_psqlpy.admin.table_checks import of_tables
from adk_psqlpy.config import PsqlpyConfig
from adk_psqlpy.connections.lanes import lanes_of
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.errors import PoolTimeoutError
from adk_psqlpy.sql import Tables, health
from adk_psqlpy.sql.artifact_tables import ArtifactTables
from adk_psqlpy.sql.memory import MemoryTable
from adk_psqlpy.sql.recorded import OLDEST_SERVER

_SLOW_MS = 5.0
# A second connection of the same pool may have to be opened.
_POOLER_SEC = 10.0


@dataclass(frozen=True)
class Names:
    """The names of the tables, checked."""

    session_table: str
    events_table: str
    memory_table: str
    artifact_table: str

    def __post_init__(self) -> None:
        """Raise ValueError for a name that PostgreSQL does not take."""
        _ = self.tables, self.memories, self.artifacts

    @property
    def secured(self) -> SecuredTables:
        """Those that have policies under row-level security."""
        return SecuredTables(self.session_table, self.events_table, self.memory_table, self.artifact_table)

    @cached_property
    def tables(self) -> Tables:
        """Those of sessions."""
        return Tables(self.session_table, self.events_table)

    @cached_property
    def memories(self) -> MemoryTable:
        """That of memories."""
        return MemoryTable(self.memory_table)

    @cached_property
    def artifacts(self) -> ArtifactTables:
        """Those of artifacts."""
        return ArtifactTables(self.artifact_table)


async def of_server(config: PsqlpyConfig, names: Names) -> list[Finding]:
    """Run all checks of a server; only the first one if it cannot be reached.

    Raises:
        psqlpy.exceptions.Error: the connection broke on the way.
    """
    lanes, start = lanes_of(config), time.perf_counter()
    try:
        ((number, *rest),) = await lanes.fetch(health.SERVER, [], repeat=Repeat.READ)
    except Error as error:
        text, _, advice = str(error).partition(". Check ")
        return [Finding("connection", "todo", text, f"check {advice}" if advice else None)]
    opened_ms = (time.perf_counter() - start) * 1000
    trips = []
    for _ in range(9):
        start = time.perf_counter()
        await lanes.fetch(health.NOTHING, [], repeat=Repeat.READ)
        trips.append((time.perf_counter() - start) * 1000)
    server = Server(number, *rest)
    return [
        _connection(server, opened_ms, statistics.median(trips)),
        _tls(server),
        _server(server),
        await _pooler(config),
        await _extensions(config, names),
        *await of_tables(lanes, names.tables, names.memories, names.artifacts),
        await of_access(lanes, names.secured.services(), server.role),
        *await of_load(lanes, names.tables, in_recovery=server.in_recovery),
    ]


@dataclass(frozen=True, slots=True)
class Server:
    """A row of `sql.health.SERVER`."""

    number: int
    version: str
    database: str
    role: str
    in_recovery: bool
    encoding: str
    local: bool
    tls: str | None
    fsync: bool
    full_page_writes: bool
    max_connections: int
    connections: int


def _connection(server: Server, opened_ms: float, trip_ms: float) -> Finding:
    text = (
        f"database {server.database} as role {server.role}: first answer after {opened_ms:.0f} ms, "
        f"a round trip takes {trip_ms:.2f} ms"
    )
    if trip_ms > _SLOW_MS:
        return Finding(
            "connection",
            "note",
            text,
            "each operation takes one round trip: run the agents closer to the database",
        )
    return Finding("connection", "ok", text)


def _tls(server: Server) -> Finding:
    if server.tls is not None:
        return Finding("TLS", "ok", server.tls)
    if server.local:
        return Finding("TLS", "ok", "plain text, on this machine only")
    return Finding(
        "TLS",
        "todo",
        "plain text through a network: all conversations can be read on the way",
        "add sslmode=verify-full and sslrootcert to the DSN (ssl_mode and ca_file of pool_config)",
    )


def _server(server: Server) -> Finding:
    text = f"PostgreSQL {server.version}, {server.connections} of {server.max_connections} connections in use"
    if server.number < OLDEST_SERVER:
        return Finding("server", "todo", text, "adk-psqlpy needs PostgreSQL 15 or newer: upgrade the server")
    off = [
        name
        for name, on in (("fsync", server.fsync), ("full_page_writes", server.full_page_writes))
        if not on
    ]
    if off:
        return Finding(
            "server",
            "todo",
            f"{text}; {' and '.join(off)} off: a crash of the machine can destroy the database",
            f"set {' and '.join(off)} to on in postgresql.conf, unless the data may be lost",
        )
    if server.encoding != "UTF8":
        return Finding(
            "server",
            "todo",
            f"{text}; the database has the encoding {server.encoding}, so text in other scripts is refused",
            "make a database with ENCODING 'UTF8' and move the data there",
        )
    if server.connections > 0.9 * server.max_connections:
        return Finding(
            "server",
            "todo",
            f"{text}: nearly all",
            "lower max_db_pool_size of the processes, put a pooler in between, or raise max_connections",
        )
    if server.in_recovery:
        return Finding("server", "note", f"{text}; a standby, which only reads", "write through the primary")
    return Finding("server", "ok", text)


async def _pooler(config: PsqlpyConfig) -> Finding:
    """Whether a connection keeps its server process from one transaction to the next.

    Two connections begin a transaction each, and end them in the order in which they began. A pooler in
    transaction mode then gives the first connection the process that became free last: the second one's.
    """
    try:
        swapped, twice = await asyncio.wait_for(_swapped(config), _POOLER_SEC)
    except (PoolTimeoutError, asyncio.TimeoutError):
        return Finding(
            "pooler",
            "note",
            "two transactions at once are not possible: the pooler has one connection, or the server is full",
            "see default_pool_size of the pooler and max_connections of the server",
        )
    except Error as error:
        if "prepared statement" not in str(error):
            raise
        return Finding(
            "pooler",
            "todo",
            "a pooler in transaction mode that loses prepared statements",
            "set max_prepared_statements above 0 in pgbouncer (1.21 or newer)",
        )
    if swapped or twice:
        limits = "read_timeout_sec, list_timeout_sec and write_timeout_sec"
        return Finding(
            "pooler",
            "note",
            "a pooler in transaction mode, and prepared statements work through it",
            f"{limits} work: each statement then takes three round trips"
            if await config.behind_pooler()
            else f"it is not recognised as pgbouncer, so leave out {limits}, which would reach other "
            "clients: set statement_timeout of the role",
        )
    return Finding("pooler", "ok", "none in transaction mode: a connection keeps its server process")


async def _swapped(config: PsqlpyConfig) -> tuple[bool, bool]:
    async with config.provide_connection() as one, config.provide_connection() as other:
        pids = []
        for connection in (one, other):
            await connection.execute_batch(health.BEGIN)
            pids.append(await connection.fetch_val(health.BACKEND))
        for connection in (one, other):
            await connection.execute_batch(health.ROLLBACK)
        again = [await connection.fetch_val(health.BACKEND) for connection in (one, other)]
    return again != pids, pids[0] == pids[1]


async def _extensions(config: PsqlpyConfig, names: Names) -> Finding:
    lanes = lanes_of(config)
    rows = await lanes.fetch(health.EXTENSIONS, [], repeat=Repeat.READ)
    text = ", ".join(f"{name} {version}" for name, version, _ in rows) or "none that matter here"
    vector = next((version for name, version, _ in rows if name == "vector"), None)
    recorded = await _recorded_dimensions(config, names)
    if recorded is not None and vector is None:
        return Finding(
            "extensions",
            "todo",
            f"{text}; {names.memory_table} holds vectors, and pgvector is not there",
            "CREATE EXTENSION vector",
        )
    if recorded is not None and vector is not None and _older(vector, (0, 8)):
        return Finding(
            "extensions",
            "todo",
            f"{text}; searches by vector need pgvector 0.8",
            "install pgvector 0.8 or newer, then ALTER EXTENSION vector UPDATE",
        )
    behind = [f"{name} (to {newest})" for name, version, newest in rows if newest not in (None, version)]
    if behind:
        return Finding(
            "extensions",
            "note",
            f"{text}; a newer version is installed: {', '.join(behind)}",
            "ALTER EXTENSION ... UPDATE",
        )
    return Finding("extensions", "ok", text)


async def _recorded_dimensions(config: PsqlpyConfig, names: Names) -> str | None:
    """The recorded number of dimensions of the memory table's vectors; `None` without vectors."""
    from adk_psqlpy.admin.tables import present_tables
    from adk_psqlpy.sql.memory import MemoryStatements

    table = names.memories
    if not await present_tables(config, table.metadata):
        return None
    rows = await lanes_of(config).fetch(
        MemoryStatements(table, None).recorded, [table.name], repeat=Repeat.READ
    )
    recorded: dict[str, str] = dict(rows)
    return recorded.get("dimensions")


def _older(version: str, than: tuple[int, int]) -> bool:
    parts = [int(part) for part in version.split(".")[:2] if part.isdecimal()]
    return tuple(parts) < than
