"""The numbered migrations of the session tables, which `sql.migrate` runs.

To add one: append a function to `MIGRATIONS`. Never change one that was released: databases have run it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from adk_psqlpy.sql.migrate import migrate
from adk_psqlpy.sql.tables import Tables

READING: Final = "reading"
"""The set of indexes that the migrations make, and that tables have where `adk_metadata` names none."""

MIGRATION_LOCK_SEC: Final = 10
"""How long a migration waits for transactions that hold a table it alters. Then none of it happens."""


def _first_tables(tables: Tables, key_length: int) -> str:
    """Sessions, events, and the state that sessions share.

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
    """The state at creation, the deltas that came without an event, and where forks come from.

    `initial_state` is NULL, unknown, for sessions from before and for those that processes of an older version
    make while the migration is rolled out. Each revision is an event or a row of the log, so an older process
    that changes state without an event leaves a gap that can be seen.

    Nothing reads or rewrites the tables that are there. The lock on them is short, but it waits for
    transactions that hold them, and everybody else waits behind it: hence the limit.
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
"""In order; the first is version 1."""

SCHEMA_VERSION: Final = len(MIGRATIONS)
"""The version that this package reads and writes."""


def create_tables(tables: Tables, key_length: int) -> str:
    """A batch that brings a database to `SCHEMA_VERSION`, whatever it is at (`sql.migrate`)."""
    migrations = [migration(tables, key_length) for migration in MIGRATIONS]
    return migrate(
        tables.metadata, tables.schemas, migrations, made_with(tables, key_length) | {"index_set": READING}
    )


def made_with(tables: Tables, key_length: int) -> dict[str, str]:
    """What `adk_metadata` records about the store beside the schema version.

    The schema of the session table is where the record is; the events table names its own if that is another.
    """
    schema, _, sessions = tables.session_table.rpartition(".")
    events_schema, _, events = tables.events_table.rpartition(".")
    return {
        "session_table": sessions,
        "events_table": events if events_schema == schema else tables.events_table,
        "key_length": str(key_length),
    }
