"""Tables distributed over the nodes of a Citus cluster: by `user_id`, co-located, so that a user's rows share a node.

The state of apps belongs to no user, and may be written often. It stays on the coordinator, where Citus lets every
node use it. Records about the tables are written seldom, and are copied to every node.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

from adk_psqlpy.sql.migrate import LOCK

BY_USER: Final = "user_id"
"""The value of `distributed` in `adk_metadata`: the column by which the tables are distributed."""

_NEEDS: Final = (
    "Distributed tables need the extension citus in the database of every node (CREATE EXTENSION citus) and worker "
    "nodes (SELECT citus_add_node(host, port) on the coordinator)."
)


READY: Final = f"""
    DO $ready$ BEGIN
        IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') THEN
            RAISE EXCEPTION 'this database has no extension citus, so nothing was distributed'
                USING HINT = '{_NEEDS}';
        END IF;
        IF (SELECT groupid FROM pg_dist_local_group) > 0 THEN
            RAISE EXCEPTION 'this server is a worker node of a Citus cluster, so nothing was distributed'
                USING HINT = 'Connect to the coordinator to make or distribute tables.';
        END IF;
        IF NOT EXISTS (SELECT FROM pg_dist_node WHERE groupid = 0) THEN
            RAISE EXCEPTION 'the nodes of this Citus cluster do not know the coordinator, so nothing was distributed'
                USING HINT = 'SELECT citus_set_coordinator_host(host, port) on the coordinator tells them.';
        END IF;
        IF NOT EXISTS (
            SELECT FROM pg_dist_node WHERE noderole = 'primary' AND isactive AND shouldhaveshards
        ) THEN
            RAISE EXCEPTION 'no node of this Citus cluster takes shards, so nothing was distributed'
                USING HINT = '{_NEEDS}';
        END IF;
    END $ready$;
    """
"""A batch that fails if tables cannot be distributed, and says what is missing."""


def distribute(
    metadata: str,
    by_user: Sequence[str],
    on_coordinator: Sequence[str],
    functions: Sequence[str],
    prefix: str = "",
) -> str:
    """A batch that distributes existing tables, filled or empty, or does nothing at all.

    Tables that are distributed already stay as they are, so it can be run again, by many processes.

    Args:
        metadata: the metadata table, quoted. It becomes a reference table.
        by_user: tables with a `user_id`, quoted. Tables that others refer to come first.
        on_coordinator: tables that stay there, quoted. Those that are copied to every node are brought back.
        functions: definitions that `sql.delegated` made.
        prefix: the prefix of the recorded keys.
    """
    steps = [
        READY,
        _found_by_workers(by_user[0]),
        *(_distribute(table, by_user[0]) for table in by_user),
        *(_keep_on_coordinator(table) for table in on_coordinator),
        _copy_everywhere(metadata),
        *functions,
        _record(metadata, f"{prefix}distributed", BY_USER),
        _record(metadata, f"{prefix}functions", digest((*functions, *by_user))),
    ]
    return locked(steps)


def locked(steps: Iterable[str]) -> str:
    """A batch of DDL on a cluster: one process at a time, all of it or nothing."""
    return "\n".join(
        [
            "SET LOCAL client_min_messages = warning;",
            f"SELECT pg_advisory_xact_lock({LOCK});",
            # Needed for tables that refer to each other, and for DDL of several tables in one transaction.
            "SET LOCAL citus.multi_shard_modify_mode = 'sequential';",
            *steps,
        ]
    )


def _found_by_workers(table: str) -> str:
    """Refuses a table without its schema if the connections to workers would not find it by that name."""
    if "." in table:
        return ""
    return f"""
    DO $found$ DECLARE
        home name := (SELECT n.nspname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
                      WHERE c.oid = '{table}'::regclass);
    BEGIN
        IF EXISTS (
            SELECT FROM run_command_on_workers(format('SELECT %L = ANY (current_schemas(false))', home)) AS w
            WHERE w.success AND w.result <> 't'
        ) THEN
            RAISE EXCEPTION 'the worker nodes do not look for {table} in the schema %, so nothing was distributed', home
                USING HINT = 'Citus does not send them the search_path of a connection. Name the schema with the table, '
                    'or set the search_path of the role.';
        END IF;
    END $found$;
    """


def _distribute(table: str, first: str) -> str:
    beside = "'default'" if table == first else f"'{first}'"
    return f"""
    DO $table$ BEGIN
        IF NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = '{table}'::regclass) THEN
            PERFORM create_distributed_table('{table}', '{BY_USER}', colocate_with => {beside});
        END IF;
    END $table$;
    """


def _copy_everywhere(table: str) -> str:
    return f"""
    DO $table$ BEGIN
        IF NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = '{table}'::regclass) THEN
            PERFORM create_reference_table('{table}');
        END IF;
    END $table$;
    """


def _keep_on_coordinator(table: str) -> str:
    return f"""
    DO $table$ BEGIN
        IF EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = '{table}'::regclass AND repmodel = 't') THEN
            PERFORM undistribute_table('{table}');
        END IF;
        IF NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = '{table}'::regclass) THEN
            PERFORM citus_add_local_table_to_metadata('{table}');
        END IF;
    END $table$;
    """


def drop_local_copies(tables: Iterable[str]) -> str:
    """Deletes the rows that the tables held before: Citus leaves them on the coordinator, where nobody sees
    them.
    """
    listed = ", ".join(f"'{table}'" for table in tables)
    return f"""
    SET LOCAL client_min_messages = warning;
    SELECT truncate_local_data_after_distributing_table(t::regclass) FROM unnest(ARRAY[{listed}]) AS t
    WHERE pg_relation_size(t::regclass) > 0;
    """


def shards() -> str:
    """`$1` tables, quoted: each with the number of its shards, 0 for one that is copied to every node, -1 for one
    that is on the coordinator."""
    return """
    SELECT t.name, CASE WHEN p.repmodel = 't' THEN 0 WHEN p.partmethod = 'n' THEN -1 ELSE
        (SELECT count(*) FROM pg_dist_shard AS s WHERE s.logicalrelid = p.logicalrelid) END
    FROM unnest($1::text[]) AS t (name) JOIN pg_dist_partition AS p ON p.logicalrelid = t.name::regclass
    """


def _record(metadata: str, key: str, value: str) -> str:
    return f"""
    INSERT INTO {metadata} (key, value) VALUES ('{key}', '{value}')
        ON CONFLICT (key) DO UPDATE SET value = excluded.value;
    """


def digest(functions: Iterable[str]) -> str:
    """A digest that distinguishes versions of the functions."""
    return hashlib.sha256("\n".join(functions).encode()).hexdigest()[:16]
