"""Fixtures of the fidelity suite: a store on an empty database, a service on it, and a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from adk_psqlpy import PsqlpyADKStore, PsqlpySessionService

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from google.adk.sessions import Session

    from adk_psqlpy.config import PsqlpyConfig


@pytest.fixture
async def store(config: PsqlpyConfig) -> AsyncIterator[PsqlpyADKStore]:
    """A store with its tables made."""
    opened = PsqlpyADKStore(config)
    await opened.create_tables()
    yield opened
    await opened.close()


@pytest.fixture
def service(store: PsqlpyADKStore) -> PsqlpySessionService:
    """A session service on the store."""
    return PsqlpySessionService(store)


@pytest.fixture
async def session(service: PsqlpySessionService) -> Session:
    """A session without events."""
    return await service.create_session(app_name="app", user_id="user", session_id="s")
