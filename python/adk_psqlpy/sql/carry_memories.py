"""The statements that carry memories. They read all memories, also expired ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from adk_psqlpy.sql.memory import MemoryTable

_COLUMNS: Final = "m.author, m.timestamp, m.timestamp_text, m.content, m.custom_metadata, m.expire_time"


@dataclass(frozen=True)
class CarryMemoryStatements:
    """The statements for one memory table."""

    table: MemoryTable

    @cached_property
    def known(self) -> str:
        """`$1 $2` app and user, `$3 $4` arrays of sessions and ids.

        The place in the arrays of each memory that exists, then its columns. A deleted memory has no content.
        """
        return f"""
        SELECT k.place, {_COLUMNS}
        FROM unnest($3::text[], $4::text[]) WITH ORDINALITY AS k (session_id, id, place)
        JOIN {self.table.memories} AS m
            ON m.app_name = $1 AND m.user_id = $2 AND m.session_id = k.session_id AND m.id = k.id
        """

    @cached_property
    def count(self) -> str:
        """`$1 $2` an app and a user, NULL for all: how many there are."""
        return f"""
        SELECT count(*) FROM {self.table.memories}
        WHERE content IS NOT NULL AND ($1::text IS NULL OR app_name = $1) AND ($2::text IS NULL OR user_id = $2)
        """

    @cached_property
    def page(self) -> str:
        """`$1 $2` as `count`, `$3 $4 $5 $6` the last app, user, id and session seen, `$7` how many: key, columns."""
        return f"""
        SELECT m.app_name, m.user_id, m.id, m.session_id, {_COLUMNS} FROM {self.table.memories} AS m
        WHERE (m.app_name, m.user_id, m.id, m.session_id) > ($3::varchar, $4::varchar, $5::varchar, $6::varchar)
            AND m.content IS NOT NULL
            AND ($1::text IS NULL OR m.app_name = $1) AND ($2::text IS NULL OR m.user_id = $2)
        ORDER BY m.app_name, m.user_id, m.id, m.session_id LIMIT $7
        """
