"""The statements for going back in a session: its state at a revision, and forks.

They follow the rules of `sql.statements`. Each reads one snapshot and locks nothing of the session that it
reads, so it waits for no append, and no append waits for it. Copied artifacts are counted as `sql.artifacts`
says.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Final, Literal, get_args

from adk_psqlpy.sql import event_columns
from adk_psqlpy.sql.artifact_tables import ArtifactTables
from adk_psqlpy.sql.pieces import events_until
from adk_psqlpy.sql.tables import Tables

PointKind = Literal["head", "seq", "event", "invocation"]
POINT_KINDS: Final = get_args(PointKind)

CUT: Final = 256
"""Characters of an invocation id in its column; a longer one is whole in `extra`."""

_EVENT: Final = event_columns.quoted(of="e")

# The beginning of actions without deltas, as the crate writes them: these need not be parsed.
_NO_STATE: Final = """'{"state_delta":{},'"""
_NO_ARTIFACTS: Final = """'{"state_delta":{},"artifact_delta":{},'"""


def _begins_otherwise(start: str) -> str:
    return f"substring(e.actions FOR length({start})) <> {start}::bytea"


@dataclass(frozen=True)
class TravelStatements:
    """The statements for one set of tables.

    `$1 $2 $3` are app, user and id of the session that is gone back in, `$4` its create_time (NULL: any), and
    `$5` says where to, by kind of point:

    - `seq`: a revision.
    - `event`: the id of an event, which is included.
    - `invocation`: an invocation id as it is stored, in full; the point is before its first event.
    - `head`: nothing, the session as it is now. There is no `$5` then, and what follows moves up.
    """

    tables: Tables

    @cache  # noqa: B019 - a store has one of these, for as long as it lives
    def state_at(self, *, kind: PointKind) -> str:
        """The session at a point. One row, with nothing but NULLs if there is no such session.

        `revision` and `create_time` of the session; `point`, the revision that the point is at (NULL: no such
        point); `state`, the session's own state there; `unknown`: it was needed and is not known what the
        session was created with; `missing`: how many revisions up to the point are neither an event nor in
        the log (`state` is wrong then); `app_state` and `user_state` as they are now.
        """
        t = self.tables
        return f"""
        WITH {self._at(kind)}
        SELECT origin.revision, origin.create_time, point.revision AS point,
               replayed.state, replayed.unknown, replayed.missing,
               {t.state_of_app} AS app_state,
               (SELECT u.state FROM {t.user_states} AS u WHERE u.app_name = $1 AND u.user_id = $2) AS user_state
        FROM (VALUES (1)) AS one LEFT JOIN origin ON true LEFT JOIN point ON true LEFT JOIN replayed ON true
        """

    @cache  # noqa: B019 - a store has one of these, for as long as it lives
    def fork(self, *, kind: PointKind, artifacts: ArtifactTables | None = None) -> str:
        """Makes a session of another one's history up to a point. After the point, the parameters are: id of
        the new session, now; with `artifacts`, the prefixes of `artifact://` URIs that lead to artifacts of
        the one session and of the other.

        Returns the columns of `state_at` for the origin, without states, and `made`. `made` is true if the
        session was made, also if an earlier run of this statement (with the same now) made it. It is false if
        the id is taken, by a session or by artifacts of a deleted one. It is NULL if there was nothing to
        make. All of it happens or nothing.

        The copies have the `seq` of their originals, and the new session the revision of the point. So a
        point of the origin up to there is the same point of the fork.
        """
        t = self.tables
        place = 5 if kind == "head" else 6
        new, now = f"${place}::varchar", f"${place + 1}::timestamptz"
        taken = "false"
        copies = ""
        if artifacts is not None:
            taken = f"""EXISTS (
                SELECT FROM {artifacts.names} AS n WHERE n.app_name = $1 AND n.user_id = $2 AND n.session_id = {new})"""
            copies = _artifact_copies(t, artifacts, new, f"${place + 2}::text", f"${place + 3}::text")
        key = "app_name = $1 AND user_id = $2 AND session_id = $3"
        return f"""
        WITH {self._at(kind)}, made AS (
            INSERT INTO {t.sessions}
                (app_name, user_id, id, state, initial_state, create_time, update_time, revision)
            SELECT $1, $2, {new}, replayed.state, origin.initial_state, {now}, {now}, point.revision
            FROM origin, point, replayed
            WHERE NOT replayed.unknown AND replayed.missing = 0 AND NOT {taken}
            ON CONFLICT (app_name, user_id, id) DO NOTHING
            RETURNING revision
        ), e AS (
            INSERT INTO {t.events} (app_name, user_id, session_id, seq, {event_columns.quoted()})
            SELECT $1, $2, {new}, e.seq, {_EVENT}
            FROM made, {events_until(t, "made.revision", f"e.seq, {_EVENT}")}
        ), l AS (
            INSERT INTO {t.state_log} (app_name, user_id, session_id, revision, delta, create_time)
            SELECT $1, $2, {new}, l.revision, l.delta, l.create_time FROM made, {t.state_log} AS l
            WHERE l.{key.replace(" AND ", " AND l.")} AND l.revision <= made.revision
        ), f AS (
            INSERT INTO {t.forks}
                (app_name, user_id, session_id, origin_id, origin_create_time, origin_revision, create_time)
            SELECT $1, $2, {new}, $3, origin.create_time, made.revision, {now} FROM made, origin
        ){copies}
        SELECT origin.revision, origin.create_time, point.revision AS point,
               replayed.unknown, replayed.missing,
               CASE WHEN made.revision IS NOT NULL THEN true
                    WHEN replayed.unknown OR replayed.missing > 0 OR point.revision IS NULL THEN NULL
                    ELSE coalesce((
                        SELECT s.create_time = {now} FROM {t.sessions} AS s
                        WHERE s.app_name = $1 AND s.user_id = $2 AND s.id = {new}
                    ), false)
               END AS made
        FROM (VALUES (1)) AS one
            LEFT JOIN origin ON true LEFT JOIN point ON true LEFT JOIN replayed ON true LEFT JOIN made ON true
        """

    @cached_property
    def origin(self) -> str:
        """`$1 $2 $3` of a session: its origin. There is no row if it is not a fork.

        Id, create_time and revision of the origin, when the fork was made, and whether the origin is there.
        """
        return f"{self._forks} WHERE f.app_name = $1 AND f.user_id = $2 AND f.session_id = $3"

    @cached_property
    def forks(self) -> str:
        """`$1 $2 $3` of a session: the same for the sessions that were forked from it, oldest first."""
        return f"""{self._forks}
        WHERE f.app_name = $1 AND f.user_id = $2 AND f.origin_id = $3
        ORDER BY f.create_time, f.session_id COLLATE "C" """

    @cached_property
    def _forks(self) -> str:
        t = self.tables
        return f"""
        SELECT f.session_id, f.origin_id, f.origin_create_time, f.origin_revision, f.create_time,
               o.id IS NOT NULL AS origin_exists
        FROM {t.forks} AS f LEFT JOIN {t.sessions} AS o
            ON o.app_name = f.app_name AND o.user_id = f.user_id AND o.id = f.origin_id
                AND o.create_time = f.origin_create_time"""

    def _where(self, kind: PointKind) -> str:
        """CTEs `origin` and `point`: a row each, or none where there is no such thing."""
        t = self.tables
        points = {
            "head": "SELECT origin.revision FROM origin",
            "seq": "SELECT $5::bigint AS revision FROM origin WHERE $5 BETWEEN 0 AND origin.revision",
            "event": f"""SELECT e.seq AS revision FROM origin, {t.events} AS e
                WHERE e.app_name = $1 AND e.user_id = $2 AND e.session_id = $3 AND e.id = $5""",
            # A long invocation id is cut in its column; `extra` has all of it.
            "invocation": f"""SELECT min(e.seq) - 1 AS revision FROM origin, {t.events} AS e
                WHERE e.app_name = $1 AND e.user_id = $2 AND e.session_id = $3
                    AND e.invocation_id = left($5::text, {CUT})
                    AND (length($5::text) <= {CUT} OR e.extra->'$whole'->>'invocation_id' = $5::text)
                HAVING count(*) > 0""",
        }
        return f"""origin AS MATERIALIZED (
            SELECT s.state, s.initial_state, s.revision, s.create_time FROM {t.sessions} AS s
            WHERE s.app_name = $1 AND s.user_id = $2 AND s.id = $3
                AND ($4::timestamptz IS NULL OR s.create_time = $4)
        ), point AS MATERIALIZED (
            {points[kind]}
        )"""

    def _at(self, kind: PointKind) -> str:
        """CTEs `origin`, `point` and `replayed`: a row each, or none where there is no such thing.

        The state at the current revision is the stored one. At an earlier revision it is the state at
        creation, with the newest value of each key from the deltas up to there: deltas are merged by key, as
        `||` does. The deltas go through arrays, because the planner assumes ten rows for an array. Otherwise
        it would assume 100 keys for each event, and above some hundred thousand it starts JIT compilation,
        which takes 15 ms.
        """
        t = self.tables
        return f"""{self._where(kind)}, past AS MATERIALIZED (
            SELECT point.revision FROM origin, point
            WHERE point.revision < origin.revision AND origin.initial_state IS NOT NULL
        ), deltas AS MATERIALIZED (
            SELECT e.seq AS revision,
                   CASE WHEN {_begins_otherwise(_NO_STATE)}
                       THEN convert_from(e.actions, 'UTF8')::jsonb->'state_delta' END AS delta
            FROM past, {events_until(t, "past.revision", "e.seq, e.actions")}
            UNION ALL
            SELECT l.revision, l.delta FROM past, {t.state_log} AS l
            WHERE l.app_name = $1 AND l.user_id = $2 AND l.session_id = $3 AND l.revision <= past.revision
        ), gathered AS (
            SELECT array_agg(revision) AS revisions, array_agg(delta) AS deltas
            FROM (
                SELECT 0 AS revision, origin.initial_state AS delta FROM origin, past
                UNION ALL SELECT revision, delta FROM deltas WHERE delta IS NOT NULL
            ) AS d
        ), pairs AS (
            SELECT DISTINCT ON (pair.key) pair.key, pair.value
            FROM gathered, unnest(gathered.revisions, gathered.deltas) AS d (revision, delta), jsonb_each(d.delta) AS pair
            WHERE NOT (pair.key ^@ 'app:' OR pair.key ^@ 'user:' OR pair.key ^@ 'temp:')
            ORDER BY pair.key, d.revision DESC
        ), replayed AS MATERIALIZED (
            SELECT CASE WHEN point.revision = origin.revision THEN origin.state
                        ELSE (SELECT coalesce(jsonb_object_agg(key, value), '{{}}') FROM pairs) END AS state,
                   point.revision < origin.revision AND origin.initial_state IS NULL AS unknown,
                   coalesce((SELECT past.revision - (SELECT count(*) FROM deltas) FROM past), 0) AS missing
            FROM origin, point
        )"""


def _artifact_copies(t: Tables, a: ArtifactTables, new: str, old_uri: str, new_uri: str) -> str:
    """CTEs that copy to a fork, just `made`, the versions of artifacts that existed at the point.

    Of each name, versions are left out from the first one on that an event after the point has saved.
    Contents are locked in the order of their hashes. If a content is gone, its version was deleted just
    before, and is left out.
    """
    return f""", saved AS MATERIALIZED (
            SELECT sha256(convert_to(file.key, 'UTF8')) AS name_hash, file.value::bigint AS version, min(e.seq) AS seq
            FROM made, origin, {events_until(t, "origin.revision", "e.seq, e.actions")},
                jsonb_each_text(convert_from(e.actions, 'UTF8')::jsonb->'artifact_delta') AS file
            WHERE {_begins_otherwise(_NO_ARTIFACTS)}
            GROUP BY 1, 2
        ), v AS MATERIALIZED (
            SELECT v.* FROM made, {a.artifacts} AS v
            WHERE v.app_name = $1 AND v.user_id = $2 AND v.session_id = $3 AND NOT EXISTS (
                SELECT FROM saved WHERE saved.name_hash = v.name_hash AND saved.version <= v.version
                    AND saved.seq > made.revision
            )
        ), held AS MATERIALIZED (
            SELECT c.hash FROM {a.contents} AS c
            WHERE c.app_name = $1 AND c.user_id = $2 AND c.hash IN (SELECT v.hash FROM v)
            ORDER BY c.hash FOR NO KEY UPDATE
        ), c AS (
            UPDATE {a.contents} AS c SET uses = c.uses + used.number
            FROM held JOIN (SELECT v.hash, count(*) AS number FROM v GROUP BY v.hash) AS used USING (hash)
            WHERE c.app_name = $1 AND c.user_id = $2 AND c.hash = held.hash
            RETURNING c.hash
        ), kept AS MATERIALIZED (
            SELECT v.* FROM v WHERE v.hash IS NULL OR v.hash IN (SELECT c.hash FROM c)
        ), n AS (
            INSERT INTO {a.names} (app_name, user_id, session_id, name_hash, filename, versions)
            SELECT DISTINCT ON (name_hash) $1, $2, {new}, name_hash, filename, version + 1 FROM kept
            ORDER BY name_hash, version DESC
        ), copied AS (
            INSERT INTO {a.artifacts} (app_name, user_id, session_id, name_hash, filename, version, create_time,
                mime_type, size, hash, part, custom_metadata)
            SELECT $1, $2, {new}, name_hash, filename, version, create_time, mime_type, size, hash,
                CASE WHEN part->'file_data'->>'file_uri' ^@ {old_uri}
                    THEN jsonb_set(part, '{{file_data,file_uri}}',
                        to_jsonb({new_uri} || substr(part->'file_data'->>'file_uri', length({old_uri}) + 1)))
                    ELSE part END,
                custom_metadata
            FROM kept
        )"""
