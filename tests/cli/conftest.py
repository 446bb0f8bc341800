"""Fixtures of the command's suite: a database with conversations in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService

from .support import TARGETS, on_a_terminal

if TYPE_CHECKING:
    from collections.abc import Callable

    from servers import Database

# In this process too, the ADK has its say.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def no_other_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what a test says names a server, and nothing colours the output."""
    for name in TARGETS:
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


@pytest.fixture
def terminal() -> Callable[..., tuple[int, str]]:
    """Run the command on a terminal of 100 columns, answer its question, and give exit code and screen."""
    return on_a_terminal
