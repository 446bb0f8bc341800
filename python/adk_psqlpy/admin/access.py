"""Gives roles access to an app, or to one user of it, takes it back, and lists it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from psqlpy.exceptions import DatabaseError, Error
from psqlpy.extra_types import CustomType

from adk_psqlpy.admin.audit import Audit
from adk_psqlpy.checks import LONGEST_KEY, check_identifier
from adk_psqlpy.config import PsqlpyConfig
from adk_psqlpy.connections.binary import arrays
from adk_psqlpy.connections.lanes import Lanes, lanes_of
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.row_security import state_of
from adk_psqlpy.sql import Tables
from adk_psqlpy.sql import row_security as sql
from adk_psqlpy.sql.artifact_tables import ArtifactTables
from adk_psqlpy.sql.catalog import present
from adk_psqlpy.sql.credentials import CredentialTable
from adk_psqlpy.sql.memory import MemoryTable
from adk_psqlpy.sql.partials import create_partials
from adk_psqlpy.sql.recorded import recorded
from adk_psqlpy.sql.user_keys import UserKeyTable

_LONGEST_ROLE: Final = 63


@dataclass(frozen=True, slots=True)
class SecuredTables:
    """The names of the tables of all services. Tables that do not exist are skipped."""

    session_table: str = "adk_sessions"
    events_table: str = "adk_events"
    memory_table: str = "adk_memories"
    artifact_table: str = "adk_artifacts"
    credential_table: str = "adk_credentials"
    key_table: str = "adk_user_keys"

    @property
    def sessions(self) -> Tables:
        """The tables of sessions."""
        return Tables(self.session_table, self.events_table)

    def services(self) -> list[sql.Secured]:
        """The tables of each service.

        Raises:
            ValueError: a name is not a plain identifier, or too long.
        """
        return [
            sql.of_sessions(self.sessions),
            sql.of_memories(MemoryTable(self.memory_table)),
            sql.of_artifacts(ArtifactTables(self.artifact_table)),
            sql.of_credentials(CredentialTable(self.credential_table)),
            sql.of_user_keys(UserKeyTable(self.key_table)),
        ]


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
    names: SecuredTables | None = None,
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
            f"row-level security would not bind the role {role!r}: {'; '.join(reasons)}. Give the service a "
            "role of its own without these rights (CREATE ROLE ... LOGIN), and another owner to the tables"
        )
    audit = Audit(config, (names or SecuredTables()).sessions)
    await audit.record("grant", app_name, user_id, details={"role": role})
    try:
        if await _given(lanes, services, Access(role, app_name, user_id or "")):
            return
        await _make_partials(lanes, (names or SecuredTables()).sessions)
        await lanes.batch("".join(sql.give(secured, role, app_name, user_id) for secured in services))
    except Error as error:
        raise DatabaseError(
            f"the role {role!r} was given nothing: {error}. It takes the owner of the tables and the right "
            f"to make {sql.ACCESS} in their schema, and within {sql.LOCK_SEC} s a moment when no other "
            "transaction holds one of them; it may be called again at any time"
        ) from error


async def revoke_access(
    config: PsqlpyConfig,
    *,
    role: str,
    app_name: str,
    user_id: str | None = None,
    names: SecuredTables | None = None,
) -> None:
    """Take back the access that `grant_access` gave with the same arguments. Without such access, do nothing.

    A role without any access left loses its rights to the tables. On open connections this takes effect at
    the next statement.

    Raises:
        ValueError: a name or an id is not valid.
        psqlpy.exceptions.DatabaseError: the tables or the role do not exist.
        psqlpy.exceptions.Error: the server could not be reached, or it refused the statement.
    """
    _check(role, app_name, user_id)
    lanes, services = lanes_of(config), await _there(config, names)
    await _require_role(lanes, role)
    audit = Audit(config, (names or SecuredTables()).sessions)
    await audit.record("revoke", app_name, user_id, details={"role": role})
    await lanes.batch("".join(sql.take(secured, role, app_name, user_id) for secured in services))


async def list_access(config: PsqlpyConfig, names: SecuredTables | None = None) -> list[Access]:
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
    lanes: Lanes, services: Sequence[sql.Secured], role: str, *, to_be: bool = False
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


async def subjects(lanes: Lanes, services: Sequence[sql.Secured]) -> list[str]:
    """The roles that policies name, and the members of these roles.

    Raises:
        psqlpy.exceptions.Error: the server could not be reached.
    """
    rows = await lanes.fetch(sql.SUBJECTS, _names(services), repeat=Repeat.READ)
    return [role for (role,) in rows]


def _names(services: Sequence[sql.Secured]) -> list[CustomType]:
    tables = [table for secured in services for table in secured.tables]
    return arrays(("text",), ([table.encode()] for table in tables))


async def _given(lanes: Lanes, services: Sequence[sql.Secured], access: Access) -> bool:
    """Whether a role has this access already, and all tables have their policies."""
    for secured in services:
        there, lacking = await state_of(lanes, secured)
        if lacking or not there:
            return False
    return all(access in listed for listed in await _listed(lanes, services))


async def _listed(lanes: Lanes, services: Sequence[sql.Secured]) -> list[set[Access]]:
    """The rows of each `adk_access` that exists."""
    tables: dict[str, None] = {}
    for secured in services:
        ((name, there),) = await lanes.fetch(sql.access_of(secured.anchor), [], repeat=Repeat.READ)
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


def _check(role: str, app_name: str, user_id: str | None) -> None:
    if isinstance(role, str) and len(role.encode()) > _LONGEST_ROLE:
        raise ValueError(f"role has {len(role.encode())} bytes, and PostgreSQL keeps {_LONGEST_ROLE}")
    check_identifier("role", role, _LONGEST_ROLE, "PostgreSQL")
    check_identifier("app_name", app_name, LONGEST_KEY, "PsqlpyADKStore")
    given = {"role": role, "app_name": app_name}
    if user_id is not None:
        check_identifier("user_id", user_id, LONGEST_KEY, "PsqlpyADKStore")
        given["user_id"] = user_id
    for name, value in given.items():
        if not value:
            raise ValueError(f"{name} must not be empty")


async def _there(config: PsqlpyConfig, names: SecuredTables | None) -> list[sql.Secured]:
    """The services whose tables exist."""
    services = (names or SecuredTables()).services()
    anchors = [secured.anchor for secured in services]
    rows = await lanes_of(config).fetch(present(len(anchors)), list(anchors), repeat=Repeat.READ)
    there = {name for (name,) in rows}
    if not there:
        raise DatabaseError(
            f"none of the tables {', '.join(anchors)} is on the search path of this connection: make them "
            "first (`await store.create_tables()`), or check the database and the names of the tables"
        )
    return [secured for secured in services if secured.anchor in there]


async def _make_partials(lanes: Lanes, tables: Tables) -> None:
    """Make the table of streamed texts. Its first use makes it too, but the role of a service may not."""
    there = {name for (name,) in await lanes.fetch(present(2), [tables.sessions, tables.partials])}
    if tables.sessions in there and tables.partials not in there:
        ((key_length,),) = await lanes.fetch(recorded(tables.metadata), ["key_length"], repeat=Repeat.READ)
        await lanes.batch(create_partials(tables, int(key_length)))


async def _require_role(lanes: Lanes, role: str) -> None:
    ((there, _),) = await lanes.fetch(sql.ROLE_EXISTS, [role], repeat=Repeat.READ)
    if not there:
        raise DatabaseError(f"there is no role {role!r}: make it first (CREATE ROLE ... LOGIN PASSWORD ...)")
