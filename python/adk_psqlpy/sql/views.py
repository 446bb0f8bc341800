"""Views for people and programs that read with SQL: of messages, tool calls, use of tokens, and errors.

They take their prefix from the session table, and are in its schema: `adk_messages`, `adk_tool_calls`,
`adk_token_usage`, `adk_errors`. Each reads with the rights of the role that queries it (`security_invoker`),
so it shows no row that the tables would not show.

Stored events may hold anything that ADK's models allow, and other programs may have written rows. So a view
does not rely on the existence of a key or on the type of a value: a value that does not fit becomes NULL, or
no row. It never becomes an error, because an error would hide all other rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from adk_psqlpy.sql.migrate import LOCK
from adk_psqlpy.sql.names import quoted
from adk_psqlpy.sql.tables import Tables

RECORD: Final = "views"
"""The key of `adk_metadata` under which the version of the views' definitions is recorded."""

# The crate's escapes for U+0000 and lone surrogates (rust/src/escape.rs), which are shown as U+FFFD; and
# U+FDD0.
_ESCAPED: Final = r"U&'\FDD0(0000|d[89a-f][0-9a-f][0-9a-f])'"

_KEY: Final = "e.app_name, e.user_id, e.session_id, e.seq, e.id AS event_id, e.timestamp, e.invocation_id"

_TOKENS: Final = {
    "prompt_tokens": "prompt_token_count",
    "cached_tokens": "cached_content_token_count",
    "candidates_tokens": "candidates_token_count",
    "thoughts_tokens": "thoughts_token_count",
    "tool_use_tokens": "tool_use_prompt_token_count",
}


def _readable(text: str) -> str:
    """Text for SQL: escapes of characters that PostgreSQL does not have become U+FFFD."""
    return rf"""CASE WHEN position(U&'\FDD0' IN {text}) = 0 THEN {text} ELSE
                replace(regexp_replace({text}, {_ESCAPED}, U&'\FFFD', 'g'), U&'\FDD0fdd0', U&'\FDD0') END"""


def _parts(event: str) -> str:
    """The parts of a content, each with its number from 1; none if they are not an array."""
    return f"""jsonb_array_elements(CASE jsonb_typeof({event}.content -> 'parts')
            WHEN 'array' THEN {event}.content -> 'parts' ELSE '[]' END) WITH ORDINALITY"""


def _count(name: str) -> str:
    """A count of tokens; NULL if it is not one."""
    path = f"$.usage_metadata.{name} ? (@ >= 0 && @ < 9000000000000000000)"
    return f"jsonb_path_query_first(e.extra, '{path}')::bigint"


