"""The audit: who read or erased which user's data by the command line and the functions behind it.

Roles may insert into the columns that tell of the deed, and nothing else. Who it was and when are defaults of the
server, in columns that they may not write.
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
"""The key of `adk_metadata` that says that the table was made."""


def create_audit(tables: Tables) -> str:
    """A batch that makes the table where it is missing.

    Its columns are not called `app_name` and `user_id`, so the search for what is left of an erased user passes it
    over: it has statements of its own.
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
        """`$1` the table, quoted: whether it is there, and whether the role may change and read its rows."""
        return """
        SELECT to_regclass($1) IS NOT NULL,
            coalesce(has_column_privilege(to_regclass($1), 'of_user', 'UPDATE')
                AND has_column_privilege(to_regclass($1), 'of_session', 'UPDATE')
                AND has_table_privilege(to_regclass($1), 'SELECT'), false)
        """

    @cached_property
    def add(self) -> str:
        """`$1` action, `$2 $3 $4` app, user and session (each NULL: of no one), `$5` details as JSON."""
        return f"""
        INSERT INTO {self.tables.audit} ({", ".join(COLUMNS)})
        VALUES ($1::text, $2::text, $3::text, $4::text, $5::text::jsonb)
        """

    @cached_property
    def forget(self) -> str:
        """`$1 $2` app and user, `$3` what stands for the user from now on: his earlier rows name neither him nor
        his sessions any more. Gives how many there were."""
        return f"""
        WITH changed AS (
            UPDATE {self.tables.audit} SET of_user = $3, of_session = NULL WHERE of_app = $1 AND of_user = $2 RETURNING 1
        )
        SELECT count(*) FROM changed
        """

    @cached_property
    def read(self) -> str:
        """`$1` app, `$2 $3` user and what stands for him (each NULL for any), `$4` how many: the newest first."""
        return f"""
        SELECT time, login::text, role::text, host(client), action, of_app, of_user, of_session, details::text
        FROM {self.tables.audit}
        WHERE ($1::text IS NULL OR of_app = $1) AND ($2::text IS NULL OR of_user IN ($2, $3::text))
        ORDER BY id DESC LIMIT $4::bigint
        """
