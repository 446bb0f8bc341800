"""Statements that go over sealed tables, a portion at a time, and write values anew."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class SealedTable:
    """A table with sealed columns.

    `key` and `columns` are names and types: those of the primary key, whose order is followed, and those
    that may be sealed. The columns of a `merged` table are states, which writers change member by member.
    """

    table: str
    key: tuple[tuple[str, str], ...]
    columns: tuple[tuple[str, str], ...]
    merged: bool = False

    @cached_property
    def page(self) -> str:
        """The key of the last row seen, then how many: the next rows, key and columns."""
        names = ", ".join(f'"{name}"' for name, _ in self.key)
        seen = ", ".join(f"${place}::{kind}" for place, (_, kind) in enumerate(self.key, start=1))
        columns = ", ".join(f'"{name}"' for name, _ in self.columns)
        return f"""
        SELECT {names}, {columns} FROM {self.table}
        WHERE ({names}) > ({seen}) ORDER BY {names} LIMIT ${len(self.key) + 1}
        """

    @cached_property
    def row(self) -> str:
        """A key: its row, key and columns, if it is still there."""
        names = ", ".join(f'"{name}"' for name, _ in (*self.key, *self.columns))
        return f"SELECT {names} FROM {self.table} WHERE {self._is_key}"

    @cached_property
    def rewrite(self) -> str:
        """A key, the columns as they were read, the columns as they are to be: the row is written anew.

        It changes nothing, and gives no row, where somebody changed these columns meanwhile. In a merged
        table the new columns hold members, which replace those that are still what was read; PostgreSQL
        computes this from the row as it is once it is locked, so a busy row needs no second try.
        """
        first = len(self.key) + 1
        width = len(self.columns)
        places = [
            (name, kind, f"${first + place}::{kind}", f"${first + width + place}::{kind}")
            for place, (name, kind) in enumerate(self.columns)
        ]
        if self.merged:
            change = ", ".join(_merge(name, old, new) for name, _, old, new in places)
            where = self._is_key
        else:
            change = ", ".join(f'"{name}" = {new}' for name, _, _, new in places)
            unchanged = [f'"{name}" IS NOT DISTINCT FROM {old}' for name, _, old, _ in places]
            where = " AND ".join([self._is_key, *unchanged])
        return f'UPDATE {self.table} AS t SET {change} WHERE {where} RETURNING "{self.key[0][0]}"'

    @property
    def _is_key(self) -> str:
        return " AND ".join(f'"{name}" = ${place}' for place, (name, _) in enumerate(self.key, start=1))


def _merge(name: str, old: str, new: str) -> str:
    """A state with the members of `new`, where they are as in `old`.

    They are compared as text: 1 and 1.0 are equal as jsonb, and are not the same to Python.
    """
    return f"""
        "{name}" = CASE WHEN t."{name}" IS NULL OR {new} IS NULL THEN t."{name}" ELSE (
            SELECT coalesce(jsonb_object_agg(m.key,
                CASE WHEN {new} ? m.key AND ({old} -> m.key)::text = m.value::text
                THEN {new} -> m.key ELSE m.value END), '{{}}')
            FROM jsonb_each(t."{name}") AS m) END"""
