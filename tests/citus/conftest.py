"""A Citus cluster of this suite's own, whose nodes may be killed; a database of its own for each test."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from clusters import NOT_HERE, CitusCluster, binaries_of
from servers import Database

if TYPE_CHECKING:
    from collections.abc import Iterator

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[CitusCluster]:
    """The coordinator and two workers."""
    installation = request.config.getoption("--citus")
    if installation is None:
        pytest.skip(NOT_HERE)
    with CitusCluster(binaries_of(Path(installation))) as started:
        yield started


@pytest.fixture
def citus(cluster: CitusCluster) -> Iterator[Database]:
    """An empty database of the test's own on all nodes; tests that kill a node start it again."""
    name = f"adk_citus_{next(_numbers)}"
    cluster.create_database(name)
    yield Database(name, cluster.database_dsn(name), cluster)
    cluster.up()
    cluster.drop_database(name)
