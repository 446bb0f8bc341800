"""Fixtures of the store's suite."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from servers import Database, Server, run_sql

from .support import all_back

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture
async def store(config: PsqlpyConfig) -> AsyncIterator[PsqlpyADKStore]:
    """A store with its tables; at the end, no connection is still checked out."""
    opened = PsqlpyADKStore(config)
    await opened.create_tables()
    yield opened
    await all_back(config)


@pytest.fixture
def service(store: PsqlpyADKStore) -> PsqlpySessionService:
    """A service on that store."""
    return PsqlpySessionService(store)


@pytest.fixture(scope="module")
def module_database(server: Server) -> Iterator[Database]:
    """A database that the tests of a module share, for tests that must not change it."""
    name = f"adk_module_{os.getpid()}"
    run_sql(server.dsn, f'CREATE DATABASE "{name}"')
    yield Database(name, server.database_dsn(name), server)
    run_sql(server.dsn, f'DROP DATABASE "{name}" WITH (FORCE)')
