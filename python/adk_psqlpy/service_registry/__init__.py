"""ADK's service registry: `--session_service_uri "psqlpy://..."` of `adk web`, `adk api_server`, `adk run`.

ADK imports `services.py` of the agents' folder, which calls `register` (`adk-psqlpy init` writes it). A
service is made from its URI when the command starts, connects on first use, and makes its tables then.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from click import ClickException
from google.adk.cli.service_registry import ServiceRegistry, get_service_registry

from adk_psqlpy.artifacts import PsqlpyArtifactService
from adk_psqlpy.memory import PsqlpyMemoryService
from adk_psqlpy.service_registry.pools import SharedPool, close_all, shared_pool
from adk_psqlpy.service_registry.uri import EMBEDDED_SCHEME, SCHEME, ServiceUri, parse
from adk_psqlpy.sessions import PsqlpyADKStore, PsqlpySessionService

__all__ = [
    "ServiceUriError",
    "UriArtifactService",
    "UriMemoryService",
    "UriSessionService",
    "lifespan",
    "register",
]

logger: Final = logging.getLogger("adk_psqlpy")


class ServiceUriError(ClickException, ValueError):
    """A `ValueError` that ADK's commands print in one line.

    They do so for click's exceptions. Any other error about the URI of the session service is printed as a
    traceback.
    """


def register(registry: ServiceRegistry | None = None) -> None:
    """Make the URI schemes `psqlpy` and `psqlpy+embedded` known to ADK (or to a registry of one's own)."""
    registry = get_service_registry() if registry is None else registry
    for scheme in (SCHEME, EMBEDDED_SCHEME):
        registry.register_session_service(scheme, UriSessionService)
        registry.register_memory_service(scheme, UriMemoryService)
        registry.register_artifact_service(scheme, UriArtifactService)


@asynccontextmanager
async def lifespan(app: object) -> AsyncIterator[None]:  # noqa: ARG001 - as FastAPI calls it
    """Close the pools of all URIs when the application ends: `get_fast_api_app(..., lifespan=lifespan)`."""
    try:
        yield
    finally:
        await close_all()


class _Pooled:
    """A service that shares its pool with the other services of its URI."""

    _pool: SharedPool

    async def close(self) -> None:
        """Leave the pool, and close it if no other service uses it. A later call opens it again."""
        await self._pool.leave(self)


class UriSessionService(_Pooled, PsqlpySessionService):
    """The session service of a URI; the tables are made on first use."""

    def __init__(self, uri: str, **others: Any) -> None:
        """Read the URI. Nothing is connected yet.

        Args:
            uri: `psqlpy://...` or `psqlpy+embedded:///...`.
            others: other arguments that ADK passes to a service, such as `agents_dir`.

        Raises:
            ServiceUriError: a part of the URI is wrong, or the embedded server is not installed.
        """
        with _refusals():
            parsed, self._pool = _opened(uri, others)
            store = PsqlpyADKStore(
                self._pool.config,
                **parsed.chosen("session_table", "events_table", "key_length", "history_cache_bytes"),
                tables_on_first_use=True,
            )
            super().__init__(store, **parsed.chosen("stale_policy"))
        self._pool.join(self)


class UriMemoryService(_Pooled, PsqlpyMemoryService):
    """The memory service of a URI."""

    def __init__(self, uri: str, **others: Any) -> None:
        """Read the URI, as `UriSessionService` does."""
        with _refusals():
            parsed, self._pool = _opened(uri, others)
            super().__init__(self._pool.config, **parsed.chosen("memory_table", "language", "key_length"))
        self._pool.join(self)


class UriArtifactService(_Pooled, PsqlpyArtifactService):
    """The artifact service of a URI."""

    def __init__(self, uri: str, **others: Any) -> None:
        """Read the URI, as `UriSessionService` does."""
        with _refusals():
            parsed, self._pool = _opened(uri, others)
            super().__init__(self._pool.config, **parsed.chosen("artifact_table", "key_length"))
        self._pool.join(self)


def _opened(uri: str, others: dict[str, Any]) -> tuple[ServiceUri, SharedPool]:
    ignored = sorted(set(others) - {"agents_dir"})
    if ignored:
        logger.warning(
            "a psqlpy URI ignores session_db_kwargs (%s): write options into its query",
            ", ".join(ignored),
        )
    parsed = parse(uri)
    return parsed, shared_pool(parsed)


@contextmanager
def _refusals() -> Iterator[None]:
    """Raise an error about a URI in a form that ADK's commands can show."""
    try:
        yield
    except (ValueError, ImportError) as error:
        raise ServiceUriError(str(error)) from error
