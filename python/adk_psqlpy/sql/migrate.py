"""Bringing tables to a version: numbered migrations run in order and once each, under a lock, in one
transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

# The lock's key: "adkpsqlp" in ASCII, as a bigint. One lock for all table names: creation is rare.
LOCK: Final = int.from_bytes(b"adkpsqlp", "big")

REFUSE_WORKER: Final = """
    DO $worker$ BEGIN
        IF to_regclass('pg_catalog.pg_dist_local_group') IS NOT NULL THEN
            IF (SELECT groupid FROM pg_catalog.pg_dist_local_group) > 0 THEN
                RAISE EXCEPTION 'this server is a worker node of a Citus cluster, so no table was made'
                    USING HINT = 'Connect to the coordinator to make or change tables.';
            END IF;
        END IF;
    END $worker$;
    """
"""Refuses to make tables on a worker node, where they would be local and nobody else would see them."""


def migrate(
    metadata: str,
    schemas: Iterable[str],
    migrations: Iterable[str],
    made_with: Mapping[str, str],
    *,
    prefix: str = "",
    further: str = "",
) -> str:
    """A batch that runs the migrations that have not run yet, and records version and settings.

    The batch is one simple query, which PostgreSQL runs as one transaction (manual, 55.2.2.1), so all of it
    happens or nothing. The lock makes processes that start together take turns. The second one finds the
    version recorded, and does nothing.

    Args:
        metadata: the table that records, quoted: `<prefix>schema_version`, and `made_with` as the first one
            said it, each key behind `prefix`.
        schemas: schemas to make if they are missing, quoted.
        migrations: SQL; the first makes version 1.
        made_with: the settings that the tables are made with, for later checks.
        prefix: the prefix of the keys, if several kinds of tables share the metadata table.
        further: SQL to run after the migrations. It has to find out by itself whether there is something to
            do.
    """
    recorded = f"SELECT value::int FROM {metadata} WHERE key = '{prefix}schema_version'"
    steps = [
        # Otherwise the server's log has a line for each table that exists already.
        "SET LOCAL client_min_messages = warning;",
        f"SELECT pg_advisory_xact_lock({LOCK});",
        # A setting of Citus, which other servers ignore. Changing several distributed tables at once needs
        # it.
        "SET LOCAL citus.multi_shard_modify_mode = 'sequential';",
        REFUSE_WORKER,
        *map(_create_schema, schemas),
        f"CREATE TABLE IF NOT EXISTS {metadata} (key varchar(128) PRIMARY KEY, value varchar(256) NOT NULL);",
    ]
    for version, migration in enumerate(migrations, start=1):
        steps.append(
            f"""
            DO $migration$ BEGIN
                IF coalesce(({recorded}), 0) < {version} THEN
                    {migration}
                    INSERT INTO {metadata} (key, value) VALUES ('{prefix}schema_version', '{version}')
                        ON CONFLICT (key) DO UPDATE SET value = excluded.value;
                END IF;
            END $migration$;
            """
        )
    steps.append(further)
    for key, value in made_with.items():
        steps.append(
            f"INSERT INTO {metadata} (key, value) VALUES ('{prefix}{key}', '{value}') ON CONFLICT DO NOTHING;"
        )
    return "\n".join(steps)


def record_sealed(metadata: str) -> str:
    """What records that there are sealed values in the tables of `metadata`, quoted. Again is harmless."""
    return f"INSERT INTO {metadata} (key, value) VALUES ('sealed', '1') ON CONFLICT (key) DO NOTHING;"


def _create_schema(schema: str) -> str:
    # IF NOT EXISTS needs the right to create schemas even if the schema exists.
    return f"""
    DO $schema$ BEGIN
        IF to_regnamespace('{schema}') IS NULL THEN CREATE SCHEMA {schema}; END IF;
    END $schema$;
    """
