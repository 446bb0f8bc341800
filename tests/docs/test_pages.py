"""What the README and the guides show is run: every snippet in order, on one database of a real server.

Each page goes on with the `config`, `store` and `service` of the README, and may use what the pages before it
made. A snippet that makes another configuration or store runs on a copy of the names, so that those after it
go on with the first. What a line prints is what stands behind `# ->` on it, or begins with that.
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
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text(encoding="utf-8")

# A snippet more or less is noticed here, so that none is passed over. Other pages have tests of their own.
RUN = {
    "README.md": {"sh": 3, "python": 2},
    "docs/first-agent.md": {"python": 5},
    "docs/configuration.md": {"python": 3},
    "docs/tls.md": {"python": 2, "ini": 1},
    "docs/connections.md": {"python": 1},
    "docs/state.md": {"python": 2},
    "docs/two-writers.md": {"python": 2},
    "docs/listing.md": {"python": 5},
    "docs/time-travel.md": {"python": 3},
    "docs/querying.md": {"python": 1, "sql": 7},
    "docs/errors.md": {"python": 1},
}
NOT_RUN = {"docs/install.md": {"sh": 3}, "docs/rust.md": {"toml": 1}, "docs/fastapi.md": {"python": 9}}
"""Commands that a test below looks up; what tests/unit builds; excerpts of an example that has a test."""
CLAIMS = 9  # comments about an index

PLACEHOLDER_DSN = "postgresql://user:password@localhost:5432/mydb"
PLACEHOLDER_CA = "/etc/ssl/private-ca.pem"


@dataclass(frozen=True)
class Snippet:
    """A fenced block: its page, its language, its text, and the line that it begins on."""

    page: str
    language: str
    text: str
    line: int

    def __str__(self) -> str:
        return f"{self.language} snippet at {self.page}:{self.line}"


def snippets(page: str, *languages: str) -> list[Snippet]:
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    every = [Snippet(page, match[1], match[2], text.count("\n", 0, match.start()) + 2) for match in found]
    return [snippet for snippet in every if not languages or snippet.language in languages]


@pytest.mark.parametrize(("page", "counts"), [*RUN.items(), *NOT_RUN.items()])
def test_no_snippet_is_passed_over(page: str, counts: dict[str, int]) -> None:
    """Every fence is paired and of a known language, and there are as many as there should be."""
    text = (ROOT / page).read_text(encoding="utf-8")
    assert len(re.findall(r"^ *```", text, re.MULTILINE)) == 2 * len(snippets(page))
    found = [snippet.language for snippet in snippets(page)]
    assert {language: found.count(language) for language in set(found)} == counts


def test_a_page_with_snippets_has_a_test() -> None:
    """Here, or in the test of that page, which names it."""
    here = RUN.keys() | NOT_RUN.keys()
    tests = "".join(
        path.read_text(encoding="utf-8")
        for path in (ROOT / "tests").rglob("test_*.py")
        if path != Path(__file__)
    )
    for path in sorted(DOCS.glob("*.md")):
        page = f"docs/{path.name}"
        assert page in here or path.name in tests or snippets(page) == [], page


@pytest.fixture
def placeholders(database: Database) -> dict[str, str]:
    """What stands in the pages, and what is meant by it here."""
    return {PLACEHOLDER_DSN: database.dsn, PLACEHOLDER_CA: certifi.where()}


async def test_the_snippets_run(database: Database, placeholders: dict[str, str]) -> None:
    """In the order of `RUN`; what a comment says of an index is what the plan says."""
    names: dict[str, Any] = {}
    ran: dict[str, int] = {}
    claims = 0
    for page in RUN:
        for snippet in snippets(page, "python", "sql"):
            if snippet.language == "python":
                first = not names
                await run_python(snippet, names, placeholders)
                if first:
                    await fill(names["config"])
            else:
                claims += await run_statements(snippet, names["config"])
            ran[snippet.language] = ran.get(snippet.language, 0) + 1
    await names["service"].close()
    assert ran == {each: sum(counts.get(each, 0) for counts in RUN.values()) for each in ("python", "sql")}
    assert claims == CLAIMS


async def run_python(snippet: Snippet, names: dict[str, Any], placeholders: dict[str, str]) -> None:
    text = snippet.text
    for shown, meant in placeholders.items():
        text = text.replace(shown, meant)
    # A page that makes the configuration again, to be read by itself, goes on with its own.
    another = (
        bool(names) and re.search(r"^(config|store) = ", text, re.MULTILINE) and "service = " not in text
    )
    if names and not another and re.search(r"^service = ", text, re.MULTILINE):
        await names["service"].close()
    scope = dict(names) if another else names
    # Traceback lines are the page's.
    code = compile(
        "\n" * (snippet.line - 1) + text,
        str(ROOT / snippet.page),
        "exec",
        flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
        dont_inherit=True,
    )
    printed = StringIO()
    with redirect_stdout(printed):
        running = eval(code, scope)
        if inspect.isawaitable(running):
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
    """The tables that the page names are those that are made."""
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


# --- what the pages say of the rest of the project ---


def test_commands() -> None:
    """Targets of make, the names given to pip, and the subcommands are there."""
    lines = [
        line.partition("#")[0].strip()
        for page in ("README.md", "docs/install.md")
        for snippet in snippets(page, "sh")
        for line in snippet.text.splitlines()
    ]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    looked_up = 0
    for line in lines:
        if line.startswith("make "):
            assert re.search(rf"^{line.removeprefix('make ')}:", makefile, re.MULTILINE), line
        elif line.startswith("pip "):
            match = re.fullmatch(r"pip install '?([\w-]+)(?:\[(\w+)\])?'?", line)
            assert match, line
            assert match[1] == project["name"]
            assert match[2] is None or match[2] in project["optional-dependencies"]
        else:
            assert line.startswith(("adk-psqlpy ", "adk web ", "URI=")), line
            continue
        looked_up += 1
    assert looked_up == 8


PAGES = ["README.md", *(f"docs/{path.name}" for path in sorted(DOCS.glob("*.md")))]
COMMANDS = {
    command
    for page in PAGES
    for text, begin in [
        ((ROOT / page).read_text(encoding="utf-8"), "`"),
        *((snippet.text, "^") for snippet in snippets(page, "sh")),
    ]
    for command in re.findall(rf"{begin}adk-psqlpy ([a-z-]+)", text, re.MULTILINE)
}


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_subcommands(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"adk-psqlpy {command}" in capsys.readouterr().out


def rows_of_key_table() -> Iterator[tuple[str, ...]]:
    for line in (DOCS / "settings.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip().replace("`", "") for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[0] in KEYS:
            yield tuple(cells)


def test_every_key_is_in_the_table() -> None:
    rows = list(rows_of_key_table())
    assert [name for name, *_ in rows] == list(PUBLIC_KEYS)
    for name, kind, default, _ in rows:
        assert (kind, default) == (_WANTED[KEYS[name].kind].partition(" ")[2], KEYS[name].default), name


@pytest.mark.parametrize("page", ["README.md", "docs/install.md"])
def test_requirements_are_the_projects(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (adk,) = [each for each in project["dependencies"] if each.startswith("google-adk")]
    (lowest,) = re.findall(r"`google-adk` (\d+\.\d+) or newer \(below 3\)", text)
    assert adk == f"google-adk>={lowest},<3"
    pythons = re.findall(r":: (3\.\d+)", "\n".join(project["classifiers"]))
    assert f"CPython {pythons[0]} to {pythons[-1]}" in text


@pytest.mark.parametrize("document", ["README.md", "SECURITY.md", "docs/design.md"])
def test_links_and_paths(document: str) -> None:
    """Links within the project, and paths in code, lead somewhere. `make docs` looks at the other pages."""
    text = (ROOT / document).read_text(encoding="utf-8")
    places = [ROOT / document, ROOT / "x", ROOT / "python" / "adk_psqlpy" / "x"]
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    assert [link for link in links if not (ROOT / document).parent.joinpath(link).exists()] == []
    paths = re.findall(r"`((?:[\w.-]+/)+[\w.-]*|[\w-]+\.(?:py|rs|pyi|md|toml))`", text)
    assert [
        path
        for path in paths
        if not path.startswith("target/")  # what make builds
        and not any(place.parent.joinpath(path).exists() for place in places)
        and not any((ROOT / "python").rglob(path.rstrip("/")))
    ] == []


def test_the_readme_stays_short() -> None:
    assert README.count("\n") <= 160


def test_the_excerpts_are_the_examples() -> None:
    """docs/fastapi.md shows lines of its two examples, unchanged.

    A test of the second one runs the snippet with `get_fast_api_app`.
    """
    example = (ROOT / "examples/fastapi_service.py").read_text(encoding="utf-8")
    credentials = (ROOT / "examples/fastapi_credentials.py").read_text(encoding="utf-8")
    for snippet in snippets("docs/fastapi.md"):
        if "get_fast_api_app" not in snippet.text:
            assert snippet.text in example or snippet.text in credentials, snippet
    text = (DOCS / "fastapi.md").read_text(encoding="utf-8")
    for name, value in re.findall(r"^\| `([a-z_]+)` \| (\d+) \|", text, re.MULTILINE):
        assert f'"{name}": {value},' in example, name
