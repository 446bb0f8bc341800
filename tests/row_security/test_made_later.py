"""Tables that are made in a secured schema: with policies or not at all, and without a lock on others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from psqlpy.exceptions import Error, NotSupportedError

from adk_psqlpy import PsqlpyADKStore, PsqlpyArtifactService, PsqlpyConfig, PsqlpyMemoryService
from adk_psqlpy.admin.access import grant_access
from adk_psqlpy.admin.views import create_views
from adk_psqlpy.credentials import PsqlpyCredentialService
from adk_psqlpy.seal import UserKeys
from adk_psqlpy.sql import Tables
from adk_psqlpy.sql.row_security import of_sessions, secure
from adk_psqlpy.streaming.partials import Partials
from keys import TestKeys, fresh_seal
from servers import run_sql

from .support import relations, seen_by

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from secured import Roles
    from servers import Database

pytestmark = pytest.mark.filterwarnings("ignore")

# What makes tables or views, and the first one of them.
MAKERS: dict[str, tuple[Callable[[PsqlpyConfig], Awaitable[Any]], str]] = {
    "sessions": (lambda config: PsqlpyADKStore(config).create_tables(), "adk_sessions"),
    "search": (lambda config: PsqlpyADKStore(config).create_tables(event_search=True), "adk_event_words"),
    "views": (lambda config: PsqlpyADKStore(config).create_tables(views=True), "adk_messages"),
    "create_views": (create_views, "adk_messages"),
    "audit": (lambda config: PsqlpyADKStore(config).create_tables(audit=True), "adk_audit"),
    "texts": (lambda config: Partials(PsqlpyADKStore(config)).create_table(), "adk_partials"),
    "memory": (lambda config: PsqlpyMemoryService(config).create_tables(), "adk_memories"),
    "artifacts": (lambda config: PsqlpyArtifactService(config).create_tables(), "adk_artifacts"),
    "credentials": (
        lambda config: PsqlpyCredentialService(config, fresh_seal()).create_tables(),
        "adk_credentials",
    ),
    "keys": (lambda config: UserKeys(config, TestKeys("master")).create_tables(), "adk_user_keys"),
}

SESSIONS = of_sessions(Tables("adk_sessions", "adk_events"))


@pytest.mark.parametrize("maker", MAKERS)
async def test_secured_or_not_made(
    config: PsqlpyConfig, database: Database, roles: Roles, maker: str
) -> None:
    """If securing fails, the tables are not made, so that the next call makes and secures them."""
    make, first = MAKERS[maker]
    role = roles.make("r")
    if maker == "sessions":
        await PsqlpyMemoryService(config).create_tables(row_security=True)
    else:
        await PsqlpyADKStore(config).create_tables()
        await config.lanes.batch(secure(SESSIONS, wanted=True))  # without the table of streamed texts
    run_sql(database.dsn, f"INSERT INTO adk_access VALUES ('{role}', 'a')")
    before = relations(database.dsn)
    run_sql(
        database.dsn,
        "CREATE FUNCTION cut() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'cut off'; END $$",
        "CREATE EVENT TRIGGER cut ON ddl_command_start WHEN TAG IN ('CREATE POLICY', 'GRANT') "
        "EXECUTE FUNCTION cut()",
    )
    with pytest.raises(Error, match="cut off"):
        await make(config)
    assert relations(database.dsn) == before
    run_sql(database.dsn, "DROP EVENT TRIGGER cut", "DROP FUNCTION cut")
    await make(config)
    made = sorted(set(relations(database.dsn)) - set(before))
    assert first in made
    if maker == "audit":
        run_sql(roles.dsn(role), "INSERT INTO adk_audit (action) VALUES ('x')")
    else:
        assert -1 not in seen_by(roles.dsn(role), made).values()
    with_policy = policies(database.dsn)
    expected = set() if maker in ("audit", "views", "create_views") else {first}
    assert set(made) & WITH_USERS == set(made) & set(with_policy)
    assert expected <= set(with_policy)


WITH_USERS = {
    *("adk_sessions", "adk_events", "adk_state_log", "adk_forks", "adk_user_states", "adk_app_states"),
    *("adk_event_words", "adk_event_marks", "adk_partials", "adk_memories", "adk_credentials"),
    *("adk_user_keys", "adk_artifacts", "adk_artifact_names", "adk_artifact_contents"),
    *("adk_artifact_blobs", "adk_artifact_chunks"),
}


def policies(dsn: str) -> dict[str, list[str]]:
    """The policies of each table with row-level security: their ids, which change when they are made anew."""
    (rows,) = run_sql(
        dsn,
        """SELECT c.relname::text AS name, array_agg(p.oid::text ORDER BY p.oid) AS oids
        FROM pg_policy AS p JOIN pg_class AS c ON c.oid = p.polrelid
        WHERE c.relrowsecurity AND c.relname <> 'adk_access' GROUP BY 1""",
    )
    return {row["name"]: row["oids"] for row in rows}


async def test_other_tables_are_not_locked(
    config: PsqlpyConfig, database: Database, roles: Roles, monkeypatch: Any
) -> None:
    """A table that is made does not wait for who uses the others, whose policies stay as they are."""
    monkeypatch.setattr("adk_psqlpy.sql.row_security.LOCK_SEC", 1)
    store = PsqlpyADKStore(config)
    await store.create_tables(row_security=True)
    for number, app in enumerate(("a", "o'r  $$ b", "a")):
        await grant_access(config, role=roles.make(f"app{number}"), app_name=app)
    for user in ("u", "v"):
        await grant_access(config, role=roles.make(user), app_name="a", user_id=user)
    before = policies(database.dsn)
    assert {len(oids) for oids in before.values()} == {3}
    async with config.provide_connection() as reader:
        await reader.execute("BEGIN")
        await reader.execute("SELECT FROM adk_sessions, adk_app_states, adk_forks")
        await PsqlpyMemoryService(config).create_tables()
        await store.create_tables(views=True)
        await reader.execute("ROLLBACK")
    after = policies(database.dsn)
    assert len(after.pop("adk_memories")) == 3
    assert after == before


@pytest.mark.parametrize(
    "change",
    [
        "DROP POLICY adk_user ON adk_forks",
        "ALTER POLICY adk_user ON adk_forks USING (true)",
        "ALTER POLICY adk_user ON adk_forks WITH CHECK (true)",
        "ALTER POLICY adk_user ON adk_forks TO PUBLIC",
        "CREATE POLICY adk_more ON adk_forks USING (true)",
        "ALTER TABLE adk_forks DISABLE ROW LEVEL SECURITY",
    ],
)
async def test_what_differs_is_made_anew(
    config: PsqlpyConfig, database: Database, roles: Roles, change: str
) -> None:
    """A table whose policies were changed by hand gets the right ones when any table is secured."""
    definitions = (
        "SELECT c.relrowsecurity, p.polname::text, p.polcmd::text, p.polroles::text, "
        "pg_get_expr(p.polqual, p.polrelid) AS used, pg_get_expr(p.polwithcheck, p.polrelid) AS checked "
        "FROM pg_class AS c LEFT JOIN pg_policy AS p ON p.polrelid = c.oid "
        "WHERE c.relname = 'adk_forks' ORDER BY 2"
    )
    await PsqlpyADKStore(config).create_tables(row_security=True)
    await grant_access(config, role=roles.make("app"), app_name="a")
    await grant_access(config, role=roles.make("user"), app_name="a", user_id="u")
    right, before = run_sql(database.dsn, definitions), policies(database.dsn)
    run_sql(database.dsn, change)
    assert run_sql(database.dsn, definitions) != right
    await PsqlpyADKStore(config).create_tables(event_search=True)
    assert run_sql(database.dsn, definitions) == right
    assert policies(database.dsn)["adk_events"] == before["adk_events"]


@pytest.mark.parametrize("service", [PsqlpyADKStore, PsqlpyMemoryService, PsqlpyArtifactService])
@pytest.mark.parametrize("schema_is", ["secured", "not secured"])
async def test_not_distributed_as_well(config: PsqlpyConfig, service: Any, schema_is: str) -> None:
    """Refused by each service, whether it is asked for at once or the schema is secured already."""
    if schema_is == "secured":
        await service(config).create_tables(row_security=True)
    with pytest.raises(NotSupportedError, match="one server"):
        await service(config).create_tables(row_security=schema_is != "secured", distributed=True)
