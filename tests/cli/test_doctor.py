"""`adk-psqlpy doctor`: each thing that can be wrong is found, named, and told what to do about."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from adk_psqlpy import PsqlpyADKStore, PsqlpyArtifactService, PsqlpyConfig, PsqlpyMemoryService
from adk_psqlpy.admin import table_checks
from adk_psqlpy.admin.doctor import Report, examine
from adk_psqlpy.sql import INDEX_SETS, SCHEMA_VERSION, IndexSet
from adk_psqlpy.sql.health import expected_indexes
from servers import BinaryServer, Database, run_sql, wheel_binaries

from .support import conversation, running, user_says

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adk_psqlpy import PsqlpySessionService

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
async def all_tables(store: PsqlpyADKStore, config: PsqlpyConfig) -> PsqlpyConfig:
    """The tables of all three services."""
    await PsqlpyMemoryService(config).create_tables()
    await PsqlpyArtifactService(config).create_tables()
    return config


def found(report: Report, check: str) -> tuple[str, str, str]:
    """Status, text and advice of one check."""
    (finding,) = [each for each in report.findings if each.check == check]
    return finding.status, finding.text, finding.advice or ""


async def test_all_is_well(all_tables: PsqlpyConfig, service: PsqlpySessionService, dsn: str) -> None:
    await conversation(service, user_says("x"), note="y")
    done = await running("doctor", "--dsn", dsn)
    assert done.code == 0, done.out
    # A busy machine is slow to answer, which is a note.
    assert done.out.startswith("All is well")
    assert "TODO" not in done.out
    checks = {
        *(
            "versions",
            "fast path",
            "connection",
            "TLS",
            "server",
            "pooler",
            "extensions",
            "tables of sessions",
        ),
        *("tables of memories", "tables of artifacts", "indexes", "rights", "vacuum", "longest history"),
        *("largest state", "oldest transaction", "row security"),
    }
    document = (await running("doctor", "--dsn", dsn, "--json")).json
    assert {finding["check"] for finding in document["findings"]} == checks
    assert document["well"] is True
    assert document["verdict"].startswith("All is well")


async def test_versions_of_the_tables(store: PsqlpyADKStore, config: PsqlpyConfig, dsn: str) -> None:
    assert found(await examine(config), "tables of sessions") == (
        "ok",
        f"schema version {SCHEMA_VERSION}, 7 tables",
        "",
    )
    for stored, said in ((99, "upgrade adk-psqlpy"), (1, "create_tables()")):
        run_sql(dsn, f"UPDATE adk_metadata SET value = '{stored}' WHERE key = 'schema_version'")
        status, text, advice = found(await examine(config), "tables of sessions")
        assert (status, f"schema version {stored} " in text, said in advice) == ("todo", True, True)
    assert (await running("doctor", "--dsn", dsn)).code == 1


async def test_no_tables_at_all_and_other_names(config: PsqlpyConfig, dsn: str) -> None:
    status, text, _ = found(await examine(config), "tables of sessions")
    assert (status, text) == ("note", 'there are none beside "adk_sessions"')
    await PsqlpyADKStore(config, "agents.sessions", "agents.events").create_tables()
    done = await running(
        "doctor", "--dsn", dsn, "--session-table", "agents.sessions", "--events-table", "agents.events"
    )
    assert (done.code, f"schema version {SCHEMA_VERSION}" in done.out) == (0, True)


@pytest.mark.parametrize("table", ["adk_user_states", "adk_artifact_chunks"])
async def test_half_a_schema(table: str, all_tables: PsqlpyConfig, dsn: str) -> None:
    run_sql(dsn, f"DROP TABLE {table}")
    report = await examine(all_tables)
    kind = "artifacts" if "artifact" in table else "sessions"
    status, text, _ = found(report, f"tables of {kind}")
    assert (status, text) == ("todo", f'half a schema: "{table}" missing')
    assert report.verdict == "1 thing needs doing."


@pytest.mark.parametrize("index_set", INDEX_SETS)
async def test_the_expected_indexes_are_those_that_are_made(
    index_set: IndexSet, store: PsqlpyADKStore, dsn: str
) -> None:
    await store.create_tables(index_set=index_set)
    made = run_sql(
        dsn,
        """SELECT indexname::text AS name, indexdef AS made FROM pg_indexes
        WHERE tablename ~ '^adk_' AND indexname !~ '_pkey$'""",
    )[0]
    expected = expected_indexes(store.tables, index_set)
    assert set(expected) == {row["name"] for row in made}
    # The statements make them again as they were.
    for name, statement in expected.items():
        run_sql(dsn, f"DROP INDEX {name}", statement)
    again = run_sql(
        dsn, "SELECT indexdef AS made FROM pg_indexes WHERE indexname !~ '_pkey$' AND tablename ~ '^adk_'"
    )[0]
    assert {row["made"] for row in again} == {row["made"] for row in made}


async def test_a_missing_index(store: PsqlpyADKStore, config: PsqlpyConfig, dsn: str) -> None:
    run_sql(dsn, "DROP INDEX idx_adk_events_session")
    status, text, advice = found(await examine(config), "indexes")
    assert (status, text) == ("todo", "missing: idx_adk_events_session")
    run_sql(dsn, advice)
    assert found(await examine(config), "indexes")[0] == "ok"


async def test_an_invalid_index(store: PsqlpyADKStore, config: PsqlpyConfig, dsn: str) -> None:
    run_sql(
        dsn, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'idx_adk_events_session'::regclass"
    )
    status, text, advice = found(await examine(config), "indexes")
    assert (status, "idx_adk_events_session" in text) == ("todo", True)
    run_sql(dsn, advice)
    assert found(await examine(config), "indexes")[0] == "ok"


async def test_a_missing_primary_key(store: PsqlpyADKStore, config: PsqlpyConfig, dsn: str) -> None:
    run_sql(dsn, "ALTER TABLE adk_events DROP CONSTRAINT adk_events_pkey")
    status, text, _ = found(await examine(config), "indexes")
    assert (status, text.startswith('without a primary key: "adk_events"')) == ("todo", True)


async def test_bloat_and_heap_only_updates(
    store: PsqlpyADKStore, config: PsqlpyConfig, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_checks, "_DEAD_ROWS", 100)
    monkeypatch.setattr(table_checks, "_UPDATES", 100)
    run_sql(
        dsn,
        "ALTER TABLE adk_sessions SET (autovacuum_vacuum_threshold = 1000000)",
        "INSERT INTO adk_sessions (app_name, user_id, id) SELECT 'a', 'u', generate_series(1, 300)",
        "UPDATE adk_sessions SET update_time = now()",
        "SELECT pg_stat_force_next_flush()::text",
    )
    report = await examine(config)
    status, text, advice = found(report, "vacuum")
    assert status == "todo"
    assert '"adk_sessions" has 300 dead rows beside 300' in text
    assert advice.startswith('VACUUM (ANALYZE) "adk_sessions"')
    status, text, advice = found(report, "heap-only updates")
    assert (status, text) == ("note", "0% of 300 updates of sessions")
    assert 'index_set="appending"' in advice
    run_sql(dsn, "VACUUM adk_sessions", "SELECT pg_stat_force_next_flush()::text")
    assert found(await examine(config), "vacuum")[0] == "ok"


async def test_autovacuum_that_is_off(store: PsqlpyADKStore, config: PsqlpyConfig, dsn: str) -> None:
    run_sql(dsn, "ALTER TABLE adk_events SET (autovacuum_enabled = false)")
    status, _, advice = found(await examine(config), "vacuum")
    assert status == "todo"
    run_sql(dsn, advice)
    assert found(await examine(config), "vacuum")[0] == "ok"


async def test_a_long_history(service: PsqlpySessionService, config: PsqlpyConfig, dsn: str) -> None:
    await conversation(service, user_says("x"))
    run_sql(dsn, "UPDATE adk_sessions SET revision = 123456")
    status, text, advice = found(await examine(config), "longest history")
    assert (status, text) == ("note", "123,456 writes, session s of app")
    assert "num_recent_events" in advice
    assert "123,456 writes: app / user / s" in (await running("doctor", "--dsn", dsn, "--verbose")).out


async def test_a_large_state(service: PsqlpySessionService, config: PsqlpyConfig, dsn: str) -> None:
    await conversation(service, user_says("x"))
    # Random text, which does not compress.
    big = "SELECT jsonb_build_object('x', string_agg(md5(random()::text), '')) FROM generate_series(1, {})"
    for rows, status in ((5_000, "note"), (50_000, "todo")):
        run_sql(
            dsn,
            f"INSERT INTO adk_app_states (app_name, state) VALUES ('app', ({big.format(rows)})) "
            "ON CONFLICT (app_name) DO UPDATE SET state = excluded.state",
        )
        got, text, _ = found(await examine(config), "largest state")
        assert (got, "of app app" in text) == (status, True)


async def test_an_old_transaction(
    store: PsqlpyADKStore, config: PsqlpyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adk_psqlpy.admin.load_checks.OLD_SEC", 0.2)
    async with config.provide_connection() as idle:
        await idle.execute_batch("BEGIN; SELECT 'what a user said'")
        (pid,) = [await idle.fetch_val("SELECT pg_backend_pid()")]
        deadline = asyncio.get_running_loop().time() + 10
        while (got := found(await examine(config), "oldest transaction"))[0] == "ok":
            assert asyncio.get_running_loop().time() < deadline
        await idle.execute_batch("ROLLBACK")
    status, text, advice = got
    assert status == "todo"
    assert f"transaction {pid} of adk-psqlpy, idle in transaction" in text
    assert f"pg_terminate_backend({pid})" in advice
    assert "said" not in text


async def test_a_role_that_may_not_write(all_tables: PsqlpyConfig, database: Database) -> None:
    role = f"reader_{database.name}"
    run_sql(
        database.dsn, f"CREATE ROLE {role} LOGIN", f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
    )
    try:
        async with PsqlpyConfig({"dsn": database.server.database_dsn(database.name, user=role)}) as config:
            assert found(await examine(config), "rights")[:2] == ("note", "the role only reads")
        run_sql(database.dsn, f"REVOKE SELECT ON adk_artifacts FROM {role}")
        async with PsqlpyConfig({"dsn": database.server.database_dsn(database.name, user=role)}) as config:
            assert found(await examine(config), "rights")[0] == "todo"
    finally:
        run_sql(database.dsn, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


@pytest.fixture(scope="module")
def reckless() -> Iterator[BinaryServer]:
    """A server that risks its data."""
    with BinaryServer(wheel_binaries(), {"fsync": "off", "full_page_writes": "off"}) as started:
        yield started


async def test_a_server_that_risks_its_data(reckless: BinaryServer) -> None:
    async with PsqlpyConfig({"dsn": reckless.dsn}) as config:
        status, text, advice = found(await examine(config), "server")
    assert (status, "fsync and full_page_writes off" in text) == ("todo", True)
    assert "postgresql.conf" in advice


async def test_an_unreachable_server_is_a_finding() -> None:
    done = await running("doctor", "--dsn", "postgresql://someone:hush-hush@127.0.0.1:1/nowhere", "--json")
    assert done.code == 1
    document: dict[str, Any] = json.loads(done.out)
    finding = document["findings"][-1]
    assert (finding["check"], finding["status"]) == ("connection", "todo")
    assert "cannot connect to PostgreSQL at 127.0.0.1:1" in finding["text"]
    assert "hush" not in done.out + done.err
