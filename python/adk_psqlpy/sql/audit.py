"""The audit: who read or erased which user's data with the command line or the functions behind it.

Roles may insert into the columns that describe the action, and nothing else. The columns that say who did it and when
have defaults that the server fills in. Roles may not write these columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from adk_psqlpy.sql.migrate import migrate
from adk_psqlpy.sql.tables import Tables

COLUMNS: Final = ("action", "of_app", "of_user", "of_session", "details")
"""The columns that a role may insert."""

RECORD: Final = "audit.schema_version"
"""The key in `adk_metadata` that records that the table was made."""


def create_audit(tables: Tables) -> str:
    """A batch that makes the table if it is missing.

    Its columns are not called `app_name` and `user_id`. So the search for what is left of an erased user skips this
    table, which has a statement of its own for that (`AuditStatements.forget`).
    """
    table = f"""
    CREATE TABLE {tables.audit} (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        time timestamptz NOT NULL DEFAULT clock_timestamp(),
        login name NOT NULL DEFAULT session_user,
        role name NOT NULL DEFAULT current_user,
        client inet DEFAULT inet_client_addr(),
        action text NOT NULL,
        of_app text,
        of_user text,
        of_session text,
        details jsonb NOT NULL DEFAULT '{{}}'
    );
    CREATE INDEX {tables.index(tables.audit_table, "user")} ON {tables.audit} (of_app, of_user);
    COMMENT ON TABLE {tables.audit} IS 'Who read or erased which user''s data; add to it, and change nothing.';
    """
    return migrate(tables.metadata, [], [table], {}, prefix="audit.")


@dataclass(frozen=True)
class AuditStatements:
    """The statements for one set of tables."""

    tables: Tables

    @cached_property
    def present(self) -> str:
        """`$1` the table, quoted. Gives whether it exists, and whether the role may change and read its rows."""
        return """
        SELECT to_regclass($1) IS NOT NULL,
            coalesce(has_column_privilege(to_regclass($1), 'of_user', 'UPDATE')
                AND has_column_privilege(to_regclass($1), 'of_session', 'UPDATE')
                AND has_table_privilege(to_regclass($1), 'SELECT'), false)
        """

    @cached_property
    def add(self) -> str:
        """`$1` action, `$2 $3 $4` app, user and session (NULL if the action is of none), `$5` details as JSON."""
        return f"""
        INSERT INTO {self.tables.audit} ({", ".join(COLUMNS)})
        VALUES ($1::text, $2::text, $3::text, $4::text, $5::text::jsonb)
        """

    @cached_property
    def forget(self) -> str:
        """`$1 $2` app and user, `$3` the digest that replaces the user's id. Puts it into the user's earlier rows, and
        takes the ids of sessions out of them. Gives the number of these rows.

        A row without an app asked for this id in all apps, so it is one of them."""
        return f"""
        WITH changed AS (
            UPDATE {self.tables.audit} SET of_user = $3, of_session = NULL
            WHERE (of_app = $1 OR of_app IS NULL) AND of_user = $2 RETURNING 1
        )
        SELECT count(*) FROM changed
        """

    @cached_property
    def read(self) -> str:
        """`$1` app, `$2 $3` the user's id and its digest (each NULL for any), `$4` the number of rows. Newest first.

        Rows without an app are about all apps, so they are given for each."""
        return f"""
        SELECT time, login::text, role::text, host(client), action, of_app, of_user, of_session, details::text
        FROM {self.tables.audit}
        WHERE ($1::text IS NULL OR of_app = $1 OR of_app IS NULL) AND ($2::text IS NULL OR of_user IN ($2, $3::text))
        ORDER BY id DESC LIMIT $4::bigint
        """
