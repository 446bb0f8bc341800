"""The services that are compared, each on tables of its own in one database, with pools of one size."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import psqlpy
from google.adk.events.event import Event
from google.adk.sessions.base_session_service import BaseSessionService

import make_shapes
from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from adk_psqlpy.connections.dsn import parse_dsn, render_dsn
from adk_psqlpy.connections.lanes import Lanes

APP, USER = "app", "user"
POOL = 10
# The session whose events, appended through the service itself, the others are filled from.
BASE, BASE_EVENTS = "base", 1_000
STATE = {"topic": "weather", "turns": 3, "user:name": "Ada", "app:model": "gemini-2.5-pro"}


@dataclass(frozen=True)
class Peer:
    """A service, and where it keeps things."""

    key: str
    label: str
    connect: Callable[[str], Awaitable[tuple[BaseSessionService, Callable[[], Awaitable[None]]]]]
    sessions: str
    events: str
    # SQL: what makes an event `e` of the base session the event number `n` of another.
    renumbered: str


@dataclass
class Opened:
    """A peer with its service."""

    peer: Peer
    service: Any
    dsn: str

    @property
    def key(self) -> str:
        return self.peer.key


async def _connect_ours(dsn: str) -> tuple[BaseSessionService, Callable[[], Awaitable[None]]]:
    config = PsqlpyConfig(pool_config={"dsn": dsn, "max_db_pool_size": POOL})
    # Each read is a full one, as the others' are; benches/reads.py has reads of what is new.
    store = PsqlpyADKStore(config, history_cache_bytes=0)
    await store.create_tables()
    service = PsqlpySessionService(store)
    return service, service.close


async def _connect_adk(dsn: str) -> tuple[BaseSessionService, Callable[[], Awaitable[None]]]:
    from google.adk.sessions import DatabaseSessionService
    from sqlalchemy.engine import URL

    at = parse_dsn(dsn)
    url = URL.create(
        "postgresql+asyncpg",
        at.get("user"),
        at.get("password"),
        database=at["dbname"],
        query={"host": at.get("host", "localhost"), "port": at.get("port", "5432")},
    ).render_as_string(hide_password=False)
    service = DatabaseSessionService(url, pool_size=POOL, max_overflow=0)
    await service.prepare_tables()
    return service, service.close


def _sqlspec_tables(prefix: str) -> dict[str, Any]:
    kinds = {"session_table": "sessions", "events_table": "events", "metadata_table": "metadata"}
    kinds |= {"app_state_table": "app_states", "user_state_table": "user_states"}
    return {"adk": {key: f"{prefix}_{kind}" for key, kind in kinds.items()}}


async def _connect_sqlspec_psqlpy(dsn: str) -> tuple[BaseSessionService, Callable[[], Awaitable[None]]]:
    from sqlspec.adapters.psqlpy import PsqlpyConfig as Config
    from sqlspec.adapters.psqlpy.adk import PsqlpyADKStore as Store

    # Psqlpy reads a socket directory in the keyword form only.
    pool: dict[str, Any] = {"dsn": render_dsn(parse_dsn(dsn)), "max_db_pool_size": POOL}
    return await _sqlspec(Config(connection_config=pool, extension_config=_sqlspec_tables("ssp")), Store)


async def _connect_sqlspec_asyncpg(dsn: str) -> tuple[BaseSessionService, Callable[[], Awaitable[None]]]:
    from sqlspec.adapters.asyncpg import AsyncpgConfig as Config
    from sqlspec.adapters.asyncpg.adk import AsyncpgADKStore as Store

    at = parse_dsn(dsn)
    pool: dict[str, Any] = {
        "host": at.get("host", "localhost"),
        "port": int(at.get("port", "5432")),
        "user": at.get("user"),
        "password": at.get("password"),
        "database": at["dbname"],
        "min_size": 1,
        "max_size": POOL,
    }
    return await _sqlspec(Config(connection_config=pool, extension_config=_sqlspec_tables("ssa")), Store)


async def _sqlspec(config: Any, store_class: Any) -> tuple[BaseSessionService, Callable[[], Awaitable[None]]]:
    from sqlspec.extensions.adk.service import SQLSpecSessionService

    store = store_class(config)
    await store.create_tables()
    return SQLSpecSessionService(store), config.close_pool


_LATER = "e.timestamp + block * interval '1000 s'"
_IN_JSON = (
    f"'timestamp', {_LATER}, 'event_data', e.event_data || jsonb_build_object("
    "'id', name, 'timestamp', (e.event_data->>'timestamp')::float8 + block * 1000)"
)

OURS, ADK, SQLSPEC_PSQLPY, SQLSPEC_ASYNCPG, BARE = "ours", "adk", "sqlspec_psqlpy", "sqlspec_asyncpg", "bare"
PEERS = {
    peer.key: peer
    for peer in (
        Peer(
            OURS,
            "adk-psqlpy",
            _connect_ours,
            "adk_sessions",
            "adk_events",
            f"'seq', n, 'timestamp', {_LATER}",
        ),
        Peer(ADK, "ADK DatabaseSessionService", _connect_adk, "sessions", "events", _IN_JSON),
        Peer(
            SQLSPEC_PSQLPY, "SQLSpec, psqlpy", _connect_sqlspec_psqlpy, "ssp_sessions", "ssp_events", _IN_JSON
        ),
        Peer(
            SQLSPEC_ASYNCPG,
            "SQLSpec, asyncpg",
            _connect_sqlspec_asyncpg,
            "ssa_sessions",
            "ssa_events",
            _IN_JSON,
        ),
    )
}
LABELS = {key: peer.label for key, peer in PEERS.items()} | {BARE: "bare psqlpy", "pgbench": "pgbench"}


async def open_peer(key: str, dsn: str) -> tuple[Opened, Callable[[], Awaitable[None]]]:
    """Open a service on the database at `dsn`, its tables made."""
    peer = PEERS[key]
    service, close = await peer.connect(dsn)
    return Opened(peer, service, dsn), close


# The database and what is in it.


def with_database(dsn: str, name: str) -> str:
    """The DSN, of either form, as a URL to another database."""
    at = parse_dsn(dsn) | {"dbname": name}
    user = quote(at.pop("user", ""), safe="")
    if "password" in at:
        user += ":" + quote(at.pop("password"), safe="")
    at.pop("dbname")
    query = "&".join(f"{key}={quote(value, safe='')}" for key, value in at.items())
    return f"postgresql://{user + '@' if user else ''}/{quote(name, safe='')}?{query}"


async def run_sql(dsn: str, *statements: str) -> list[dict[str, Any]]:
    """Run statements on a connection of their own; the rows of the last."""
    connection = await psqlpy.connect(dsn=render_dsn(parse_dsn(dsn)))
    try:
        rows: list[dict[str, Any]] = []
        for statement in statements:
            rows = (await connection.fetch(statement)).result()
        return rows
    finally:
        connection.close()


@asynccontextmanager
async def temporary_database(dsn: str, name: str) -> AsyncIterator[str]:
    """A database for the length of the block, as its DSN."""
    try:
        await run_sql(dsn, f'CREATE DATABASE "{name}"')
    except psqlpy.Error as error:
        raise SystemExit(
            f"the comparison makes a database of its own and drops it at the end, and could not: {error}\n"
            "Give a --dsn whose role has CREATEDB."
        ) from error
    try:
        yield with_database(dsn, name)
    finally:
        await run_sql(dsn, f'DROP DATABASE "{name}" WITH (FORCE)')


async def make_base(opened: Opened) -> None:
    """Append the base session's events the way an agent does."""
    session = await opened.service.create_session(app_name=APP, user_id=USER, session_id=BASE, state=STATE)
    for event in make_shapes.mixed(BASE_EVENTS):
        await opened.service.append_event(session, event)


