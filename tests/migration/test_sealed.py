"""Sealed tables as a source and as a target: opened with their keys, and never written to in plain text."""

from __future__ import annotations

import asyncio
import io
import json
from typing import TYPE_CHECKING, Any

import pytest

from adk_psqlpy import PsqlpyADKStore, PsqlpyArtifactService, PsqlpyConfig, PsqlpySessionService
from adk_psqlpy.admin.migrate import (
    MigrationOptions,
    SourceOptions,
    TableNames,
    export,
    load_export,
    migrate,
)
from adk_psqlpy.cli import main
from adk_psqlpy.errors import SealError
from adk_psqlpy.seal import FileKeys, Seal, UserKeys, new_key
from contract.events import said
from keys import fresh_seal
from servers import run_sql

from .test_export import ELSEWHERE, rows_of

if TYPE_CHECKING:
    from pathlib import Path

    from servers import Database

THIRD = TableNames("third.adk_sessions", "third.adk_events", "third.adk_memories", "third.adk_artifacts")


async def lines_of(
    config: PsqlpyConfig, names: TableNames | None = None, seal: Seal | None = None
) -> list[Any]:
    """What an export says, but when and how much."""
    stream = io.BytesIO()
    await export(config, stream, names=names, seal=seal)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    return [line for line in lines if line["type"] not in ("header", "end")]


@pytest.mark.usefixtures("filled")
async def test_in_and_out_again(target: PsqlpyConfig, place: Path, database: Database) -> None:
    """Plain tables into sealed ones, and from there into plain ones that are equal to the first."""
    await export(target, place / "all.jsonl")
    loaded = await load_export(
        place / "all.jsonl", target, MigrationOptions(names=ELSEWHERE, seal=fresh_seal("test-1"))
    )
    assert loaded.problems == []
    assert loaded.complete
    stored = json.dumps(rows_of(database.dsn, "copy"))
    plain = json.dumps(rows_of(database.dsn, "public"))
    for secret in ("likes tea", "last summer", "behind the change", b"draft".hex(), "nested"):
        assert secret in plain
        assert secret not in stored or secret == "nested"  # the name of a state key
    # With a key that came later; what is there is known as equal.
    later = fresh_seal("test-1", "test-2")
    again = await load_export(place / "all.jsonl", target, MigrationOptions(names=ELSEWHERE, seal=later))
    assert again.complete
    assert (again.sessions.equal, again.memories.equal, again.artifacts.equal) == (10, 3, 4)
    assert again.states.equal == 6
    assert await lines_of(target, ELSEWHERE, later) == await lines_of(target)
    source = SourceOptions("adk-psqlpy", "copy.adk_sessions", "copy.adk_events", seal=later)
    carried = await migrate(database.dsn, target, MigrationOptions(names=THIRD, source=source))
    assert carried.complete
    before, after = rows_of_sessions(database, "public"), rows_of_sessions(database, "third")
    assert before == after


def rows_of_sessions(database: Database, schema: str) -> list[Any]:
    """The rows of sessions, of events, of all states and of forks."""
    with_rest = TableNames(f"{schema}.adk_sessions", f"{schema}.adk_events")
    tables = with_rest.tables
    every = (tables.sessions, tables.events, tables.app_states, tables.user_states, tables.state_log)
    statements = [f"SELECT to_jsonb(t)::text AS row FROM {table} AS t ORDER BY 1" for table in every]
    return run_sql(database.dsn, *statements)


async def test_a_sealed_target_takes_no_plain_rows(target: PsqlpyConfig, place: Path) -> None:
    """It is refused by name, in a dry run too, and nothing is written."""
    other = TableNames("other.adk_sessions", "other.adk_events")
    plain = PsqlpySessionService(PsqlpyADKStore(target, other.session_table, other.events_table))
    await plain.store.create_tables()
    await plain.create_session(app_name="cafe", user_id="ada", session_id="s")
    await export(target, place / "all.jsonl", names=other)
    sealed = PsqlpyADKStore(target, seal=fresh_seal())
    await sealed.create_tables()
    for dry_run in (False, True):
        with pytest.raises(ValueError, match=r"adk_metadata. is recorded as sealed, and no keys are given"):
            await load_export(place / "all.jsonl", target, MigrationOptions(dry_run=dry_run))
    assert await sealed.get_session("cafe", "ada", "s") is None
    await sealed.create_session("cafe", "ada", "t", {"k": 1})
    with pytest.raises(SealError, match="there is nothing to open it with"):
        await export(target, io.BytesIO())


async def test_sealed_artifacts_take_no_plain_rows(target: PsqlpyConfig, filled: int, place: Path) -> None:
    """Their tables have a record of their own."""
    await export(target, place / "all.jsonl")
    await PsqlpyArtifactService(target, "copy.adk_artifacts", seal=fresh_seal()).create_tables()
    with pytest.raises(ValueError, match=r"adk_artifact_metadata. is recorded as sealed"):
        await load_export(place / "all.jsonl", target, MigrationOptions(names=ELSEWHERE))
    assert filled


