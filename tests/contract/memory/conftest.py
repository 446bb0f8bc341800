"""Fixtures of the memory part: `memory_backend`, each service in turn, and `memory`, one opened on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .backends import MEMORY_BACKENDS, MemoryBackend

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from google.adk.memory import BaseMemoryService


@pytest.fixture(params=MEMORY_BACKENDS)
def memory_backend(request: pytest.FixtureRequest) -> MemoryBackend:
    """Each backend in turn, on data of its own."""
    fixture, build = MEMORY_BACKENDS[request.param]
    if fixture is None:
        return build()
    return build(request.getfixturevalue(fixture))


@pytest.fixture
async def memory(memory_backend: MemoryBackend) -> AsyncIterator[BaseMemoryService]:
    """One service on the backend's empty data."""
    async with memory_backend.open() as opened:
        yield opened
