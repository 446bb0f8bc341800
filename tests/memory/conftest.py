"""Fixtures of the memory service's suite."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from adk_psqlpy.memory import PsqlpyMemoryService
from servers import Database, run_sql
from store.support import all_back

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from adk_psqlpy import PsqlpyConfig


@pytest.fixture
async def memory(config: PsqlpyConfig) -> AsyncIterator[PsqlpyMemoryService]:
    """A service with the defaults; at the end, no connection is still checked out."""
    yield PsqlpyMemoryService(config)
    await all_back(config)


@pytest.fixture
def vector_database(database: Database) -> Database:
    """The test's database, with pgvector in it."""
    (available,) = run_sql(database.dsn, "SELECT name FROM pg_available_extensions WHERE name = 'vector'")
    if not available:
        pytest.skip("this server has no pgvector")
    run_sql(database.dsn, "CREATE EXTENSION vector")
    return database
