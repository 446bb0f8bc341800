"""Access given, refused, taken back, and kept for tables that are made later."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from psqlpy.exceptions import DatabaseError, Error, NotSupportedError

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpyMemoryService
from adk_psqlpy.admin.access import Access, SecuredTables, grant_access, list_access, revoke_access
from adk_psqlpy.admin.doctor import examine
from adk_psqlpy.admin.views import create_views
from servers import run_sql

from .support import make_all, relations, seen_by, services_at

if TYPE_CHECKING:
    from adk_psqlpy.admin.doctor import Finding
    from secured import Roles
    from servers import Database

pytestmark = pytest.mark.filterwarnings("ignore")


async def row_security(config: PsqlpyConfig) -> Finding:
    """What doctor says of it."""
    (finding,) = [each for each in (await examine(config)).findings if each.check == "row security"]
    return finding


def policies(dsn: str) -> list[Any]:
    """Everything about the policies and rights, with when it was written."""
    return run_sql(
        dsn,
        "SELECT oid::text, polname::text, polroles::text FROM pg_policy ORDER BY oid",
        "SELECT relname::text, relacl::text, xmin::text FROM pg_class WHERE relname LIKE 'adk%' ORDER BY 1",
    )


async def test_again_changes_nothing(config: PsqlpyConfig, database: Database, roles: Roles) -> None:
    """Neither the second call nor the second create_tables writes, or waits for who uses the tables."""
    role = roles.make("r")
    async with services_at(database.dsn) as owner:
        await make_all(owner)
        await grant_access(config, role=role, app_name="a")
        before = policies(database.dsn)
        async with config.provide_connection() as reader:
            await reader.execute("BEGIN")
            await reader.execute("SELECT FROM adk_sessions")
            await grant_access(config, role=role, app_name="a")
            await owner.store.create_tables(row_security=True)
            await reader.execute("ROLLBACK")
        assert policies(database.dsn) == before
    async with services_at(roles.dsn(role)) as services:
        await make_all(services)  # by a role that may make nothing
    assert policies(database.dsn) == before
    assert await list_access(config) == [Access(role, "a")]


async def test_many_at_once(config: PsqlpyConfig, database: Database, roles: Roles) -> None:
    """Processes that start together all secure the tables, and give several roles their apps."""
    made = [roles.make(f"r{number}") for number in range(3)]

    async def start(role: str) -> None:
        async with services_at(database.dsn) as services:
            await make_all(services)
            await grant_access(services.config, role=role, app_name=f"app of {role}")

    await asyncio.gather(*(start(role) for role in made for _ in range(2)))
    assert await list_access(config) == [Access(role, f"app of {role}") for role in made]
    for role in made:
        async with services_at(roles.dsn(role)) as services:
            await services.sessions.create_session(app_name=f"app of {role}", user_id="u")
    assert (await row_security(config)).status == "note"


@pytest.mark.parametrize("name", ['Mixed "Case"', "o'r", "a b;--", "$$", "ünï", "select", "public.x"])
async def test_names_of_any_kind(config: PsqlpyConfig, database: Database, roles: Roles, name: str) -> None:
    """Roles, apps and users are names, whatever is in them."""
    await PsqlpyADKStore(config).create_tables()
    role = roles.make(name)
    await grant_access(config, role=role, app_name=name)
    await grant_access(config, role=role, app_name="a", user_id=name)
    async with services_at(roles.dsn(role)) as services:
        await services.sessions.create_session(app_name=name, user_id="u")
        await services.sessions.create_session(app_name="a", user_id=name)
        with pytest.raises(Error, match="row-level security"):
            await services.sessions.create_session(app_name="a", user_id="u")
    assert await list_access(config) == sorted([Access(role, name), Access(role, "a", name)])
    await revoke_access(config, role=role, app_name=name)
    assert await list_access(config) == [Access(role, "a", name)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"role": ""}, "role must not be empty"),
        ({"role": 7}, "role must be a str"),
        ({"role": "x" * 64}, "role has 64 bytes"),
        ({"role": "a\0"}, "U\\+0000"),
        ({"app_name": ""}, "app_name must not be empty"),
        ({"app_name": None}, "app_name must be a str"),
        ({"app_name": "\ud800"}, "surrogate"),
        ({"user_id": ""}, "user_id must not be empty"),
        ({"names": SecuredTables("a b")}, "not a table name"),
    ],
)
async def test_bad_input(config: PsqlpyConfig, given: dict[str, Any], message: str) -> None:
    """Refused before anything is sent, by either function."""
    arguments: dict[str, Any] = {"role": "r", "app_name": "a", **given}
    for function in (grant_access, revoke_access):
        with pytest.raises(ValueError, match=message):
            await function(config, **arguments)


async def test_nothing_to_secure(config: PsqlpyConfig, roles: Roles) -> None:
    role = roles.make("r")
    with pytest.raises(DatabaseError, match=r"none of the tables .*adk_sessions"):
        await grant_access(config, role=role, app_name="a")
    await PsqlpyADKStore(config).create_tables()
    with pytest.raises(DatabaseError, match="there is no role 'nobody at all'"):
        await grant_access(config, role="nobody at all", app_name="a")
    assert (await row_security(config)).text.startswith("off")


REFUSED = {
    "SUPERUSER": "is a superuser",
    "BYPASSRLS": "has BYPASSRLS",
    "CREATEROLE": "has CREATEROLE",
    "REPLICATION": "has REPLICATION",
    "IN ROLE pg_read_server_files": "can read or write files",
}


@pytest.mark.parametrize("option", REFUSED)
async def test_a_role_that_policies_do_not_bind(
    config: PsqlpyConfig, database: Database, roles: Roles, option: str
) -> None:
    """It is refused, and so is one that can become it; doctor finds it where it came about later."""
    await PsqlpyADKStore(config).create_tables()
    strong, member, ordinary = (
        roles.make("strong", option),
        roles.make("member"),
        roles.make("ordinary"),
    )
    run_sql(database.dsn, f"GRANT {strong} TO {member}")
    for role in (strong, member):
        with pytest.raises(DatabaseError, match=f"would not bind .*{REFUSED[option]}"):
            await grant_access(config, role=role, app_name="a")
    assert (await row_security(config)).text.startswith("off")  # nothing was changed
    await grant_access(config, role=ordinary, app_name="a")
    assert (await row_security(config)).status == "note"  # the superuser that asks is not bound
    run_sql(database.dsn, f"GRANT {strong} TO {ordinary}")
    found = await row_security(config)
    assert found.status == "todo"
    assert REFUSED[option] in found.details[0]


async def test_other_ways_around(config: PsqlpyConfig, database: Database, roles: Roles) -> None:
    """Owners, who may create in the schema, TRUNCATE and TRIGGER, and roles that can become each other."""
    await PsqlpyADKStore(config).create_tables()
    owner, maker, trigger, one, two = (
        roles.make(name) for name in ("owner", "maker", "trigger", "one", "two")
    )
    run_sql(
        database.dsn,
        f"ALTER TABLE adk_forks OWNER TO {owner}",
        f"GRANT CREATE ON SCHEMA public TO {maker}",
        f"GRANT TRIGGER, TRUNCATE ON adk_events TO {trigger}",
    )
    for role, message in ((owner, "owns adk_forks"), (maker, "schema public"), (trigger, "TRIGGER, which")):
        with pytest.raises(DatabaseError, match=message):
            await grant_access(config, role=role, app_name="a")
    run_sql(database.dsn, "ALTER TABLE adk_forks OWNER TO CURRENT_USER")
    await grant_access(config, role=one, app_name="one")
    run_sql(database.dsn, f"GRANT {one} TO {two}")
    with pytest.raises(DatabaseError, match=r"is a member of .*_one, which was granted other access"):
        await grant_access(config, role=two, app_name="two")
    run_sql(database.dsn, f"REVOKE {one} FROM {two}", f"GRANT {two} TO {one}")
    with pytest.raises(DatabaseError, match="_one, which was granted other access, is a member of it"):
        await grant_access(config, role=two, app_name="two")


async def test_logins_of_a_group(config: PsqlpyConfig, database: Database, roles: Roles) -> None:
    """A role without LOGIN is given the app, and logins that come and go are members of it."""
    await PsqlpyADKStore(config).create_tables()
    group, login = roles.make("group", "NOLOGIN"), roles.make("login")
    await grant_access(config, role=group, app_name="a")
    run_sql(database.dsn, f"GRANT {group} TO {login}")
    async with services_at(roles.dsn(login)) as services:
        await services.sessions.create_session(app_name="a", user_id="u", session_id="s")
        assert (await row_security(services.config)).status == "ok"
    other = roles.make("other", "NOLOGIN")
    await grant_access(config, role=other, app_name="b")
    run_sql(database.dsn, f"GRANT {other} TO {login}")
    assert (await row_security(config)).status == "todo"


async def test_tables_made_later(config: PsqlpyConfig, database: Database, roles: Roles) -> None:
    """Once a schema has row-level security, whatever is made in it has it, and roles have their rights."""
    store, role = PsqlpyADKStore(config), roles.make("r")
    await store.create_tables(row_security=True)
    await grant_access(config, role=role, app_name="a")
    await store.create_tables(event_search=True, views=True)
    await create_views(config)
    memory = PsqlpyMemoryService(config)
    await memory.create_tables()
    for table in ("adk_event_words", "adk_event_marks", "adk_memories", "adk_partials"):
        run_sql(roles.dsn(role), f"INSERT INTO {table} SELECT * FROM {table}")
    assert -1 not in {
        count
        for name, count in seen_by(roles.dsn(role), relations(database.dsn)).items()
        if name != "adk_access"
    }
    assert (await row_security(config)).status == "note"
    run_sql(database.dsn, "ALTER TABLE adk_memories DISABLE ROW LEVEL SECURITY")
    found = await row_security(config)
    assert (found.status, "adk_memories" in found.text) == ("todo", True)
    await memory.create_tables(row_security=True)
    assert (await row_security(config)).status == "note"


async def test_taken_back(config: PsqlpyConfig, database: Database, roles: Roles) -> None:
    """The last thing that is taken back takes the rights along; a role that is dropped is forgotten."""
    await PsqlpyADKStore(config).create_tables()
    role, gone = roles.make("r"), roles.make("gone")
    for app in ("a", "b"):
        await grant_access(config, role=role, app_name=app)
    await revoke_access(config, role=role, app_name="a")
    with pytest.raises(
        DatabaseError, match=rf"'{role}' was not granted access to app 'a'.* has access to app 'b'\."
    ):
        await revoke_access(config, role=role, app_name="a")
    assert await list_access(config) == [Access(role, "b")]
    await revoke_access(config, role=role, app_name="b")
    assert await list_access(config) == []
    names = relations(database.dsn)
    assert set(seen_by(roles.dsn(role), names).values()) == {-1}
    run_sql(database.dsn, f"DROP ROLE {role}")  # nothing hangs on it
    roles.made.remove(role)
    await grant_access(config, role=gone, app_name="a")
    await grant_access(config, role=gone, app_name="a", user_id="u")
    run_sql(database.dsn, f"DROP OWNED BY {gone}", f"DROP ROLE {gone}")
    roles.made.remove(gone)
    await grant_access(config, role=roles.make("next"), app_name="a")
    ((row,),) = run_sql(database.dsn, "SELECT count(*) AS n FROM adk_access")
    assert row["n"] == 1


async def test_in_schemas(config: PsqlpyConfig, database: Database, roles: Roles) -> None:
    """Each schema has its own record, and tables of other names are secured as well."""
    store = PsqlpyADKStore(config, "agents.shop_sessions", "agents.shop_events")
    await store.create_tables(row_security=True)
    await PsqlpyMemoryService(config, "memories.shop_memories").create_tables()
    role = roles.make("r")
    names = SecuredTables("agents.shop_sessions", "agents.shop_events", "memories.shop_memories")
    await grant_access(config, role=role, app_name="a", names=names)
    (rows,) = run_sql(
        database.dsn, "SELECT schemaname::text AS s FROM pg_tables WHERE tablename = 'adk_access' ORDER BY 1"
    )
    assert [row["s"] for row in rows] == ["agents", "memories"]
    async with PsqlpyConfig({"dsn": roles.dsn(role)}) as bound:
        service_store = PsqlpyADKStore(bound, "agents.shop_sessions", "agents.shop_events")
        assert await service_store.create_session("a", "u", "s") is not None
    assert await list_access(config, names) == [Access(role, "a")]


async def test_only_the_owner(config: PsqlpyConfig, database: Database, roles: Roles) -> None:
    """A service's role gives nobody anything, itself included."""
    await PsqlpyADKStore(config).create_tables()
    role, other = roles.make("r"), roles.make("other")
    await grant_access(config, role=role, app_name="a")
    async with PsqlpyConfig({"dsn": roles.dsn(role)}) as bound:
        for function in (grant_access, revoke_access):
            with pytest.raises(DatabaseError, match=r"permission denied|must be owner"):
                await function(bound, role=other, app_name="a")
        with pytest.raises(Error, match="permission denied"):
            await list_access(bound)
    run_sql(database.dsn, "ALTER TABLE adk_forks DISABLE ROW LEVEL SECURITY")
    async with PsqlpyConfig({"dsn": roles.dsn(role)}) as bound:
        with pytest.raises(DatabaseError, match="got no row-level security"):
            await PsqlpyADKStore(bound).create_tables(row_security=True)


async def test_who_uses_the_tables_is_waited_for(
    config: PsqlpyConfig, roles: Roles, monkeypatch: Any
) -> None:
    """A transaction that holds a table for long: nothing is changed, and the error says so."""
    from adk_psqlpy.sql import row_security as sql

    monkeypatch.setattr(sql, "LOCK_SEC", 1)
    await PsqlpyADKStore(config).create_tables()
    role = roles.make("r")
    async with config.provide_connection() as reader:
        await reader.execute("BEGIN")
        await reader.execute("SELECT FROM adk_sessions")
        with pytest.raises(DatabaseError, match=r"lock timeout.*Nothing was changed.*call it again"):
            await grant_access(config, role=role, app_name="a")
        await reader.execute("ROLLBACK")
    assert (await row_security(config)).text.startswith("off")
    await grant_access(config, role=role, app_name="a")


async def test_not_on_a_cluster(config: PsqlpyConfig) -> None:
    with pytest.raises(NotSupportedError, match="one server"):
        await PsqlpyADKStore(config).create_tables(row_security=True, distributed=True)
