"""Fixtures of the artifacts' suite."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from adk_psqlpy import PsqlpyConfig
from adk_psqlpy.artifacts import PsqlpyArtifactService

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def service(config: PsqlpyConfig) -> AsyncIterator[PsqlpyArtifactService]:
    """A service with its tables; at the end no statement of its is left in flight."""
    opened = PsqlpyArtifactService(config)
    await opened.create_tables()
    yield opened
    assert config.lanes.in_flight == 0
