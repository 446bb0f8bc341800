"""The statements that carry whole sessions in and out, many at a time, within a transaction of the caller.

Events come in by COPY, which needs no statement from here. COPY has no ON CONFLICT. But the session's row is
inserted in the same transaction, and that keeps others from writing events with its key.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Final

from adk_psqlpy.sql import event_columns
from adk_psqlpy.sql.tables import Tables

BEGIN: Final = "BEGIN"
COMMIT: Final = "COMMIT"
BEGIN_READ: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
"""Begins a transaction that sees one state of the database."""

CHUNK: Final = 128
"""How many values of `seq` a row of `events` covers, as in `sql.reading`."""

EVENT_COLUMNS: Final = ("app_name", "user_id", "session_id", "seq", *event_columns.NAMES)
"""The columns that COPY fills, in this order."""

_LARGE: Final = ("jsonb", "bytea", "text", "varchar")
_HEAD: Final = "s.state, s.initial_state, s.create_time, s.update_time, s.revision, e.events, e.last_seq, e.bytes, e.changes"
_KEYS: Final = (
    "unnest($1::varchar[], $2::varchar[], $3::varchar[]) WITH ORDINALITY AS k (app_name, user_id, id, place)"
)
_SAME: Final = "s.app_name = k.app_name AND s.user_id = k.user_id AND s.id = k.id"


@dataclass(frozen=True)
class CarryStatements:
    """The statements for one set of tables. `$1 $2 $3` are arrays of app names, user ids and session ids."""

    tables: Tables

    @cached_property
    def insert_sessions(self) -> str:
        """An array each of states, create times, update times, revisions, and initial states (NULL: not known).

        Returns the place in the arrays (from 1) of each session that was not there before. A key may be in
        the arrays only once.
        """
        return f"""
        WITH g AS MATERIALIZED (
            SELECT * FROM unnest($1::varchar[], $2::varchar[], $3::varchar[], $4::jsonb[], $5::timestamptz[],
                $6::timestamptz[], $7::bigint[], $8::jsonb[])
                WITH ORDINALITY AS g (app_name, user_id, id, state, create_time, update_time, revision, initial_state, place)
        ), s AS (
            INSERT INTO {self.tables.sessions} (app_name, user_id, id, state, create_time, update_time, revision, initial_state)
            SELECT app_name, user_id, id, state, create_time, update_time, revision, initial_state FROM g
            ON CONFLICT (app_name, user_id, id) DO NOTHING
            RETURNING app_name, user_id, id
        )
        SELECT g.place FROM g JOIN s USING (app_name, user_id, id)
        """

    @cached_property
    def set_revision(self) -> str:
        """`$1 $2 $3` a session that this transaction inserted, `$4` its revision, which was not known then."""
        return f"UPDATE {self.tables.sessions} SET revision = $4 WHERE app_name = $1 AND user_id = $2 AND id = $3"

    @cached_property
    def withdraw_session(self) -> str:
        """`$1 $2 $3` a session that this transaction inserted: deletes it and its events."""
        return f"DELETE FROM {self.tables.sessions} WHERE app_name = $1 AND user_id = $2 AND id = $3"

    @cached_property
    def insert_changes(self) -> str:
        """Arrays of revisions, deltas and times: the changes of session state that have no event."""
        return f"""
        INSERT INTO {self.tables.state_log} (app_name, user_id, session_id, revision, delta, create_time)
        SELECT * FROM unnest($1::varchar[], $2::varchar[], $3::varchar[], $4::bigint[], $5::jsonb[], $6::timestamptz[])
        """

    @cached_property
    def insert_fork(self) -> str:
        """`$1 $2 $3` one session; then the id, create time and revision that it was forked from, and when."""
        return f"""
        INSERT INTO {self.tables.forks} (app_name, user_id, session_id, origin_id, origin_create_time, origin_revision, create_time)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        """

    @cached_property
    def heads(self) -> str:
        """Place of each of the sessions that is there; its state, initial state, times and revision; then `_sizes`."""
        return f"""
        SELECT k.place, {_HEAD}
        FROM {_KEYS} JOIN {self.tables.sessions} AS s ON {_SAME}
        CROSS JOIN LATERAL ({self._sizes}) AS e
        """

    @property
    def _sizes(self) -> str:
        """Of a session `s`: the number of its events, the last `seq`, their stored bytes, and the number of
        state changes without an event.

        The bytes are the compressed ones, since `pg_column_size` does not read values that are stored apart.
        They distinguish sessions with images from sessions without, which decides how many are read at a
        time.
        """
        sizes = " + ".join(
            f'coalesce(pg_column_size(e."{name}"), 0)'
            for name, kind in event_columns.TYPES.items()
            if kind in _LARGE
        )
        return f"""SELECT count(*) AS events, coalesce(max(e.seq), 0) AS last_seq,
                coalesce(sum({sizes}), 0)::bigint AS bytes,
                (SELECT count(*) FROM {self.tables.state_log} AS l
                 WHERE l.app_name = s.app_name AND l.user_id = s.user_id AND l.session_id = s.id) AS changes
            FROM {self.tables.events} AS e
            WHERE e.app_name = s.app_name AND e.user_id = s.user_id AND e.session_id = s.id"""

    @cached_property
    def events(self) -> str:
        """`$4` last `seq` of each session, an array; `$5 $6` from which `seq` to which: events in chunks.

        A row a chunk: place of the session, number of the chunk, an array of `seq`s, then the arrays as `_native.decode_events`
        takes them; each array NULL where the chunk has no events.
        """
        columns = ", ".join(f'array_agg(e."{name}") AS "{name}"' for name in event_columns.OWN)
        members = ", ".join(f"""'"{name}":' || to_json(e."{name}")::text""" for name in event_columns.RARE)
        rare = event_columns.quoted(event_columns.RARE, "e")
        every = event_columns.quoted(of="e")
        arrays = event_columns.quoted(event_columns.ARRAYS, "e")
        return f"""
        SELECT k.place, c.number, e.seqs, {arrays}
        FROM unnest($1::varchar[], $2::varchar[], $3::varchar[], $4::bigint[])
            WITH ORDINALITY AS k (app_name, user_id, id, last_seq, place)
        CROSS JOIN LATERAL generate_series($5::bigint / {CHUNK}, least($6::bigint, k.last_seq) / {CHUNK}) AS c (number)
        CROSS JOIN LATERAL (
            SELECT array_agg(e.seq) AS seqs, {columns},
                array_agg(CASE WHEN num_nonnulls({rare}) > 0 THEN '{{' || concat_ws(',', {members}) || '}}' END) AS rare
            FROM (
                SELECT e.seq, {every} FROM {self.tables.events} AS e
                WHERE e.app_name = k.app_name AND e.user_id = k.user_id AND e.session_id = k.id
                    AND e.seq >= greatest($5, c.number * {CHUNK})
                    AND e.seq <= least($6, c.number * {CHUNK} + {CHUNK - 1})
                ORDER BY e.seq
            ) AS e
        ) AS e
        """

    @cached_property
    def changes(self) -> str:
        """Place of the session, revision, delta and time of each change of its state without an event, in order."""
        return f"""
        SELECT k.place, l.revision, l.delta, l.create_time
        FROM {_KEYS} JOIN {self.tables.state_log} AS l
            ON l.app_name = k.app_name AND l.user_id = k.user_id AND l.session_id = k.id
        ORDER BY k.place, l.revision
        """

    @cached_property
    def forks(self) -> str:
        """Place of each of the sessions that is a fork; id, create time and revision of its origin, and when."""
        return f"""
        SELECT k.place, f.origin_id, f.origin_create_time, f.origin_revision, f.create_time
        FROM {_KEYS} JOIN {self.tables.forks} AS f
            ON f.app_name = k.app_name AND f.user_id = k.user_id AND f.session_id = k.id
        """

    @cache  # noqa: B019 - one of these lives as long as a migration
    def insert_states(self, *, of_users: bool) -> str:
        """Arrays: apps, users (`of_users`), states, times. Gives the places of those that were not there."""
        table = self.tables.user_states if of_users else self.tables.app_states
        keys = "app_name, user_id" if of_users else "app_name"
        arrays = "$1::varchar[], $2::varchar[], $3::jsonb[], $4::timestamptz[]"
        if not of_users:
            arrays = "$1::varchar[], $2::jsonb[], $3::timestamptz[]"
        return f"""
        WITH g AS MATERIALIZED (
            SELECT * FROM unnest({arrays}) WITH ORDINALITY AS g ({keys}, state, update_time, place)
        ), s AS (
            INSERT INTO {table} ({keys}, state, update_time) SELECT {keys}, state, update_time FROM g
            ON CONFLICT ({keys}) DO NOTHING
            RETURNING {keys}
        )
        SELECT g.place FROM g JOIN s USING ({keys})
        """

    @cache  # noqa: B019 - one of these lives as long as a migration
    def states(self, *, of_users: bool) -> str:
        """Arrays: apps, users (`of_users`). Place and state of each that is there."""
        if of_users:
            return f"""
            SELECT k.place, s.state
            FROM unnest($1::varchar[], $2::varchar[]) WITH ORDINALITY AS k (app_name, user_id, place)
            JOIN {self.tables.user_states} AS s ON s.app_name = k.app_name AND s.user_id = k.user_id
            """
        return f"""
        SELECT k.place, s.state FROM unnest($1::varchar[]) WITH ORDINALITY AS k (app_name, place)
        JOIN {self.tables.app_states} AS s ON s.app_name = k.app_name
        """

    # Reading everything, a page at a time. `$1 $2` an app and a user, NULL for all.

    @cached_property
    def count_all(self) -> str:
        """Sessions, events, states."""
        t = self.tables
        chosen = "($1::text IS NULL OR app_name = $1) AND ($2::text IS NULL OR user_id = $2)"
        return f"""
        SELECT (SELECT count(*) FROM {t.sessions} WHERE {chosen}),
            (SELECT count(*) FROM {t.events} WHERE {chosen}),
            (SELECT count(*) FROM {t.app_states} WHERE $1::text IS NULL OR app_name = $1)
                + (SELECT count(*) FROM {t.user_states} WHERE {chosen})
        """

    @cached_property
    def session_page(self) -> str:
        """`$3 $4 $5` the last key seen (empty texts for the start), `$6` how many sessions.

        Key, in the order of the keys, then as in `heads`.
        """
        return f"""
        SELECT s.app_name, s.user_id, s.id AS session_id, {_HEAD}
        FROM (
            SELECT app_name, user_id, id, state, initial_state, create_time, update_time, revision FROM {self.tables.sessions}
            WHERE (app_name, user_id, id) > ($3::varchar, $4::varchar, $5::varchar)
                AND ($1::text IS NULL OR app_name = $1) AND ($2::text IS NULL OR user_id = $2)
            ORDER BY app_name, user_id, id LIMIT $6
        ) AS s CROSS JOIN LATERAL ({self._sizes}) AS e
        ORDER BY s.app_name, s.user_id, s.id
        """

    @cached_property
    def app_state_page(self) -> str:
        """`$3` the last app seen, `$4` how many: app, state, time."""
        return f"""
        SELECT app_name, state, update_time FROM {self.tables.app_states}
        WHERE app_name > $3 AND ($1::text IS NULL OR app_name = $1) AND ($2::text IS NULL OR true)
        ORDER BY app_name LIMIT $4
        """

    @cached_property
    def user_state_page(self) -> str:
        """`$3 $4` the last app and user seen, `$5` how many: app, user, state, time."""
        return f"""
        SELECT app_name, user_id, state, update_time FROM {self.tables.user_states}
        WHERE (app_name, user_id) > ($3, $4)
            AND ($1::text IS NULL OR app_name = $1) AND ($2::text IS NULL OR user_id = $2)
        ORDER BY app_name, user_id LIMIT $5
        """

    @cached_property
    def made_here(self) -> str:
        """`$1` the sessions table, `$2` the metadata table, quoted: whether each is there."""
        return "SELECT to_regclass($1) IS NOT NULL, to_regclass($2) IS NOT NULL"
