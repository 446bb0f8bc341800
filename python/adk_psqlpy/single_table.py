"""Making the table of a service that has only one."""

from __future__ import annotations

from adk_psqlpy.connections.lanes import Lanes
from adk_psqlpy.recorded import recorded_of
from adk_psqlpy.row_security import keep_secured, make_secured
from adk_psqlpy.sql.row_security import Secured
from adk_psqlpy.sql.single_table import SingleTable


async def make_table(
    lanes: Lanes, table: SingleTable, version: int, batch: str, secured: Secured, *, row_security: bool
) -> None:
    """Bring a table to a version, unless it has it. The version is asked for first, since a service's role
    need not have the rights to make tables.

    Args:
        lanes: what to send statements by.
        table: the table.
        version: the version that this package reads and writes.
        batch: brings the table to that version.
        secured: the table, as row-level security sees it.
        row_security: whether to secure it also if its schema is not secured.

    Raises:
        psqlpy.exceptions.Error: the server could not be asked, or did not let it be made or secured.
    """
    recorded = await recorded_of(lanes, table.metadata)
    if int(recorded.get("schema_version", 0)) < version:
        await make_secured(lanes, batch, secured, wanted=row_security)
    else:
        await keep_secured(lanes, secured, wanted=row_security)
