"""Taking back access: what was granted, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from psqlpy.exceptions import DatabaseError

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpyMemoryService
from adk_psqlpy.admin.access import Access, SecuredTables, grant_access, list_access, revoke_access
from adk_psqlpy.admin.audit import read_audit
from cli.support import running
from servers import run_sql

if TYPE_CHECKING:
    from secured import Roles
    from servers import Database

pytestmark = pytest.mark.filterwarnings("ignore")


def may_read(dsn: str, role: str, table: str) -> bool:
    """Whether a role has SELECT on a table."""
    ((row,),) = run_sql(dsn, f"SELECT has_table_privilege('{role}', '{table}', 'SELECT') AS may")
    return bool(row["may"])


async def test_what_was_never_granted(config: PsqlpyConfig, database: Database, roles: Roles) -> None:
    """The error names role and app, and says what there is. Rights that somebody gave by hand stay."""
    await PsqlpyADKStore(config).create_tables(audit=True)
    dashboard, shop, ada = (roles.make(name) for name in ("dashboard", "shop", "ada"))
    run_sql(database.dsn, f"GRANT SELECT ON adk_events TO {dashboard}")
    with pytest.raises(DatabaseError, match=f"'{dashboard}' was not granted access to app 'shop'"):
        await revoke_access(config, role=dashboard, app_name="shop")  # nobody was granted anything
    await grant_access(config, role=shop, app_name="shop")
    await grant_access(config, role=ada, app_name="shop", user_id="ada")
    for role, app, user, there in (
        (dashboard, "shop", None, "was granted no access"),
        (shop, "shops", None, "has access to app 'shop'"),
        (shop, "shop", "ada", "has access to app 'shop'"),
        (ada, "shop", None, "has access to user 'ada' of app 'shop'"),
    ):
        with pytest.raises(DatabaseError, match=rf"'{role}' was not granted .*so nothing was.*{there}"):
            await revoke_access(config, role=role, app_name=app, user_id=user)
    done = await running("revoke", dashboard, "shop", "--dsn", database.dsn)
    assert (done.code, done.out) == (1, "")
    assert "was not granted access to app 'shop'" in done.err
    for role in (dashboard, shop, ada):
        assert may_read(database.dsn, role, "adk_events"), role
    assert await list_access(config) == sorted([Access(shop, "shop"), Access(ada, "shop", "ada")])
    assert {row.action for row in await read_audit(config)} == {"grant"}


async def test_in_two_schemas(config: PsqlpyConfig, database: Database, roles: Roles) -> None:
    """The rights go where the role has nothing left, table by table, and stay where it has other access."""
    await PsqlpyADKStore(config, "agents.adk_sessions", "agents.adk_events").create_tables(row_security=True)
    await PsqlpyMemoryService(config, "more.adk_memories").create_tables(row_security=True)
    sessions = SecuredTables("agents.adk_sessions", "agents.adk_events")
    both = SecuredTables("agents.adk_sessions", "agents.adk_events", "more.adk_memories")
    role = roles.make("r")
    await grant_access(config, role=role, app_name="a", names=both)
    await grant_access(config, role=role, app_name="b", names=sessions)
    await revoke_access(config, role=role, app_name="a", names=both)
    assert await list_access(config, both) == [Access(role, "b")]
    assert may_read(database.dsn, role, "agents.adk_forks")
    assert not may_read(database.dsn, role, "more.adk_memories")
    await revoke_access(config, role=role, app_name="b", names=both)  # one of the two schemas has it
    for table in ("sessions", "events", "forks", "metadata", "partials"):
        assert not may_read(database.dsn, role, f"agents.adk_{table}"), table


async def test_who_uses_the_tables_is_waited_for(
    config: PsqlpyConfig, roles: Roles, monkeypatch: Any
) -> None:
    """The error says the same as that of a grant."""
    from adk_psqlpy.sql import row_security as sql

    monkeypatch.setattr(sql, "LOCK_SEC", 1)
    await PsqlpyADKStore(config).create_tables()
    role = roles.make("r")
    await grant_access(config, role=role, app_name="a")
    async with config.provide_connection() as reader:
        await reader.execute("BEGIN")
        await reader.execute("SELECT FROM adk_sessions")
        with pytest.raises(DatabaseError, match=r"'a' was not taken back: .*lock timeout.*call it again"):
            await revoke_access(config, role=role, app_name="a")
        await reader.execute("ROLLBACK")
    assert await list_access(config) == [Access(role, "a")]
    await revoke_access(config, role=role, app_name="a")
