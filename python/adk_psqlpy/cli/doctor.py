"""`adk-psqlpy doctor`: what is installed, what runs on the fast path, and what the server says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from adk_psqlpy.cli.options import Target, examples, server_options
from adk_psqlpy.cli.output import write as _print

if TYPE_CHECKING:
    from adk_psqlpy.config import PsqlpyConfig
    from adk_psqlpy.sql import Tables

FAST = "fast"


@click.command(epilog=examples("adk-psqlpy doctor --dsn postgresql://me@localhost/agents"))
@server_options("session_table")
def command(target: Target) -> int:
    """Show versions, fast paths, and what the server says."""
    import asyncio

    return asyncio.run(_run(target))


async def _run(target: Target) -> int:
    """Print the report; give 0, or 1 where a server was asked for and could not be asked.

    Raises:
        ValueError: the DSN, the environment or the table name is not possible.
    """
    from psqlpy.exceptions import Error

    from adk_psqlpy.sql import Tables

    tables = Tables(target.table("session_table"), "adk_events")
    config = target.config_if_given()
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


def _versions() -> list[str]:
    from adk_psqlpy.admin.diagnostics import versions

    return [f"{name:<18} {text}" for name, text in versions().items()]


def _models() -> list[str]:
    """The classes reachable from `Event`, those first that are not wholly on the fast path."""
    from adk_psqlpy.admin.diagnostics import model_paths

    paths = model_paths()
    read = sum(path.reading is None for path in paths)
    written = sum(path.writing is None for path in paths)
    width = max(len(path.name) for path in paths)
    return [
        f"fast path: {read} of {len(paths)} model classes are read, {written} written by the crate; "
        "pydantic does the others",
        f"  {'class':<{width}}  {'written':<8}read",
        *(
            f"  {path.name:<{width}}  {_path(path.writing):<8}{_path(path.reading)}"
            for path in sorted(paths, key=lambda path: path.fast)
        ),
    ]


def _path(reason: str | None) -> str:
    return FAST if reason is None else f"pydantic: {reason}"


async def _server(config: PsqlpyConfig, tables: Tables) -> list[str]:
    """Ask for the versions of the server and of the tables."""
    from adk_psqlpy.connections.lanes import lanes_of
    from adk_psqlpy.sql import READING, SCHEMA_VERSION, Statements

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
