"""Validating and quoting names of tables."""

from __future__ import annotations

import re
from typing import Final

# PostgreSQL manual, 4.1.1: letters, digits and underscores, not a digit first. ASCII only, so that a byte is
# a character and the limit of 63 bytes (NAMEDATALEN - 1) is easy to check. No dollar sign, which could end a
# quote.
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
LONGEST: Final = 63
"""The most bytes of an identifier in PostgreSQL."""


def split(parameter: str, table: str) -> tuple[str | None, str]:
    """Split a name into schema (if one is given) and name.

    Raises:
        ValueError: it is not a plain identifier, or longer than 63 bytes; `parameter` says whose value it is.
    """
    if not isinstance(table, str):
        raise ValueError(f"{parameter} must be a str, not {type(table).__name__}")
    schema, _, name = table.rpartition(".")
    for part in (schema, name) if "." in table else (name,):
        if not _IDENTIFIER.fullmatch(part):
            raise ValueError(
                f"{parameter} {table!r} is not a table name: use letters, digits and underscores, "
                "optionally with a schema in front (agents.adk_sessions)"
            )
        if len(part) > LONGEST:
            raise ValueError(
                f"{parameter} {table!r} has {len(part)} characters, and PostgreSQL keeps {LONGEST}: give a "
                "shorter name"
            )
    return schema or None, name


def quoted(table: str) -> str:
    """The name in quotes, for SQL."""
    schema, name = split("table", table)
    return f'"{schema}"."{name}"' if schema else f'"{name}"'
