"""Questions to the server's catalogs: which tables exist, and in what state they are."""

from __future__ import annotations

from typing import Final

EXISTS: Final = "SELECT to_regclass($1) IS NOT NULL"
"""`$1` the quoted name of a table or view: whether the connection can see it."""


def present(count: int) -> str:
    """`$1` to `$count` quoted names of tables: those that exist, as they were given."""
    names = ", ".join(f"${place}::text" for place in range(1, count + 1))
    return f"SELECT name FROM unnest(ARRAY[{names}]) AS name WHERE to_regclass(name) IS NOT NULL"
