"""Fixtures of the suite: an empty target, and what opens our service on it."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from servers import Database


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder for SQLite files, in memory where there is such: each append of ADK waits for the disk."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="adk-migration-", dir=memory) as folder:
        yield Path(folder)


@pytest.fixture
async def target(database: Database) -> AsyncIterator[PsqlpyConfig]:
    """A configuration of an empty database; the migration makes the tables."""
    async with PsqlpyConfig({"dsn": database.dsn, "max_db_pool_size": 4}) as config:
        yield config


@pytest.fixture
def ours(target: PsqlpyConfig) -> PsqlpySessionService:
    """Our service on the target's tables."""
    return PsqlpySessionService(PsqlpyADKStore(target))


@pytest.fixture(autouse=True)
def quiet_adk() -> Iterator[None]:
    """ADK says at each look that schema v0 is old."""
    logger = logging.getLogger("google_adk")
    level = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(level)
