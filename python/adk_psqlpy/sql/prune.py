"""The statements of retention: finding old sessions, events, memories and artifacts, and deleting them in
portions.

Reading and deleting are separate statements. The first reads a table once, page by page in the order of its
key, and locks nothing. The second deletes the rows that were found if they are unchanged. It skips rows that
somebody else has locked. So it waits for no writer, and a writer waits at most as long as one portion takes.

Portions of several processes take turns, by an advisory lock of the portion's transaction (`TURN`). So they
cannot lock each other's rows in different orders. Because the lock ends with the transaction, it also works
through a pooler, which may change the connection afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from adk_psqlpy.sql.artifact_tables import USER_SCOPE, ArtifactTables
from adk_psqlpy.sql.memory import MemoryTable
from adk_psqlpy.sql.tables import Tables

# "adkprune" in ASCII, as a bigint.
TURN: Final = int.from_bytes(b"adkprune", "big")

_TURN: Final = f"turn AS MATERIALIZED (SELECT pg_advisory_xact_lock({TURN}))"
_APPS: Final = "($4::text[] IS NULL OR s.app_name = ANY ($4::text[]))"


@dataclass(frozen=True)
class PruneStatements:
    """The statements for one set of tables.

    Pages: `$1 $2 $3` app, user and id of the last row of the page before, empty for the first page; `$4` apps, NULL
    for all. Deletions take one array for each column of what a page found.
    """

    tables: Tables

    @cached_property
    def idle_sessions(self) -> str:
        """`$5` the time before which a session was last written (NULL for any), `$6` how many sessions of each user
        stay, the newest (NULL for none), `$7` how many rows.

        Returns key, revision and number of events of sessions that both conditions select.
        """
        t = self.tables
        return f"""
        SELECT s.app_name, s.user_id, s.id, s.revision, (
            SELECT count(*) FROM {t.events} AS e
            WHERE e.app_name = s.app_name AND e.user_id = s.user_id AND e.session_id = s.id
        ) FROM {t.sessions} AS s
        WHERE (s.app_name, s.user_id, s.id) > ($1, $2, $3) AND {_APPS}
            AND ($5::timestamptz IS NULL OR s.update_time < $5)
            AND ($6::bigint IS NULL OR s.update_time < (
                SELECT n.update_time FROM {t.sessions} AS n
                WHERE n.app_name COLLATE "C" = s.app_name AND n.user_id COLLATE "C" = s.user_id
                ORDER BY n.update_time DESC OFFSET $6 - 1 LIMIT 1
            ))
        ORDER BY s.app_name, s.user_id, s.id LIMIT $7
        """

    @cached_property
    def delete_sessions(self) -> str:
        """`$1 $2 $3` keys, `$4` revisions: deletes those sessions that still have this revision and that
        nobody has locked.

        Returns the place of each in the arrays, from 1. Rows that belong to a session are deleted by foreign
        keys.
        """
        t = self.tables
        return f"""
        WITH {_TURN}, held AS MATERIALIZED (
            SELECT s.app_name, s.user_id, s.id, k.place
            FROM turn CROSS JOIN unnest($1::text[], $2::text[], $3::text[], $4::bigint[])
                WITH ORDINALITY AS k (app_name, user_id, id, revision, place)
            JOIN {t.sessions} AS s ON s.app_name = k.app_name AND s.user_id = k.user_id AND s.id = k.id
                AND s.revision = k.revision
            FOR UPDATE OF s SKIP LOCKED
        )
        DELETE FROM {t.sessions} AS s USING held AS h
        WHERE s.app_name = h.app_name AND s.user_id = h.user_id AND s.id = h.id
        RETURNING h.place
        """

    @cached_property
    def old_events(self) -> str:
        """`$5` the time before which events are old (NULL: all are), `$6` how many of each session stay, the newest
        (NULL for none), `$7` how many sessions.

        A row a session: its key, and, NULL where nothing is to go, the `seq` before which events go and how many
        those are. Events that follow each other with one invocation go together or not at all.
        """
        e = f"""FROM {self.tables.events} AS e
                WHERE e.app_name = s.app_name AND e.user_id = s.user_id AND e.session_id = s.id"""
        return f"""
        SELECT s.app_name, s.user_id, s.id, c.cut, CASE WHEN c.cut IS NOT NULL THEN (
            SELECT count(*) {e} AND e.seq < c.cut
        ) END
        FROM (
            SELECT s.app_name, s.user_id, s.id FROM {self.tables.sessions} AS s
            WHERE (s.app_name, s.user_id, s.id) > ($1, $2, $3) AND {_APPS}
            ORDER BY s.app_name, s.user_id, s.id LIMIT $7
        ) AS s
        LEFT JOIN LATERAL (SELECT e.seq AS first {e} ORDER BY e.seq LIMIT 1) AS f ON true
        LEFT JOIN LATERAL (SELECT e.seq + 1 AS behind {e} ORDER BY e.seq DESC LIMIT 1) AS l ON true
        LEFT JOIN LATERAL (
            SELECT least(
                CASE WHEN $5::timestamptz IS NULL THEN l.behind
                    ELSE coalesce((SELECT e.seq {e} AND e.timestamp >= $5 ORDER BY e.seq LIMIT 1), l.behind) END,
                CASE WHEN $6::bigint IS NULL THEN l.behind
                    ELSE coalesce((SELECT e.seq {e} ORDER BY e.seq DESC OFFSET $6 - 1 LIMIT 1), f.first) END
            ) AS seq
        ) AS b ON b.seq > f.first
        LEFT JOIN LATERAL (
            SELECT coalesce((
                SELECT e.seq + 1 {e} AND e.seq < b.seq AND e.invocation_id IS DISTINCT FROM (
                    SELECT e.invocation_id {e} AND e.seq = b.seq
                ) ORDER BY e.seq DESC LIMIT 1
            ), CASE WHEN b.seq < l.behind THEN f.first ELSE b.seq END) AS cut
        ) AS c ON c.cut > f.first
        ORDER BY s.app_name, s.user_id, s.id
        """

    @cached_property
    def portion_end(self) -> str:
        """`$1 $2 $3` a session, `$4` the `seq` before which its events go, `$5` how many events a portion has.

        The `seq` before which the events of the next portion are: about as many, and no invocation in two portions.
        """
        e = f"FROM {self.tables.events} AS e WHERE e.app_name = $1 AND e.user_id = $2 AND e.session_id = $3"
        return f"""
        SELECT least($4::bigint, coalesce((
            SELECT e.seq {e} AND e.seq > p.seq AND e.invocation_id IS DISTINCT FROM p.invocation_id
            ORDER BY e.seq LIMIT 1
        ), $4))
        FROM (SELECT e.seq, e.invocation_id {e} ORDER BY e.seq OFFSET $5 - 1 LIMIT 1) AS p
        """

    @cached_property
    def delete_events(self) -> str:
        """`$1 $2 $3` sessions, `$4` the `seq` before which events go: deletes those, and gives how many there were.

        Sessions that are being deleted are skipped. With FOR KEY SHARE no writer of the session has to wait.
        """
        t = self.tables
        return f"""
        WITH {_TURN}, held AS MATERIALIZED (
            SELECT s.app_name, s.user_id, s.id, k.cut
            FROM turn CROSS JOIN unnest($1::text[], $2::text[], $3::text[], $4::bigint[])
                AS k (app_name, user_id, id, cut)
            JOIN {t.sessions} AS s ON s.app_name = k.app_name AND s.user_id = k.user_id AND s.id = k.id
            FOR KEY SHARE OF s SKIP LOCKED
        ), gone AS (
            DELETE FROM {t.events} AS e USING held AS h
            WHERE e.app_name = h.app_name AND e.user_id = h.user_id AND e.session_id = h.id AND e.seq < h.cut
            RETURNING e.seq
        )
        SELECT count(*) FROM gone
        """


@dataclass(frozen=True)
class PruneMemories:
    """The statements for one memory table. `$1` is now, `$2` apps (NULL for all)."""

    table: MemoryTable

    @property
    def _expired(self) -> str:
        return f"""FROM {self.table.memories} AS m
            WHERE m.expire_time <= $1 AND ($2::text[] IS NULL OR m.app_name = ANY ($2::text[]))"""

    @cached_property
    def count(self) -> str:
        """How many have expired."""
        return f"SELECT count(*) {self._expired}"

    @cached_property
    def delete(self) -> str:
        """Deletes `$3` of them, earliest expiry first, except for those that somebody has locked. Returns how
        many.
        """
        return f"""
        WITH {_TURN}, held AS MATERIALIZED (
            SELECT m.app_name, m.user_id, m.id, m.session_id {self._expired} AND EXISTS (SELECT FROM turn)
            ORDER BY m.expire_time LIMIT $3 FOR UPDATE OF m SKIP LOCKED
        ), gone AS (
            DELETE FROM {self.table.memories} AS m USING held AS h
            WHERE m.app_name = h.app_name AND m.user_id = h.user_id AND m.id = h.id AND m.session_id = h.session_id
            RETURNING m.id
        )
        SELECT count(*) FROM gone
        """


@dataclass(frozen=True)
class PruneArtifacts:
    """The statements for one set of tables of artifacts, and the sessions that they belong to."""

    artifacts: ArtifactTables
    sessions: Tables

    @cached_property
    def orphans(self) -> str:
        """`$1 $2 $3 $4` app, user, session and hash of the name of the page's last row before, `$5` apps (NULL for
        all), `$6` the time from which a version was saved that keeps its artifact, `$7` how many rows.

        Key, number of versions ever, versions and bytes stored, of artifacts whose session is not there.
        """
        t = self.artifacts
        return f"""
        SELECT n.app_name, n.user_id, n.session_id, n.name_hash, n.versions, v.versions, v.bytes
        FROM {t.names} AS n
        CROSS JOIN LATERAL (
            SELECT count(*) AS versions, coalesce(sum(v.size), 0)::bigint AS bytes, max(v.create_time) AS newest
            FROM {t.artifacts} AS v
            WHERE v.app_name = n.app_name AND v.user_id = n.user_id AND v.session_id = n.session_id
                AND v.name_hash = n.name_hash
        ) AS v
        WHERE (n.app_name, n.user_id, n.session_id, n.name_hash) > ($1, $2, $3, $4::bytea)
            AND ($5::text[] IS NULL OR n.app_name = ANY ($5::text[]))
            AND n.session_id <> '{USER_SCOPE}' AND (v.newest IS NULL OR v.newest < $6) AND NOT EXISTS (
                SELECT FROM {self.sessions.sessions} AS s
                WHERE s.app_name = n.app_name AND s.user_id = n.user_id AND s.id = n.session_id
            )
        ORDER BY n.app_name, n.user_id, n.session_id, n.name_hash LIMIT $7
        """

    @cached_property
    def delete(self) -> str:
        """`$1 $2 $3 $4` keys, `$5` numbers of versions: deletes those artifacts to which no version was added since,
        which nobody has locked, and whose session is still not there. Gives the place of each in the arrays, from 1.

        `ArtifactStatements.collect_portion` deletes their bytes.
        """
        t = self.artifacts
        return f"""
        WITH {_TURN}, held AS MATERIALIZED (
            SELECT n.app_name, n.user_id, n.session_id, n.name_hash, k.place
            FROM turn CROSS JOIN unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::bigint[])
                WITH ORDINALITY AS k (app_name, user_id, session_id, name_hash, versions, place)
            JOIN {t.names} AS n ON n.app_name = k.app_name AND n.user_id = k.user_id
                AND n.session_id = k.session_id AND n.name_hash = k.name_hash AND n.versions = k.versions
            WHERE NOT EXISTS (
                SELECT FROM {self.sessions.sessions} AS s
                WHERE s.app_name = n.app_name AND s.user_id = n.user_id AND s.id = n.session_id
            )
            FOR UPDATE OF n SKIP LOCKED
        )
        DELETE FROM {t.names} AS n USING held AS h
        WHERE n.app_name = h.app_name AND n.user_id = h.user_id AND n.session_id = h.session_id
            AND n.name_hash = h.name_hash
        RETURNING h.place
        """

    @cached_property
    def unused(self) -> str:
        """`$1` a time: how many contents no version has, their bytes, and how many uploads from before were never
        finished."""
        t = self.artifacts
        return f"""
        SELECT count(*), coalesce(sum(c.size), 0)::bigint,
            (SELECT count(*) FROM {t.blobs} AS b WHERE NOT b.published AND b.create_time < $1)
        FROM {t.contents} AS c WHERE NOT EXISTS (
            SELECT FROM {t.artifacts} AS v
            WHERE v.app_name = c.app_name AND v.user_id = c.user_id AND v.hash = c.hash
        )
        """

    @cached_property
    def clear_uploads(self) -> str:
        """`$1` a time, `$2` how many: deletes uploads from before it that were not published; gives how many."""
        blobs = self.artifacts.blobs
        return f"""
        WITH {_TURN}, held AS MATERIALIZED (
            SELECT b.app_name, b.user_id, b.blob_id FROM {blobs} AS b
            WHERE NOT b.published AND b.create_time < $1 AND EXISTS (SELECT FROM turn)
            LIMIT $2 FOR UPDATE OF b SKIP LOCKED
        ), gone AS (
            DELETE FROM {blobs} AS b USING held AS h
            WHERE b.app_name = h.app_name AND b.user_id = h.user_id AND b.blob_id = h.blob_id RETURNING b.blob_id
        )
        SELECT count(*) FROM gone
        """
