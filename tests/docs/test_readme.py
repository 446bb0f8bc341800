"""What README.md shows is run: every Python and SQL snippet in order, on one database of a real server.

Python snippets share their names, as they build on one another. One that makes another configuration or
store runs on a copy of the names, so that those after it go on with the first. What a line prints is what
stands behind `# ->` on it, or begins with that.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import certifi
import pytest
from google.adk.events.event import Event
from google.genai import types

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from adk_psqlpy.cli import main
from adk_psqlpy.connections.keys import _WANTED, KEYS, PUBLIC_KEYS
from servers import Database

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # comes with pytest there

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")

# A snippet more or less is noticed here, so that none is passed over.
COUNTS = {"sh": 2, "python": 13, "sql": 8}
CLAIMS = 9  # comments about an index

PLACEHOLDER_DSN = "postgresql://user:password@localhost:5432/mydb"
PLACEHOLDER_CA = "/etc/ssl/private-ca.pem"


@dataclass(frozen=True)
class Snippet:
    """A fenced block: its language, its text, and the line of the README that it begins on."""

    language: str
    text: str
    line: int

    def __str__(self) -> str:
        return f"{self.language} snippet at README.md:{self.line}"


def snippets(*languages: str) -> list[Snippet]:
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    every = [Snippet(match[1], match[2], TEXT.count("\n", 0, match.start()) + 2) for match in found]
    return [snippet for snippet in every if not languages or snippet.language in languages]


def test_no_snippet_is_passed_over() -> None:
    """Every fence is paired and of a known language, and there are as many as there should be."""
    assert len(re.findall(r"^ *```", TEXT, re.MULTILINE)) == 2 * len(snippets())
    found = [snippet.language for snippet in snippets()]
    assert {language: found.count(language) for language in set(found)} == COUNTS
    assert len(re.findall(r"^-- (?:no )?index", TEXT, re.MULTILINE)) == CLAIMS


@pytest.fixture
def placeholders(database: Database) -> dict[str, str]:
    """What stands in the README, and what is meant by it here."""
    return {PLACEHOLDER_DSN: database.dsn, PLACEHOLDER_CA: certifi.where()}


async def test_the_snippets_run(database: Database, placeholders: dict[str, str]) -> None:
    names: dict[str, Any] = {}
    ran = dict.fromkeys(COUNTS, 0)
    claims = 0
    for snippet in snippets("python", "sql"):
        if snippet.language == "python":
            first = not names
            await run_python(snippet, names, placeholders)
            if first:
                await fill(names["config"])
        else:
            claims += await run_statements(snippet, names["config"])
        ran[snippet.language] += 1
    await names["service"].close()
    assert ran == COUNTS | {"sh": 0}
    assert claims == CLAIMS


async def run_python(snippet: Snippet, names: dict[str, Any], placeholders: dict[str, str]) -> None:
    text = snippet.text
    for shown, meant in placeholders.items():
        text = text.replace(shown, meant)
    another = bool(names) and re.search(r"^(config|store) = ", text, re.MULTILINE)
    scope = dict(names) if another else names
    # Traceback lines are the README's.
    code = compile(
        "\n" * (snippet.line - 1) + text,
        str(README),
        "exec",
        flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
        dont_inherit=True,
    )
    printed = StringIO()
    with redirect_stdout(printed):
        running = eval(code, scope)
        if inspect.iscoroutine(running):
            await running
    check_output(snippet, printed.getvalue())
    if another and "store = " in text:
        await check_store(scope["store"], names["config"])


def check_output(snippet: Snippet, printed: str) -> None:
    """Every print says beforehand what it prints, and prints that, in that order."""
    said = re.findall(r"^ *print\(.*?\)(?:  # -> (.*))?$", snippet.text, re.MULTILINE)
    assert all(said), f"{snippet}: a print without its output"
    assert len(said) == snippet.text.count("print(")
    lines = iter(printed.splitlines())
    for expected in said:
        # The text of an error may have further lines.
        assert any(line.startswith(expected) for line in lines), f"{snippet}: {expected!r} not in\n{printed}"


async def check_store(store: PsqlpyADKStore, config: PsqlpyConfig) -> None:
    """The tables that the README names are those that are made."""
    await store.create_tables()
    async with config.provide_connection() as connection:
        rows = await connection.fetch(
            "SELECT tablename::text AS name FROM pg_tables WHERE schemaname = 'agents' ORDER BY 1"
        )
        assert [row["name"] for row in rows.result()] == [
            "app_states",
            "events",
            "forks",
            "metadata",
            "sessions",
            "state_log",
            "user_states",
        ]


async def fill(config: PsqlpyConfig) -> None:
    """A shop with some thousand sessions, one of them with events of many kinds."""
    service = PsqlpySessionService(PsqlpyADKStore(config))
    session = await service.create_session(
        app_name="shop", user_id="u1", session_id="s1", state={"status": "open", "category": "books"}
    )
    parts = [
        types.Part(text="a NUL: \0"),
        types.Part.from_function_call(name="search", args={"query": "x", "limit": 3}),
        types.Part.from_function_response(name="search", response={"found": [1.5, float("nan")]}),
        types.Part(text="Here it is."),
    ]
    for number in range(40):
        await service.append_event(
            session,
            Event(
                author="user" if number % 4 == 0 else "agent",
                invocation_id=f"i{number // 4}",
                content=types.Content(role="model", parts=[parts[number % 4]]),
                usage_metadata=types.GenerateContentResponseUsageMetadata(total_token_count=number),
            ),
        )
    async with config.provide_connection() as connection:
        # The status is open for few, `vip` is there for fewer, and a tenth of the states is empty. Many wide
        # rows, so that reading them all is clearly the dearer plan, whatever ANALYZE happens to sample.
        await connection.execute_batch("""
            INSERT INTO adk_sessions (app_name, user_id, id, state, update_time)
            SELECT 'shop', 'u' || n % 500, 'bulk' || n,
                CASE WHEN n % 10 = 0 THEN '{}' ELSE jsonb_build_object(
                    'status', CASE WHEN n % 500 = 1 THEN 'open' ELSE 'closed' END,
                    'category', 'c' || n % 7,
                    'note', repeat('x', 300),
                    CASE WHEN n % 1000 = 3 THEN 'vip' ELSE 'number' END, n
                ) END,
                now() - n * interval '1 minute'
            FROM generate_series(1, 20000) AS n;
            INSERT INTO adk_events (app_name, user_id, session_id, id, seq, timestamp, content)
            SELECT app_name, user_id, id, id || n, n, update_time, '{"parts": [{"text": "hello"}]}'
            FROM adk_sessions, generate_series(1, 4) AS n WHERE id LIKE 'bulk1%';
        """)
        # As autovacuum would: this empties the list of entries pending in the GIN index, which costs as well.
        for table in ("adk_sessions", "adk_events"):
            await connection.execute_batch(f"VACUUM (ANALYZE) {table}")


async def run_statements(snippet: Snippet, config: PsqlpyConfig) -> int:
    """Run each statement, hold each comment about an index against its plan; give how many there were.

    A query finds something: one that finds nothing would prove little.
    """
    claims = 0
    async with config.provide_connection() as connection:
        for part in filter(str.strip, snippet.text.split(";\n")):
            claim = re.match(r"\s*-- (?:index: (?P<used>\w+)|no index\b.*)\n", part)
            statement = re.sub(r"^--.*\n", "", part.strip(), flags=re.MULTILINE)
            if claim is not None:
                rows = (await connection.fetch(f"EXPLAIN {statement}")).result(as_tuple=True)
                plan = "\n".join(row[0] for row in rows)
                used = re.findall(r"(?:Scan using|Bitmap Index Scan on|Scan Backward using) (\w+)", plan)
                assert used == ([claim["used"]] if claim["used"] else []), f"{snippet}:\n{statement}\n{plan}"
                claims += 1
            rows = (await connection.fetch(statement)).result()
            if statement.startswith("SELECT"):
                assert rows, f"{snippet}: nothing found by\n{statement}"
    return claims


# --- what the README says of the rest of the project ---


def test_commands() -> None:
    """Targets of make, the names given to pip, and the subcommands are there."""
    lines = [
        line.partition("#")[0].strip() for snippet in snippets("sh") for line in snippet.text.splitlines()
    ]
    assert len(lines) == 4
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for line in lines:
        if line.startswith("make "):
            assert re.search(rf"^{line.removeprefix('make ')}:", makefile, re.MULTILINE), line
        else:
            match = re.fullmatch(r"pip install '?([\w-]+)(?:\[(\w+)\])?'?", line)
            assert match, line
            assert match[1] == project["name"]
            assert match[2] is None or match[2] in project["optional-dependencies"]


@pytest.mark.parametrize("command", sorted(set(re.findall(r"`adk-psqlpy ([a-z]+)", TEXT))))
def test_subcommands(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert {"init": "DIR"}.get(command, "--dsn") in capsys.readouterr().out


def rows_of_key_table() -> Iterator[tuple[str, ...]]:
    for line in TEXT.splitlines():
        cells = [cell.strip().replace("`", "") for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[0] in KEYS:
            yield tuple(cells)


def test_every_key_is_in_the_table() -> None:
    rows = list(rows_of_key_table())
    assert [name for name, *_ in rows] == list(PUBLIC_KEYS)
    for name, kind, default, _ in rows:
        assert (kind, default) == (_WANTED[KEYS[name].kind].partition(" ")[2], KEYS[name].default), name


def test_requirements_are_the_projects() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (adk,) = [each for each in project["dependencies"] if each.startswith("google-adk")]
    (lowest,) = re.findall(r"`google-adk` (\d+\.\d+) or newer \(below 3\)", TEXT)
    assert adk == f"google-adk>={lowest},<3"
    pythons = re.findall(r":: (3\.\d+)", "\n".join(project["classifiers"]))
    assert f"CPython {pythons[0]} to {pythons[-1]}" in TEXT


@pytest.mark.parametrize("document", ["README.md", "docs/design.md"])
def test_links_and_paths(document: str) -> None:
    """Links within the project, and paths in code, lead somewhere."""
    text = (ROOT / document).read_text(encoding="utf-8")
    places = [ROOT / document, ROOT / "x", ROOT / "python" / "adk_psqlpy" / "x"]
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    assert [link for link in links if not (ROOT / document).parent.joinpath(link).exists()] == []
    paths = re.findall(r"`((?:[\w.-]+/)+[\w.-]*|[\w-]+\.(?:py|rs|pyi|md|toml))`", text)
    assert [path for path in paths if not any(place.parent.joinpath(path).exists() for place in places)] == []


def test_the_readme_stays_short() -> None:
    assert TEXT.count("\n") <= 520
