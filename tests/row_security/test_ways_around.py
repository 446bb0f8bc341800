"""Rights that a role has only after SET ROLE, and access that is recorded but was never put into policies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from psqlpy.exceptions import DatabaseError

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpyMemoryService
from adk_psqlpy.admin.access import grant_access
from adk_psqlpy.admin.doctor import examine
from servers import run_sql

from .support import services_at

if TYPE_CHECKING:
    from secured import Roles
    from servers import Database

pytestmark = pytest.mark.filterwarnings("ignore")

RIGHTS = {
    "CREATE ON SCHEMA public": "which may create objects in the schema public",
    "TRUNCATE ON adk_events": "which has the privilege TRUNCATE, which policies do not limit, on adk_events",
    "TRIGGER ON adk_forks": "which has the privilege TRIGGER, which policies do not limit, on adk_forks",
    "INSERT ON adk_access": "which may write to adk_access",
    "UPDATE ON adk_access": "which may write to adk_access",
}


@pytest.mark.parametrize("right", RIGHTS)
async def test_rights_that_are_not_inherited(
    config: PsqlpyConfig, database: Database, roles: Roles, right: str
) -> None:
    """A member that does not inherit them can SET ROLE, through another role if need be. It is refused."""
    await PsqlpyADKStore(config).create_tables(row_security=True)
    strong, between = roles.make("strong", "NOLOGIN"), roles.make("between", "NOLOGIN NOINHERIT")
    member, inheriting = roles.make("member", "LOGIN NOINHERIT"), roles.make("inheriting")
    run_sql(
        database.dsn,
        f"GRANT {right} TO {strong}",
        f"GRANT {strong} TO {between}",
        f"GRANT {between} TO {member}",
        f"GRANT {strong} TO {inheriting}",
    )
    with pytest.raises(DatabaseError, match=f"it is a member of {strong}, {RIGHTS[right]}"):
        await grant_access(config, role=member, app_name="a")
    with pytest.raises(
        DatabaseError, match=f"bind the role .*: it {RIGHTS[right].removeprefix('which ')}[^;]*$"
    ):
        await grant_access(config, role=inheriting, app_name="a")  # said once
    run_sql(database.dsn, f"REVOKE {strong} FROM {between}")
    await grant_access(config, role=member, app_name="a")
    run_sql(database.dsn, f"GRANT {strong} TO {between}")
    (found,) = [each for each in (await examine(config)).findings if each.check == "row security"]
    assert found.status == "todo"
    assert "1 of 1 roles with access can go around the policies" in found.text
    assert f"{member}: it is a member of {strong}, {RIGHTS[right]}" in found.details[0]


async def test_recorded_but_without_policies(config: PsqlpyConfig, database: Database, roles: Roles) -> None:
    """A row that somebody added to adk_access gives nothing by itself: the grant makes the policies."""
    await PsqlpyADKStore(config).create_tables(row_security=True)
    await PsqlpyMemoryService(config).create_tables(row_security=True)
    role, ada = roles.make("r"), roles.make("ada")
    await grant_access(config, role=role, app_name="a")
    run_sql(
        database.dsn,
        f"INSERT INTO adk_access VALUES ('{role}', 'b', NULL), ('{ada}', 'b', 'ada')",
    )
    await grant_access(config, role=role, app_name="b")
    await grant_access(config, role=ada, app_name="b", user_id="ada")
    for login, app in ((role, "a"), (role, "b"), (ada, "b")):
        async with services_at(roles.dsn(login)) as services:
            await services.sessions.create_session(app_name=app, user_id="ada")


@pytest.mark.parametrize("table", ["adk_events", "adk_metadata", "adk_memories", "adk_access"])
async def test_rights_that_were_lost(
    config: PsqlpyConfig, database: Database, roles: Roles, table: str
) -> None:
    """The same grant again gives them back."""
    await PsqlpyADKStore(config).create_tables(row_security=True)
    await PsqlpyMemoryService(config).create_tables(row_security=True)
    role = roles.make("r")
    await grant_access(config, role=role, app_name="a", user_id="u")
    run_sql(database.dsn, f"REVOKE SELECT ON {table} FROM {role}")
    await grant_access(config, role=role, app_name="a", user_id="u")
    run_sql(roles.dsn(role), f"SELECT count(*) FROM {table}")
