"""Counting a user's rows, deleting them in one statement, and searching for them in every table that names
users.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from adk_psqlpy.sql.artifact_tables import ArtifactTables
from adk_psqlpy.sql.credentials import CredentialTable
from adk_psqlpy.sql.memory import MemoryTable
from adk_psqlpy.sql.row_security import ACCESS
from adk_psqlpy.sql.tables import Tables
from adk_psqlpy.sql.user_keys import UserKeyTable

_HIS: Final = "app_name = $1 AND user_id = $2"


@dataclass(frozen=True)
class Owned:
    """The tables with rows of users: those to delete from, in the order of locks, and those whose rows are
    deleted with them by a foreign key. Names are quoted.
    """

    deleted: Sequence[str]
    cascaded: Sequence[str]

    @property
    def all(self) -> list[str]:
        """All of them."""
        return [*self.deleted, *self.cascaded]

    def among(self, present: set[str]) -> Owned:
        """Those tables that exist."""
        return Owned(
            [table for table in self.deleted if table in present],
            [table for table in self.cascaded if table in present],
        )


def owned(
    tables: Tables,
    memories: MemoryTable,
    artifacts: ArtifactTables,
    credentials: CredentialTable,
    keys: UserKeyTable,
) -> Owned:
    """The tables of all services. Locks are taken as `sql.statements` and `sql.artifacts` take them."""
    deleted = [
        tables.sessions,
        tables.user_states,
        memories.memories,
        artifacts.blobs,
        artifacts.contents,
        artifacts.names,
        credentials.credentials,
        keys.keys,
    ]
    searched = (tables.event_words, tables.event_marks)
    every = (*tables.by_user, tables.partials, *searched, *artifacts.by_user)
    return Owned(deleted, [table for table in every if table not in deleted])


def count(tables: Iterable[str]) -> str:
    """`$1 $2` app and user: the number of the user's rows in each table, one row for each table, in their
    order.
    """
    return " UNION ALL ".join(
        f"SELECT {place} AS place, count(*) FROM {table} WHERE {_HIS}" for place, table in enumerate(tables)
    )


def erase(tables: Owned) -> str:
    """`$1 $2` app and user: deletes all rows of the user, in one transaction; gives what `count` of `tables.all` gives,
    of the moment before."""
    steps, before = [], ""
    for place, table in enumerate(tables.deleted):
        # Each step counts the rows of the step before, so it runs after it, and locks are taken in order.
        steps.append(f"d{place} AS (DELETE FROM {table} WHERE {_HIS}{before} RETURNING 1)")
        before = f" AND (SELECT count(*) FROM d{place}) >= 0"
    last = f"d{len(tables.deleted) - 1}"
    return f"""
    WITH {", ".join(steps)}
    SELECT place, rows FROM ({count(tables.all)}) AS c (place, rows)
    WHERE (SELECT count(*) FROM {last}) >= 0 ORDER BY place
    """


NAMING_USERS: Final = f"""
    SELECT format('%I.%I', n.nspname, c.relname)
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relname <> '{ACCESS}'
        AND n.oid IN (
            SELECT relnamespace FROM pg_class AS k JOIN unnest($1::text[]) AS name ON k.oid = to_regclass(name)
        )
        AND 2 = (
            SELECT count(*) FROM pg_attribute AS a
            WHERE a.attrelid = c.oid AND NOT a.attisdropped AND a.attname IN ('app_name', 'user_id')
        )
    ORDER BY 1
    """
"""`$1` quoted names of tables: every table, in a schema of one of them, that has the columns `app_name` and `user_id`; without
`adk_access`, which says what roles are for and is its owner's alone."""


def mentioned(tables: Tables) -> str:
    """`$1 $2` app and user: the keys of the app's state in whose values the user's id stands as a text of its own."""
    return f"""
    SELECT key FROM {tables.app_states} AS a, jsonb_each(a.state)
    WHERE a.app_name = $1 AND (
        key = $2::text OR jsonb_path_exists(value, 'strict $.** ? (@ == $id)', jsonb_build_object('id', $2::text), true)
    )
    ORDER BY key
    """
