"""Fixtures: `artifact_backend`, each service in turn, and `artifacts`, one opened on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .backends import ARTIFACT_BACKENDS, ArtifactBackend, Artifacts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture(params=ARTIFACT_BACKENDS)
def artifact_backend(request: pytest.FixtureRequest) -> ArtifactBackend:
    """Each backend in turn, on data of its own."""
    needs_postgres, build = ARTIFACT_BACKENDS[request.param]
    if needs_postgres:
        return build(request.getfixturevalue("service_dsn"))
    return build(request.getfixturevalue("tmp_path"))


@pytest.fixture
async def artifacts(artifact_backend: ArtifactBackend) -> AsyncIterator[Artifacts]:
    """One service on the backend's empty data."""
    async with artifact_backend.open() as service:
        yield Artifacts(service)
