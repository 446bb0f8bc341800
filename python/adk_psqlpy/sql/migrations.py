"""The numbered migrations of the session tables, which `sql.migrate` runs.

To add one: append a function to `MIGRATIONS`. Never change one that was released: databases have run it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from adk_psqlpy.sql.migrate import migrate
from adk_psqlpy.sql.tables import Tables

READING: Final = "reading"
"""The set of indexes that the migrations make. Tables have it if `adk_metadata` names none."""

MIGRATION_LOCK_SEC: Final = 10
"""How long a migration waits for transactions that hold a table that it alters. After that it fails and
changes nothing.
"""


def _first_tables(tables: Tables, key_length: int) -> str:
    """The tables of sessions, events, and shared state.

    Every key holds `user_id` next to `app_name`: ADK scopes a session id by both, and `user_id` can become
    the distribution column of a sharded server. The exception is app state, which belongs to no user.
    """
    key = f"varchar({key_length})"
    return f"""
    CREATE TABLE {tables.sessions} (
        id {key} NOT NULL,
        app_name {key} NOT NULL,
        user_id {key} NOT NULL,
        state jsonb NOT NULL DEFAULT '{{}}',
        create_time timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP,
        update_time timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP,
        revision bigint NOT NULL DEFAULT 0,
        PRIMARY KEY (app_name, user_id, id)
    ) WITH (fillfactor = 80);
    CREATE INDEX {tables.index(tables.session_table, "app_user")}
        ON {tables.sessions} (app_name COLLATE "C", user_id COLLATE "C", update_time);
    CREATE INDEX {tables.index(tables.session_table, "update_time")}
        ON {tables.sessions} (update_time DESC);
    CREATE INDEX {tables.index(tables.session_table, "state")}
        ON {tables.sessions} USING gin (state) WHERE state != '{{}}';

    CREATE TABLE {tables.events} (
        id {key} NOT NULL,
        session_id {key} NOT NULL,
        app_name {key} NOT NULL,
        user_id {key} NOT NULL,
        seq bigint NOT NULL,
        invocation_id varchar(256),
        author varchar(256),
        actions bytea,
        long_running_tool_ids_json text,
        branch varchar(256),
        timestamp timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP,
        content jsonb,
        grounding_metadata jsonb,
        custom_metadata jsonb,
        partial boolean,
        turn_complete boolean,
        interrupted boolean,
        error_code varchar(256),
        error_message varchar(1024),
        extra jsonb,
        PRIMARY KEY (app_name, user_id, session_id, id),
        FOREIGN KEY (app_name, user_id, session_id)
            REFERENCES {tables.sessions} (app_name, user_id, id) ON DELETE CASCADE
    );
    CREATE INDEX {tables.index(tables.events_table, "session")}
        ON {tables.events} (app_name, user_id, session_id, seq);

    CREATE TABLE {tables.app_states} (
        app_name {key} PRIMARY KEY,
        state jsonb NOT NULL DEFAULT '{{}}',
        update_time timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP
    ) WITH (fillfactor = 80);
    CREATE TABLE {tables.user_states} (
        app_name {key} NOT NULL,
        user_id {key} NOT NULL,
        state jsonb NOT NULL DEFAULT '{{}}',
        update_time timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP,
        PRIMARY KEY (app_name, user_id)
    ) WITH (fillfactor = 80);
    """


def _history_of_state(tables: Tables, key_length: int) -> str:
    """The state at creation, the state deltas without an event, and the origins of forks.

    `initial_state` is NULL (unknown) for sessions from before the migration, and for those that processes of
    an older version make while it is rolled out. Each revision is an event or a row of the log. So if an
    older process changes state without an event, there is a visible gap.

    The migration neither reads nor rewrites existing tables. Its lock on them is short. But it waits for
    transactions that hold them, and everybody else waits behind it; therefore the wait is limited.
    """
    key = f"varchar({key_length}) NOT NULL"
    session = f"""FOREIGN KEY (app_name, user_id, session_id)
            REFERENCES {tables.sessions} (app_name, user_id, id) ON DELETE CASCADE"""
    return f"""
    SET LOCAL lock_timeout = '{MIGRATION_LOCK_SEC}s';
    ALTER TABLE {tables.sessions} ADD COLUMN initial_state jsonb;
    CREATE TABLE {tables.state_log} (
        app_name {key},
        user_id {key},
        session_id {key},
        revision bigint NOT NULL,
        delta jsonb NOT NULL,
        create_time timestamptz NOT NULL,
        PRIMARY KEY (app_name, user_id, session_id, revision),
        {session}
    );
    CREATE TABLE {tables.forks} (
        app_name {key},
        user_id {key},
        session_id {key},
        origin_id {key},
        origin_create_time timestamptz NOT NULL,
        origin_revision bigint NOT NULL,
        create_time timestamptz NOT NULL,
        PRIMARY KEY (app_name, user_id, session_id),
        {session}
    );
    CREATE INDEX {tables.index(tables.fork_table, "origin")}
        ON {tables.forks} (app_name, user_id, origin_id, origin_create_time);
    """


MIGRATIONS: Final[tuple[Callable[[Tables, int], str], ...]] = (_first_tables, _history_of_state)
"""The migrations in order; the first one makes version 1."""

SCHEMA_VERSION: Final = len(MIGRATIONS)
"""The version that this package reads and writes."""


def create_tables(tables: Tables, key_length: int) -> str:
    """A batch that brings a database of any version to `SCHEMA_VERSION` (`sql.migrate`)."""
    migrations = [migration(tables, key_length) for migration in MIGRATIONS]
    return migrate(
        tables.metadata, tables.schemas, migrations, made_with(tables, key_length) | {"index_set": READING}
    )


def made_with(tables: Tables, key_length: int) -> dict[str, str]:
    """The settings that `adk_metadata` records beside the schema version.

    The record is in the schema of the session table. The schema of the events table is recorded if it is
    another one.
    """
    schema, _, sessions = tables.session_table.rpartition(".")
    events_schema, _, events = tables.events_table.rpartition(".")
    return {
        "session_table": sessions,
        "events_table": events if events_schema == schema else tables.events_table,
        "key_length": str(key_length),
    }
