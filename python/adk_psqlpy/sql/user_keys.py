"""The table of wrapped keys, with one or more keys for each user: its migrations and statements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from adk_psqlpy.sql.names import quoted
from adk_psqlpy.sql.single_table import SingleTable, create


@dataclass(frozen=True)
class UserKeyTable(SingleTable):
    """The table of one key ring."""

    parameter = "key_table"

    @cached_property
    def keys(self) -> str:
        """The table, quoted."""
        return quoted(self.name)


def _first_table(table: UserKeyTable, key_length: int) -> str:
    """The keys of each user. `user_id` is empty for the key of the app's own values."""
    return f"""
    CREATE TABLE {table.keys} (
        app_name varchar({key_length}) NOT NULL,
        user_id varchar({key_length}) NOT NULL,
        generation bigint NOT NULL,
        key_id varchar(64) NOT NULL UNIQUE,
        wrapped bytea NOT NULL,
        create_time timestamptz NOT NULL,
        PRIMARY KEY (app_name, user_id, generation)
    );
    """


MIGRATIONS: Final[tuple[Callable[[UserKeyTable, int], str], ...]] = (_first_table,)
"""The migrations in order; the first one makes version 1."""

SCHEMA_VERSION: Final = len(MIGRATIONS)
"""The version that this package reads and writes."""


def create_user_keys(table: UserKeyTable, key_length: int) -> str:
    """A batch that brings a database of any version to `SCHEMA_VERSION` (`sql.migrate`)."""
    return create(table, MIGRATIONS, key_length)


@dataclass(frozen=True)
class UserKeyStatements:
    """The statements for one table of keys. Unless a docstring says otherwise, `$1 $2` are app name and user id."""

    table: UserKeyTable

    @cached_property
    def current(self) -> str:
        """The id of the user's newest key; no row if there is none."""
        return f"""
        SELECT key_id FROM {self.table.keys} WHERE app_name = $1 AND user_id = $2
        ORDER BY generation DESC LIMIT 1
        """

    @cached_property
    def of_user(self) -> str:
        """The ids of the user's keys, the newest first."""
        return f"""
        SELECT key_id FROM {self.table.keys} WHERE app_name = $1 AND user_id = $2 ORDER BY generation DESC
        """

    @cached_property
    def key(self) -> str:
        """`$1` a key's id. Gives app name and user id of its user, and the wrapped key."""
        return f"SELECT app_name, user_id, wrapped FROM {self.table.keys} WHERE key_id = $1"

    @cached_property
    def add_first(self) -> str:
        """`$3` id, `$4` wrapped key, `$5` now. Adds the user's first key; no row if the user has a key already."""
        return f"""
        INSERT INTO {self.table.keys} (app_name, user_id, generation, key_id, wrapped, create_time)
        VALUES ($1, $2, 1, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING key_id
        """

    @cached_property
    def add_next(self) -> str:
        """As `add_first`, for the user's newest key. No row if another key was added at the same time."""
        return f"""
        INSERT INTO {self.table.keys} (app_name, user_id, generation, key_id, wrapped, create_time)
        SELECT $1::varchar, $2::varchar, coalesce(max(k.generation), 0) + 1, $3, $4, $5 FROM {self.table.keys} AS k
        WHERE k.app_name = $1 AND k.user_id = $2
        ON CONFLICT DO NOTHING RETURNING key_id
        """

    @cached_property
    def erase(self) -> str:
        """Deletes all keys of the user, and returns their ids."""
        return f"DELETE FROM {self.table.keys} WHERE app_name = $1 AND user_id = $2 RETURNING key_id"

    @cached_property
    def page(self) -> str:
        """`$1` the last id of the page before, `$2` the number of rows. Gives id, app name, user id and wrapped key,
        ordered by id."""
        return f"""
        SELECT key_id, app_name, user_id, wrapped FROM {self.table.keys}
        WHERE key_id > $1 ORDER BY key_id LIMIT $2
        """

    @cached_property
    def rewrap(self) -> str:
        """`$1` a key's id, `$2` the old wrapped key, `$3` the new one. No row if the stored one is not `$2`."""
        return (
            f"UPDATE {self.table.keys} SET wrapped = $3 WHERE key_id = $1 AND wrapped = $2 RETURNING key_id"
        )
