"""The statements that read SQLSpec's ADK tables on PostgreSQL, in both of their layouts.

Both have an events table with `session_id` alone as the reference: SQLSpec's session ids are unique over all apps
and users. Older releases (0.30) keep an event in a column per field, with pickled actions, and the whole state
in the session's row. Newer ones (0.69) keep an event as one document, and have tables of app and user state.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from adk_psqlpy.sql.names import quoted

OLD_COLUMNS: Final = (
    "invocation_id",
    "author",
    "actions",
    "long_running_tool_ids_json",
    "branch",
    "content",
    "grounding_metadata",
    "custom_metadata",
    "partial",
    "turn_complete",
    "interrupted",
    "error_code",
    "error_message",
)
"""The columns of an event in the older layout, beside its key and time."""

COLUMNS_OF: Final = """
SELECT a.attname::text FROM pg_attribute AS a
WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
"""
"""`$1` a table's name, quoted: its columns; no row where there is no such table."""

IDENTITY: Final = """
SELECT pg_postmaster_start_time()::text || ' ' || current_database() || ' ' || coalesce(to_regclass($1)::oid::text, '')
"""
"""`$1` a table's name, quoted: a text that only this table of this server has."""


@dataclass(frozen=True)
class SqlspecStatements:
    """The statements for one set of tables, each name as SQLSpec was given it."""

    session_table: str
    events_table: str
    app_state_table: str
    user_state_table: str
    memory_table: str

    def count(self, *, states: bool, memories: bool) -> str:
        """Sessions, events, states, memories."""
        state_count = "0::bigint"
        if states:
            state_count = (
                f"(SELECT count(*) FROM {quoted(self.app_state_table)})"
                f" + (SELECT count(*) FROM {quoted(self.user_state_table)})"
            )
        memory_count = f"(SELECT count(*) FROM {quoted(self.memory_table)})" if memories else "0::bigint"
        return f"""
        SELECT (SELECT count(*) FROM {quoted(self.session_table)}),
            (SELECT count(*) FROM {quoted(self.events_table)}), {state_count}, {memory_count}
        """

    @cached_property
    def sessions(self) -> str:
        """`$1` the last id seen (the empty text for the start), `$2` how many sessions, in the order of their ids."""
        return f"""
        SELECT id, app_name, user_id, state, create_time, update_time FROM {quoted(self.session_table)}
        WHERE id > $1 ORDER BY id LIMIT $2
        """

    def events(self, *, documents: bool) -> str:
        """`$1` ids of sessions, an array: their events, in the order of these and then as SQLSpec reads them.

        Events of one time come in the order in which they lie in the table, which is that of their appends as long
        as nothing was deleted. SQLSpec leaves their order to chance.
        """
        columns = ("event_data", "invocation_id") if documents else OLD_COLUMNS
        return f"""
        SELECT k.place, e.id, e.timestamp, {", ".join(f"e.{name}" for name in columns)}
        FROM unnest($1::text[]) WITH ORDINALITY AS k (session_id, place)
        JOIN {quoted(self.events_table)} AS e ON e.session_id = k.session_id
        ORDER BY k.place, e.timestamp, e.ctid
        """

    @cached_property
    def app_states(self) -> str:
        """App, state, time."""
        return f"SELECT app_name, state, update_time FROM {quoted(self.app_state_table)} ORDER BY app_name"

    @cached_property
    def user_states(self) -> str:
        """App, user, state, time."""
        return f"""
        SELECT app_name, user_id, state, update_time FROM {quoted(self.user_state_table)}
        ORDER BY app_name, user_id
        """

    def shared_states(self, *, of_users: bool) -> str:
        """From sessions of the older layout, whose rows hold all state: what they share, in one object each.

        App, user (NULL for an app's), state with its prefixes, time. The session that was updated last decides.
        """
        prefix, keys = ("user:", "s.app_name, s.user_id") if of_users else ("app:", "s.app_name")
        user = "user_id" if of_users else "NULL::text"
        outer = "app_name, user_id" if of_users else "app_name"
        return f"""
        SELECT app_name, {user} AS user_id, jsonb_object_agg(key, value) AS state, max(update_time) AS update_time
        FROM (
            SELECT DISTINCT ON ({keys}, j.key) s.app_name, s.user_id, j.key, j.value, s.update_time
            FROM {quoted(self.session_table)} AS s CROSS JOIN LATERAL jsonb_each(s.state) AS j (key, value)
            WHERE starts_with(j.key, '{prefix}')
            ORDER BY {keys}, j.key, s.update_time DESC, s.id
        ) AS s
        GROUP BY {outer} ORDER BY {outer}
        """

    def outvoted(self, *, of_users: bool) -> str:
        """How many values of shared keys in sessions of the older layout differ from the value that is
        carried.
        """
        prefix, keys = ("user:", "s.app_name, s.user_id") if of_users else ("app:", "s.app_name")
        return f"""
        SELECT count(*) FROM (
            SELECT j.value <> first_value(j.value) OVER (
                PARTITION BY {keys}, j.key ORDER BY s.update_time DESC, s.id
            ) AS other
            FROM {quoted(self.session_table)} AS s CROSS JOIN LATERAL jsonb_each(s.state) AS j (key, value)
            WHERE starts_with(j.key, '{prefix}')
        ) AS s WHERE other
        """

    def memories(self, *, scoped: bool) -> str:
        """All memories, in the order of their ids; `scope` is NULL where the table has no such column."""
        scope = "scope" if scoped else "NULL::text AS scope"
        return f"""
        SELECT id, session_id, app_name, user_id, event_id, author, timestamp, content_json, metadata_json, {scope}
        FROM {quoted(self.memory_table)} ORDER BY id
        """