async def fill(opened: Opened, session_id: str, count: int) -> None:
    """Make a session of `count` events, copied inside the database from the base session's.

    The n-th (from 1) is the base's of that number modulo 1,000, called `session_id-n`, and 1,000 s later for
    each full turn.
    """
    await opened.service.create_session(app_name=APP, user_id=USER, session_id=session_id, state=STATE)
    if not count:
        return
    peer = opened.peer
    await run_sql(
        opened.dsn,
        f"""
        INSERT INTO {peer.events} SELECT r.* FROM
            (SELECT e.*, row_number() OVER (ORDER BY timestamp) AS number FROM {peer.events} AS e
             WHERE session_id = '{BASE}') AS numbered
            JOIN {peer.events} AS e ON e.id = numbered.id AND e.session_id = '{BASE}',
            generate_series(0, {(count - 1) // BASE_EVENTS}) AS block,
            LATERAL (SELECT block * {BASE_EVENTS} + number AS n) AS a,
            LATERAL (SELECT '{session_id}-' || n AS name) AS b,
            LATERAL jsonb_populate_record(
                e, jsonb_build_object('session_id', '{session_id}', 'id', name, {peer.renumbered})) AS r
        WHERE n <= {count}
        """,
    )
    if peer.key == OURS:
        # As many appends would have left it there.
        await run_sql(opened.dsn, f"UPDATE {peer.sessions} SET revision = {count} WHERE id = '{session_id}'")


