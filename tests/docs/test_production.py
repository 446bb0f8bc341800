"""What docs/production.md and docs/retention.md show is run, on a database with something of everything."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from google.adk.events.event import Event
from google.genai import types

from adk_psqlpy import (
    PsqlpyADKStore,
    PsqlpyArtifactService,
    PsqlpyConfig,
    PsqlpyMemoryService,
    PsqlpySessionService,
)
from faults.deadlines import until
from servers import Database, run_sql, wheel_binaries

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGE = "".join(
    (ROOT / "docs" / page).read_text(encoding="utf-8") for page in ("production.md", "retention.md")
)
SNIPPETS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SHOP = {"app_name": "shop", "user_id": "u1"}
LIMIT_SEC = 60


@pytest.fixture
def role(database: Database) -> Iterator[str]:
    """The page's `agents`, under a name of this database's own: roles belong to the whole server."""
    run_sql(database.dsn, f"CREATE ROLE {database.name}")
    yield database.name
    run_sql(database.dsn, f"DROP OWNED BY {database.name}", f"DROP ROLE {database.name}")


def sql_with(part: str) -> list[str]:
    """The statements of the one snippet that has this in it."""
    (found,) = [text for language, text in SNIPPETS if language == "sql" and part in text]
    return [statement for statement in found.split(";\n") if statement.strip()]


async def python_with(part: str, names: dict[str, Any]) -> None:
    """Run the one snippet that has this in it."""
    (found,) = [text for language, text in SNIPPETS if language == "python" and part in text]
    code = compile(found, "production.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    running = eval(code, names)
    if inspect.isawaitable(running):
        await running


def test_no_snippet_is_passed_over() -> None:
    """As many as are run below."""
    assert [language for language, _ in SNIPPETS].count("sql") == 12
    assert {language for language, _ in SNIPPETS} == {"sql", "python", "sh"}
    assert len(re.findall(r"^ *```", PAGE, re.MULTILINE)) == 2 * len(SNIPPETS)


async def use(config: PsqlpyConfig) -> None:
    """A session with an event, a memory of it, and an artifact."""
    service = PsqlpySessionService(PsqlpyADKStore(config))
    await service.store.create_tables()
    session = await service.create_session(**SHOP, session_id="s1", state={"user:name": "Ann"})
    content = types.Content(role="user", parts=[types.Part(text="My dog is called Rex")])
    await service.append_event(session, Event(author="user", content=content))
    await PsqlpyMemoryService(config).add_session_to_memory(session)
    await PsqlpyArtifactService(config).save_artifact(
        **SHOP, session_id="s1", filename="a.txt", artifact=types.Part(text="a" * 3_000_000)
    )


async def seen(dsn: str) -> list[Any]:
    """What the three services read of it."""
    async with PsqlpyConfig(pool_config={"dsn": dsn}) as config:
        store = PsqlpyADKStore(config)
        await store.create_tables()
        session = await PsqlpySessionService(store).get_session(**SHOP, session_id="s1")
        found = await PsqlpyMemoryService(config).search_memory(**SHOP, query="dog")
        part = await PsqlpyArtifactService(config).load_artifact(**SHOP, session_id="s1", filename="a.txt")
        return [session, found, part]


async def test_the_tables_are_made_by_an_owner_and_used_by_another_role(
    database: Database, role: str
) -> None:
    """The role of the page has no right to make or change a table; its settings hold."""
    names: dict[str, Any] = {
        "owner_config": PsqlpyConfig(pool_config={"dsn": database.dsn}),
        "PsqlpyADKStore": PsqlpyADKStore,
        "PsqlpyMemoryService": PsqlpyMemoryService,
        "PsqlpyArtifactService": PsqlpyArtifactService,
    }
    await python_with("owner_config", names)
    # On PostgreSQL 14 and before, and databases that came from there, everybody may create in `public`.
    run_sql(database.dsn, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    for statement in (*sql_with("GRANT"), *sql_with("ALTER ROLE")):
        run_sql(database.dsn, re.sub(r"\bagents\b", role, statement))
    async with PsqlpyConfig(pool_config={"dsn": database.dsn, "options": f"-c role={role}"}) as config:
        await use(config)
        async with config.provide_connection() as connection:
            rows = (await connection.fetch("SELECT current_user::text AS name")).result()
            assert rows == [{"name": role}]
    ((settings,),) = run_sql(
        database.dsn, f"SELECT setconfig FROM pg_db_role_setting WHERE setrole = '{role}'::regrole"
    )
    assert settings["setconfig"] == ["lock_timeout=5s", "idle_in_transaction_session_timeout=1min"]


async def test_the_configuration_for_failover() -> None:
    """It is a possible one."""
    names: dict[str, Any] = {"PsqlpyConfig": PsqlpyConfig}
    await python_with("target_session_attrs", names)
    assert "db2.example" in repr(names["config"])


async def test_what_to_look_at(config: PsqlpyConfig, database: Database) -> None:
    """Each query finds something; whom nobody waits for is no row."""
    await use(config)
    run_sql(database.dsn, "ANALYZE")  # writes the statistics down
    queries = [
        *sql_with("free_connections"),
        *sql_with("longest_sec"),
        *sql_with("oldest_transaction_sec"),
        *sql_with("ORDER BY revision"),
    ]
    assert len(queries) == 6
    found = [run_sql(database.dsn, query)[0] for query in queries]
    assert all(found)
    assert found[0][0]["free_connections"] > 0
    assert "adk-psqlpy" in {row["application_name"] for row in found[1]}
    assert {"adk_sessions", "adk_memories", "adk_artifact_chunks"} <= {row["relname"] for row in found[3]}
    assert [row["id"] for row in found[4]] == [row["id"] for row in found[5]] == ["s1"]

    (who_waits,) = sql_with("pg_blocking_pids")
    assert run_sql(database.dsn, who_waits) == [[]]
    async with config.provide_connection() as waiter:
        async with config.provide_connection() as holder, holder.transaction() as transaction:
            locked = await transaction.fetch("SELECT pg_backend_pid() AS pid FROM adk_sessions FOR UPDATE")
            waiting = asyncio.ensure_future(waiter.execute("UPDATE adk_sessions SET revision = revision + 1"))
            rows: list[Any] = []

            async def somebody_waits() -> bool:
                rows[:] = run_sql(database.dsn, who_waits)[0]
                return bool(rows)

            await until(somebody_waits, LIMIT_SEC, "a lock that is waited for")
            assert [row["by"] for row in rows] == [row["pid"] for row in locked.result()]
        await waiting


async def test_retention(config: PsqlpyConfig, database: Database) -> None:
    """Old sessions go with their events, in portions that an index finds; then artifacts, then bytes."""
    await use(config)
    (delete,) = sql_with("interval '90 days'")
    assert run_sql(database.dsn, delete) == [[]]
    run_sql(
        database.dsn,
        """INSERT INTO adk_sessions (app_name, user_id, id, state, update_time)
           SELECT 'shop', 'u2', n::text, jsonb_build_object('note', repeat('x', 300)),
               now() - CASE WHEN n <= 700 THEN interval '91 days' ELSE interval '1 day' END
           FROM generate_series(1, 20000) AS n""",
        "UPDATE adk_sessions SET update_time = now() - interval '1 year' WHERE id = 's1'",
        "VACUUM (ANALYZE) adk_sessions",
    )
    (plan,) = run_sql(database.dsn, f"EXPLAIN {delete}")
    assert "idx_adk_sessions_update_time" in "\n".join(row["QUERY PLAN"] for row in plan)
    gone = [[row["id"] for row in run_sql(database.dsn, delete)[0]] for _ in range(3)]
    assert [len(portion) for portion in gone] == [500, 201, 0]
    assert "s1" in gone[0]
    (left,) = run_sql(database.dsn, "SELECT id FROM adk_events")
    assert left == []

    artifacts, memory = PsqlpyArtifactService(config), PsqlpyMemoryService(config, ttl=1)
    mine = {"filename": "mine.txt", "artifact": types.Part(text="kept")}
    await artifacts.save_artifact(**SHOP, **mine)
    await artifacts.save_artifact(**SHOP | {"user_id": "u2"}, session_id="20000", **mine)
    (orphans,) = sql_with("NOT EXISTS")
    assert run_sql(database.dsn, orphans) == [[{"filename": "a.txt"}]]
    await python_with("memory.purge_expired", {"artifacts": artifacts, "memory": memory})
    ((stored,),) = run_sql(
        database.dsn, "SELECT sum(octet_length(data))::int4 AS bytes FROM adk_artifact_chunks"
    )
    assert stored == {"bytes": 2 * len("kept")}


async def test_a_user_is_forgotten(config: PsqlpyConfig, database: Database) -> None:
    """Nothing of that user is in any table, another user's things are."""
    await use(config)
    run_sql(database.dsn, *sql_with("adk_user_states"))
    await python_with("This also clears away uploads", {"artifacts": PsqlpyArtifactService(config)})
    (tables,) = run_sql(
        database.dsn,
        """SELECT table_name::text AS name FROM information_schema.columns
           WHERE table_schema = 'public' AND column_name = 'user_id'""",
    )
    assert {"adk_sessions", "adk_user_states", "adk_artifact_contents"} <= {each["name"] for each in tables}
    counts = run_sql(
        database.dsn,
        *(f"SELECT count(*)::int4 AS n FROM {table['name']} WHERE user_id = 'u1'" for table in tables),
    )
    assert {table["name"]: rows[0]["n"] for table, rows in zip(tables, counts, strict=True)} == {
        table["name"]: 0 for table in tables
    }