@dataclass(frozen=True)
class Views:
    """The views over one set of tables."""

    tables: Tables

    @cached_property
    def names(self) -> Mapping[str, str]:
        """The quoted name of each: `messages`, `tool_calls`, `token_usage`, `errors`."""
        return {name: quoted(self.tables.beside(name)) for name in self.definitions}

    @cached_property
    def definitions(self) -> Mapping[str, str]:
        """The query of each."""
        return {
            "messages": self._messages,
            "tool_calls": self._tool_calls,
            "token_usage": self._token_usage,
            "errors": self._errors,
        }

    @property
    def _messages(self) -> str:
        """One row for each event in which somebody says something or sends a file."""
        text = "part ->> 'text'"
        return f"""
        SELECT {_KEY}, e.branch, e.author, e.content ->> 'role' AS role, m.text, m.thought, m.files
        FROM {self.tables.events} AS e
        CROSS JOIN LATERAL (
            SELECT string_agg({_readable(text)}, E'\\n' ORDER BY number)
                    FILTER (WHERE part -> 'thought' IS DISTINCT FROM 'true') AS text,
                string_agg({_readable(text)}, E'\\n' ORDER BY number)
                    FILTER (WHERE part -> 'thought' = 'true') AS thought,
                count(*) FILTER (WHERE jsonb_typeof(part -> 'inline_data') = 'object'
                    OR jsonb_typeof(part -> 'file_data') = 'object') AS files
            FROM {_parts("e")} AS p (part, number)
        ) AS m
        WHERE m.text IS NOT NULL OR m.thought IS NOT NULL OR m.files > 0
        """

    @cached_property
    def calls(self) -> str:
        """Only the calls, for counting them: each answer takes a search."""
        return f"""
        SELECT e.app_name, e.timestamp FROM {self.tables.events} AS e CROSS JOIN LATERAL {_parts("e")} AS p (part, number)
        WHERE jsonb_typeof(p.part -> 'function_call') = 'object'
        """

    @property
    def _tool_calls(self) -> str:
        """One row for each call, with the first answer to it.

        The answers are ordered only by the index over events, so that the search ends at the first answer. If
        the part's number were in the order as well, PostgreSQL would read the session to its end to sort
        equal ones.
        """
        return f"""
        SELECT {_KEY}, e.branch, e.author, c.number::int AS part, c.call ->> 'name' AS tool, c.call ->> 'id' AS call_id,
            c.call -> 'args' AS args, r.response, {_readable("r.response ->> 'error'")} AS error,
            r.timestamp AS answered, r.seq AS answer_seq,
            extract(epoch FROM r.timestamp - e.timestamp)::float8 AS seconds
        FROM {self.tables.events} AS e
        CROSS JOIN LATERAL (
            SELECT part -> 'function_call' AS call, number FROM {_parts("e")} AS p (part, number)
            WHERE jsonb_typeof(part -> 'function_call') = 'object'
        ) AS c
        LEFT JOIN LATERAL (
            SELECT a.timestamp, a.seq, p.part -> 'function_response' -> 'response' AS response
            FROM {self.tables.events} AS a CROSS JOIN LATERAL {_parts("a")} AS p (part, number)
            WHERE a.app_name = e.app_name AND a.user_id = e.user_id AND a.session_id = e.session_id AND a.seq > e.seq
                AND p.part -> 'function_response' ->> 'id' IS NOT DISTINCT FROM c.call ->> 'id'
                AND p.part -> 'function_response' ->> 'name' = c.call ->> 'name'
            ORDER BY a.seq LIMIT 1
        ) AS r ON true
        """

    @property
    def _token_usage(self) -> str:
        """One row for each event with a count of tokens."""
        counts = {name: _count(stored) for name, stored in _TOKENS.items()}
        parts = (f"coalesce({count}, 0)" for name, count in counts.items() if name != "cached_tokens")
        columns = ", ".join(f"{count} AS {name}" for name, count in counts.items())
        return f"""
        SELECT {_KEY}, e.branch, e.author, e.extra ->> 'model_version' AS model, {columns},
            coalesce({_count("total_token_count")}, {" + ".join(parts)}) AS total_tokens
        FROM {self.tables.events} AS e
        WHERE jsonb_typeof(e.extra -> 'usage_metadata') = 'object'
        """

    @property
    def _errors(self) -> str:
        """One row for each event with an error of the model or the agent, and for each answer of a tool that
        is an error.
        """
        whole = "e.extra -> '$whole' ->> 'error_message'"
        message = f"CASE WHEN starts_with({whole}, e.error_message) THEN {whole} ELSE e.error_message END"
        error = "p.part -> 'function_response' -> 'response' ->> 'error'"
        return f"""
        SELECT {_KEY}, e.branch, e.author, 'event' AS source, NULL::text AS tool, e.error_code::text AS code,
            {_readable(f"({message})")} AS message
        FROM {self.tables.events} AS e WHERE e.error_code IS NOT NULL OR e.error_message IS NOT NULL
        UNION ALL
        SELECT {_KEY}, e.branch, e.author, 'tool', p.part -> 'function_response' ->> 'name', NULL, {_readable(error)}
        FROM {self.tables.events} AS e CROSS JOIN LATERAL {_parts("e")} AS p (part, number)
        WHERE {error} IS NOT NULL
        """

    @cached_property
    def digest(self) -> str:
        """The recorded version of these definitions."""
        return hashlib.sha256("".join(self.definitions.values()).encode()).hexdigest()[:16]

    def create(self) -> str:
        """A batch that makes the views, or replaces those with another definition. It does nothing if all
        exist.

        Grants on a replaced view stay. Tables get only a read lock, so no append has to wait.
        """
        missing = ", ".join(f"to_regclass('{name}')" for name in self.names.values())
        steps = [
            f"CREATE OR REPLACE VIEW {self.names[name]} WITH (security_invoker = true) AS {query};"
            f" COMMENT ON VIEW {self.names[name]} IS '{_COMMENTS[name]}';"
            for name, query in self.definitions.items()
        ]
        return f"""
        SET LOCAL client_min_messages = warning;
        SELECT pg_advisory_xact_lock({LOCK});
        DO $views$ BEGIN
            IF num_nulls({missing}) > 0 OR '{self.digest}' IS DISTINCT FROM
                (SELECT value FROM {self.tables.metadata} WHERE key = '{RECORD}')
            THEN
                {" ".join(steps)}
                INSERT INTO {self.tables.metadata} (key, value) VALUES ('{RECORD}', '{self.digest}')
                    ON CONFLICT (key) DO UPDATE SET value = excluded.value;
            END IF;
        END $views$;
        """

    def drop(self) -> str:
        """A batch that removes the views. It fails and removes none if something else is built on one of
        them.
        """
        return f"""
        SET LOCAL client_min_messages = warning;
        SELECT pg_advisory_xact_lock({LOCK});
        DROP VIEW IF EXISTS {", ".join(self.names.values())};
        DELETE FROM {self.tables.metadata} WHERE key = '{RECORD}';
        """


_COMMENTS: Final = {
    "messages": "One row for each event in which somebody says something or sends a file.",
    "tool_calls": "One row for each call of a tool, with the first answer to it.",
    "token_usage": "One row for each event with a count of tokens.",
    "errors": "One row for each event with an error code, and for each answer of a tool that is an error.",
}
