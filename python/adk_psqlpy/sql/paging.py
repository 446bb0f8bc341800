"""Finding the pages of a session that is too large for one answer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

from adk_psqlpy.sql import event_columns
from adk_psqlpy.sql.tables import Tables

# The bytes of a row beside its large values: lengths and NULL marks of the arrays, names of rare columns.
_ROW_BYTES: Final = 256
# Columns of these types count; other columns are short.
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
    """The bytes of a column in an answer. jsonb is sent as text, so its length is the length of that text."""
    value = f'e."{name}"::text' if kind == "jsonb" else f'e."{name}"'
    return f"coalesce(octet_length({value}), 0)"


@dataclass(frozen=True)
class PagingStatements:
    """The statements for one set of tables. Parameters `$1 $2 $3` are app, user and session id."""

    tables: Tables

    @cache  # noqa: B019 - a store has one of these, for as long as it lives
    def pages(self, *, which: str) -> str:
        """`$4` the last `seq` to count, `$5` the bytes of a page, then what `which` has in `get_session`.

        One row for each page of events, in order: first and last `seq`, number of events, bytes. A page has
        the bytes asked for, plus less than one event. Values are read one after another, so this takes time,
        but no memory.
        """
        large = [_sent_bytes(name, kind) for name, kind in event_columns.TYPES.items() if kind in _LARGE]
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
