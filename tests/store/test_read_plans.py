"""How the server finds a session and its events: by their own indexes, whatever it knows of the tables."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from servers import Database, run_sql
from where import PLANS, one_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adk_psqlpy import PsqlpyADKStore

pytestmark = one_server(PLANS)

# Many sessions of one user, one of them with a long history, in tables that the server knows nothing about.
CROWD = [
    "ALTER TABLE adk_sessions SET (autovacuum_enabled = off)",
    "ALTER TABLE adk_events SET (autovacuum_enabled = off)",
    """INSERT INTO adk_sessions (app_name, user_id, id, revision)
       SELECT 'app', 'user', 's' || n, CASE n WHEN 7 THEN 3000 ELSE 3 END
       FROM generate_series(1, 3000) AS n""",
    """INSERT INTO adk_events (app_name, user_id, session_id, id, seq, actions)
       SELECT s.app_name, s.user_id, s.id, 'e' || n, n, '{}'
       FROM adk_sessions AS s, generate_series(1, s.revision) AS n""",
]
TIME = "'2001-01-01'::timestamptz"
# Parameters of a variant, how many events it reads, and how many rows it may look at to find the first.
VARIANTS: dict[str, tuple[list[str], int, int]] = {
    "none": ([], 0, 0),
    "all": ([], 3000, 1),
    "newest": (["20::bigint"], 20, 20),
    "after": ([TIME], 3000, 1),
    "newest_after": ([TIME, "20::bigint"], 20, 20),
    "one": (["'e5'"], 1, 0),
}


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A plan's nodes, from the top."""
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes(below)


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
@pytest.mark.parametrize("analyzed", [False, True])
async def test_a_read_looks_at_its_own_rows_only(
    store: PsqlpyADKStore, database: Database, analyzed: bool, mode: str
) -> None:
    """One of a user's 3,000 sessions, and its events: no other row is looked at, statistics or none."""
    run_sql(database.dsn, *CROWD, *(["ANALYZE adk_sessions", "ANALYZE adk_events"] if analyzed else []))
    for events, (further, read, to_begin) in VARIANTS.items():
        values = ", ".join(["'app'", "'user'", "'s7'", *further])
        _, _, ((explained,),), _ = (
            [list(row.values()) for row in rows]
            for rows in run_sql(
                database.dsn,
                f"SET plan_cache_mode = {mode}",
                f"PREPARE read AS {store._sql.get_session(events=events)}",
                f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) EXECUTE read({values})",
                "DEALLOCATE read",
            )
        )
        (document,) = explained if isinstance(explained, list) else json.loads(explained)
        shown = f"{events}:\n{json.dumps(document, indent=1)}"
        scans = [node for node in nodes(document["Plan"]) if "Scan" in node["Node Type"]]
        scans = [node for node in scans if node.get("Relation Name") in ("adk_sessions", "adk_events")]
        indexes = {node["Relation Name"]: node.get("Index Name") for node in scans}
        assert indexes["adk_sessions"] == "adk_sessions_pkey", shown
        assert all(indexes.values()), shown
        # Of a loop's rows, servers before 18 tell the nearest integer.
        looked_at = sum(
            (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
            for node in scans
        )
        most = 1 + to_begin + read
        assert read < looked_at <= most * 1.01, shown


# Few sessions, all of them long: what the server takes an unknown number of events for is many.
LONG = [
    """INSERT INTO adk_sessions (app_name, user_id, id, revision)
       SELECT 'app', 'user', 's' || n, 20000 FROM generate_series(5, 8) AS n""",
    """INSERT INTO adk_events (app_name, user_id, session_id, id, seq, actions)
       SELECT s.app_name, s.user_id, s.id, 'e' || n, n, '{}'
       FROM adk_sessions AS s, generate_series(1, s.revision) AS n""",
    "ANALYZE adk_sessions",
    "ANALYZE adk_events",
]


def plans(database: Database, statement: str, values: list[str]) -> dict[str, Any]:
    """How often the server planned for the values at hand, and how often it took its plan for all of them."""
    (counted,) = run_sql(
        database.dsn,
        f"PREPARE read AS {statement}",
        *[f"EXPLAIN EXECUTE read({', '.join(values)})"] * 8,
        "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE name = 'read'",
    )[-1]
    return counted


# After five plans for the values at hand, one for all of them serves if it seems no dearer (manual, PREPARE).
PLANNED_ONCE = {"generic_plans": 3, "custom_plans": 5}


@pytest.mark.parametrize("events", [*VARIANTS, "since"])
async def test_a_read_is_planned_once(store: PsqlpyADKStore, database: Database, events: str) -> None:
    run_sql(database.dsn, *LONG)
    further = ["19990::bigint"] if events == "since" else VARIANTS[events][0]
    values = ["'app'", "'user'", "'s7'", *further]
    assert plans(database, store._sql.get_session(events=events), values) == PLANNED_ONCE


@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("one_user", [False, True])
async def test_a_list_is_planned_once(
    store: PsqlpyADKStore, database: Database, one_user: bool, after: bool, limited: bool
) -> None:
    """Also where a page is a small part of all sessions."""
    run_sql(database.dsn, *CROWD[2:3], "ANALYZE adk_sessions")
    values = ["'app'", *(["'user'"] if one_user else [])]
    values += ["'2001-01-01'", "'user'", "'s7'"] if after else []
    values += ["20::bigint"] if limited else []
    statement = store._sql.list_sessions(one_user=one_user, after=after, limited=limited)
    assert plans(database, statement, values) == PLANNED_ONCE
