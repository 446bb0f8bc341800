"""Finding the events of a session that a prompt needs, if compactions replace the others."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from adk_psqlpy.sql.pieces import events_until
from adk_psqlpy.sql.tables import Tables

# Events at the edge of a range are read, too: their timestamps were rounded to microseconds.
_MARGIN: Final = "3e-6"
_FIRST_TIME, _LAST_TIME = "-6e10", "2e11"  # within what timestamptz holds

_READ: Final = "e.seq, e.author, e.invocation_id, e.branch, e.extra, e.content, e.timestamp, e.long_running_tool_ids_json"
_INVOCATION: Final = "coalesce(e.extra->'$whole'->>'invocation_id', e.invocation_id)"
_NUMBERS: Final = " AND ".join(
    f"jsonb_typeof(c.actions->'compaction'->'{name}_timestamp') = 'number'" for name in ("start", "end")
)


@dataclass(frozen=True)
class CompactedStatements:
    """The statements for one set of tables. `$1 $2 $3` are app, user and session id."""

    tables: Tables

    @cached_property
    def kept(self) -> str:
        """`$4` how many of the newest covered invocations to read, too.

        Revision and create_time of the session, and the `seq`s to read, as an array; NULL where no
        compaction covers anything. No row where there is no such session.

        An event is covered if its time is in the range of a compaction that is in every prompt that would
        have the event: a compaction of the same isolation scope that no rewind undid, without a branch, a
        node path or content of its own. Of the covered events, these are kept:

        - rewinds, and the first event of each invocation that one goes back to;
        - what came since the user last said something;
        - calls without an answer (of the user, where the call is long-running), with all of their
        invocations;
        - calls whose answer is not covered, whose id is an isolation scope or in a branch that is not
        covered, and
          all calls and answers of the same ids and of the calls in those events;
        - the newest token count, cache metadata and interaction id of each author, branch and scope, of all
        events
          and of those that no rewind undid;
        - the ends of tasks.
        """
        t = self.tables

        def events(columns: str) -> str:
            return events_until(t, "s.revision", columns)

        return f"""
        WITH RECURSIVE s AS MATERIALIZED (
            SELECT s.revision, s.create_time FROM {t.sessions} AS s
            WHERE s.app_name = $1 AND s.user_id = $2 AND s.id = $3
        ), special AS MATERIALIZED (
            SELECT e.seq, e.extra->>'isolation_scope' AS scope, convert_from(e.actions, 'UTF8')::jsonb AS actions,
                   e.content IS NULL AND coalesce(e.branch, '') = ''
                       AND coalesce(e.extra->'node_info'->>'path', '') = '' AS everywhere
            FROM s, {events("e.seq, e.extra, e.actions, e.content, e.branch")}
            WHERE (
                position('"compaction"'::bytea IN e.actions) > 0
                OR position('"rewind_before_invocation_id"'::bytea IN e.actions) > 0)
        ), rewinds AS MATERIALIZED (
            SELECT r.seq, (
                SELECT min(e.seq) FROM s, {events("e.seq, e.extra, e.invocation_id")}
                WHERE {_INVOCATION} = r.actions->>'rewind_before_invocation_id'
            ) AS first
            FROM special AS r WHERE r.actions->>'rewind_before_invocation_id' <> ''
        ), undone AS (
            (SELECT seq, least(first, seq) AS first FROM rewinds ORDER BY seq DESC LIMIT 1)
            UNION ALL
            SELECT earlier.seq, earlier.first FROM undone, LATERAL (
                SELECT r.seq, least(r.first, r.seq) AS first FROM rewinds AS r
                WHERE r.seq < undone.first ORDER BY r.seq DESC LIMIT 1
            ) AS earlier
        ), compactions AS MATERIALIZED (
            SELECT c.scope,
                   greatest((c.actions->'compaction'->>'start_timestamp')::float8, {_FIRST_TIME}) + {_MARGIN} AS first,
                   least((c.actions->'compaction'->>'end_timestamp')::float8, {_LAST_TIME}) - {_MARGIN} AS last
            FROM special AS c
            WHERE c.everywhere AND {_NUMBERS}
                AND jsonb_typeof(c.actions->'compaction'->'compacted_content') = 'object'
                AND NOT EXISTS (SELECT FROM undone AS u WHERE c.seq BETWEEN u.first AND u.seq)
        ), ranges AS MATERIALIZED (
            SELECT scope, range_agg(tstzrange(to_timestamp(first), to_timestamp(last), '[]')) AS times
            FROM compactions WHERE first < last GROUP BY scope
        ), ev AS MATERIALIZED (
            SELECT e.seq, e.author, {_INVOCATION} AS invocation, scope.id AS scope,
                   coalesce(e.extra->'$whole'->>'branch', e.branch) AS branch,
                   e.content IS NOT NULL AS content,
                   coalesce(jsonb_path_query_array(e.content, '$.parts[*].function_call.id'), '[]') AS calls,
                   coalesce(jsonb_path_query_array(e.content, '$.parts[*].function_response.id'), '[]') AS answers,
                   coalesce(e.content @? '$.parts[*].function_response.name ? (@ == "finish_task")', false) AS ends,
                   e.long_running_tool_ids_json AS long, e.extra->'usage_metadata' ? 'prompt_token_count' AS counts,
                   e.extra ? 'cache_metadata' AS caches, e.extra ? 'interaction_id' AS interacts,
                   coalesce(e.timestamp <@ ranges.times, false) AND special.seq IS NULL AS covered,
                   NOT EXISTS (SELECT FROM undone AS u WHERE e.seq BETWEEN u.first AND u.seq) AS live
            FROM s, {events(_READ)}
                CROSS JOIN LATERAL (SELECT e.extra->>'isolation_scope' AS id) AS scope
                LEFT JOIN ranges ON ranges.scope IS NOT DISTINCT FROM scope.id
                LEFT JOIN special ON special.seq = e.seq
            WHERE EXISTS (SELECT FROM ranges)
        ), calls AS MATERIALIZED (
            SELECT ev.seq, ev.invocation, ev.live, call.id,
                   coalesce(ev.long::jsonb ? call.id, false) AS long
            FROM ev, jsonb_array_elements_text(ev.calls) AS call (id)
        ), answers AS MATERIALIZED (
            SELECT ev.seq, ev.author, ev.covered, ev.live, answer.id
            FROM ev, jsonb_array_elements_text(ev.answers) AS answer (id)
        ), open AS MATERIALIZED (
            SELECT c.id, c.invocation FROM calls AS c WHERE c.live AND NOT EXISTS (
                SELECT FROM answers AS a
                WHERE a.id = c.id AND a.seq > c.seq AND a.live AND (a.author = 'user' OR NOT c.long)
            )
        ), wanted AS MATERIALIZED (
            SELECT id FROM answers WHERE NOT covered
            UNION SELECT id FROM open
            UNION SELECT scope FROM ev WHERE NOT covered AND scope IS NOT NULL
            UNION SELECT scope FROM compactions WHERE scope IS NOT NULL
            UNION SELECT c.id FROM calls AS c, (
                SELECT DISTINCT branch FROM ev WHERE NOT covered AND branch IS NOT NULL
            ) AS b WHERE position('@' || c.id IN b.branch) > 0
        ), related AS MATERIALIZED (
            SELECT id FROM wanted
            UNION SELECT sibling.id FROM calls AS c JOIN wanted USING (id) JOIN calls AS sibling ON sibling.seq = c.seq
        ), newest AS MATERIALIZED (
            SELECT unnest(ARRAY[
                max(seq) FILTER (WHERE counts), max(seq) FILTER (WHERE counts AND live),
                max(seq) FILTER (WHERE caches), max(seq) FILTER (WHERE caches AND live),
                max(seq) FILTER (WHERE interacts), max(seq) FILTER (WHERE interacts AND live)
            ]) AS seq
            FROM ev GROUP BY author, branch, scope
        ), invocations AS MATERIALIZED (
            SELECT invocation FROM open
            UNION (
                SELECT invocation FROM ev WHERE covered AND live GROUP BY invocation ORDER BY max(seq) DESC LIMIT $4
            )
        ), keeping AS MATERIALIZED (
            SELECT first AS seq FROM rewinds
            UNION SELECT seq FROM newest
            UNION SELECT c.seq FROM calls AS c JOIN related USING (id)
            UNION SELECT a.seq FROM answers AS a JOIN related USING (id)
            UNION SELECT ev.seq FROM ev JOIN invocations USING (invocation)
            UNION SELECT ev.seq FROM ev WHERE NOT ev.covered OR ev.ends OR ev.seq >= coalesce((
                SELECT max(said.seq) FROM ev AS said
                WHERE said.author = 'user' AND said.content AND said.answers = '[]'
            ), 0)
        )
        SELECT s.revision, s.create_time, CASE WHEN EXISTS (SELECT FROM ranges) THEN (
            SELECT array_agg(keeping.seq ORDER BY keeping.seq) FROM keeping WHERE keeping.seq IS NOT NULL
        ) END AS kept
        FROM s
        """
