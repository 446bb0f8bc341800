"""docs/command-line.md and docs/views.md: each option is one, each snippet runs, each column is there."""

from __future__ import annotations

import ast
import inspect
import re
from contextlib import redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

import click
import pytest

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from adk_psqlpy.cli.app import VERBS, app
from servers import run_sql

from .support import agent_says, answer, call, conversation, used, user_says

pytestmark = pytest.mark.filterwarnings("ignore")
DOCS = Path(__file__).parents[2] / "docs"
COMMAND_LINE = (DOCS / "command-line.md").read_text(encoding="utf-8")
VIEWS = (DOCS / "views.md").read_text(encoding="utf-8")
SHARED = {
    "--dsn",
    "--session-table",
    "--events-table",
    "--memory-table",
    "--artifact-table",
    "--json",
    "--help",
}
SECTIONS = dict(re.findall(r"^## ([a-z-]+)\n(.*?)(?=^## |\Z)", COMMAND_LINE, re.MULTILINE | re.DOTALL))


def command(verb: str) -> click.Command:
    found = app.get_command(click.Context(app), verb)
    assert found is not None, verb
    return found


def options(verb: str) -> set[str]:
    """The options of a verb that not all verbs have."""
    every = {
        max(option.opts, key=len)
        for option in command(verb).params
        if isinstance(option, click.Option) and not option.hidden
    }
    return every - SHARED


@pytest.mark.parametrize("verb", SECTIONS)
def test_every_option_is_described_and_no_other(verb: str) -> None:
    described = set(re.findall(r"--[a-z][a-z-]*", SECTIONS[verb])) - SHARED
    elsewhere = {"--keep-sessions", "--keep-events", "--follow", "--expired-memories", "--orphaned-artifacts"}
    assert options(verb) <= described
    assert described - elsewhere <= options(verb)


def test_every_verb_has_its_place() -> None:
    listed = [
        re.findall(r"\[`([a-z-]+)`\]\((#?)", line)
        for line in COMMAND_LINE.splitlines()
        if line.startswith("| [")
    ]
    assert {verb for row in listed for verb, _ in row} == set(VERBS)
    assert {verb for row in listed for verb, here in row if here} == set(SECTIONS)
    for module in re.findall(r"`((?:admin|demo)\.[a-z_]+)`", COMMAND_LINE):
        import_module(f"adk_psqlpy.{module}")
    for shown in re.findall(r"adk-psqlpy ([a-z-]+)", COMMAND_LINE + VIEWS):
        assert shown in VERBS, shown


@pytest.mark.parametrize(
    ("verb", "line"),
    [
        (verb, line)
        for block in re.findall(r"```sh\n(.*?)```", COMMAND_LINE + VIEWS, re.DOTALL)
        for verb, line in re.findall(r"^adk-psqlpy ([a-z-]+)(.*)$", block, re.MULTILINE)
    ],
)
def test_the_commands_are_understood(verb: str, line: str) -> None:
    words = line.partition("#")[0].partition(">")[0].split()
    command(verb).make_context(verb, words)


@pytest.fixture
async def filled(config: PsqlpyConfig) -> PsqlpyConfig:
    """What the pages speak of."""
    store = PsqlpyADKStore(config)
    await store.create_tables(views=True)
    service = PsqlpySessionService(store)
    await conversation(service, user_says("Two espressos, please."), key=("cafe", "bob", "s-42"))
    await conversation(
        service,
        user_says("Hello", invocation_id="1"),
        call("order", "1"),
        answer("order", "1", error="sold out"),
        agent_says("Sorry", usage_metadata=used(10, 5), error_code="429"),
        key=("cafe", "alice", "s1"),
    )
    return config


async def test_the_python_of_the_command_line(
    filled: PsqlpyConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In the order of the page; what a comment says is printed."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"config": filled}
    snippets = re.findall(r"```python\n(.*?)```", COMMAND_LINE, re.DOTALL)
    assert len(snippets) == 6
    for snippet in snippets:
        printed = StringIO()
        code = compile(
            snippet, "command-line.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
        )
        with redirect_stdout(printed):
            running = eval(code, names)
            if inspect.isawaitable(running):
                await running
        said = re.findall(r"print\(.*\)  # -> (.*)$", snippet, re.MULTILINE)
        assert printed.getvalue().splitlines()[: len(said)] == said
    assert (tmp_path / "stats.html").exists()


async def test_the_python_of_the_views(config: PsqlpyConfig) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", VIEWS, re.DOTALL)
    code = compile(snippet, "views.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    await eval(code, {"store": PsqlpyADKStore(config)})


async def test_the_queries_of_the_views_find_something(filled: PsqlpyConfig, dsn: str) -> None:
    queries = re.findall(r"```sql\n(.*?);\n```", VIEWS, re.DOTALL)
    assert len(queries) == 5
    for query in queries:
        assert run_sql(dsn, query)[0], query


async def test_the_columns_of_the_views_are_those_described(filled: PsqlpyConfig, dsn: str) -> None:
    shared = re.search(r"Every view begins.*?\n\n(.*?)\n\n", VIEWS, re.DOTALL)
    assert shared
    first = re.findall(r"`(\w+)`", re.sub(r"\|[^|]*\|$", "|", shared[1], flags=re.MULTILINE))
    for view, table in re.findall(r"^`(adk_\w+)` adds:\n\n(.*?)\n\n", VIEWS, re.MULTILINE | re.DOTALL):
        own = [
            name
            for cell in re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)
            for name in re.findall(r"`(\w+)`", cell)
        ]
        columns = run_sql(
            dsn,
            f"""SELECT column_name::text AS name FROM information_schema.columns
            WHERE table_name = '{view}' ORDER BY ordinal_position""",
        )[0]
        assert [row["name"] for row in columns] == first + own, view