@pytest.mark.parametrize("users", [False, True], ids=["ring", "users"])
async def test_the_commands(
    target: PsqlpyConfig,
    database: Database,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    users: bool,
) -> None:
    """`show`, `export`, `import` and `migrate` with `--keys`, and the variable; without keys they say so."""
    monkeypatch.delenv("ADK_PSQLPY_KEYS", raising=False)
    file = place / "keys"
    file.write_text(new_key("k1") + "\n", encoding="ascii")
    ring = FileKeys(file)
    seal = Seal(UserKeys(target, ring) if users else ring)
    service = PsqlpySessionService(PsqlpyADKStore(target, seal=seal))
    await service.store.create_tables()
    session = await service.create_session(
        app_name="cafe", user_id="ada", session_id="s", state={"k": "secret state"}
    )
    await service.append_event(session, said("secret words"))
    keys = f"users+file:{file}" if users else f"file:{file}"
    dsn, out = ["--dsn", database.dsn], place / "out.jsonl"

    async def run(*arguments: str) -> tuple[int, str]:
        code = await asyncio.to_thread(main, list(arguments))
        told = capsys.readouterr()
        return code, told.out + told.err

    code, told = await run("show", "s", *dsn)
    assert code != 0
    assert "there is nothing to open it with" in told
    code, told = await run("show", "s", *dsn, "--keys", keys)
    assert code == 0
    assert "secret words" in told
    assert "secret state" in told
    code, told = await run("export", str(out), *dsn)
    assert code != 0
    assert not out.exists()
    code, _ = await run("export", str(out), *dsn, "--keys", keys)
    assert code == 0
    assert "secret words" in out.read_text(encoding="utf-8")
    await service.delete_session(app_name="cafe", user_id="ada", session_id="s")
    code, told = await run("import", str(out), *dsn)
    assert code != 0
    assert "is recorded as sealed" in told
    code, _ = await run("import", str(out), *dsn, "--keys", keys)
    assert code == 0
    read = await service.get_session(app_name="cafe", user_id="ada", session_id="s")
    assert read is not None
    assert read.events == session.events
    names = ["--session-table", "copy.adk_sessions", "--events-table", "copy.adk_events"]
    given = ["migrate", database.dsn, database.dsn, "--kind", "adk-psqlpy", *names]
    code, told = await run(*given, "--source-keys", keys)
    assert code == 0, told
    assert (await lines_of(target, TableNames("copy.adk_sessions", "copy.adk_events")))[1:]
    # The variable of the environment, of which everything is said without an option.
    if not users:
        monkeypatch.setenv("ADK_PSQLPY_KEYS", file.read_text(encoding="ascii"))
        code, told = await run("show", "s", *dsn)
        assert code == 0
        assert "secret words" in told
    for wrong in ("nowhere", "file:", "file:/nowhere/keys", "env:NO_SUCH_KEYS"):
        code, told = await run("show", "s", *dsn, "--keys", wrong)
        assert code == 2
        assert "the keys cannot be read" in told


async def test_keys_of_users_are_read_from_the_source(
    target: PsqlpyConfig, database: Database, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """FROM's table of users' keys opens what FROM holds; the target has keys of its own, or none."""
    file = place / "keys"
    file.write_text(new_key("k1") + "\n", encoding="ascii")
    ring, name = FileKeys(file), f"{database.name}_source"
    database.server.create_database(name)
    try:
        dsn = database.server.database_dsn(name)
        async with PsqlpyConfig({"dsn": dsn, "max_db_pool_size": 2}) as config:
            store = PsqlpyADKStore(config, seal=Seal(UserKeys(config, ring, "their_keys")))
            service = PsqlpySessionService(store)
            await store.create_tables()
            session = await service.create_session(
                app_name="cafe", user_id="ada", session_id="s", state={"k": "secret state"}
            )
            await service.append_event(session, said("secret words"))
            session = await service.get_session(app_name="cafe", user_id="ada", session_id="s")

        async def run(*arguments: str) -> tuple[int, str]:
            given = ["migrate", dsn, database.dsn, "--source-keys", f"users+file:{file}", *arguments]
            code = await asyncio.to_thread(main, given)
            told = capsys.readouterr()
            return code, " ".join((told.out + told.err).split())

        code, told = await run()
        assert code == 2
        assert 'FROM has no table "adk_user_keys" of users\' keys: name it (--source-key-table)' in told
        # It was only read.
        ((none,),) = run_sql(dsn, "SELECT to_regclass('adk_user_keys') IS NULL AS none")
        assert none["none"]
        code, told = await run("--source-key-table", "their_keys")
        assert code == 0, told
        plain = PsqlpySessionService(PsqlpyADKStore(target))
        assert await plain.get_session(app_name="cafe", user_id="ada", session_id="s") == session
        copy = ("--session-table", "copy.adk_sessions", "--events-table", "copy.adk_events")
        code, told = await run("--key-table", "their_keys", "--keys", f"users+file:{file}", *copy)
        assert code == 0, told
    finally:
        database.server.drop_database(name)
    sealed = PsqlpyADKStore(target, *copy[1::2], seal=Seal(UserKeys(target, ring, "their_keys")))
    found = await PsqlpySessionService(sealed).get_session(app_name="cafe", user_id="ada", session_id="s")
    assert found == session


@pytest.mark.usefixtures("filled")
async def test_keys_of_users_need_a_source_in_postgresql(
    target: PsqlpyConfig, database: Database, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file has no such table, and the target's is not taken for it."""
    (place / "keys").write_text(new_key("k1") + "\n", encoding="ascii")
    await export(target, place / "all.jsonl")
    given = [
        "migrate",
        str(place / "all.jsonl"),
        database.dsn,
        "--source-keys",
        f"users+file:{place / 'keys'}",
    ]
    assert await asyncio.to_thread(main, given) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "the keys of users are in a table of FROM, and FROM is no postgresql:// URL" in told


def test_what_the_help_says_of_the_variable(capsys: pytest.CaptureFixture[str]) -> None:
    """It is read for the target's keys, and not for the source's."""
    assert main(["migrate", "--help"]) == 0
    of_target, of_source = " ".join(capsys.readouterr().out.split()).split("--source-keys WHERE")
    assert "Else the variable ADK_PSQLPY_KEYS" in of_target
    assert "ADK_PSQLPY_KEYS" not in of_source
