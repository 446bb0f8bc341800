"""The check of `doctor` of row-level security: on or off, complete, and whom it does not bind."""

from __future__ import annotations

from collections.abc import Sequence

from adk_psqlpy.admin.access import subjects, ways_around
from adk_psqlpy.admin.doctor import Finding
from adk_psqlpy.connections.lanes import Lanes
from adk_psqlpy.row_security import state_of
from adk_psqlpy.sql.row_security import Secured

_CHECK = "row security"


async def of_access(lanes: Lanes, services: Sequence[Secured], role: str) -> Finding:
    """Whether policies limit what roles see, and which roles they do not bind.

    Args:
        lanes: what to ask by.
        services: the tables of all services; those that are not there are passed over.
        role: the role that asks.

    Raises:
        psqlpy.exceptions.Error: the server could not be asked.
    """
    states = [await state_of(lanes, secured) for secured in services]
    if not any(there for there, _ in states):
        return Finding(
            _CHECK, "ok", "off: a role with rights to the tables sees the rows of all apps and users"
        )
    lacking = [tables for _, tables in states if tables]
    if lacking:
        return Finding(
            _CHECK,
            "todo",
            f"on, but these tables have no policies, or other ones: {', '.join(lacking)}",
            "call create_tables(row_security=True) of their services, as the owner of the tables",
        )
    roles = await subjects(lanes, services)
    free = {each: await ways_around(lanes, services, each) for each in roles}
    details = tuple(f"{each}: {'; '.join(reasons)}" for each, reasons in free.items() if reasons)
    if details:
        return Finding(
            _CHECK,
            "todo",
            f"on, but {len(details)} of {len(roles)} roles with access can go around the policies, or have "
            "the access of several roles",
            "take these rights and memberships from the roles, or let the services log in with other roles "
            "(docs/row-security.md)",
            details,
        )
    text = f"on, for {len(roles)} role{'' if len(roles) == 1 else 's'}"
    if role not in roles:
        reasons = await ways_around(lanes, services, role)
        if reasons:
            return Finding(
                _CHECK,
                "note",
                f"{text}; it does not bind this role, {role}: {'; '.join(reasons)}",
                "run services as a role that `adk-psqlpy grant` was given, and not as this one",
            )
    return Finding(_CHECK, "ok", text)
