"""The store's statements. Each is one round trip, and atomic by itself.

They follow some rules, so that they also run on a sharded server (Citus). Every key contains `user_id`. Times
are parameters, never functions inside SET. The effect of a data-modifying CTE is taken from its RETURNING.
Names of constraints do not matter. The outcome comes back as a row, since the driver's exceptions carry no
SQLSTATE.

Every statement that writes takes locks in this order: session, app state, user state.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

from adk_psqlpy.sql import event_columns
from adk_psqlpy.sql.listing import ListingStatements
from adk_psqlpy.sql.reading import ReadStatements
from adk_psqlpy.sql.row_versions import version_of
from adk_psqlpy.sql.sealed_travel import SealedTravelStatements
from adk_psqlpy.sql.travel import TravelStatements


@dataclass(frozen=True)
class Statements(ReadStatements):
    """All statements for one set of tables. Parameters `$1 $2 $3` are app, user and session id throughout.

    `listing`, `travel` and `sealed_travel` are those for lists and for earlier points.
    """

    @cached_property
    def listing(self) -> ListingStatements:
        """Filtered lists."""
        return ListingStatements(self.tables)

    @cached_property
    def travel(self) -> TravelStatements:
        """Forks and earlier states."""
        return TravelStatements(self.tables)

    @cached_property
    def sealed_travel(self) -> SealedTravelStatements:
        """The same of sealed sessions."""
        return SealedTravelStatements(self.tables)

    @cached_property
    def create_session(self) -> str:
        """`$4` session state, `$5` app delta, `$6` user delta (NULL for none), `$7` now.

        Returns the shared states as they are afterwards; no row if the session exists already.
        """
        t = self.tables
        return f"""
        WITH s AS (
            INSERT INTO {t.sessions} (app_name, user_id, id, state, initial_state, create_time, update_time)
            VALUES ($1, $2, $3, $4::jsonb, $4::jsonb, $7, $7)
            ON CONFLICT (app_name, user_id, id) DO NOTHING
            RETURNING revision
        ), {self._merge_app_state("$5", "$7")}, {self._merge_user_state("$6", "$7")}
        SELECT s.revision,
               coalesce((SELECT state FROM a), (SELECT state FROM {t.app_states} WHERE app_name = $1)) AS app_state,
               coalesce((SELECT state FROM u),
                        (SELECT state FROM {t.user_states} WHERE app_name = $1 AND user_id = $2)) AS user_state
        FROM s
        """

    @cached_property
    def create_session_with_app(self) -> str:
        """As `create_session`, where an app delta is given."""
        return self.create_session

    def _merge_app_state(self, delta: str, now: str) -> str:
        """CTE `a`: merges the app's delta on the server, so that racing writers lose nothing."""
        return f"""a AS (
            INSERT INTO {self.tables.app_states} AS stored (app_name, state, update_time)
            SELECT $1, {delta}::jsonb, {now} FROM s WHERE {delta}::jsonb IS NOT NULL
            ON CONFLICT (app_name) DO UPDATE
                SET state = stored.state || excluded.state, update_time = excluded.update_time
            RETURNING state
        )"""

    def _merge_user_state(self, delta: str, now: str, *, after_app: bool = True) -> str:
        """CTE `u`: the same for the user; counting `a` first keeps the order of locks."""
        behind = ", (SELECT count(*) FROM a) AS after_app" if after_app else ""
        return f"""u AS (
            INSERT INTO {self.tables.user_states} AS stored (app_name, user_id, state, update_time)
            SELECT $1, $2, {delta}::jsonb, {now} FROM s{behind}
            WHERE {delta}::jsonb IS NOT NULL
            ON CONFLICT (app_name, user_id) DO UPDATE
                SET state = stored.state || excluded.state, update_time = excluded.update_time
            RETURNING state
        )"""

    @cache  # noqa: B019 - a store has one of these, for as long as it lives
    def append_event(self, *, app: bool, user: bool, merge: bool = False, versions: bool = False) -> str:
        """`$4` expected revision, `$5` the session's create_time, `$6` its update_time, `$7` the id of an event
        of it (NULL: not compared), `$8` session delta (NULL for none), `$9...` the event's columns, then the
        app and user deltas where the statement has them (`app`, `user`), then `server` and `seed` of an earlier
        read (`KeptStatements.get_unknown`) where the row's version is wanted (`versions`).

        Gives the new revision, and with `versions` the version; NULL if the server is not that one any more, or
        did not store the row as it was sent (a trigger changed it). No row, and nothing written, where the session is gone, was deleted and made
        again (another create_time), has another revision (`merge`: an earlier one), another update_time at that
        revision, or not the event `$7`, or holds an event of this id: `append_outcome` tells which.
        """
        t = self.tables
        event = ", ".join(f"${9 + place}" for place in range(len(event_columns.NAMES)))
        at = f"${9 + event_columns.NAMES.index('timestamp')}"
        further = 9 + len(event_columns.NAMES)
        as_seen = "revision = $4 AND update_time = coalesce($6, update_time)"
        if merge:
            as_seen = f"(revision > $4 OR ({as_seen}))"
        merges = []
        if app:
            merges.append(self._merge_app_state(f"${further}", at))
            further += 1
        if user:
            merges.append(self._merge_user_state(f"${further}", at, after_app=app))
            further += 1
        merge_list = "".join(f", {merge}" for merge in merges)
        returning, revision, given = "seq", "revision", "revision"
        if versions:
            returning = f"seq, {self._version_as_sent(further)} AS version"
            revision, given = "revision, e.version", "revision, version"
        return f"""
        WITH held AS (
            SELECT revision FROM {t.sessions}
            WHERE app_name = $1 AND user_id = $2 AND id = $3 AND create_time = $5
                AND {as_seen}
                AND ($7::varchar IS NULL OR {self._holds("$1", "$2", "$3", "$7")})
            FOR NO KEY UPDATE
        ), e AS (
            INSERT INTO {t.events} (app_name, user_id, session_id, seq, {event_columns.quoted()})
            SELECT $1, $2, $3, held.revision + 1, {event} FROM held
            ON CONFLICT DO NOTHING
            RETURNING {returning}
        ), s AS (
            UPDATE {t.sessions} SET
                state = CASE WHEN $8::jsonb IS NULL THEN state ELSE state || $8::jsonb END,
                revision = e.seq,
                update_time = {at}
            FROM e
            WHERE app_name = $1 AND user_id = $2 AND id = $3
            RETURNING {revision}
        ){merge_list}
        SELECT {given} FROM s
        """

    def _version_as_sent(self, place: int) -> str:
        """The version of a row that is being inserted; parameters from `place` as `append_event` says.

        Compared byte by byte, as JSONB takes 1 and 1.0 for equal. The row's own `xmin` cannot be returned from
        a partitioned table.
        """
        columns = event_columns.TYPES
        stored = ", ".join(f'"{name}"::{kind}' for name, kind in columns.items())
        sent = ", ".join(f"${9 + index}::{kind}" for index, kind in enumerate(columns.values()))
        version = version_of("ctid", "pg_current_xact_id()::xid", "tableoid", f"${place + 1}::bigint")
        return f"""CASE WHEN {self.server} = ${place}::bigint AND record_image_eq(ROW({stored}), ROW({sent}))
                THEN {version} END"""

    def _holds(self, app: str, user: str, session: str, event: str) -> str:
        """Whether a session has an event with this id.

        The revision alone does not distinguish histories: a failover may lose commits, and others may bring
        the session to the same revision again. An event is stored only after the events that its writer had
        seen. So a session that has the event has the history that led to it.

        `BETWEEN` and `ORDER BY` make the planner use the primary key. With `EXISTS` and without statistics,
        it filters the whole session by the other index, or hashes all events (a group then takes 1.4 times as
        long).
        """
        return (
            f"(SELECT seen.seq FROM {self.tables.events} AS seen WHERE seen.app_name = {app} "
            f"AND seen.user_id = {user} AND seen.session_id = {session} AND seen.id BETWEEN {event} AND {event} "
            "ORDER BY seen.id LIMIT 1) IS NOT NULL"
        )

    @cached_property
    def append_group(self) -> str:
        """Appends to several sessions: an array each of app names, user ids, session ids, expected revisions,
        create_times, update_times, ids of events seen (NULL: not compared), session deltas (NULL for none), then
        one for each of the event's columns.

        Returns place in the arrays (from 1) and new revision for each append that was stored. The others were
        not stored, for the same reasons as in `append_event`, or because somebody else holds a lock on the
        session's row. This statement waits for no lock, so groups of several processes cannot deadlock. A
        session may be in a group only once.
        """
        t = self.tables
        given = ("app_name", "user_id", "session_id", "expected", "created", "updated", "last_event", "delta")
        types = ("varchar", "varchar", "varchar", "bigint", "timestamptz", "timestamptz", "varchar", "jsonb")
        columns = (*given, *(f"event_{name}" for name in event_columns.NAMES))
        arrays = ", ".join(
            f"${place}::{kind}[]"
            for place, kind in enumerate((*types, *event_columns.TYPES.values()), start=1)
        )
        event = ", ".join(f"g.event_{name}" for name in event_columns.NAMES)
        return f"""
        WITH g AS MATERIALIZED (
            SELECT * FROM unnest({arrays}) WITH ORDINALITY AS g ({", ".join(columns)}, place)
        ), free AS MATERIALIZED (
            SELECT g.place
            FROM g JOIN {t.sessions} AS s
                ON s.app_name = g.app_name AND s.user_id = g.user_id AND s.id = g.session_id
            WHERE s.revision = g.expected AND s.create_time = g.created
                AND s.update_time = coalesce(g.updated, s.update_time)
                AND (g.last_event IS NULL OR {self._holds("s.app_name", "s.user_id", "s.id", "g.last_event")})
            FOR NO KEY UPDATE OF s SKIP LOCKED
        ), e AS (
            INSERT INTO {t.events} (app_name, user_id, session_id, seq, {event_columns.quoted()})
            SELECT g.app_name, g.user_id, g.session_id, g.expected + 1, {event} FROM free JOIN g USING (place)
            ON CONFLICT DO NOTHING
            RETURNING app_name, user_id, session_id, seq
        ), s AS (
            UPDATE {t.sessions} AS s SET
                state = CASE WHEN g.delta IS NULL THEN s.state ELSE s.state || g.delta END,
                revision = e.seq,
                update_time = g.event_timestamp
            FROM e JOIN g USING (app_name, user_id, session_id)
            WHERE s.app_name = e.app_name AND s.user_id = e.user_id AND s.id = e.session_id
            RETURNING g.place, s.revision
        )
        SELECT place, revision FROM s
        """

    @cached_property
    def delete_session(self) -> str:
        """Deletes the session, and by the foreign key its events. There is a row if it existed."""
        return f"DELETE FROM {self.tables.sessions} WHERE app_name = $1 AND user_id = $2 AND id = $3 RETURNING revision"

    @cached_property
    def update_session_state(self) -> str:
        """`$4` session delta, `$5` app delta, `$6` user delta (NULL for none), `$7` now: merged as an append
        would, and the session's delta is kept in the log, so that each revision is an event or a row there.
        Gives the new revision; no row where the session does not exist."""
        return self._update_session_state(app=True)

    @cached_property
    def update_session_state_with_app(self) -> str:
        """As `update_session_state`, where an app delta is given."""
        return self.update_session_state

    def _update_session_state(self, *, app: bool) -> str:
        merges = [self._merge_app_state("$5", "$7")] if app else []
        merges.append(self._merge_user_state("$6", "$7", after_app=app))
        return f"""
        WITH s AS (
            UPDATE {self.tables.sessions} SET
                state = CASE WHEN $4::jsonb IS NULL THEN state ELSE state || $4::jsonb END,
                revision = revision + 1,
                update_time = $7
            WHERE app_name = $1 AND user_id = $2 AND id = $3
            RETURNING revision
        ), l AS (
            INSERT INTO {self.tables.state_log} (app_name, user_id, session_id, revision, delta, create_time)
            SELECT $1, $2, $3, s.revision, coalesce($4::jsonb, '{{}}'), $7::timestamptz FROM s
        ), {", ".join(merges)}
        SELECT revision FROM s
        """
