"""The databases that tests use one after another: each is as new."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psqlpy
import pytest
from psqlpy.exceptions import Error

from databases import USES, Databases
from servers import Database, run_sql

if TYPE_CHECKING:
    from collections.abc import Iterator

    from secured import Roles
    from servers import Server

COUNTED = """pg_type pg_operator pg_opclass pg_cast pg_language pg_constraint pg_attrdef pg_trigger pg_policy
    pg_rewrite pg_extension pg_depend pg_shdepend pg_default_acl pg_event_trigger pg_largeobject_metadata
    pg_publication pg_collation pg_ts_config pg_statistic_ext pg_foreign_data_wrapper pg_am pg_conversion
    pg_seclabel pg_db_role_setting"""
# What the catalogs say of a database.
CATALOGS = {
    "pg_namespace": "nspname, nspacl::text, nspowner::regrole::text AS owner",
    "pg_class": "count(*) AS rows, string_agg(relacl::text, ' ' ORDER BY oid) AS rights",
    "pg_proc": "count(*) AS rows, string_agg(proacl::text, ' ' ORDER BY oid) AS rights",
    "pg_database": "datacl::text, datconnlimit, datdba::regrole::text AS owner",
    **dict.fromkeys(COUNTED.split(), "count(*) AS rows"),
}
LEFT = {
    "nothing": "SELECT 1",
    "table": "CREATE TABLE t (id serial PRIMARY KEY, body jsonb); INSERT INTO t VALUES (1, '{}')",
    "function": "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "domain": "CREATE DOMAIN d AS text CHECK (VALUE <> '')",
    "schema": "CREATE SCHEMA agents; CREATE TABLE agents.t (id int)",
    "empty schema": "CREATE SCHEMA agents",
    "no schema": "DROP SCHEMA public CASCADE",
    "rights on the schema": "GRANT CREATE ON SCHEMA public TO PUBLIC",
    "rights on a function of the server": "GRANT EXECUTE ON FUNCTION pg_read_file(text) TO pg_monitor",
    "rights by default": "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC",
    "cast": "CREATE CAST (bigint AS inet) WITH INOUT",
    "setting": "ALTER DATABASE {name} SET work_mem = '1MB'",
    "limit": "ALTER DATABASE {name} CONNECTION LIMIT 3",
    "rights on the database": "REVOKE CONNECT ON DATABASE {name} FROM PUBLIC",
    "large object": "SELECT lo_create(0)",
    "publication": "CREATE PUBLICATION p FOR ALL TABLES",
    "event trigger": (
        "CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';"
        "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION e()"
    ),
    "collation": "CREATE COLLATION c (locale = 'C')",
    "text search": "CREATE TEXT SEARCH CONFIGURATION s (COPY = simple)",
    "wrapper": "CREATE FOREIGN DATA WRAPPER w",
    "access method": "CREATE ACCESS METHOD m TYPE TABLE HANDLER heap_tableam_handler",
    "language": "CREATE LANGUAGE l HANDLER plpgsql_call_handler",
}


def catalogs(database: Database) -> dict[str, Any]:
    """What is in a database."""
    found = run_sql(
        database.dsn,
        *(
            f"SELECT {what} FROM {name}" + (" WHERE datname = current_database()" if "dat" in what else "")
            for name, what in CATALOGS.items()
        ),
    )
    return {name: sorted(map(repr, rows)) for name, rows in zip(CATALOGS, found, strict=True)}


@pytest.fixture
def own(databases: Databases, server: Server) -> Iterator[Databases]:
    """Databases of this test alone; those that are left are dropped."""
    made = Databases(server)
    yield made
    made.drop()


@pytest.mark.one_server(reason="a cluster has one database")
@pytest.mark.parametrize("left", LEFT.values(), ids=LEFT)
def test_the_next_one_is_as_new(own: Databases, left: str) -> None:
    first = own.lend()
    new = catalogs(first)
    batch(first, left.replace("{name}", first.name))
    own.take_back(first)
    second = own.lend()
    assert second.name != first.name
    assert catalogs(second) == new
    own.take_back(second)


@pytest.mark.one_server(reason="a cluster has one database")
async def test_whoever_is_connected_is_cut_off(own: Databases) -> None:
    """Also with a transaction that holds a lock on what has to go, and the old name leads nowhere."""
    first = own.lend()
    batch(first, "CREATE TABLE t (id int)")
    held = await psqlpy.connect(dsn=first.dsn)
    await held.execute("BEGIN")
    await held.execute("LOCK TABLE t")
    own.take_back(first)
    with pytest.raises(Error):
        await held.execute("SELECT 1")
    with pytest.raises(Error):
        await psqlpy.connect(dsn=first.dsn)
    second = own.lend()
    assert run_sql(second.dsn, "SELECT to_regclass('t') IS NULL AS gone") == [[{"gone": True}]]
    own.take_back(second)


@pytest.mark.one_server(reason="a cluster has one database")
def test_what_a_role_owns_is_gone(own: Databases, roles: Roles) -> None:
    """The role can be dropped afterwards, which PostgreSQL refuses as long as something is its own."""
    role = roles.make("owner")
    first = own.lend()
    batch(first, f"GRANT CREATE ON SCHEMA public TO {role}; SET ROLE {role}; CREATE TABLE t (id int)")
    own.take_back(first)
    roles.drop()


@pytest.mark.one_server(reason="a cluster has one database")
def test_it_is_used_so_many_times(own: Databases) -> None:
    """Then it is dropped, since the catalogs have dead rows of each use."""
    first = own.lend()
    oid = run_sql(first.dsn, OID)
    database = first
    for _ in range(USES):
        assert run_sql(database.dsn, OID) == oid
        own.take_back(database)
        database = own.lend()
    assert run_sql(database.dsn, OID) != oid
    own.take_back(database)


OID = "SELECT oid::int8 AS oid FROM pg_database WHERE datname = current_database()"


def batch(database: Database, statements: str) -> None:
    """Run statements on a connection of their own."""
    run_sql(database.dsn, *(each for each in statements.split(";") if each.strip()))
