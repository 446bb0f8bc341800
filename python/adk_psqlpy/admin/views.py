"""Making, replacing and removing the SQL views over events."""

from __future__ import annotations

from psqlpy.exceptions import DatabaseError, Error

from adk_psqlpy.admin.tables import require_tables
from adk_psqlpy.config import PsqlpyConfig
from adk_psqlpy.connections.lanes import lanes_of
from adk_psqlpy.row_security import make_secured
from adk_psqlpy.sql import Tables
from adk_psqlpy.sql.row_security import of_sessions
from adk_psqlpy.sql.views import Views


async def create_views(
    config: PsqlpyConfig, session_table: str = "adk_sessions", events_table: str = "adk_events"
) -> list[str]:
    """Make the views, or bring them to this package's definitions, and return their quoted names.

    It may be called again, and from many processes. `docs/views.md` describes the columns.

    Raises:
        ValueError: a name is not one.
        psqlpy.exceptions.DatabaseError: the tables are missing, or a table has the name of a view.
        psqlpy.exceptions.Error: the server did not let them be made.
    """
    views = Views(Tables(session_table, events_table))
    await require_tables(config, views.tables)
    try:
        await make_secured(lanes_of(config), views.create(), of_sessions(views.tables), wanted=False)
    except Error as error:
        raise DatabaseError(
            f"the views {', '.join(views.names.values())} were not made: {error}. To make them, a role needs "
            "the right to create in their schema; to replace them, it has to own them"
        ) from error
    return list(views.names.values())


async def drop_views(
    config: PsqlpyConfig, session_table: str = "adk_sessions", events_table: str = "adk_events"
) -> list[str]:
    """Remove the views, if they exist, and return their names.

    Raises:
        psqlpy.exceptions.Error: something else is built on one of them; then none was removed.
    """
    views = Views(Tables(session_table, events_table))
    await require_tables(config, views.tables)
    await lanes_of(config).batch(views.drop())
    return list(views.names.values())
