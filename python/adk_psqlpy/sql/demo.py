"""The demo's own queries: they read the rows as anyone with SQL can."""

from __future__ import annotations

from adk_psqlpy.sql.tables import Tables


def counts(tables: Tables) -> str:
    """How many rows each table holds, in the order in which they are made."""
    named = (tables.sessions, tables.events, tables.app_states, tables.user_states, tables.metadata)
    return " UNION ALL ".join(
        f"SELECT {place} AS place, '{table}' AS name, count(*) AS rows FROM {table}"
        for place, table in enumerate(named)
    )


def sessions(tables: Tables) -> str:
    """The sessions with their own state; app and user state are not in it."""
    return f"""
    SELECT user_id, id, revision, state::text, to_char(update_time, 'HH24:MI:SS.US') AS updated
    FROM {tables.sessions} ORDER BY user_id
    """


def events(tables: Tables) -> str:
    """`$1` user: the newest events, what was said or called, and the state delta inside `actions`."""
    return f"""
    SELECT seq, author, content->'parts'->0 AS part,
           convert_from(actions, 'UTF8')::jsonb->>'state_delta' AS state_delta
    FROM {tables.events} WHERE user_id = $1 ORDER BY seq DESC LIMIT 6
    """


def shared_states(tables: Tables) -> str:
    """App and user state, keys without their prefix."""
    return f"""
    SELECT 'app' AS scope, app_name AS owner, state::text FROM {tables.app_states}
    UNION ALL
    SELECT 'user', user_id, state::text FROM {tables.user_states}
    ORDER BY scope, owner
    """


def temporary_keys(tables: Tables) -> str:
    """How many rows hold a `temp:` key anywhere in state or in the state delta of an event: none should."""
    return f"""
    SELECT count(*) FROM (
        SELECT state::text AS kept FROM {tables.sessions}
        UNION ALL SELECT state::text FROM {tables.app_states}
        UNION ALL SELECT state::text FROM {tables.user_states}
        UNION ALL SELECT convert_from(actions, 'UTF8') FROM {tables.events}
    ) AS everything WHERE kept LIKE '%"temp:%'
    """


def drop_schema(schema: str) -> str:
    """Removes the schema that the demo made for itself, with all in it."""
    return f'DROP SCHEMA IF EXISTS "{schema}" CASCADE'
