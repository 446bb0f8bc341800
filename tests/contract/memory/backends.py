"""The memory services under the contract.

As in `contract.backends`, for `BaseMemoryService`: ADK's in-memory and SQLite services beside ours.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from google.adk.memory.in_memory_memory_service import InMemoryMemoryService

from contract.differences import differs_among
from keys import fresh_seal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from google.adk.memory import BaseMemoryService


@dataclass(frozen=True)
class MemoryBackend:
    """A way to open memory services of one kind on one set of data."""

    name: str
    # Whether a second service sees what the first one stored.
    persistent: bool
    connect: Callable[[], Awaitable[BaseMemoryService]]
    disconnect: Callable[[Any], Awaitable[None]]

    @asynccontextmanager
    async def open(self) -> AsyncIterator[BaseMemoryService]:
        """One service on this backend's data; closed on the way out, the data stay."""
        service = await self.connect()
        try:
            yield service
        finally:
            await self.disconnect(service)


async def _close(service: Any) -> None:
    await service.close()


def in_memory() -> MemoryBackend:
    """ADK's `InMemoryMemoryService`; its data die with the service."""

    async def connect() -> BaseMemoryService:
        return InMemoryMemoryService()

    async def disconnect(service: Any) -> None:
        """Nothing is held open."""

    return MemoryBackend("in_memory", persistent=False, connect=connect, disconnect=disconnect)


def sqlite(directory: Path) -> MemoryBackend:
    """ADK's `SqliteMemoryService` (SQLite's FTS5) on a file."""

    async def connect() -> BaseMemoryService:
        from google.adk.memory import SqliteMemoryService

        return SqliteMemoryService(directory / "memory.db")

    return MemoryBackend("sqlite", persistent=True, connect=connect, disconnect=_close)


def psqlpy(dsn: str, *, sealed: bool = False) -> MemoryBackend:
    """Our `PsqlpyMemoryService` on the PostgreSQL at `dsn`."""
    from adk_psqlpy import PsqlpyConfig
    from adk_psqlpy.memory import PsqlpyMemoryService

    async def connect() -> BaseMemoryService:
        config = PsqlpyConfig(pool_config={"dsn": dsn, "max_db_pool_size": 4})
        return PsqlpyMemoryService(config, seal=fresh_seal() if sealed else None)

    name = "sealed" if sealed else "psqlpy"
    return MemoryBackend(name, persistent=True, connect=connect, disconnect=_close)


# Name -> (the fixture that says where the data are, builder). The order is the order of the reports.
MEMORY_BACKENDS: dict[str, tuple[str | None, Callable[..., MemoryBackend]]] = {
    "in_memory": (None, in_memory),
    "sqlite": ("tmp_path", sqlite),
    "psqlpy": ("service_dsn", psqlpy),
    "sealed": ("service_dsn", partial(psqlpy, sealed=True)),
}

differs = differs_among(MEMORY_BACKENDS, failures=(AssertionError, NotImplementedError))
