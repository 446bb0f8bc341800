"""Fixtures of every suite: one server for the session, and for each test an empty database.

Suites that need another store or service override the fixtures.

The server: `--pg=...` when given, else the one that `ADK_PSQLPY_TEST_DSN` names, else the embedded one.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from clusters import NOT_HERE, CitusCluster, Cluster, choose_cluster, distribute
from databases import Databases, next_name
from poolers import Pooler
from secured import CONTRACT_APPS, Roles, secured_dsn
from servers import BinaryServer, Database, Server, choose_server, wheel_binaries
from store.support import all_back
from where import on_cluster, set_cluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

# What a shell starts in the background ignores Ctrl-C, what nohup starts ignores a hang-up, and so would
# every program that the tests start. A handler is not inherited, so programs get the default.
signal.signal(signal.SIGINT, signal.default_int_handler)
if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--pg",
        metavar="WHICH",
        help="the server: embedded, container, citus, a major version under /usr/lib/postgresql, "
        "or a bin directory",
    )
    parser.addoption(
        "--citus", metavar="FOLDER", help="a PostgreSQL that has Citus, for --pg=citus and tests/citus"
    )
    parser.addoption(
        "--pooler", metavar="PROGRAM", help="pgbouncer: tests/pooler runs, and other suites go through it"
    )
    parser.addoption(
        "--row-security",
        action="store_true",
        help="the contract suite of ours as a role that row-level security binds",
    )
    parser.addoption(
        "--ours", action="store_true", help="the contract suite on our services, without ADK's own"
    )
    parser.addoption("--pg-image", default="postgres:18", metavar="IMAGE", help="image of --pg=container")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "one_server(reason): not on a Citus cluster")
    config.addinivalue_line("markers", "own_database(tables): a database of the test's own, on a cluster too")
    set_cluster(config.getoption("--pg") == "citus")


def pytest_runtest_setup(item: pytest.Item) -> None:
    mark = item.get_closest_marker("one_server")
    if mark is not None and on_cluster():
        pytest.skip(f"on one server only: {mark.kwargs['reason']}")


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The PostgreSQL server of this session."""
    kind = request.config.getoption("--pg")
    chosen: Server | None
    if kind == "citus":
        chosen = choose_cluster(request.config.getoption("--citus"))
        if chosen is None:
            pytest.skip(NOT_HERE)
    elif kind is None and request.config.getoption("--pooler"):
        chosen = BinaryServer(wheel_binaries())  # pgbouncer's user may not enter the embedded one's folder
    else:
        chosen = choose_server(kind, request.config.getoption("--pg-image"))
    with chosen as started:
        yield started


@pytest.fixture(scope="session")
def pooler_in_front(request: pytest.FixtureRequest, server: Server) -> Iterator[Pooler | None]:
    """pgbouncer before that server, where `--pooler` asks for it."""
    program = request.config.getoption("--pooler")
    if program is None:
        yield None
        return
    behind = server.coordinator if isinstance(server, CitusCluster) else server
    if not isinstance(behind, BinaryServer):
        pytest.skip("--pooler needs a server that is started here: leave out --pg, or give a bin folder")
    with Pooler(Path(program), behind) as pooler:
        yield pooler


@pytest.fixture(scope="session")
def databases(server: Server) -> Iterator[Databases]:
    """Databases of that server, which tests use one after another."""
    made = Databases(server)
    yield made
    made.drop()


@pytest.fixture
def database(
    request: pytest.FixtureRequest, server: Server, databases: Databases, pooler_in_front: Pooler | None
) -> Iterator[Database]:
    """An empty database of the test's own, under a name that no earlier one had.

    On a cluster it takes some seconds, so only tests that are marked with `own_database` have one there.
    """
    own = request.node.get_closest_marker("own_database")
    if not isinstance(server, Cluster):
        made = databases.lend()
    elif own is None:
        made = server.emptied()
    else:
        made = _of_cluster(server, tables=own.kwargs["tables"])
    yield made if pooler_in_front is None else pooler_in_front.through(made)
    if not isinstance(server, Cluster):
        databases.take_back(made)
    elif own is not None:
        server.drop_database(made.name)


def _of_cluster(server: Cluster, *, tables: bool) -> Database:
    name = next_name()
    server.create_database(name)
    made = Database(name, server.database_dsn(name), server)
    if tables:
        distribute(made.dsn)
    return made


@pytest.fixture
def roles(database: Database) -> Iterator[Roles]:
    """Roles of that database, dropped at the end."""
    made = Roles(database)
    yield made
    made.drop()


@pytest.fixture
def service_dsn(request: pytest.FixtureRequest, database: Database) -> str:
    """The database of the superuser, or with `--row-security` of a role that policies bind."""
    if not request.config.getoption("--row-security"):
        return database.dsn
    return secured_dsn(request.getfixturevalue("roles"), CONTRACT_APPS)


@pytest.fixture
async def config(database: Database) -> AsyncIterator[PsqlpyConfig]:
    """A configuration on that database, its pool closed at the end."""
    async with PsqlpyConfig(pool_config={"dsn": database.dsn, "max_db_pool_size": 4}) as opened:
        yield opened


@pytest.fixture
async def store(config: PsqlpyConfig) -> AsyncIterator[PsqlpyADKStore]:
    """A store with its tables; at the end, no connection is still checked out."""
    opened = PsqlpyADKStore(config)
    await opened.create_tables()
    yield opened
    await all_back(config)


@pytest.fixture
def service(store: PsqlpyADKStore) -> PsqlpySessionService:
    """A service on that store."""
    return PsqlpySessionService(store)
