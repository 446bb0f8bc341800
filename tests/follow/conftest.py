"""Fixtures of following: two processes' worth of services on one database, and a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from servers import Database

from .support import KEY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from google.adk.sessions import Session

    Open = Callable[..., PsqlpySessionService]


@pytest.fixture
async def open_service(database: Database) -> AsyncIterator[Open]:
    """Makes services, each on a pool of its own as in a process of its own; all closed at the end."""
    made: list[PsqlpySessionService] = []

    def make(dsn: str | None = None, **settings: object) -> PsqlpySessionService:
        config = PsqlpyConfig({"dsn": dsn or database.dsn, "max_db_pool_size": 4})
        made.append(PsqlpySessionService(PsqlpyADKStore(config, **settings)))
        return made[-1]

    yield make
    for service in made:
        await service.close()


@pytest.fixture
async def writer(open_service: Open) -> PsqlpySessionService:
    """The one that appends; the tables are there."""
    service = open_service()
    await service.store.create_tables()
    return service


@pytest.fixture
def reader(open_service: Open, writer: PsqlpySessionService) -> PsqlpySessionService:
    """The one that follows."""
    return open_service()


@pytest.fixture
async def session(writer: PsqlpySessionService) -> Session:
    """A session without events, as the writer holds it."""
    return await writer.create_session(**KEY)
