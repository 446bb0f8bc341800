"""What the tests of the store share: opening stores, looking beside them, and counting round trips."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig
from adk_psqlpy._dsn import parse_dsn
from adk_psqlpy.store import Version
from servers import run_sql

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

LIMIT_SEC = 10
KEY = ("app", "user", "s")


@asynccontextmanager
async def store_at(
    dsn: str, *tables: str, create: bool = True, **options: Any
) -> AsyncIterator[PsqlpyADKStore]:
    """A store on a pool of its own; its tables made unless told otherwise."""
    async with PsqlpyConfig(pool_config={"dsn": dsn, "max_db_pool_size": 4}) as config:
        store = PsqlpyADKStore(config, *tables, **options)
        if create:
            await store.create_tables()
        yield store


async def version(store: PsqlpyADKStore, *key: str) -> Version:
    """The version that a stored session is at."""
    last = await store.last_event(*(key or KEY))
    assert last is not None
    return last[0]


async def until(condition: Callable[[], bool]) -> None:
    """Look at a condition until it holds."""
    deadline = time.monotonic() + LIMIT_SEC
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        await asyncio.sleep(0.01)  # between two looks


async def all_back(config: PsqlpyConfig) -> None:
    """Wait until no connection is checked out but by lanes, and these have nothing in flight."""
    pool = await config.create_pool()

    def back() -> bool:
        status = pool.status()
        lanes = config.lanes
        return bool(lanes.in_flight == 0 and status.available == status.size - lanes.held)

    await until(back)


def contents(dsn: str) -> str:
    """Every row of the four tables as one text: equal before and after, nothing was written."""
    tables = ("adk_sessions", "adk_events", "adk_app_states", "adk_user_states")
    rows = (f"'{t}', (SELECT jsonb_agg(to_jsonb(t) ORDER BY to_jsonb(t)) FROM {t} AS t)" for t in tables)
    (((row,),),) = (run_sql(dsn, f"SELECT jsonb_build_object({', '.join(rows)})::text AS rows"),)
    return str(row["rows"])


class RoundTrips:
    """A Unix socket that passes everything on to a server, and counts what the clients wait for.

    In the extended protocol a client waits after Sync (`S`) or Flush (`H`), in the simple one after a query
    (`Q`): one of these is one round trip. The first packet of a connection has no type and is not counted.
    """

    def __init__(self, dsn: str, directory: Path) -> None:
        """Stand before the server of `dsn`, in `directory`."""
        self._target = parse_dsn(dsn)
        self._directory = directory
        self._tasks: set[asyncio.Task[None]] = set()
        self.counted = 0

    def config(self) -> PsqlpyConfig:
        """A configuration that connects through here."""
        settings = {"host": str(self._directory), "port": 5432, "max_db_pool_size": 2}
        for name, libpq in (("db_name", "dbname"), ("username", "user"), ("password", "password")):
            if libpq in self._target:
                settings[name] = self._target[libpq]
        return PsqlpyConfig(pool_config=settings)

    async def __aenter__(self) -> RoundTrips:
        """Listen."""
        path = str(self._directory / ".s.PGSQL.5432")
        self._server = await asyncio.start_unix_server(self._serve, path)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop, when the last client has left."""
        self._server.close()
        await asyncio.wait_for(asyncio.gather(*self._tasks), LIMIT_SEC)

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._connect(reader, writer))
        self._tasks.add(task)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = self._target["host"], self._target["port"]
        if host.startswith("/"):
            back, on = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        else:
            back, on = await asyncio.open_connection(host, int(port))
        await asyncio.gather(self._count(reader, on), _pass_on(back, writer))

    async def _count(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = b""
        try:
            while True:
                length = await reader.readexactly(4)
                body = await reader.readexactly(int.from_bytes(length, "big") - 4)
                self.counted += head in (b"S", b"H", b"Q")
                writer.write(head + length + body)
                await writer.drain()
                head = await reader.readexactly(1)
        except asyncio.IncompleteReadError:  # the client has left
            writer.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()
