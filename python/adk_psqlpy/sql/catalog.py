"""Questions to the server's catalogs: which tables exist, and in what state they are."""

from __future__ import annotations


def present(count: int) -> str:
    """`$1` to `$count` quoted names of tables: those that exist, as they were given."""
    names = ", ".join(f"${place}::text" for place in range(1, count + 1))
    return f"SELECT name FROM unnest(ARRAY[{names}]) AS name WHERE to_regclass(name) IS NOT NULL"
