"""Finding out which tables exist."""

from __future__ import annotations

from psqlpy.exceptions import DatabaseError

from adk_psqlpy.config import PsqlpyConfig
from adk_psqlpy.connections.lanes import lanes_of
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.sql import Tables
from adk_psqlpy.sql.catalog import present


async def present_tables(config: PsqlpyConfig, *tables: str) -> set[str]:
    """Return those of the tables (quoted names) that the connection can see.

    Raises:
        psqlpy.exceptions.Error: the server could not be asked.
    """
    rows = await lanes_of(config).fetch(present(len(tables)), list(tables), repeat=Repeat.READ)
    return {name for (name,) in rows}


async def require_tables(config: PsqlpyConfig, tables: Tables) -> None:
    """Refuse a database that has not all tables of sessions and events.

    Raises:
        psqlpy.exceptions.DatabaseError: one is missing; the message says which and what to do.
    """
    wanted = [
        tables.sessions,
        tables.events,
        tables.app_states,
        tables.user_states,
        tables.metadata,
        tables.state_log,
        tables.forks,
    ]
    there = await present_tables(config, *wanted)
    missing = [table for table in wanted if table not in there]
    if not missing:
        return
    if tables.sessions in there:
        raise DatabaseError(
            f"missing beside {tables.sessions}: {', '.join(missing)}. The tables are of an older version, or "
            "were dropped in part; `await store.create_tables()` brings an older version up to date"
        )
    raise DatabaseError(
        f"there is no table {tables.sessions} on the search path of this connection: check the database, the "
        "schema and the name (--session-table); `await store.create_tables()` makes the tables"
    )