def filled(session_id: str, count: int, last: int | None = None) -> list[Event]:
    """The events that `fill` made, or the last of them, as they have to be read."""
    base = make_shapes.mixed(BASE_EVENTS)
    expected = []
    for index in range(count - min(last or count, count), count):
        block, number = divmod(index, BASE_EVENTS)
        event = base[number].model_copy(update={"id": f"{session_id}-{index + 1}"})
        event.timestamp += block * 1000
        expected.append(event)
    return expected


async def copy_sessions(opened: Opened, user: str, count: int) -> None:
    """Give a user `count` sessions without events: one made by the service, and copies of it."""
    await opened.service.create_session(app_name=APP, user_id=user, session_id=f"{user}-1", state=STATE)
    await run_sql(
        opened.dsn,
        f"""
        INSERT INTO {opened.peer.sessions} SELECT r.* FROM {opened.peer.sessions} AS s,
            generate_series(2, {count}) AS n,
            LATERAL jsonb_populate_record(s, jsonb_build_object('id', '{user}-' || n,
                'update_time', s.update_time + n * interval '1 ms')) AS r
        WHERE s.id = '{user}-1' AND s.user_id = '{user}'
        """,
    )


# The limit.


class Recorder:
    """Stands in the way of our statements to their connections, and keeps those that pass."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._fetch = lanes.fetch
        self.statements: list[tuple[str, list[Any], dict[str, Callable[[bytes], Any]]]] = []

    def __enter__(self) -> Recorder:
        """Begin."""
        self._lanes.fetch = self.fetch  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        """Out of the way again."""
        self._lanes.fetch = self._fetch  # type: ignore[method-assign]

    async def fetch(self, sql: str, parameters: list[Any], decoders: Any = None, **options: Any) -> Any:
        """Note the statement, its columns to be handed over as bytes, and run it."""
        self.statements.append((sql, list(parameters), dict.fromkeys(decoders or {}, _untouched)))
        return await self._fetch(sql, parameters, decoders, **options)


def _untouched(value: bytes) -> bytes:
    return value


class Bare:
    """The driver alone, sending the statements that our service sends on connections that are held."""

    def __init__(self, ours: Opened) -> None:
        self.ours = ours

    async def open(self, connections: int = 4) -> None:
        """Take the connections."""
        config = self.ours.service.store.config
        self.connections = [await config.acquire() for _ in range(connections)]

    async def close(self) -> None:
        """Give them back."""
        for connection in self.connections:
            connection.close()

    async def record(self, call: Callable[[], Awaitable[Any]]) -> list[Any]:
        """Run a call of our service, and give its statements."""
        with Recorder(self.ours.service.store.config.lanes) as recorder:
            await call()
        assert recorder.statements, "our store does not send its statements through `Lanes.fetch` any more"
        return recorder.statements

    async def replay(self, statement: Any, lane: int = 0) -> list[tuple[Any, ...]]:
        """Send one of them again; columns come as the bytes that the server sent."""
        sql, parameters, decoders = statement
        result = await self.connections[lane].fetch(sql, parameters)
        rows: list[tuple[Any, ...]] = result.result(as_tuple=True, custom_decoders=decoders)
        return rows


def literal(value: Any) -> str:
    """A value as an SQL literal."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "'" + text.replace("'", "''") + "'"
