"""Fixtures of the contract suite: `backend`, each service in turn, and `service`, one opened on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .backends import BACKENDS, Backend
from .differences import OURS, apply_differences, backend_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from google.adk.sessions import BaseSessionService


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "differs(raises, reasons): the named backends break this test's promise, as described"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        apply_differences(item)
    if config.getoption("--ours"):
        rivals = [item for item in items if backend_of(item) not in (None, *OURS)]
        left_out = set(rivals)
        config.hook.pytest_deselected(items=rivals)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each backend in turn, on data of its own (a fresh database where it uses one)."""
    needs_postgres, build = BACKENDS[request.param]
    if not needs_postgres:
        return build()
    ours = request.param in OURS
    return build(request.getfixturevalue("service_dsn") if ours else request.getfixturevalue("database").dsn)


@pytest.fixture
async def service(backend: Backend) -> AsyncIterator[BaseSessionService]:
    """One service on the backend's empty data."""
    async with backend.open() as opened:
        yield opened
