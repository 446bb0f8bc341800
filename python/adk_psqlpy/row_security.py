"""Puts row-level security on the tables of a service, and keeps it there (docs/security.md)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from psqlpy.exceptions import DatabaseError, Error, NotSupportedError

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


@contextmanager
def changing(what: str) -> Iterator[None]:
    """Say what was not done, and what it takes, if the server refuses a change of row-level security.

    Raises:
        psqlpy.exceptions.DatabaseError: the server refused it. `what` says so in a few words.
    """
    try:
        yield
    except Error as error:
        raise DatabaseError(
            f"{what}: {error}. Nothing was changed. Only the owner of the tables can do it, with the right "
            f"to create {ACCESS} in their schema. It waits at most {LOCK_SEC} s for transactions that use "
            "the tables; after a longer one, call it again"
        ) from error


async def keep_secured(lanes: Lanes, secured: Secured, *, wanted: bool) -> None:
    """Secure the existing tables, if that is `wanted` and they are not.

    The call may be repeated, also by many processes at once.

    Raises:
        psqlpy.exceptions.DatabaseError: the server refused to secure them. Nothing was changed.
    """
    if not wanted:
        return
    there, lacking = await state_of(lanes, secured)
    if there and not lacking:
        return
    with changing(f"{lacking or secured.anchor} got no row-level security"):
        await lanes.batch(secure(secured, wanted=True))


async def refuse_both(lanes: Lanes, tables: Secured, *, secured: bool, asked: bool) -> None:
    """Refuse to secure tables that are distributed or are to be. Call it before they are distributed.

    Args:
        lanes: the connections to ask on.
        tables: the tables.
        secured: whether they are to be secured.
        asked: whether this call is to distribute them. Those that are distributed are not looked at again.

    Raises:
        psqlpy.exceptions.NotSupportedError: they would be both.
    """
    if secured or (asked and (await state_of(lanes, tables))[0]):
        raise NotSupportedError(
            "row-level security is for one server, and these tables are distributed, or are to be"
        )


async def make_secured(lanes: Lanes, batch: str, secured: Secured, *, wanted: bool) -> None:
    """Make tables, and in the same transaction secure them if that is `wanted` or their schema is secured.

    So a table is never left behind without its policies: a second call would find it made.

    Args:
        lanes: what to send the batch by.
        batch: makes the tables. It holds the lock of migrations until it ends.
        secured: the tables of the service, those that exist already included.
        wanted: whether to secure them also if their schema is not secured.

    Raises:
        psqlpy.exceptions.Error: the server refused one or the other. Nothing was made or changed.
    """
    with changing(f"{secured.anchor} got no row-level security") if wanted else nullcontext():
        await lanes.batch(batch + secure(secured, wanted=wanted))
