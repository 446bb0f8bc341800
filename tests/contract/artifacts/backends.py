"""The artifact services under the contract."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from google.adk.artifacts import BaseArtifactService, FileArtifactService, InMemoryArtifactService

from contract.differences import differs_among
from keys import fresh_seal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

APP, USER, SESSION = "app", "user", "s1"


@dataclass(frozen=True)
class ArtifactBackend:
    """A way to open artifact services of one kind on one set of data."""

    name: str
    # Whether a second service sees what the first one stored.
    persistent: bool
    make: Callable[[], BaseArtifactService]

    @asynccontextmanager
    async def open(self) -> AsyncIterator[BaseArtifactService]:
        """One service on this backend's data; closed on the way out, the data stay."""
        service: Any = self.make()
        try:
            yield service
        finally:
            if hasattr(service, "close"):
                await service.close()


def in_memory(_: Path) -> ArtifactBackend:
    """ADK's `InMemoryArtifactService`; its data die with the service."""
    return ArtifactBackend("in_memory", persistent=False, make=InMemoryArtifactService)


def file(directory: Path) -> ArtifactBackend:
    """ADK's `FileArtifactService` in a directory."""
    return ArtifactBackend("file", persistent=True, make=lambda: FileArtifactService(directory))


def psqlpy(dsn: str, *, sealed: bool = False) -> ArtifactBackend:
    """Our `PsqlpyArtifactService` on the PostgreSQL at `dsn`; it makes its tables itself."""
    from adk_psqlpy import PsqlpyConfig
    from adk_psqlpy.artifacts import PsqlpyArtifactService

    def make() -> BaseArtifactService:
        config = PsqlpyConfig(pool_config={"dsn": dsn, "max_db_pool_size": 4})
        return PsqlpyArtifactService(config, seal=fresh_seal() if sealed else None)

    name = "sealed" if sealed else "psqlpy"
    return ArtifactBackend(name, persistent=True, make=make)


# Name -> (needs PostgreSQL, builder). The order is the order of the reports.
ARTIFACT_BACKENDS: dict[str, tuple[bool, Callable[[Any], ArtifactBackend]]] = {
    "in_memory": (False, in_memory),
    "file": (False, file),
    "psqlpy": (True, psqlpy),
    "sealed": (True, partial(psqlpy, sealed=True)),
}

differs = differs_among(ARTIFACT_BACKENDS)


@dataclass(frozen=True)
class Artifacts:
    """A service as one user in one session sees it; every method takes other scopes by keyword."""

    service: BaseArtifactService

    def _where(self, scope: dict[str, Any]) -> dict[str, Any]:
        return {"app_name": APP, "user_id": USER, "session_id": SESSION} | scope

    async def save(self, filename: str, artifact: Any, metadata: Any = None, **scope: Any) -> int:
        """The new version's number."""
        extra = {} if metadata is None else {"custom_metadata": metadata}
        return await self.service.save_artifact(
            filename=filename, artifact=artifact, **self._where(scope), **extra
        )

    async def load(self, filename: str, version: int | None = None, **scope: Any) -> Any:
        """A part, or `None`."""
        return await self.service.load_artifact(filename=filename, version=version, **self._where(scope))

    async def delete(self, filename: str, **scope: Any) -> None:
        """Delete an artifact."""
        await self.service.delete_artifact(filename=filename, **self._where(scope))

    async def keys(self, **scope: Any) -> list[str]:
        """The listed names."""
        return await self.service.list_artifact_keys(**self._where(scope))

    async def versions(self, filename: str, **scope: Any) -> list[int]:
        """The listed numbers."""
        return await self.service.list_versions(filename=filename, **self._where(scope))

    async def described(self, filename: str, **scope: Any) -> list[Any]:
        """What is said of each version."""
        return await self.service.list_artifact_versions(filename=filename, **self._where(scope))

    async def describe(self, filename: str, version: int | None = None, **scope: Any) -> Any:
        """What is said of one version, or `None`."""
        return await self.service.get_artifact_version(
            filename=filename, version=version, **self._where(scope)
        )
