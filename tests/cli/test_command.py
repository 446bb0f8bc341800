"""What all verbs share: where the server is, exit codes, passwords, terminals, completion, imports."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from adk_psqlpy.cli.app import VERBS
from adk_psqlpy.cli.options import Target
from adk_psqlpy.cli.output import printable
from adk_psqlpy.cli.redaction import Redaction
from servers import Database

from .support import LIMIT_SEC, conversation, on_a_terminal, process, run, running, user_says

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore")
NOWHERE = "postgresql://someone:hush-hush@127.0.0.1:1/nowhere"

# With a server, each of these does something that needs none but it.
OF_A_SERVER = {
    "doctor": [],
    "show": [],
    "stats": [],
    "prune": ["--idle", "1d"],
    "erase-user": ["app", "user", "--yes"],
    "views": [],
}


# --- help and completion ---


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_examples_that_are_of_the_verb(verb: str) -> None:
    shown = run(verb, "--help")
    assert (shown.code, shown.err) == (0, "")
    examples = shown.out.partition("Examples:")[2]
    assert f"adk-psqlpy {verb}" in examples
    # Every option of an example exists.
    for option in re.findall(rf"adk-psqlpy {verb} [^\n|>#]*", examples):
        for name in re.findall(r"(?<= )--[a-z-]+", option):
            assert name in shown.out.partition("Examples:")[0], name


def test_help_lists_every_verb() -> None:
    shown = run("--help").out
    for verb in VERBS:
        assert re.search(rf"^  {verb} +\S", shown, re.MULTILINE), verb


def test_nothing_heavy_is_imported_for_help_and_completion() -> None:
    heavy = ("google", "psqlpy", "pydantic", "rich", "asyncio")
    code = (
        "import sys; from adk_psqlpy.cli import main; main(['--help']); "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=LIMIT_SEC
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    script = run("completion", shell)
    assert script.code == 0
    assert "_ADK_PSQLPY_COMPLETE" in script.out
    instruction = {"bash": "bash_complete", "zsh": "zsh_complete", "fish": "fish_complete"}[shell]
    words = {"COMP_WORDS": "adk-psqlpy er", "COMP_CWORD": "er" if shell == "fish" else "1"}
    completing = process(environment={"_ADK_PSQLPY_COMPLETE": instruction, **words})
    out, _ = completing.communicate(timeout=LIMIT_SEC)
    assert "erase-user" in out


def test_the_script_for_bash_is_bash(tmp_path: Path) -> None:
    script = tmp_path / "completion.bash"
    script.write_text(run("completion", "bash").out)
    subprocess.run(["bash", "-n", str(script)], check=True, timeout=LIMIT_SEC)


# --- where the server is ---


def test_no_server_is_a_usage_error() -> None:
    for verb, arguments in OF_A_SERVER.items():
        if verb != "doctor":
            refused = run(verb, *arguments)
            assert refused.code == 2, verb
            assert "no server is given: --dsn, or DATABASE_URL, or PGHOST" in refused.err


async def test_from_the_environment(store: PsqlpyADKStore, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", dsn)
    assert (await running("show")).out == "There is no session.\n"
    monkeypatch.setenv("DATABASE_URL", NOWHERE)
    assert (await running("show", "--dsn", dsn)).code == 0, "--dsn counts more"


async def test_a_uri_as_adk_web_takes_it(config: PsqlpyConfig, database: Database) -> None:
    store = PsqlpyADKStore(config, "agents.sessions", "agents.events")
    await store.create_tables()
    await conversation(PsqlpySessionService(store), user_says("hello"))
    uri = (
        database.dsn.replace("postgresql://", "psqlpy://")
        + "&session_table=agents.sessions&events_table=agents.events"
    )
    shown = await running("show", "s", "--dsn", uri)
    assert "hello" in shown.out, shown.err
    refused = await running("show", "s", "--dsn", "psqlpy://someone:hush-hush@h/d?nope=1")
    assert (refused.code, "hush" in refused.err) == (2, False)


def test_options_count_more_than_a_uri() -> None:
    target = Target("psqlpy://h/d?session_table=a.b", {"session_table": None, "memory_table": "m"})
    assert [target.table(name) for name in ("session_table", "memory_table", "events_table")] == [
        "a.b",
        "m",
        "adk_events",
    ]
    assert Target("psqlpy://h/d?session_table=a.b", {"session_table": "c"}).table("session_table") == "c"


# --- what cannot be ---


@pytest.mark.parametrize(("verb", "arguments"), OF_A_SERVER.items())
def test_an_unreachable_server(verb: str, arguments: list[str]) -> None:
    failed = run(verb, *arguments, "--dsn", NOWHERE)
    assert failed.code == 1
    assert "cannot connect to PostgreSQL at 127.0.0.1:1" in failed.out + failed.err
    assert "hush" not in failed.out + failed.err


@pytest.mark.parametrize(("verb", "arguments"), OF_A_SERVER.items())
def test_missing_tables(verb: str, arguments: list[str], dsn: str) -> None:
    if verb == "doctor":
        return  # a note: services make them on first use
    failed = run(verb, *arguments, "--dsn", dsn)
    assert failed.code == 1
    assert re.search("there is no table|none of the tables", failed.err), failed.err


@pytest.mark.parametrize("verb", ["show", "stats", "views"])
async def test_half_a_schema(verb: str, store: PsqlpyADKStore, dsn: str) -> None:
    async with store.config.provide_connection() as connection:
        await connection.execute_batch("DROP TABLE adk_events CASCADE")
    failed = await running(verb, "--dsn", dsn)
    assert failed.code == 1
    assert 'missing beside "adk_sessions": "adk_events"' in failed.err


def test_a_wrong_password_is_not_shown(database: Database) -> None:
    """The embedded server asks for none, so the server of a role that must give one refuses it."""
    for dsn in (
        "postgresql://someone:hush-hush@127.0.0.1:1/nowhere",
        "host=127.0.0.1 port=1 user=someone password='hush-hush' dbname=nowhere",
    ):
        for arguments in (
            ["show", "--dsn", dsn],
            ["show", "a", dsn],
            [dsn],
            ["stats", "--app", "x", "--html", dsn],
        ):
            shown = run(*arguments)
            assert shown.code != 0
            assert "hush" not in shown.out + shown.err, arguments


def test_redaction() -> None:
    arguments = ["show", "--dsn", "postgresql://me:p%40ss@h/d", "password='two words'"]
    redaction = Redaction(
        arguments, {"PGPASSWORD": "fromenv", "DATABASE_URL": "postgresql://a:urlsecret@h/d"}
    )
    for secret in ("p%40ss", "p@ss", "two words", "fromenv", "urlsecret"):
        assert secret not in redaction.hide(f"it was {secret}, and that is wrong")
    assert redaction.hide("postgresql://x:unknown@h/d") == "postgresql://***@h/d"
    assert redaction.hide("password=unknown rest") == "password=*** rest"
    # A password that is a common word does not eat others.
    assert (
        Redaction(["postgresql://a:post@h"], {}).hide("postgresql, a postbox, post")
        == "postgresql, a postbox, ***"
    )


def test_a_traceback_shows_no_password() -> None:
    code = (
        "import sys; from adk_psqlpy.cli import main; from adk_psqlpy.cli import app\n"
        "def fail(*_, **__): raise LookupError('with hush-hush in it')\n"
        "app.app.main = fail\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "show", "--dsn", NOWHERE],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_SEC,
    )
    assert done.returncode == 1
    assert "LookupError: with *** in it" in done.stderr
    assert "hush" not in done.stderr


# --- pipes and terminals ---


@pytest.mark.parametrize("arguments", [["show"], ["stats"], ["doctor"], ["show", "--json"]])
async def test_a_closed_pipe(arguments: list[str], service: PsqlpySessionService, dsn: str) -> None:
    await conversation(service, user_says("x"))
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as output:
        done = process(*arguments, "--dsn", dsn, stdout=output)
        _, err = done.communicate(timeout=LIMIT_SEC)
    assert done.returncode == 1
    assert "Traceback" not in err
    assert "BrokenPipe" not in err


async def test_colours_on_a_terminal_alone(service: PsqlpySessionService, dsn: str) -> None:
    await conversation(service, user_says("hello"))
    piped = (await running("show", "s", "--dsn", dsn)).out
    assert "\x1b" not in piped
    assert "─" not in (await running("show", "--dsn", dsn)).out
    code, coloured = on_a_terminal(None, "show", "s", "--dsn", dsn)
    assert (code, "\x1b[" in coloured) == (0, True)
    code, plain = on_a_terminal(None, "show", "s", "--dsn", dsn, environment={"NO_COLOR": "1"})
    assert code == 0
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", plain), "no colour"


def test_an_encoding_that_has_not_all_characters(store: PsqlpyADKStore) -> None:
    shown = process("--help", environment={"PYTHONIOENCODING": "ascii", "LC_ALL": "C"})
    out, err = shown.communicate(timeout=LIMIT_SEC)
    assert (shown.returncode, err) == (0, "")
    assert "adk" in out


async def test_text_that_the_output_cannot_write_is_escaped(service: PsqlpySessionService, dsn: str) -> None:
    await conversation(service, user_says("Grüße \ud800"))
    shown = process("show", "s", "--dsn", dsn, "--json", environment={"PYTHONIOENCODING": "ascii"})
    out, err = shown.communicate(timeout=LIMIT_SEC)
    assert (shown.returncode, err) == (0, "")
    assert out.isascii()


def test_printable() -> None:
    assert printable("a\tb\nc\x1b[2J\x7f\x9b\u202e") == "a\tb\nc\\x1b[2J\\x7f\\x9b\\u202e"


def test_json_is_json(store: PsqlpyADKStore, dsn: str) -> None:
    for verb in ("show", "stats", "views", "doctor"):
        json.loads(run(verb, "--dsn", dsn, "--json").out)