async def test_settings_of_autovacuum(config: PsqlpyConfig, database: Database) -> None:
    """PostgreSQL takes them, and keeps the fill factor that the tables were made with."""
    await PsqlpyADKStore(config).create_tables()
    run_sql(database.dsn, *sql_with("autovacuum_vacuum_scale_factor"))
    (options,) = run_sql(database.dsn, "SELECT reloptions FROM pg_class WHERE relname = 'adk_sessions'")
    assert options[0]["reloptions"] == [
        "fillfactor=80",
        "autovacuum_vacuum_scale_factor=0.02",
        "autovacuum_analyze_scale_factor=0.05",
    ]


@pytest.fixture
def programs(database: Database) -> Path:
    """Where pg_dump and pg_restore are: those of another version write what the server may not know."""
    programs = wheel_binaries()
    said = subprocess.check_output([programs / "pg_dump", "--version"], text=True)
    if f" {database.server.version // 10_000}." not in said:
        pytest.skip(f"the server is another version than {said}")
    return programs


async def test_a_backup_reads_the_same(
    config: PsqlpyConfig, database: Database, programs: Path, tmp_path: Path
) -> None:
    """Dumped and restored as the page says."""
    await use(config)
    name = f"{database.name}_restored"
    restored = database.server.database_dsn(name)
    (commands,) = [text for language, text in SNIPPETS if language == "sh" and "pg_dump" in text]
    run_sql(database.server.dsn, f'CREATE DATABASE "{name}"')
    try:
        await asyncio.to_thread(
            subprocess.run,
            ["/bin/sh", "-e", "-c", commands],
            cwd=tmp_path,
            env={"PATH": str(programs), "DATABASE_URL": database.dsn, "RESTORED_URL": restored},
            check=True,
            timeout=LIMIT_SEC,
        )
        before, after = await seen(database.dsn), await seen(restored)
        assert None not in before
        assert after == before
    finally:
        run_sql(database.server.dsn, f'DROP DATABASE "{name}" WITH (FORCE)')


def test_links_lead_somewhere() -> None:
    """Links, test files, and the tests that are named."""
    assert [link for link in re.findall(r"\]\(([\w.]+)\)", PAGE) if not (ROOT / "docs" / link).exists()] == []
    paths = re.findall(r"`(tests/[\w/.]+\.py)`", PAGE)
    assert len(paths) >= 4
    assert [path for path in paths if not (ROOT / path).exists()] == []
    failover = (ROOT / "tests/faults/test_failover.py").read_text(encoding="utf-8")
    assert all(f"async def {test}(" in failover for test in re.findall(r"`(test_\w+)`", PAGE))
