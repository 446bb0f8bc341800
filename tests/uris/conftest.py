"""A URI of the test's database, and no pool left behind."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from google.adk.cli import service_registry as adk

from adk_psqlpy.service_registry import pools, register
from servers import Database


@pytest.fixture(autouse=True)
async def nothing_left() -> AsyncIterator[None]:
    yield
    await pools.close_all()


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """Embedded servers of URIs change them."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("PG") or name == "DATABASE_URL":
            monkeypatch.delenv(name)


@pytest.fixture
def uri(database: Database) -> str:
    """Of a pool that is told apart by its `application_name`."""
    where = database.dsn.replace("postgresql://", "psqlpy://")
    return f"{where}{'&' if '?' in where else '?'}application_name={database.name}&max_db_pool_size=4"


@pytest.fixture
def registry() -> adk.ServiceRegistry:
    """A registry of ADK's that knows this package's schemes."""
    made = adk.ServiceRegistry()
    register(made)
    return made


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Where an embedded server may keep its data: short, since a Unix socket has to fit into the path."""
    with TemporaryDirectory(prefix="adk-", dir="/tmp") as folder:
        yield Path(folder) / "data"
