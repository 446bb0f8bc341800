"""Fixtures of the store's suite."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from servers import Database, Server

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def module_database(server: Server) -> Iterator[Database]:
    """A database that the tests of a module share, for tests that must not change it."""
    name = f"adk_module_{os.getpid()}"
    server.create_database(name)
    yield Database(name, server.database_dsn(name), server)
    server.drop_database(name)
