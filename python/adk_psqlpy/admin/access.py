"""Gives roles access to an app, or to one user of it, takes it back, and lists it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from psqlpy.exceptions import DatabaseError
from psqlpy.extra_types import CustomType

from adk_psqlpy.admin.audit import Audit
from adk_psqlpy.admin.table_names import TableNames
from adk_psqlpy.admin.tables import present_tables
from adk_psqlpy.checks import check_identifier, check_names
from adk_psqlpy.config import PsqlpyConfig
from adk_psqlpy.connections.binary import arrays
from adk_psqlpy.connections.lanes import Lanes, lanes_of
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.recorded import recorded_of
from adk_psqlpy.row_security import changing, state_of
from adk_psqlpy.sql import Tables
from adk_psqlpy.sql import access as sql
from adk_psqlpy.sql import row_security as policies
from adk_psqlpy.sql.artifact_tables import ArtifactTables
from adk_psqlpy.sql.credentials import CredentialTable
from adk_psqlpy.sql.memory import MemoryTable
from adk_psqlpy.sql.names import LONGEST
from adk_psqlpy.sql.partials import create_partials
from adk_psqlpy.sql.row_security import Secured
from adk_psqlpy.sql.user_keys import UserKeyTable


@dataclass(frozen=True)
class SecuredTables(TableNames):
    """The names of the tables of all services. Tables that do not exist are skipped."""

    credential_table: str = "adk_credentials"
    key_table: str = "adk_user_keys"

    def services(self) -> list[Secured]:
        """The tables of each service.

        Raises:
            ValueError: a name is not a plain identifier, or too long.
        """
        return [
            policies.of_sessions(self.tables),
            policies.of_memories(MemoryTable(self.memory_table)),
            policies.of_artifacts(ArtifactTables(self.artifact_table)),
            policies.of_credentials(CredentialTable(self.credential_table)),
            policies.of_user_keys(UserKeyTable(self.key_table)),
        ]


_DEFAULT: Final = SecuredTables()


@dataclass(frozen=True, slots=True, order=True)
class Access:
    """The access of a role: to an app, or to one user of it. `user_id` is empty for all users."""

    role: str
    app_name: str
    user_id: str = ""


async def grant_access(
    config: PsqlpyConfig,
    *,
    role: str,
    app_name: str,
    user_id: str | None = None,
    names: SecuredTables = _DEFAULT,
) -> None:
    """Let a role see and write the rows of one app, or of one user of it, and no others.

    Existing tables that lack row-level security get it first. A role may be given several apps. A role of
    one user reads the app's shared state, but cannot write it. The call may be repeated, also by many
    processes at once. Call it as the owner of the tables.

    Args:
        config: where the tables are.
        role: an existing role. A service needs one with LOGIN.
        app_name: the app.
        user_id: one user of the app; `None` for all users.
        names: the tables, if they do not have the default names.

    Raises:
        ValueError: a name or an id is not valid.
        psqlpy.exceptions.DatabaseError: the tables or the role do not exist, policies would not bind the
            role, or the role can become another role with other access. The message says which, and what to
            do.
        psqlpy.exceptions.Error: the server could not be reached, or it refused the statement.
    """
    _check(role, app_name, user_id)
    lanes, services = lanes_of(config), await _there(config, names)
    await _require_role(lanes, role)
    reasons = await ways_around(lanes, services, role, to_be=True)
    if reasons:
        raise DatabaseError(
            f"row-level security would not bind the role {role!r}: {'; '.join(reasons)}. Nothing was "
            "granted. Create a role without these rights and memberships (CREATE ROLE ... LOGIN), which "
            "does not own the tables, grant it the access, and let the service log in with it"
        )
    await Audit(config, names.tables).record("grant", app_name, user_id, details={"role": role})
    access = Access(role, app_name, user_id or "")
    with changing(f"the role {role!r} got no access to {_told(access)}"):
        if await _given(lanes, services, access):
            return
        batch = await _partials(config, names.tables)
        batch += "".join(policies.give(secured, role, app_name, user_id) for secured in services)
        await lanes.batch(batch)


async def revoke_access(
    config: PsqlpyConfig,
    *,
    role: str,
    app_name: str,
    user_id: str | None = None,
    names: SecuredTables = _DEFAULT,
) -> None:
    """Take back the access that `grant_access` gave with the same arguments.

    A role without any access left loses its rights to the tables. On open connections this takes effect at
    the next statement.

    Raises:
        ValueError: a name or an id is not valid.
        psqlpy.exceptions.DatabaseError: the tables or the role do not exist, the role was not granted this
            access, or the server refused to take it back. Nothing was changed then.
        psqlpy.exceptions.Error: the server could not be reached.
    """
    _check(role, app_name, user_id)
    lanes, services = lanes_of(config), await _there(config, names)
    await _require_role(lanes, role)
    access = Access(role, app_name, user_id or "")
    with changing(f"the access of the role {role!r} to {_told(access)} was not taken back"):
        listed: set[Access] = set().union(*await _listed(lanes, services))
    if access not in listed:
        others = ", ".join(_told(each) for each in sorted(listed) if each.role == role)
        raise DatabaseError(
            f"the role {role!r} was not granted access to {_told(access)}, so nothing was taken back. "
            + (f"It has access to {others}" if others else "It was granted no access")
            + ". `adk-psqlpy grant` lists the access of all roles"
        )
    await Audit(config, names.tables).record("revoke", app_name, user_id, details={"role": role})
    with changing(f"the access of the role {role!r} to {_told(access)} was not taken back"):
        await lanes.batch(policies.take(services, role, app_name, user_id))


async def list_access(config: PsqlpyConfig, names: SecuredTables = _DEFAULT) -> list[Access]:
    """The access of each role, sorted by role. Call it as the owner of the tables.

    Raises:
        ValueError: a name is not valid.
        psqlpy.exceptions.DatabaseError: the tables do not exist.
        psqlpy.exceptions.Error: the server could not be reached, or it refused the statement.
    """
    lanes = lanes_of(config)
    listed = await _listed(lanes, await _there(config, names))
    return sorted(set().union(*listed))


async def ways_around(
    lanes: Lanes, services: Sequence[Secured], role: str, *, to_be: bool = False
) -> list[str]:
    """Why policies do not bind a role, or why it has the access of several roles. One phrase for each reason.

    Args:
        lanes: the connections to ask on.
        services: the services whose tables are meant.
        role: an existing role.
        to_be: whether the role is to get policies of its own. Otherwise it may be a member of a role with
            policies.

    Raises:
        psqlpy.exceptions.Error: the server could not be reached.
    """
    given = [role, *_names(services)]
    reasons = [reason for (reason,) in await lanes.fetch(sql.WAYS_AROUND, given, repeat=Repeat.READ)]
    if reasons and reasons[0].endswith("superuser"):
        return reasons[:1]  # a superuser has all other rights, so the other reasons say nothing new
    entangled = await lanes.fetch(sql.ENTANGLED, [*given, to_be], repeat=Repeat.READ)
    return [*reasons, *(reason for (reason,) in entangled)]


async def subjects(lanes: Lanes, services: Sequence[Secured]) -> list[str]:
    """The roles that policies name, and the members of these roles.

    Raises:
        psqlpy.exceptions.Error: the server could not be reached.
    """
    rows = await lanes.fetch(sql.SUBJECTS, _names(services), repeat=Repeat.READ)
    return [role for (role,) in rows]


def _names(services: Sequence[Secured]) -> list[CustomType]:
    return _texts(table for secured in services for table in secured.tables)


def _texts(names: Iterable[str]) -> list[CustomType]:
    return arrays(("text",), ([name.encode()] for name in names))


async def _given(lanes: Lanes, services: Sequence[Secured], access: Access) -> bool:
    """Whether a role has this access already, with its policies and rights, and all tables are secured."""
    for secured in services:
        there, lacking = await state_of(lanes, secured)
        if lacking or not there:
            return False
    if not all(access in listed for listed in await _listed(lanes, services)):
        return False
    read = _texts(table for secured in services for table in (*secured.read, *secured.views))
    given = [access.role, *_names(services), *read, access.app_name, bool(access.user_id)]
    ((complete,),) = await lanes.fetch(sql.GIVEN, given, repeat=Repeat.READ)
    return bool(complete)


async def _listed(lanes: Lanes, services: Sequence[Secured]) -> list[set[Access]]:
    """The rows of each `adk_access` that exists."""
    tables: dict[str, None] = {}
    for secured in services:
        ((name, there),) = await lanes.fetch(policies.access_of(secured.anchor), [], repeat=Repeat.READ)
        if there:
            tables[name] = None
    return [
        {
            Access(role, app_name, user_id or "")
            for role, app_name, user_id in await lanes.fetch(
                sql.LISTED.format(access=table), [], kind="list", repeat=Repeat.READ
            )
        }
        for table in tables
    ]


def _told(access: Access) -> str:
    of_user = f"user {access.user_id!r} of " if access.user_id else ""
    return f"{of_user}app {access.app_name!r}"


def _check(role: str, app_name: str, user_id: str | None) -> None:
    if isinstance(role, str) and len(role.encode()) > LONGEST:
        raise ValueError(f"role has {len(role.encode())} bytes, and PostgreSQL keeps {LONGEST}")
    check_identifier("role", role, LONGEST, "PostgreSQL")
    if not role:
        raise ValueError("role must not be empty")
    check_names(app_name=app_name, **({} if user_id is None else {"user_id": user_id}))


async def _there(config: PsqlpyConfig, names: SecuredTables) -> list[Secured]:
    """The services whose tables exist."""
    services = names.services()
    anchors = [secured.anchor for secured in services]
    there = await present_tables(config, *anchors)
    if not there:
        raise DatabaseError(
            f"none of the tables {', '.join(anchors)} is on the search path of this connection: make them "
            "first (`await store.create_tables()`), or check the database and the names of the tables"
        )
    return [secured for secured in services if secured.anchor in there]


async def _partials(config: PsqlpyConfig, tables: Tables) -> str:
    """The batch that makes the table of streamed texts, if it is missing. Its first use makes it too, but the
    role of a service may not.
    """
    there = await present_tables(config, tables.sessions, tables.partials)
    if tables.sessions not in there or tables.partials in there:
        return ""
    recorded = await recorded_of(lanes_of(config), tables.metadata)
    return create_partials(tables, int(recorded["key_length"]))


async def _require_role(lanes: Lanes, role: str) -> None:
    ((there,),) = await lanes.fetch(sql.ROLE_EXISTS, [role], repeat=Repeat.READ)
    if not there:
        raise DatabaseError(f"there is no role {role!r}: make it first (CREATE ROLE ... LOGIN PASSWORD ...)")
