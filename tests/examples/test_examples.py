"""Each program in examples/ is run as a reader would run it, on a database of its own."""

from __future__ import annotations

import ast
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from servers import Database, run_sql

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PROGRAMS = sorted(path.name for path in EXAMPLES.glob("*.py"))
LIMIT_SEC = 120


def run(name: str, database: Database) -> list[str]:
    """What the example prints, line by line; its only setting is DATABASE_URL."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "GOOGLE_"))}
    environment |= {"DATABASE_URL": database.dsn, "PYTHONPATH": str(ROOT / "python")}
    done = subprocess.run(
        [sys.executable, f"examples/{name}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_SEC,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_quick_start(database: Database) -> None:
    """A second run counts on from the first; the rows are what it printed."""
    for visits in (1, 2):
        assert run("quick_start.py", database) == [
            "user: Two teas, please.",
            "waiter: Two teas for table 7.",
            f"state: {{'order': {{'tea': 2}}, 'table': 7, 'user:visits': {visits}}}",
            f"orders of two teas so far: {visits}",
        ]
    sessions, events, state = run_sql(
        database.dsn,
        "SELECT user_id, state, revision::int4 AS revision FROM adk_sessions",
        "SELECT author, content FROM adk_events ORDER BY timestamp",
        "SELECT user_id, state FROM adk_user_states",
    )
    assert sessions == [{"user_id": "ann", "state": {"order": {"tea": 2}, "table": 7}, "revision": 2}] * 2
    assert [row["author"] for row in events] == ["user", "waiter"] * 2
    assert events[0]["content"] == {"parts": [{"text": "Two teas, please."}], "role": "user"}
    assert state == [{"user_id": "ann", "state": {"visits": 2}}]


ANALYTICS = """
open cases by topic
  billing  2
  delivery  2
  returns  2

cases that a person took over
  customer 00  Kim
  customer 10  Kim
  customer 20  Kim

tool calls
  refund  30  30
  find_order  24  24
  ask_a_person  6  6

tokens by topic
  returns  5220
  delivery  5180
  billing  5140

last change of state in a case
  customer 00  {"person": "Kim"}
  customer 01  {"status": "closed"}
  customer 02  {"status": "closed"}
"""


def test_session_analytics(database: Database) -> None:
    """The same numbers in a second run, which stores nothing more."""
    for _ in range(2):
        assert run("session_analytics.py", database) == ANALYTICS.splitlines()
    ((stored,),) = run_sql(
        database.dsn,
        """SELECT count(DISTINCT session_id)::int4 AS sessions, count(*)::int4 AS events,
               sum((extra -> 'usage_metadata' ->> 'total_token_count')::int4)::int4 AS tokens
           FROM adk_events""",
    )
    assert stored == {"sessions": 60, "events": 180, "tokens": 2 * sum(range(100, 160))}


@pytest.mark.parametrize("title", ["open cases by topic", "cases that a person took over"])
def test_filters_of_state_use_the_index(database: Database, title: str) -> None:
    """Among many sessions, as the comments in the example say."""
    run("session_analytics.py", database)
    query = runpy.run_path(str(EXAMPLES / "session_analytics.py"))["QUERIES"][title]
    *_, plan = run_sql(
        database.dsn,
        """INSERT INTO adk_sessions (app_name, user_id, id, state)
           SELECT 'support_desk', n::text, n::text,
               jsonb_build_object('status', 'closed', 'note', repeat('x', 300))
           FROM generate_series(1, 20000) AS n""",
        "VACUUM (ANALYZE) adk_sessions",
        "EXPLAIN " + query.replace("$1", "'support_desk'"),
    )
    assert "Bitmap Index Scan on idx_adk_sessions_state" in "\n".join(row["QUERY PLAN"] for row in plan)


def test_runner_with_all_services(database: Database) -> None:
    """What the first runner stored, the second one says; all of it is in the tables."""
    assert run("runner_with_all_services.py", database) == [
        "user: I like window seats, please book Oslo.",
        "desk: {'booked': 'Oslo', 'ticket_version': 0}",
        "trips so far: 1",
        "user: Which seat do I like?",
        "desk: {'said': ['I like window seats, please book Oslo.']}",
        "user: Show me my ticket.",
        "desk: {'ticket': 'Ticket to Oslo'}",
        "first session: Oslo in 4 events",
    ]
    sessions, tools, memories, artifacts = run_sql(
        database.dsn,
        "SELECT state FROM adk_sessions ORDER BY create_time",
        """SELECT part -> 'function_response' ->> 'name' AS name
           FROM adk_events, jsonb_array_elements(content -> 'parts') AS part
           WHERE part ? 'function_response' ORDER BY timestamp""",
        "SELECT content -> 'parts' -> 0 ->> 'text' AS text FROM adk_memories WHERE author = 'user'",
        "SELECT filename, version::int4 AS version, mime_type, size::int4 AS size FROM adk_artifacts",
    )
    assert sessions == [{"state": {"city": "Oslo"}}, {"state": {}}]
    assert [row["name"] for row in tools] == ["book", "recall", "read_ticket"]
    assert memories == [{"text": "I like window seats, please book Oslo."}]
    assert artifacts == [
        {
            "filename": "user:ticket.txt",
            "version": 0,
            "mime_type": "text/plain",
            "size": len("Ticket to Oslo"),
        }
    ]


VECTORS = """
kitchens in yellow
  by words: The kitchen is painted yellow.
  by words and vectors: The kitchen is painted yellow.

violinist
  by words: nothing
  by words and vectors: My daughter plays the violin.

subscripton
  by words: nothing
  by words and vectors: I cancelled my subscription to the newspaper.

Rejkjavik in May
  by words: We fly to Reykjavik in May.
  by words and vectors: We fly to Reykjavik in May.
"""


def test_memory_with_vectors(database: Database) -> None:
    """Vectors find what words do not; a second run replaces the memories, which have ids."""
    if not run_sql(database.dsn, "SELECT name FROM pg_available_extensions WHERE name = 'vector'")[0]:
        pytest.skip("this server has no pgvector")
    for _ in range(2):
        assert run("memory_with_vectors.py", database) == VECTORS.splitlines()
    ((stored,),) = run_sql(
        database.dsn,
        """SELECT count(*)::int4 AS memories, min(vector_dims(embedding)) AS shortest,
               max(abs(vector_norm(embedding) - 1)) < 1e-6 AS normal
           FROM vector_memories""",
    )
    assert stored == {"memories": 4, "shortest": 256, "normal": True}


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_says_what_it_is_and_is_listed(name: str) -> None:
    """Its docstring says how to run it, the table in examples/README.md has a line for it."""
    docstring = ast.get_docstring(ast.parse((EXAMPLES / name).read_text(encoding="utf-8")))
    assert docstring is not None
    assert f"    python examples/{name}\n" in docstring
    listed = re.findall(r"^\| \[`(\w+\.py)`\]\(\1\) \|", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    assert listed.count(name) == 1


def test_none_is_listed_that_is_not_there() -> None:
    """No file, no line."""
    links = re.findall(r"\]\(([\w./]+)\)", (EXAMPLES / "README.md").read_text(encoding="utf-8"))
    assert [link for link in links if not (EXAMPLES / link).exists()] == []
