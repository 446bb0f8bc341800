"""Fixtures of the command's suite: a database with conversations in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService

if TYPE_CHECKING:
    from servers import Database

# In this process too, the ADK has its say.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def no_other_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what a test says names a server, and nothing colours the output."""
    for name in (
        "DATABASE_URL",
        "PGHOST",
        "PGPORT",
        "PGUSER",
        "PGPASSWORD",
        "PGDATABASE",
        "NO_COLOR",
        "FORCE_COLOR",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def store(config: PsqlpyConfig) -> PsqlpyADKStore:
    """The tables of sessions and events."""
    opened = PsqlpyADKStore(config)
    await opened.create_tables()
    return opened


@pytest.fixture
def service(store: PsqlpyADKStore) -> PsqlpySessionService:
    """ADK's service on them."""
    return PsqlpySessionService(store)


@pytest.fixture
def dsn(database: Database) -> str:
    """The database, as `--dsn` takes it."""
    return database.dsn
