"""The statements of following: which sessions have changed, the events after a place, and the trigger of
`notify`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from adk_psqlpy.sql import event_columns
from adk_psqlpy.sql.migrate import LOCK
from adk_psqlpy.sql.reading import ReadStatements, given
from adk_psqlpy.sql.tables import Tables

# Columns of these types count for the size of a page; other columns are short.
_LARGE: Final = tuple(
    name for name, kind in event_columns.TYPES.items() if kind in ("jsonb", "bytea", "text")
)


@dataclass(frozen=True)
class FollowingStatements(ReadStatements):
    """The statements for one set of tables.

    Of `distributed` tables, a look names the users, so that Citus asks only the shards that have them.
    """

    distributed: bool = False

    @cached_property
    def alive(self) -> str:
        """Whether the server answers at all."""
        return "SELECT 1"

    @cached_property
    def changed(self) -> str:
        """An array each of app names, user ids, session ids, revisions and create_times (NULL: not known).

        Returns place in the arrays (from 1), revision and create_time of each session that is not as given.
        The last two are NULL if there is no such session. Each session is one look-up by the primary key.
        """
        sessions = self.tables.sessions
        if self.distributed:
            # Citus reads the inner side of such a join beforehand. Without the conditions, that is all sessions.
            sessions = f"""(
            SELECT s.app_name, s.user_id, s.id, s.revision, s.create_time FROM {sessions} AS s
            WHERE s.app_name = ANY($1::varchar[]) AND s.user_id = ANY($2::varchar[]) AND s.id = ANY($3::varchar[])
        )"""
        return f"""
        SELECT g.place, s.revision, s.create_time
        FROM unnest($1::varchar[], $2::varchar[], $3::varchar[], $4::bigint[], $5::timestamptz[])
            WITH ORDINALITY AS g (app_name, user_id, session_id, revision, create_time, place)
        LEFT JOIN {sessions} AS s
            ON s.app_name = g.app_name AND s.user_id = g.user_id AND s.id = g.session_id
        WHERE s.revision IS DISTINCT FROM g.revision OR s.create_time IS DISTINCT FROM g.create_time
        """

    @cached_property
    def events_after(self) -> str:
        """`$1 $2 $3` the session, `$4` a `seq`, `$5` how many events at most, `$6` how many bytes.

        One row: create_time, revision, whether the server is a standby, the id of the event at that `seq` (NULL where there is none), the `seq`s
        of the events after it, and the arrays of their columns as in `get_session`. No row where there is no
        such session. Large values count as they are stored, so nothing is unpacked to be counted; the event
        that goes over the bytes is the last one.
        """
        t = self.tables
        size = " + ".join(f'coalesce(pg_column_size(e."{name}"), 0)' for name in _LARGE)
        found = self._events(f"e.seq > {given(4)}", ("seq", *event_columns.NAMES))
        page = f"""SELECT e.*, sum(e.bytes) OVER (ORDER BY e.seq) - e.bytes AS before
            FROM (SELECT e.*, {size} AS bytes FROM ({found} ORDER BY e.seq LIMIT {given(5)}) AS e) AS e"""
        cut = f"SELECT e.* FROM ({page}) AS e WHERE e.before < {given(6)} ORDER BY e.seq"
        return f"""
        SELECT s.create_time, s.revision, pg_is_in_recovery() AS standby, (
            SELECT e.id FROM {t.events} AS e
            WHERE e.app_name = s.app_name AND e.user_id = $2 AND e.session_id = s.id AND e.seq = {given(4)}
            LIMIT 1
        ) AS id_at, e.*
        FROM (
            SELECT s.app_name, s.id, s.create_time, s.revision FROM {t.sessions} AS s
            WHERE s.app_name = $1 AND s.user_id = $2 AND s.id BETWEEN $3 AND $3 ORDER BY s.id LIMIT 1
        ) AS s
        CROSS JOIN LATERAL ({self._aggregated(cut, "array_agg(e.seq) AS seqs")}) AS e
        """


def channel_of(tables: Tables) -> str:
    """The channel that the trigger notifies. Each session table of a database has its own."""
    return f"adk_psqlpy_{hashlib.sha256(tables.session_table.encode()).hexdigest()[:16]}"


def payload_of(app_name: str, user_id: str, session_id: str) -> str:
    """The payload of a notification: a hash of the session's key, since keys may be longer than the 8,000
    bytes of a payload.
    """
    return hashlib.sha256(f"{app_name}/{user_id}/{session_id}".encode()).hexdigest()[:32]


def change_notify(tables: Tables, *, wanted: bool) -> str:
    """A batch that makes or drops the trigger that notifies of each write to a session, and records it.

    It is a trigger so that every writer notifies, whatever its settings, including SQL by hand.
    """
    name = tables.index(tables.session_table, "notify")
    function = tables.in_schema_of(tables.session_table, name)
    channel = channel_of(tables)

    def payload(row: str) -> str:
        key = f"{row}.app_name || '/' || {row}.user_id || '/' || {row}.id"
        return f"left(encode(sha256(convert_to({key}, 'UTF8')), 'hex'), 32)"

    made = f"""
        CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $function$ BEGIN
            IF TG_OP = 'DELETE' THEN
                PERFORM pg_notify('{channel}', {payload("OLD")});
            ELSE
                PERFORM pg_notify('{channel}', {payload("NEW")});
            END IF;
            RETURN NULL;
        END $function$;
        CREATE OR REPLACE TRIGGER {name} AFTER UPDATE OF revision OR DELETE ON {tables.sessions}
            FOR EACH ROW EXECUTE FUNCTION {function}();
        INSERT INTO {tables.metadata} (key, value) VALUES ('notify', '{channel}')
            ON CONFLICT (key) DO UPDATE SET value = excluded.value;
    """
    dropped = f"""
        DROP TRIGGER IF EXISTS {name} ON {tables.sessions};
        DROP FUNCTION IF EXISTS {function}();
        DELETE FROM {tables.metadata} WHERE key = 'notify';
    """
    return f"""
    SET LOCAL client_min_messages = warning;
    SELECT pg_advisory_xact_lock({LOCK});
    SET LOCAL lock_timeout = '5s';
    {made if wanted else dropped}
    """
