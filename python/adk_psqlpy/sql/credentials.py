"""The table of tools' credentials: its migrations and statements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from adk_psqlpy.sql.names import quoted
from adk_psqlpy.sql.single_table import SingleTable, create

LONGEST_NAME: Final = 256
"""The longest credential key, in characters."""


@dataclass(frozen=True)
class CredentialTable(SingleTable):
    """The table of one credential service."""

    parameter = "credential_table"

    @cached_property
    def credentials(self) -> str:
        """The table, quoted."""
        return quoted(self.name)


def _first_table(table: CredentialTable, key_length: int) -> str:
    """Credentials by app, user and ADK's credential key. The caller that refreshes a credential holds a lease on it
    until `lease_until`.
    """
    return f"""
    CREATE TABLE {table.credentials} (
        app_name varchar({key_length}) NOT NULL,
        user_id varchar({key_length}) NOT NULL,
        credential_key varchar({LONGEST_NAME}) NOT NULL,
        credential jsonb NOT NULL,
        revision bigint NOT NULL,
        lease_until timestamptz,
        update_time timestamptz NOT NULL,
        PRIMARY KEY (app_name, user_id, credential_key)
    ) WITH (fillfactor = 80);
    """


MIGRATIONS: Final[tuple[Callable[[CredentialTable, int], str], ...]] = (_first_table,)
"""The migrations in order; the first one makes version 1."""

SCHEMA_VERSION: Final = len(MIGRATIONS)
"""The version that this package reads and writes."""


def create_credentials(table: CredentialTable, key_length: int) -> str:
    """A batch that brings a database of any version to `SCHEMA_VERSION` (`sql.migrate`)."""
    return create(table, MIGRATIONS, key_length)


@dataclass(frozen=True)
class CredentialStatements:
    """The statements for one table. `$1 $2 $3` are always app name, user id and credential key."""

    table: CredentialTable

    @cached_property
    def load(self) -> str:
        """The credential and its revision; no row if there is none."""
        return f"""
        SELECT credential, revision FROM {self.table.credentials}
        WHERE app_name = $1 AND user_id = $2 AND credential_key = $3
        """

    @cached_property
    def lease(self) -> str:
        """`$4` the revision that was read, `$5` now, `$6` the end of the lease. Takes the lease to refresh that revision.

        Gives a row if the lease was taken, and none if another caller has it or the credential was changed.
        """
        return f"""
        UPDATE {self.table.credentials} SET lease_until = $6
        WHERE app_name = $1 AND user_id = $2 AND credential_key = $3 AND revision = $4
            AND (lease_until IS NULL OR lease_until <= $5)
        RETURNING revision
        """

    @cached_property
    def save(self) -> str:
        """`$4` the credential, `$5` now. Stores the credential in place of the earlier one, and ends the lease."""
        return f"""
        INSERT INTO {self.table.credentials} AS stored
            (app_name, user_id, credential_key, credential, revision, update_time)
        VALUES ($1, $2, $3, $4, 1, $5)
        ON CONFLICT (app_name, user_id, credential_key) DO UPDATE
            SET credential = excluded.credential, revision = stored.revision + 1, lease_until = NULL,
                update_time = excluded.update_time
        RETURNING revision
        """

    @cached_property
    def delete(self) -> str:
        """Deletes one credential. Gives a row if it existed."""
        return f"""
        DELETE FROM {self.table.credentials}
        WHERE app_name = $1 AND user_id = $2 AND credential_key = $3 RETURNING credential_key
        """

    @cached_property
    def delete_user(self) -> str:
        """`$1 $2` app name and user id. Deletes all credentials of the user, and returns their number."""
        return f"""
        WITH gone AS (
            DELETE FROM {self.table.credentials} WHERE app_name = $1 AND user_id = $2 RETURNING credential_key
        )
        SELECT count(*) FROM gone
        """
