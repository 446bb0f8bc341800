"""`adk-psqlpy migrate`, `export` and `import` as a person starts them, and what docs/migration.md shows."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psqlpy
import pytest
from google.adk.sessions.sqlite_session_service import SqliteSessionService

from adk_psqlpy.admin.migrate import Counts, MigrationProgress
from adk_psqlpy.cli import progress
from cli.support import run as run_here

from .support import assert_same_sessions, fill
from .test_target import change

if TYPE_CHECKING:
    from adk_psqlpy import PsqlpyConfig, PsqlpySessionService
    from servers import Database

PAGE = (Path(__file__).parents[2] / "docs" / "migration.md").read_text(encoding="utf-8")
LIMIT_SEC = 120
TARGETS = ("DATABASE_URL", "PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE")


def run(*arguments: str, given: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """The command as a process without a terminal."""
    surroundings = {name: value for name, value in os.environ.items() if name not in TARGETS}
    return subprocess.run(
        [sys.executable, "-m", "adk_psqlpy.cli", *arguments],
        env=surroundings | {"COLUMNS": "100"} | environment,
        input=given,
        capture_output=True,
        check=False,
        timeout=LIMIT_SEC,
    )


@pytest.fixture
async def source(place: Path) -> Path:
    """A folder of agents, one of which has eight sessions."""
    (place / "agents" / "cafe" / ".adk").mkdir(parents=True)
    await fill(SqliteSessionService(str(place / "agents" / "cafe" / ".adk" / "session.db")))
    return place / "agents"


async def test_the_commands_of_the_page(
    source: Path, place: Path, database: Database, ours: PsqlpySessionService
) -> None:
    """In their order, on a real server: what they say, and what is in the database."""
    shown = re.findall(r"^\$ adk-psqlpy (.*)$", PAGE, re.MULTILINE)
    assert [line.split()[0] for line in shown] == ["migrate", "migrate", "export", "export", "import"]
    dry, wet, everything, user, back = (
        [
            word.replace("postgresql://me@localhost/agents", database.dsn)
            .replace("agents/", f"{source}/")
            .replace("agents.jsonl", f"{place}/agents.jsonl")
            .replace("user.jsonl", f"{place}/user.jsonl")
            for word in shlex.split(line)
        ]
        for line in shown
    )
    done = run(*dry)
    assert done.returncode == 0, done.stderr.decode()
    assert b"would carry" in done.stdout
    done = run(*wet)
    assert done.returncode == 0, done.stderr.decode()
    assert b"8 sessions were read back and are equal to the source's" in done.stdout
    assert done.stderr == b""
    theirs = SqliteSessionService(str(source / "cafe" / ".adk" / "session.db"))
    assert await assert_same_sessions(theirs, ours) > 0
    done = run(*everything)
    assert done.returncode == 0, done.stderr.decode()
    assert b"8 sessions" in done.stderr
    assert done.stdout == b""
    done = run(*user)
    assert done.returncode == 0, done.stderr.decode()
    # The page goes elsewhere; here other tables of the same database are elsewhere.
    back[back.index("postgresql://me@localhost/elsewhere")] = database.dsn
    tables = ("--session-table", "copy.adk_sessions", "--events-table", "copy.adk_events")
    done = run(*back, *tables)
    assert done.returncode == 0, done.stderr.decode()
    assert b"8 sessions were read back" in done.stdout


async def test_the_python_of_the_page(
    source: Path, place: Path, database: Database, target: PsqlpyConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both programs run: the move, and an export read into a service of ADK."""
    reader, mover = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(mover, names)
    await names["move"](str(source), database.dsn)
    assert "8 sessions," in capsys.readouterr().out
    assert run("export", str(place / "x.jsonl"), "--dsn", database.dsn).returncode == 0
    exec(reader, names)
    service = await names["read_export"](place / "x.jsonl")
    theirs = SqliteSessionService(str(source / "cafe" / ".adk" / "session.db"))
    for session in (await theirs.list_sessions(app_name="cafe")).sessions:
        key = {"app_name": "cafe", "user_id": session.user_id, "session_id": session.id}
        one, other = await theirs.get_session(**key), await service.get_session(**key)
        assert one.events == other.events


async def test_problems(source: Path, place: Path, database: Database) -> None:
    """Exit code 1, the first ones on the screen, all in the file; as JSON too."""
    change(source / "cafe" / ".adk" / "session.db", "UPDATE events SET event_data = 'x' WHERE id LIKE 'e1-%'")
    done = run("migrate", str(source), database.dsn, "--problems", str(place / "problems.jsonl"))
    assert done.returncode == 1
    assert b"24 problems:" in done.stdout
    assert done.stdout.count(b"event 'e1-") == 20
    assert b"and 4 more" in done.stderr
    problems = [json.loads(line) for line in (place / "problems.jsonl").read_text().splitlines()]
    assert {problem["name"] for problem in problems} == {f"e1-{n}" for n in range(24)} | {
        problems[-1]["name"]
    }
    done = run("migrate", str(source), "--json", DATABASE_URL=database.dsn)
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert (report["sessions"]["equal"], report["sessions"]["left_out"]) == (7, 1)
    assert report["problems"]["counted"] == 24


