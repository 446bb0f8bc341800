"""Sources of a migration, and how one is recognised.

Each file is one kind of source: `adk_database` (ADK's `DatabaseSessionService`), `adk_sqlite`
(`SqliteSessionService`), `adk_files` (`FileArtifactService`), `several` (the folder of `adk web`),
`sqlspec`, `jsonl` (an export) and `own`.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from datetime import timezone, tzinfo
from pathlib import Path
from typing import Final, Literal
from urllib.parse import unquote, urlsplit

from psqlpy import Connection

from adk_psqlpy.admin.migrate.sources.adk_database import DatabaseSource
from adk_psqlpy.admin.migrate.sources.adk_files import FileArtifactSource
from adk_psqlpy.admin.migrate.sources.adk_sqlite import SqliteSource, tables_of
from adk_psqlpy.admin.migrate.sources.base import Source, SourceError
from adk_psqlpy.admin.migrate.sources.jsonl import JsonlSource
from adk_psqlpy.admin.migrate.sources.own import OwnSource
from adk_psqlpy.admin.migrate.sources.several import agents_folder
from adk_psqlpy.admin.migrate.sources.sqlspec import COLUMNS, DOCUMENTS, SqlspecSource, columns_of
from adk_psqlpy.admin.table_names import TableNames
from adk_psqlpy.config import PsqlpyConfig
from adk_psqlpy.seal.seal import Seal
from adk_psqlpy.sql.sqlspec_source import IDENTITY

__all__ = ["KINDS", "Kind", "Source", "SourceError", "SourceOptions", "open_source", "postgresql_dsn"]

Kind = Literal["adk", "sqlspec", "adk-psqlpy"]
KINDS: Final[tuple[Kind, ...]] = ("adk", "sqlspec", "adk-psqlpy")
"""The makers of the tables that a PostgreSQL database may hold: ADK's `DatabaseSessionService`, SQLSpec, this
package.
"""

_SQLITE: Final = b"SQLite format 3\0"


@dataclass(frozen=True)
class SourceOptions:
    """What to know about a source that it cannot tell by itself.

    `kind` says which tables of a PostgreSQL database are meant where there are several. `names` are those of
    its tables of sessions and events, where they are not the usual ones (SQLSpec's and adk-psqlpy's only).
    `naive_zone` is the zone of times without one in ADK's tables. `seal` opens what is sealed in those of
    adk-psqlpy.
    """

    kind: Kind | None = None
    session_table: str | None = None
    events_table: str | None = None
    naive_zone: tzinfo = timezone.utc
    seal: Seal | None = None


async def open_source(
    source: str | Path, options: SourceOptions, target: PsqlpyConfig | None = None, target_table: str = ""
) -> Source:
    """Find out what kind of source a URL, a file or a folder is. The source is not opened yet.

    `target` and `target_table` say where the migration writes: those tables are not taken for the source.

    Raises:
        SourceError: it is not a source, or could be several.
        ImportError: the package that reads it is not installed.
    """
    text = str(source)
    if text == "-":
        return JsonlSource(Path("standard input"), sys.stdin.buffer)
    if (dsn := postgresql_dsn(text)) is not None:
        return await _postgresql(text, dsn, options, target, target_table)
    scheme = _scheme(text)
    if scheme == "sqlite":
        path = text.partition("://")[2].partition("?")[0].removeprefix("/")
        return await asyncio.to_thread(_file, Path(unquote(path)), options)
    if scheme == "file":
        return await asyncio.to_thread(_place, Path(unquote(urlsplit(text).path)), options)
    if scheme:
        return DatabaseSource(_with_driver(text, scheme), naive_zone=options.naive_zone)
    return await asyncio.to_thread(_place, Path(source), options)


def postgresql_dsn(source: str | Path) -> str | None:
    """The connection string of a source in PostgreSQL; `None` for another source.

    Its URL may name a driver of SQLAlchemy.
    """
    text = str(source)
    if _scheme(text) not in ("postgresql", "postgres"):
        return None
    return f"postgresql://{text.partition('://')[2]}"


def _scheme(text: str) -> str:
    return urlsplit(text).scheme.partition("+")[0].lower() if "://" in text else ""


def _place(path: Path, options: SourceOptions) -> Source:
    path = path.expanduser()
    if not path.exists():
        raise SourceError(f"there is no {path}")
    return _folder(path) if path.is_dir() else _file(path, options)


def _folder(path: Path) -> Source:
    if (path / "apps").is_dir() or ((path / "users").is_dir() and not (path / ".adk").is_dir()):
        return FileArtifactSource(path)
    found = agents_folder(path)
    if found is None:
        raise SourceError(
            f"the folder {path} holds nothing of ADK: neither .adk folders, which adk web makes beside "
            "agents, nor apps, which a FileArtifactService makes"
        )
    return found


def _file(path: Path, options: SourceOptions) -> Source:
    if not path.is_file():
        raise SourceError(f"there is no file {path}")
    with path.open("rb") as file:
        start = file.read(len(_SQLITE))
    if start != _SQLITE:
        if start.lstrip().startswith(b"{"):
            return JsonlSource(path)
        raise SourceError(f"{path} is neither an SQLite database nor an export of adk-psqlpy")
    tables = tables_of(path)
    events = tables.get("events", set())
    if "adk_internal_metadata" in tables or "actions" in events:
        url = f"sqlite+aiosqlite:///{path.resolve()}"
        return DatabaseSource(url, naive_zone=options.naive_zone)
    if not {"sessions", "events"} & set(tables):
        shown = ", ".join(sorted(tables)) or "none at all"
        raise SourceError(f"{path} has no tables of ADK; there are: {shown}")
    return SqliteSource(path)


async def _postgresql(
    url: str, dsn: str, options: SourceOptions, target: PsqlpyConfig | None, target_table: str
) -> Source:
    names = TableNames(options.session_table or "adk_sessions", options.events_table or "adk_events")
    kind = options.kind
    if kind is None:
        async with PsqlpyConfig({"dsn": dsn, "max_db_pool_size": 2}) as config:
            async with config.provide_connection() as connection:
                found = await _kinds(connection, options, names)
                same = target is not None and await _identity(connection, names.session_table)
            if "adk-psqlpy" in found and target is not None and same:
                async with target.provide_connection() as connection:
                    if same == await _identity(connection, target_table):
                        found.remove("adk-psqlpy")
        if not found:
            raise SourceError(
                "the source database has no tables of ADK, SQLSpec or adk-psqlpy on this user's search path"
            )
        if len(found) > 1:
            raise SourceError(
                f"the source database has tables of {' and of '.join(found)}: say which to read (--kind, "
                "or SourceOptions(kind=...))"
            )
        (kind,) = found
    if kind == "adk-psqlpy":
        config = PsqlpyConfig({"dsn": dsn, "max_db_pool_size": 4})
        return OwnSource(config, names, seal=options.seal)
    if kind == "sqlspec":
        return SqlspecSource(dsn, options.session_table, options.events_table)
    return DatabaseSource(_with_driver(url, "postgresql"), naive_zone=options.naive_zone)


async def _identity(connection: Connection, table: str) -> str:
    from adk_psqlpy.sql.names import quoted

    result = await connection.fetch(IDENTITY, [quoted(table)])
    return str(result.result(as_tuple=True)[0][0])


async def _kinds(connection: Connection, options: SourceOptions, names: TableNames) -> list[Kind]:
    """The makers of the tables on the search path."""
    found: list[Kind] = []
    if {"session_id", "timestamp"} <= await columns_of(connection, "events"):
        found.append("adk")
    session_columns = await columns_of(connection, names.session_table)
    if "revision" in session_columns:
        found.append("adk-psqlpy")
    for defaults in (DOCUMENTS, COLUMNS):
        sessions = await columns_of(connection, options.session_table or defaults[0])
        events = await columns_of(connection, options.events_table or defaults[1])
        if sessions and "revision" not in sessions and {"session_id", "timestamp"} <= events:
            found.append("sqlspec")
            break
    return found


def _with_driver(url: str, backend: str) -> str:
    """The URL; if it names no driver, with an asynchronous one."""
    scheme, _, rest = url.partition("://")
    if "+" in scheme:
        return url
    from importlib.util import find_spec

    drivers = {
        "postgresql": ("asyncpg", "psycopg"),
        "mysql": ("aiomysql", "asyncmy"),
        "mariadb": ("aiomysql",),
    }
    for driver in drivers.get(backend, ()):
        if find_spec(driver) is not None:
            return f"{backend}+{driver}://{rest}"
    wanted = " or ".join(drivers.get(backend, ()))
    if not wanted:
        raise SourceError(
            f"the source URL has the scheme {scheme}, for which no driver is known here: name one that "
            "SQLAlchemy knows, as in oracle+oracledb://..."
        )
    raise ImportError(
        f"a source of {backend} is read through {wanted}, and neither is installed: pip install {wanted}"
    )
