"""The numbered migrations. Each runs once, in order, under an advisory lock, in one transaction.

To add one: append a function to `MIGRATIONS`. Never change one that was released: databases have run it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from adk_psqlpy.sql.tables import Tables

# The lock's key: "adkpsqlp" in ASCII, as a bigint. One lock for all table names: creation is rare.
_LOCK: Final = int.from_bytes(b"adkpsqlp", "big")


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


MIGRATIONS: Final[tuple[Callable[[Tables, int], str], ...]] = (_first_tables,)
"""In order; the first is version 1."""

SCHEMA_VERSION: Final = len(MIGRATIONS)
"""The version that this package reads and writes."""


def _create_schema(schema: str) -> str:
    # IF NOT EXISTS asks for the right to create schemas even where the schema is there.
    return f"""
    DO $schema$ BEGIN
        IF to_regnamespace('{schema}') IS NULL THEN CREATE SCHEMA {schema}; END IF;
    END $schema$;
    """


def create_tables(tables: Tables, key_length: int) -> str:
    """A batch that brings a database to `SCHEMA_VERSION`, whatever it is at.

    The batch is one simple query, which PostgreSQL runs as one transaction (manual, 55.2.2.1): all of it
    or nothing happens. The lock makes processes that start together take turns; the second finds the
    version recorded and does nothing.
    """
    steps = [
        # Or every statement that finds its table tells the server's log so.
        "SET LOCAL client_min_messages = warning;",
        f"SELECT pg_advisory_xact_lock({_LOCK});",
        *(_create_schema(schema) for schema in tables.schemas),
        f"CREATE TABLE IF NOT EXISTS {tables.metadata} (key varchar(128) PRIMARY KEY, value varchar(256) NOT NULL);",
    ]
    for version, migration in enumerate(MIGRATIONS, start=1):
        steps.append(
            f"""
            DO $migration$ BEGIN
                IF coalesce((SELECT value::int FROM {tables.metadata} WHERE key = 'schema_version'), 0) < {version} THEN
                    {migration(tables, key_length)}
                    INSERT INTO {tables.metadata} (key, value) VALUES ('schema_version', '{version}')
                        ON CONFLICT (key) DO UPDATE SET value = excluded.value;
                END IF;
            END $migration$;
            """
        )
    # What the tables were made with, for whoever opens them next; kept as the first one said it.
    for key, value in made_with(tables, key_length).items():
        steps.append(
            f"INSERT INTO {tables.metadata} (key, value) VALUES ('{key}', '{value}') ON CONFLICT DO NOTHING;"
        )
    return "\n".join(steps)


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
