"""The session services under the contract.

To plug another service in, give `BACKENDS` an entry: a name, whether its data outlive the service,
and how one service is opened on (and closed after) the PostgreSQL at a URL.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from google.adk.sessions import BaseSessionService, InMemorySessionService

from keys import fresh_seal

from .differences import differs_among

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


@dataclass(frozen=True)
class Backend:
    """A way to open services of one kind on one set of data."""

    name: str
    # Whether a second service sees what the first one stored.
    persistent: bool
    # Whether one service may be used from several event loops, one after another.
    any_loop: bool
    connect: Callable[[], Awaitable[BaseSessionService]]
    disconnect: Callable[[Any], Awaitable[None]]

    @asynccontextmanager
    async def open(self) -> AsyncIterator[BaseSessionService]:
        """One service on this backend's data; closed on the way out, the data stay."""
        service = await self.connect()
        try:
            yield service
        finally:
            await self.disconnect(service)


def in_memory() -> Backend:
    """ADK's `InMemorySessionService`; its data die with the service."""

    async def connect() -> BaseSessionService:
        return InMemorySessionService()

    async def disconnect(service: Any) -> None:
        """Nothing is held open."""

    return Backend("in_memory", persistent=False, any_loop=True, connect=connect, disconnect=disconnect)


def database(dsn: str) -> Backend:
    """ADK's `DatabaseSessionService` (SQLAlchemy and asyncpg) on the PostgreSQL at `dsn`."""
    from google.adk.sessions import DatabaseSessionService

    url = asyncpg_url(dsn)

    async def connect() -> BaseSessionService:
        return DatabaseSessionService(url)

    async def disconnect(service: Any) -> None:
        await service.close()

    return Backend("database", persistent=True, any_loop=False, connect=connect, disconnect=disconnect)


def psqlpy(dsn: str, *, sealed: bool = False) -> Backend:
    """Our `PsqlpySessionService` on the PostgreSQL at `dsn`."""
    from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService

    configs: dict[int, Any] = {}

    async def connect() -> BaseSessionService:
        config = PsqlpyConfig(pool_config={"dsn": dsn, "max_db_pool_size": 4})
        store = PsqlpyADKStore(config, seal=fresh_seal() if sealed else None)
        await store.create_tables()
        service = PsqlpySessionService(store)
        configs[id(service)] = config
        return service

    async def disconnect(service: Any) -> None:
        await service.close()
        await configs.pop(id(service)).close_pool()

    name = "sealed" if sealed else "psqlpy"
    return Backend(name, persistent=True, any_loop=True, connect=connect, disconnect=disconnect)


# Name -> (needs PostgreSQL, builder). The order is the order of the reports.
BACKENDS: dict[str, tuple[bool, Callable[..., Backend]]] = {
    "in_memory": (False, in_memory),
    "database": (True, database),
    "psqlpy": (True, psqlpy),
    "sealed": (True, partial(psqlpy, sealed=True)),
}


def asyncpg_url(dsn: str) -> str:
    """The SQLAlchemy URL that reaches what the libpq URL `dsn` reaches."""
    from sqlalchemy.engine import make_url

    url = make_url(dsn).set(drivername="postgresql+asyncpg")
    query = dict(url.query)
    if "sslmode" in query:  # asyncpg's name for it
        query["ssl"] = query.pop("sslmode")
    host = unquote(url.host or "")
    if host.startswith("/"):  # a socket directory written in the host's place
        query["host"] = host
        url = url.set(host=None)
    return url.set(query=query).render_as_string(hide_password=False)


differs = differs_among(BACKENDS)
