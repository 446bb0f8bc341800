"""The queries of `doctor` about the server, the connection, the tables and their use. They only read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from adk_psqlpy.sql.indexes import IndexSet, index_definitions
from adk_psqlpy.sql.tables import Tables

SERVER: Final = """
    SELECT current_setting('server_version_num')::int, current_setting('server_version'), current_database()::text,
        current_user::text, pg_is_in_recovery(), current_setting('server_encoding'),
        inet_server_addr() IS NULL OR inet_server_addr() <<= '127.0.0.0/8' OR inet_server_addr() = '::1',
        (SELECT t.version FROM pg_stat_ssl AS t WHERE t.pid = pg_backend_pid() AND t.ssl),
        current_setting('fsync') = 'on', current_setting('full_page_writes') = 'on',
        current_setting('max_connections')::int,
        (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')
"""
"""Version number and text, database, role, whether it is a standby, encoding, whether it is on this machine, version
of TLS (NULL without), fsync, full_page_writes, max_connections and how many connections there are."""

BACKEND: Final = "SELECT pg_backend_pid()"
"""The server process that answers."""

NOTHING: Final = "SELECT 1"
"""A round trip."""

BEGIN: Final = "BEGIN"
ROLLBACK: Final = "ROLLBACK"

EXTENSIONS: Final = """
    SELECT e.extname::text, e.extversion, a.default_version
    FROM pg_extension AS e LEFT JOIN pg_available_extensions AS a ON a.name = e.extname
    WHERE e.extname IN ('vector', 'citus', 'pg_stat_statements') ORDER BY 1
"""
"""The extensions that matter here: name, version, and the version that the server would install."""

INDEXES: Final = """
    SELECT i.indexrelid::regclass::text, c.relname::text, i.indrelid::regclass::text, i.indisvalid AND i.indisready,
        i.indisprimary
    FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
    WHERE i.indrelid IN (SELECT to_regclass(name) FROM unnest($1::text[]) AS name) ORDER BY 1
"""
"""`$1` quoted names of tables: their indexes, as SQL takes them and bare, the table, whether it may be used, whether it
is the primary key."""

UPKEEP: Final = """
    SELECT given.name, s.n_live_tup, s.n_dead_tup, s.n_tup_upd, s.n_tup_hot_upd,
        greatest(s.last_vacuum, s.last_autovacuum), age(c.relfrozenxid),
        coalesce('autovacuum_enabled=false' = ANY (c.reloptions), false), pg_total_relation_size(c.oid)
    FROM unnest($1::text[]) WITH ORDINALITY AS given (name, place)
    JOIN pg_class AS c ON c.oid = to_regclass(given.name)
    JOIN pg_stat_all_tables AS s ON s.relid = c.oid
    WHERE c.relkind = 'r' ORDER BY given.place
"""
"""`$1` quoted names of tables: live and dead rows, updates and those of them that were heap-only, the last VACUUM, the
age of the oldest transaction id, whether autovacuum is off, bytes with indexes."""

TRANSACTIONS: Final = """
    SELECT 'transaction', pid::text, coalesce(nullif(application_name, ''), '?'), coalesce(state, '?'),
        extract(epoch FROM clock_timestamp() - xact_start)::float8
    FROM pg_stat_activity
    WHERE xact_start IS NOT NULL AND pid <> pg_backend_pid() AND backend_type = 'client backend'
        AND datname = current_database()
    UNION ALL
    SELECT 'prepared', gid, owner::text, 'prepared', extract(epoch FROM clock_timestamp() - prepared)::float8
    FROM pg_prepared_xacts WHERE database = current_database()
    ORDER BY 5 DESC LIMIT 3
"""
"""The oldest transactions of this database: kind, process (or the name of a prepared one), application, state, seconds.
No text of a statement: it may hold what users said."""

SLOTS: Final = """
    SELECT slot_name::text, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint
    FROM pg_replication_slots WHERE NOT active AND restart_lsn IS NOT NULL AND NOT pg_is_in_recovery()
    ORDER BY 2 DESC LIMIT 3
"""
"""Replication slots that nobody reads: name, and bytes of write-ahead log that the server keeps for them."""

PRIVILEGES: Final = """
    SELECT name, privilege FROM unnest($1::text[]) AS name,
        unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege
    WHERE to_regclass(name) IS NOT NULL AND NOT has_table_privilege(to_regclass(name), privilege) ORDER BY 1, 2
"""
"""`$1` quoted names of tables: what the role may not do with them."""


def longest_histories(tables: Tables) -> str:
    """The sessions that were written most often: app, user, id, number of writes."""
    return f"SELECT app_name, user_id, id, revision FROM {tables.sessions} ORDER BY revision DESC LIMIT 3"


def largest_states(tables: Tables) -> str:
    """The largest states of sessions, users and apps: kind, owner, bytes as stored."""
    return f"""
    SELECT kind, owner, bytes FROM (
        (SELECT 'session' AS kind, concat_ws(' / ', app_name, user_id, id) AS owner, pg_column_size(state) AS bytes
        FROM {tables.sessions} ORDER BY 3 DESC LIMIT 3)
        UNION ALL
        (SELECT 'user', concat_ws(' / ', app_name, user_id), pg_column_size(state)
        FROM {tables.user_states} ORDER BY 3 DESC LIMIT 3)
        UNION ALL
        (SELECT 'app', app_name, pg_column_size(state) FROM {tables.app_states} ORDER BY 3 DESC LIMIT 3)
    ) AS s ORDER BY bytes DESC, kind, owner LIMIT 3
    """


def expected_indexes(tables: Tables, index_set: IndexSet) -> Mapping[str, str]:
    """The indexes that the migrations make beside primary keys: bare name, and the statement that makes it anew."""
    made = {
        tables.index(tables.session_table, suffix): (tables.sessions, definition)
        for suffix, definition in index_definitions(index_set).items()
    }
    made[tables.index(tables.events_table, "session")] = (
        tables.events,
        "(app_name, user_id, session_id, seq)",
    )
    made[tables.index(tables.fork_table, "origin")] = (
        tables.forks,
        "(app_name, user_id, origin_id, origin_create_time)",
    )
    return {
        name.strip('"'): f"CREATE INDEX CONCURRENTLY {name} ON {table} {definition}"
        for name, (table, definition) in made.items()
    }
