"""pgbouncer of this suite's own, which may be killed."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from poolers import NOT_HERE, Pooler
from servers import BinaryServer, Database, wheel_binaries

if TYPE_CHECKING:
    from collections.abc import Iterator

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def plain_server() -> Iterator[BinaryServer]:
    """The server behind it."""
    with BinaryServer(wheel_binaries()) as server:
        yield server


@pytest.fixture
def direct(plain_server: BinaryServer) -> Iterator[Database]:
    """A database of the test's own, without the pooler."""
    name = f"adk_pooler_{next(_numbers)}"
    plain_server.create_database(name)
    yield Database(name, plain_server.database_dsn(name), plain_server)
    plain_server.drop_database(name)


@pytest.fixture
def pooler(request: pytest.FixtureRequest, plain_server: BinaryServer) -> Iterator[Pooler]:
    """pgbouncer in transaction mode."""
    program = request.config.getoption("--pooler")
    if program is None:
        pytest.skip(NOT_HERE)
    with Pooler(Path(program), plain_server) as started:
        yield started


@pytest.fixture
def pooled(pooler: Pooler, direct: Database) -> Database:
    """The test's database, through the pooler."""
    return pooler.through(direct)
