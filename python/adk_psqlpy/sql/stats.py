"""What is counted: by app and day, by tool, by model, by error; on the queries of the views.

`$1 $2` are the time from which and the time before which events count, `$3` an app (NULL for all), throughout.
Days are those of UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from adk_psqlpy.sql.tables import Tables
from adk_psqlpy.sql.views import Views

_WANTED: Final = "timestamp >= $1 AND timestamp < $2 AND ($3::text IS NULL OR app_name = $3)"
_DAY: Final = "app_name, (timestamp AT TIME ZONE 'UTC')::date AS day"

# The stored size of a row: its large columns as they are on disk (compressed, without reading them), plus an
# estimate for the other columns and the row's header.
_BYTES: Final = " + ".join(
    f"coalesce(pg_column_size({name}), 0)"
    for name in ("content", "actions", "grounding_metadata", "custom_metadata", "extra")
)
_ROW: Final = 200


@dataclass(frozen=True)
class StatsStatements:
    """The statements for one set of tables. They do not need the views."""

    tables: Tables

    @cached_property
    def days(self) -> str:
        """One row for each app and day with events, by day and app."""
        query = Views(self.tables).definitions
        return f"""
        WITH e AS (
            SELECT app_name, day, sum(events)::bigint AS events, count(*) AS sessions,
                count(DISTINCT user_id) AS users, sum(bytes)::bigint AS bytes
            FROM (
                SELECT {_DAY}, user_id, session_id, count(*) AS events, sum({_ROW} + {_BYTES}) AS bytes
                FROM {self.tables.events} WHERE {_WANTED} GROUP BY 1, 2, 3, 4
            ) AS s GROUP BY 1, 2
        ), m AS (
            SELECT {_DAY}, count(*) AS messages FROM ({query["messages"]}) AS m WHERE {_WANTED} GROUP BY 1, 2
        ), t AS (
            SELECT {_DAY}, sum(prompt_tokens)::bigint AS prompt, sum(cached_tokens)::bigint AS cached,
                sum(candidates_tokens)::bigint AS candidates, sum(thoughts_tokens)::bigint AS thoughts,
                sum(total_tokens)::bigint AS total
            FROM ({query["token_usage"]}) AS t WHERE {_WANTED} GROUP BY 1, 2
        ), c AS (
            SELECT {_DAY}, count(*) AS calls FROM ({Views(self.tables).calls}) AS c WHERE {_WANTED} GROUP BY 1, 2
        ), x AS (
            SELECT {_DAY}, count(*) AS errors FROM ({query["errors"]}) AS x WHERE {_WANTED} GROUP BY 1, 2
        )
        SELECT app_name, day, sessions, users, events, coalesce(messages, 0), coalesce(calls, 0), coalesce(errors, 0),
            bytes, coalesce(prompt, 0), coalesce(cached, 0), coalesce(candidates, 0), coalesce(thoughts, 0),
            coalesce(total, 0)
        FROM e LEFT JOIN m USING (app_name, day) LEFT JOIN t USING (app_name, day) LEFT JOIN c USING (app_name, day)
            LEFT JOIN x USING (app_name, day)
        ORDER BY day, app_name
        """

    @cached_property
    def apps(self) -> str:
        """One row for each app with sessions: stored sessions and their users, sessions and users with events in the time."""
        return f"""
        WITH s AS (
            SELECT app_name, count(*) AS sessions, count(DISTINCT user_id) AS users
            FROM {self.tables.sessions} WHERE $3::text IS NULL OR app_name = $3 GROUP BY 1
        ), e AS (
            SELECT app_name, count(*) AS sessions, count(DISTINCT user_id) AS users
            FROM (
                SELECT app_name, user_id, session_id FROM {self.tables.events} WHERE {_WANTED} GROUP BY 1, 2, 3
            ) AS s GROUP BY 1
        )
        SELECT app_name, s.sessions, s.users, coalesce(e.sessions, 0), coalesce(e.users, 0)
        FROM s LEFT JOIN e USING (app_name) ORDER BY app_name
        """

    @cached_property
    def tools(self) -> str:
        """One row for each app and tool, most calls first: calls, answers that are errors, median and 95th percentile in
        seconds of the time to the answer (NULL where none was answered)."""
        query = Views(self.tables).definitions["tool_calls"]
        return f"""
        SELECT app_name, coalesce(tool, '') AS tool, count(*), count(error),
            percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds),
            percentile_cont(0.95) WITHIN GROUP (ORDER BY seconds)
        FROM ({query}) AS c WHERE {_WANTED} GROUP BY 1, 2 ORDER BY count(*) DESC, 1, 2
        """

    @cached_property
    def models(self) -> str:
        """One row for each app and model, most uses first: uses and tokens."""
        query = Views(self.tables).definitions["token_usage"]
        return f"""
        SELECT app_name, coalesce(model, ''), count(*), coalesce(sum(prompt_tokens), 0)::bigint,
            coalesce(sum(candidates_tokens), 0)::bigint, coalesce(sum(total_tokens), 0)::bigint
        FROM ({query}) AS t WHERE {_WANTED} GROUP BY 1, 2 ORDER BY sum(total_tokens) DESC NULLS LAST, 1, 2
        """

    @cached_property
    def errors(self) -> str:
        """One row for each app and kind of error, most frequent first: code or tool, number, and time of the newest."""
        query = Views(self.tables).definitions["errors"]
        return f"""
        SELECT app_name, source, coalesce(tool, code, ''), count(*), max(timestamp)
        FROM ({query}) AS x WHERE {_WANTED} GROUP BY 1, 2, 3 ORDER BY count(*) DESC, 1, 2, 3
        """


def sizes(count: int) -> str:
    """`$1` to `$count` quoted names of tables: name, rows as the planner takes them to be (-1: never counted), bytes
    with indexes and what is stored beside the table. Those that are not there are left out."""
    names = ", ".join(f"${place}::text" for place in range(1, count + 1))
    return f"""
    SELECT name, reltuples::bigint, pg_total_relation_size(c.oid)
    FROM unnest(ARRAY[{names}]) WITH ORDINALITY AS given (name, place) JOIN pg_class AS c ON c.oid = to_regclass(name)
    ORDER BY place
    """
