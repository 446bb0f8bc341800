"""Fixtures of the suite."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig
from adk_psqlpy.seal import Seal
from store.support import all_back

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
def seal() -> Seal | None:
    """What the store seals with; the suites that run sealed too give it parameters."""
    return None


@pytest.fixture
async def store(config: PsqlpyConfig, seal: Seal | None) -> AsyncIterator[PsqlpyADKStore]:
    """A store with its tables; at the end, no connection is still checked out."""
    opened = PsqlpyADKStore(config, seal=seal)
    await opened.create_tables()
    yield opened
    await all_back(config)
