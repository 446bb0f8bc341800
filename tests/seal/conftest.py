"""Fixtures of the sealing suite: a store that seals, and a session service on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from adk_psqlpy import PsqlpyADKStore, PsqlpySessionService
from keys import TestKeys

from .support import Sealed

if TYPE_CHECKING:
    from adk_psqlpy.config import PsqlpyConfig
    from servers import Database


@pytest.fixture
def ring() -> TestKeys:
    """Keys of the test."""
    return TestKeys("test-1")


@pytest.fixture
async def sealed(config: PsqlpyConfig, ring: TestKeys, database: Database) -> Sealed:
    """A store that seals with the ring, its service, and ways to look beneath."""
    from adk_psqlpy.seal import Seal

    store = PsqlpyADKStore(config, seal=Seal(ring))
    await store.create_tables()
    return Sealed(store, PsqlpySessionService(store), database)