async def test_through_a_pipe(source: Path, database: Database) -> None:
    """`export -` and `import -`."""
    assert run("migrate", str(source), database.dsn).returncode == 0
    out = run("export", "-", "--dsn", database.dsn)
    assert out.returncode == 0
    tables = ("--session-table", "copy.adk_sessions", "--events-table", "copy.adk_events")
    done = run("import", "-", "--dsn", database.dsn, *tables, given=out.stdout)
    assert done.returncode == 0, done.stderr.decode()
    assert b"8 sessions were read back" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("migrate",), "Missing argument 'FROM'"),
        (("migrate", "nowhere", "postgresql://x"), "there is no nowhere"),
        (("migrate", "mysql+nodriver://a:hush-hush@x/y", "postgresql://x"), "does not know"),
        (("migrate", "a", "postgresql://x", "--dsn", "postgresql://y"), "TO and --dsn are both given"),
        (("migrate", "a", "--source-timezone", "Nowhere/At"), "there is no such zone"),
        (("migrate", "."), "no server is given"),
        (("import", "postgresql://x"), "there is no file"),
        (("export", "x", "--user", "ada", "--dsn", "postgresql://y"), "--user belongs to an app"),
    ],
)
def test_usage(monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str) -> None:
    """What is wrong on the command line is exit code 2, told in a line, without a password.

    In this process: a process of its own takes 1.6 s to import what it needs, and an error that is not told
    would be raised here.
    """
    for name in TARGETS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    done = run_here(*arguments)
    assert done.code == 2, done
    assert said in done.err
    assert "Traceback" not in done.err
    assert "hush" not in done.out + done.err


async def test_interrupted(place: Path, database: Database) -> None:
    """Ctrl-C while it waits for a lock: exit code 130, and no session without all of its events."""
    service = SqliteSessionService(str(place / "session.db"))
    await fill(service, sessions=10)
    assert run("migrate", str(place / "session.db"), database.dsn).returncode == 0
    holder, watcher = await psqlpy.connect(dsn=database.dsn), await psqlpy.connect(dsn=database.dsn)
    await holder.execute("TRUNCATE adk_sessions CASCADE")
    await holder.execute("BEGIN")
    await holder.execute("LOCK TABLE adk_events IN EXCLUSIVE MODE")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "adk_psqlpy.cli", "migrate", str(place / "session.db"), database.dsn),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    waiting = "SELECT count(*) AS n FROM pg_locks WHERE NOT granted"
    deadline = time.monotonic() + LIMIT_SEC
    while (await watcher.fetch(waiting)).result()[0]["n"] == 0:
        assert process.returncode is None, await process.communicate()
        assert time.monotonic() < deadline, "it never came to the lock"
        await asyncio.sleep(0.02)  # between two looks
    process.send_signal(signal.SIGINT)
    out, error = await asyncio.wait_for(process.communicate(), LIMIT_SEC)
    await holder.execute("COMMIT")
    assert process.returncode == 130, (out, error)
    assert b"Traceback" not in error
    deadline = time.monotonic() + LIMIT_SEC
    while (await watcher.fetch(waiting)).result()[0]["n"] > 0:
        assert time.monotonic() < deadline, "its statement never ended"
        await asyncio.sleep(0.02)  # between two looks
    rows = (await watcher.fetch("SELECT count(*) AS n FROM adk_sessions")).result()
    assert rows == [{"n": 0}]
    holder.close()
    watcher.close()
    assert run("migrate", str(place / "session.db"), database.dsn).returncode == 0


async def test_how_far_it_is(source: Path, database: Database) -> None:
    """On a terminal a bar with rate and time left; elsewhere a line now and then, with the same."""
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "adk_psqlpy.cli", "migrate", str(source), database.dsn),
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(theirs)
    out, _ = await asyncio.wait_for(process.communicate(), LIMIT_SEC)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert process.returncode == 0, shown
    assert b"8 sessions were read back" in out
    assert "events/s" in shown
    assert "━" in shown


def test_how_far_it_is_without_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_LINE_SEC", 0.0)
    with progress.Progress() as tell:
        tell(MigrationProgress(1, 50, 0, 0, Counts(sessions=2, events=100)))
        tell(MigrationProgress(2, 100, 3, 0, Counts(sessions=2, events=100, memories=None)))
    first, second = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"1 sessions, 50 events, [\d,]+ events/s, \d+ s left", first)
    assert re.fullmatch(r"2 sessions, 100 events, 3 memories, 0 artifacts, [\d,]+ events/s", second)
