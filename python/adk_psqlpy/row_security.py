"""Puts row-level security on the tables of a service, and keeps it there (docs/security.md)."""

from __future__ import annotations

from psqlpy.exceptions import DatabaseError, Error

from adk_psqlpy.connections.binary import arrays
from adk_psqlpy.connections.lanes import Lanes
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.sql.row_security import ACCESS, LOCK_SEC, STATE, Secured, secure


async def state_of(lanes: Lanes, secured: Secured) -> tuple[bool, str]:
    """Whether `adk_access` exists, and which tables lack their policies, separated by commas.

    Raises:
        psqlpy.exceptions.Error: the server could not be reached.
    """
    tables = [secured.anchor, *(table for table in secured.tables if table != secured.anchor)]
    given = arrays(("text",), ([table.encode()] for table in tables))
    rows = await lanes.fetch(STATE, given, repeat=Repeat.READ)
    if not rows:
        return False, ""
    ((there, lacking),) = rows
    return there, lacking


async def keep_secured(lanes: Lanes, secured: Secured, *, wanted: bool, made: bool = False) -> None:
    """Secure the tables if that is `wanted`, or if some were `made` in a schema whose tables are secured.

    The call may be repeated, also by many processes at once.

    Raises:
        psqlpy.exceptions.DatabaseError: the server refused to secure them. Nothing was changed.
    """
    if not (wanted or made):
        return
    there, lacking = await state_of(lanes, secured)
    if there and not lacking and not made:
        return
    if not (there or wanted):
        return
    try:
        await lanes.batch(secure(secured, wanted=wanted))
    except Error as error:
        raise DatabaseError(
            f"{lacking or secured.anchor} got no row-level security: {error}. It takes the owner of the "
            f"tables and the right to make {ACCESS} in their schema, and within {LOCK_SEC} s a moment when "
            "no other transaction holds one of them; it may be called again at any time"
        ) from error
