"""Going back in sessions whose values are sealed: the rows are read, and a fork is written of values.

The server can neither add up sealed deltas nor bind a value to another session, so the client does both.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Final

from adk_psqlpy.sql import event_columns
from adk_psqlpy.sql.pieces import events_until
from adk_psqlpy.sql.travel import CUT, PointKind, TravelStatements

_READ: Final = ("id", "actions")


@dataclass(frozen=True)
class SealedTravelStatements(TravelStatements):
    """The statements for one set of tables; `$1` to `$5` are as `TravelStatements` has them."""

    @cache  # noqa: B019 - a store has one of these, for as long as it lives
    def past(self, *, kind: PointKind, whole: bool) -> str:
        """The session at a point, and the rows that its state there is made of, of one moment.

        The first column says what a row is:

        - `session`, one row: revision, create_time, point (NULL: there is none); state, initial state, app
          state, user state. All NULL where there is no such session.
        - `event`: seq, and the columns of an event up to the point; without `whole` its id and actions.
        - `change`: revision, create_time and delta (as state) of a change of state without an event.

        Without `whole`, events and changes come only where the point is before the newest revision.
        """
        t = self.tables
        columns = ", ".join(
            f'p."{name}"' if whole or name in _READ else f"NULL::{kind_}"
            for name, kind_ in event_columns.TYPES.items()
        )
        nothing = ", ".join(f"NULL::{kind_}" for kind_ in event_columns.TYPES.values())
        named = ", ".join(
            f'{value} AS "{name}"'
            for name, value in zip(event_columns.NAMES, nothing.split(", "), strict=True)
        )
        wanted = event_columns.quoted(event_columns.NAMES if whole else _READ, "e")
        bound = "" if whole else "WHERE point.revision < origin.revision"
        none = "NULL::jsonb, NULL::jsonb, NULL::jsonb"
        return f"""
        WITH {self._where(kind)}, past AS MATERIALIZED (SELECT point.revision FROM origin, point {bound})
        SELECT 'session' AS what, origin.revision AS seq, origin.create_time, point.revision AS point,
            origin.state, origin.initial_state,
            {t.state_of_app} AS app_state,
            (SELECT u.state FROM {t.user_states} AS u WHERE u.app_name = $1 AND u.user_id = $2) AS user_state,
            {named}
        FROM (VALUES (1)) AS one LEFT JOIN origin ON true LEFT JOIN point ON true
        UNION ALL
        SELECT 'event', p.seq, NULL, NULL, NULL::jsonb, {none}, {columns}
        FROM (SELECT e.seq, {wanted} FROM past, {events_until(t, "past.revision", f"e.seq, {wanted}")}) AS p
        UNION ALL
        SELECT 'change', l.revision, l.create_time, NULL, l.delta, {none}, {nothing} FROM past, {t.state_log} AS l
        WHERE l.app_name = $1 AND l.user_id = $2 AND l.session_id = $3 AND l.revision <= past.revision
        """

    @cached_property
    def long_invocation(self) -> str:
        """`$4` an invocation id of more than `CUT` characters: seq, id and `extra` of the events that may have it,
        in order."""
        return f"""
        SELECT e.seq, e.id, e.extra FROM {self.tables.events} AS e
        WHERE e.app_name = $1 AND e.user_id = $2 AND e.session_id = $3 AND e.invocation_id = left($4::text, {CUT})
        ORDER BY e.seq
        """

    @cached_property
    def write_fork(self) -> str:
        """Makes a session of values. `$1 $2` app and user; `$3` the origin's id, `$4` its create_time; `$5` the new
        id, `$6` now; `$7` state, `$8` initial state (NULL: unknown), `$9` revision; `$10 $11 $12` an array each of
        the revisions, deltas and times of changes without an event; `$13` the events' `seq`, and then an array
        for each of their columns.

        One row: true where the session was made, also by this statement earlier (with the same now); false where
        the id is taken.
        """
        t = self.tables
        arrays = ", ".join(
            f"${place}::{kind}[]" for place, kind in enumerate(event_columns.TYPES.values(), start=14)
        )
        names = event_columns.quoted()
        given = event_columns.quoted(of="n")
        return f"""
        WITH made AS (
            INSERT INTO {t.sessions}
                (app_name, user_id, id, state, initial_state, create_time, update_time, revision)
            VALUES ($1, $2, $5, $7::jsonb, $8::jsonb, $6::timestamptz, $6::timestamptz, $9::bigint)
            ON CONFLICT (app_name, user_id, id) DO NOTHING
            RETURNING revision
        ), e AS (
            INSERT INTO {t.events} (app_name, user_id, session_id, seq, {names})
            SELECT $1, $2, $5, n.seq, {given} FROM made, unnest($13::bigint[], {arrays}) AS n (seq, {names})
        ), l AS (
            INSERT INTO {t.state_log} (app_name, user_id, session_id, revision, delta, create_time)
            SELECT $1, $2, $5, n.revision, n.delta, n.create_time
            FROM made, unnest($10::bigint[], $11::jsonb[], $12::timestamptz[]) AS n (revision, delta, create_time)
        ), f AS (
            INSERT INTO {t.forks}
                (app_name, user_id, session_id, origin_id, origin_create_time, origin_revision, create_time)
            SELECT $1, $2, $5, $3, $4::timestamptz, made.revision, $6 FROM made
        )
        SELECT EXISTS (SELECT FROM made) OR EXISTS (
            SELECT FROM {t.sessions} AS s
            WHERE s.app_name = $1 AND s.user_id = $2 AND s.id = $5 AND s.create_time = $6
        )
        """
