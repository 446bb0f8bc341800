"""The plans of statements under policies: the indexes that are used without them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from adk_psqlpy import PsqlpyADKStore, PsqlpyMemoryService
from adk_psqlpy.admin.access import grant_access
from adk_psqlpy.sql.statements import Statements
from servers import run_sql

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adk_psqlpy import PsqlpyConfig
    from secured import Roles
    from servers import Database

CROWD = [
    """INSERT INTO adk_sessions (app_name, user_id, id, revision)
       SELECT a, 'u' || u, 's' || n, 5 FROM unnest(ARRAY['app', 'other']) AS a, generate_series(1, 100) AS u,
           generate_series(1, 10) AS n""",
    """INSERT INTO adk_events (app_name, user_id, session_id, id, seq, actions)
       SELECT s.app_name, s.user_id, s.id, 'e' || n, n, '{}'
       FROM adk_sessions AS s, generate_series(1, 5) AS n""",
    """INSERT INTO adk_user_states (app_name, user_id)
       SELECT a, 'u' || u FROM unnest(ARRAY['app', 'other']) AS a, generate_series(1, 2000) AS u""",
    """INSERT INTO adk_app_states (app_name) SELECT 'app' || n FROM generate_series(1, 1000) AS n""",
    "ANALYZE",
]


def scans(plan: dict[str, Any]) -> Iterator[str]:
    """The indexes by which a plan finds rows, and the tables that it reads whole."""
    if plan["Node Type"] == "Seq Scan":
        yield f"all of {plan['Relation Name']}"
    elif "Index Name" in plan:
        yield plan["Index Name"]
    for below in plan.get("Plans", []):
        yield from scans(below)


def planned(dsn: str, sql: str, values: str, mode: str) -> list[str]:
    """The scans of a statement's plan."""
    _, _, ((explained,),), _ = (
        [list(row.values()) for row in rows]
        for rows in run_sql(
            dsn,
            f"SET plan_cache_mode = {mode}",
            f"PREPARE read AS {sql}",
            f"EXPLAIN (FORMAT JSON) EXECUTE read({values})",
            "DEALLOCATE read",
        )
    )
    (document,) = explained if isinstance(explained, list) else json.loads(explained)
    return sorted(each for each in scans(document["Plan"]) if "adk_access" not in each)


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
@pytest.mark.parametrize("user_id", [None, "u7"])
async def test_the_same_indexes(
    config: PsqlpyConfig, database: Database, roles: Roles, mode: str, user_id: str | None
) -> None:
    """Of reads, of what precedes an append, and of lists: as the owner, and as a role of an app or a user."""
    store = PsqlpyADKStore(config)
    await store.create_tables()
    run_sql(database.dsn, *CROWD)
    role = roles.make("r")
    await grant_access(config, role=role, app_name="app", user_id=user_id)
    sql: Any = Statements(store.tables)
    key, time = "'app', 'u7', 's7'", "'2001-01-01'::timestamptz"
    statements = {
        "none": (sql.get_session(events="none"), key),
        "all": (sql.get_session(events="all"), key),
        "newest": (sql.get_session(events="newest"), f"{key}, 20::bigint"),
        "after": (sql.get_session(events="after"), f"{key}, {time}"),
        "one": (sql.get_session(events="one"), f"{key}, 'e3'"),
        "last event": (sql.last_event, key),
        "append outcome": (sql.append_outcome, f"{key}, 'e3'"),
        "user state": (sql.user_state, "'app', 'u7'"),
        "sessions of a user": (
            """SELECT id FROM adk_sessions WHERE app_name COLLATE "C" = $1 AND user_id COLLATE "C" = $2
            ORDER BY update_time LIMIT 10""",
            "'app', 'u7'",
        ),
    }
    for name, (statement, values) in statements.items():
        free = planned(database.dsn, statement, values, mode)
        bound = planned(roles.dsn(role), statement, values, mode)
        assert free, name
        assert not any(each.startswith("all of") for each in free), (name, free)
        assert bound == free, name


async def test_what_policies_keep_from_an_index(
    config: PsqlpyConfig, database: Database, roles: Roles
) -> None:
    """Operators that are not leakproof come after the policy, so a search by words does not use their index.

    It reads the memories of the user by another one, and not those of others. docs/security.md says so.
    """
    memory = PsqlpyMemoryService(config)
    await memory.create_tables()
    role = roles.make("r")
    await grant_access(config, role=role, app_name="app")
    run_sql(
        database.dsn,
        """INSERT INTO adk_memories (app_name, user_id, id, session_id, timestamp, words, create_time)
        SELECT 'app', 'u' || n % 2, 'm' || n, '', now(), to_tsvector('simple', 'word' || n), now()
        FROM generate_series(1, 20000) AS n""",
        "VACUUM ANALYZE adk_memories",
    )
    sql = """SELECT id FROM adk_memories WHERE app_name = $1 AND user_id = $2
        AND ARRAY[app_name || '/' || user_id] @> ARRAY[$1::text || '/' || $2::text]
        AND words @@ $3::tsquery"""
    values = "'app', 'u1', 'word107'"
    free = planned(database.dsn, sql, values, "force_custom_plan")
    bound = planned(roles.dsn(role), sql, values, "force_custom_plan")
    assert free == ["idx_adk_memories_words"]
    assert bound
    assert set(bound) <= {"adk_memories_pkey", "idx_adk_memories_newest"}
