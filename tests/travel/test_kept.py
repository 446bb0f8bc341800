"""What is kept so that a session's state at an earlier point can be told."""

from __future__ import annotations

import json
from typing import Any

import psqlpy
import pytest

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig
from adk_psqlpy.sql import MIGRATIONS, migrations
from contract.events import delta
from servers import Database, run_sql
from store.support import contents, version
from where import makes_tables, on_cluster

KEY = ("app", "user", "s")


def initial(dsn: str) -> Any:
    """The initial state of the only session."""
    ((row,),) = run_sql(dsn, "SELECT initial_state::text AS state FROM adk_sessions")
    return None if row["state"] is None else json.loads(row["state"])


def logged(dsn: str) -> list[tuple[int, Any]]:
    """Revision and delta of each row of the log, in order."""
    ((*rows,),) = run_sql(dsn, "SELECT revision, delta::text AS delta FROM adk_state_log ORDER BY revision")
    return [(row["revision"], json.loads(row["delta"])) for row in rows]


async def test_the_state_at_creation(store: PsqlpyADKStore, database: Database) -> None:
    """A session keeps its own state at creation, whatever becomes of its state; shared state is not in it."""
    await store.create_session(*KEY, {"tier": "gold", "none": None, "app:a": 1, "user:u": 2, "temp:t": 3})
    await store.append_event(*KEY, delta({"tier": "iron"}, seconds=1), expected=await version(store))
    await store.update_session_state(*KEY, {"tier": "lead"})
    assert initial(database.dsn) == {"tier": "gold", "none": None}


async def test_no_state_at_creation(store: PsqlpyADKStore, database: Database) -> None:
    """A session that is created without state had an empty one: that is known."""
    await store.create_session(*KEY)
    assert initial(database.dsn) == {}


async def test_a_second_create_changes_nothing(store: PsqlpyADKStore, database: Database) -> None:
    """Creating a session that is there leaves its initial state."""
    await store.create_session(*KEY, {"k": 1})
    assert await store.create_session(*KEY, {"k": 2}) is None
    assert initial(database.dsn) == {"k": 1}


async def test_deltas_without_an_event(store: PsqlpyADKStore, database: Database) -> None:
    """A change of state without an event is kept at its revision; of shared state, that there was one."""
    await store.create_session(*KEY)
    assert await store.update_session_state(*KEY, {"k": 1, "app:a": 1}) == 1
    await store.append_event(*KEY, delta({"k": 2}, seconds=1), expected=await version(store))
    assert await store.update_session_state(*KEY, {"k": None, "temp:t": 1}) == 3
    assert await store.update_session_state(*KEY, {"user:u": 1}) == 4
    assert logged(database.dsn) == [(1, {"k": 1}), (3, {"k": None}), (4, {})]


async def test_the_log_goes_with_its_session(store: PsqlpyADKStore, database: Database) -> None:
    """Deleting a session deletes what was logged for it; one that is made anew begins without."""
    await store.create_session(*KEY)
    await store.update_session_state(*KEY, {"k": 1})
    await store.create_session("app", "user", "other")
    await store.update_session_state("app", "user", "other", {"k": 2})
    await store.delete_session(*KEY)
    assert logged(database.dsn) == [(1, {"k": 2})]
    await store.create_session(*KEY)
    assert logged(database.dsn) == [(1, {"k": 2})]


# From version 1.


@pytest.fixture
async def before(config: PsqlpyConfig, monkeypatch: pytest.MonkeyPatch) -> PsqlpyADKStore:
    """A store whose tables are at version 1, with a session in them."""
    store = PsqlpyADKStore(config)
    with monkeypatch.context() as patched:
        patched.setattr(migrations, "MIGRATIONS", MIGRATIONS[:1])
        await store._lanes.batch(migrations.create_tables(store.tables, store.key_length))
    async with config.provide_connection() as connection:
        await connection.execute(OLD_CREATE, ["s"])
    return store


OLD_CREATE = (
    "INSERT INTO adk_sessions (app_name, user_id, id, state) VALUES ('app', 'user', $1, '{\"k\": 1}')"
)
OLD_UPDATE = """UPDATE adk_sessions SET state = state || '{"k": 9}', revision = revision + 1 WHERE id = $1"""


@makes_tables
async def test_sessions_from_before_have_no_known_initial_state(
    before: PsqlpyADKStore, database: Database
) -> None:
    """The migration leaves sessions as they are, and claims no state at creation for them."""
    await before.create_tables(distributed=on_cluster())
    found = await before.get_session(*KEY)
    assert found is not None
    assert found.state == {"k": 1}
    assert initial(database.dsn) is None
    assert await before.append_event(*KEY, delta({"k": 2}, seconds=1), expected=await version(before)) == 1
    assert await before.update_session_state(*KEY, {"k": 3}) == 2
    assert initial(database.dsn) is None


@makes_tables
async def test_processes_of_the_version_before_go_on(
    before: PsqlpyADKStore, config: PsqlpyConfig, database: Database
) -> None:
    """Processes of the version before can run on; their sessions have no known initial state."""
    await before.create_tables(distributed=on_cluster())
    async with config.provide_connection() as connection:
        await connection.execute(OLD_CREATE, ["made by an old process"])
        await connection.execute(OLD_UPDATE, ["s"])
    ((*rows,),) = run_sql(database.dsn, "SELECT initial_state FROM adk_sessions")
    assert rows == [{"initial_state": None}, {"initial_state": None}]


@makes_tables
async def test_a_table_that_is_in_use(
    before: PsqlpyADKStore, config: PsqlpyConfig, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a long transaction holds the table, the migration gives up and changes nothing."""
    monkeypatch.setattr(migrations, "MIGRATION_LOCK_SEC", 1)
    async with config.provide_connection() as connection:
        await connection.execute("BEGIN")
        await connection.execute("SELECT 1 FROM adk_sessions")
        with pytest.raises(psqlpy.exceptions.Error, match="lock"):
            await before.create_tables(distributed=on_cluster())
    ((found,),) = run_sql(database.dsn, "SELECT to_regclass('adk_state_log')::text AS name")
    assert found == {"name": None}
    await before.create_tables(distributed=on_cluster())
    assert await before.create_session("app", "user", "t", {"k": 1}) is not None
    assert '"initial_state": {"k": 1}' in contents(database.dsn)
