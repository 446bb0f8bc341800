"""Where to cut a session that is too large for one answer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

from adk_psqlpy import _native
from adk_psqlpy.sql.tables import Tables

# What a row costs beside its large values: lengths and NULL marks of the arrays, names of rare columns.
_ROW_BYTES: Final = 256
# Columns of these types count; the others are short.
_LARGE: Final = ("jsonb", "bytea", "text")

# `$6` and on, as `Statements.get_session` numbers them from `$4`.
_FILTERS: Final = {
    "all": "",
    "after": "AND e.timestamp >= $6",
    "newest": "ORDER BY e.seq DESC LIMIT $6",
    "newest_after": "AND e.timestamp >= $6 ORDER BY e.seq DESC LIMIT $7",
    "since": "AND e.seq > $6",
    "until": "AND e.seq <= $6",
    "kept": "AND e.seq = ANY ($6::bigint[])",
}


def _sent_bytes(name: str, kind: str) -> str:
    """The bytes of a column in an answer: jsonb is sent as text, and only that text tells its length."""
    value = f'e."{name}"::text' if kind == "jsonb" else f'e."{name}"'
    return f"coalesce(octet_length({value}), 0)"


@dataclass(frozen=True)
class PagingStatements:
    """The statements for one set of tables. Parameters `$1 $2 $3` are app, user and session id."""

    tables: Tables

    @cache  # noqa: B019 - a store has one of these, for as long as it lives
    def pages(self, *, which: str) -> str:
        """`$4` the last `seq` to count, `$5` the bytes of a page, then what `which` has in `get_session`.

        A row for each page of the events, in their order: first and last `seq`, how many events, bytes. A page
        has the bytes asked for, and less than one event more. Values are looked at one after another, so
        this takes time, but not memory.
        """
        large = [_sent_bytes(name, kind) for name, kind in _native.EVENT_COLUMNS if kind in _LARGE]
        return f"""
        SELECT min(seq) AS first, max(seq) AS last, count(*) AS events, sum(bytes)::bigint AS bytes
        FROM (
            SELECT seq, bytes, (sum(bytes) OVER (ORDER BY seq) - bytes)::bigint / $5::bigint AS page
            FROM (
                SELECT e.seq, ({" + ".join([str(_ROW_BYTES), *large])})::bigint AS bytes
                FROM {self.tables.events} AS e
                WHERE e.app_name = $1 AND e.user_id = $2 AND e.session_id = $3 AND e.seq <= $4 {_FILTERS[which]}
            ) AS e
        ) AS e
        GROUP BY page ORDER BY page
        """
