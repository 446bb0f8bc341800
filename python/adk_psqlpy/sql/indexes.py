"""The sets of indexes over the session table, and replacing one set by the other.

An update is heap-only (HOT) if it changes no column of an index. PostgreSQL then writes to no index, and
removes old versions without VACUUM. Each append changes `update_time`, and many change `state`.
Numbers: docs/design.md, "What an update costs".
"""

from __future__ import annotations

from typing import Final, Literal, get_args

from adk_psqlpy.sql.migrate import LOCK
from adk_psqlpy.sql.migrations import READING
from adk_psqlpy.sql.tables import Tables

IndexSet = Literal["reading", "appending"]
INDEX_SETS: Final[tuple[IndexSet, ...]] = get_args(IndexSet)

LOCK_SEC: Final = 5
"""Seconds for which a change of the set waits for transactions that hold the table. Others wait behind it
meanwhile.
"""

# Set -> suffix of the index's name -> how it is made.
_DEFINITIONS: Final[dict[IndexSet, dict[str, str]]] = {
    "reading": {
        "app_user": '(app_name COLLATE "C", user_id COLLATE "C", update_time)',
        "update_time": "(update_time DESC)",
        "state": "USING gin (state) WHERE state != '{}'",
    },
    "appending": {"user": '(app_name COLLATE "C", user_id COLLATE "C")'},
}


def index_definitions(index_set: IndexSet) -> dict[str, str]:
    """The indexes of a set: suffix of the name, and what stands behind the table's name in CREATE INDEX."""
    return _DEFINITIONS[index_set]


def change_indexes(tables: Tables, wanted: IndexSet) -> str:
    """A batch that gives the session table a set of indexes, whatever is recorded, or changes nothing.

    Nothing is changed if the set is `wanted` already. Otherwise the table is locked EXCLUSIVE from the
    beginning. CREATE INDEX alone takes only SHARE, and that could deadlock with an append, which locks the
    table ROW SHARE and then ROW EXCLUSIVE. Reads go on until the old indexes are dropped.

    A distributed table is locked ACCESS EXCLUSIVE, on all nodes. An append holds it ACCESS SHARE on the coordinator
    while it runs on the shard. There it would wait for CREATE INDEX, and DROP INDEX would wait for it here.
    """
    made, dropped = [], []
    for index_set, definitions in _DEFINITIONS.items():
        for suffix, definition in definitions.items():
            name = tables.index(tables.session_table, suffix)
            if index_set == wanted:
                made.append(f"CREATE INDEX IF NOT EXISTS {name} ON {tables.sessions} {definition};")
            else:
                dropped.append(f"DROP INDEX IF EXISTS {tables.in_schema_of(tables.session_table, name)};")
    steps = "\n            ".join([*made, *dropped])
    return f"""
    SET LOCAL client_min_messages = warning;
    SELECT pg_advisory_xact_lock({LOCK});
    SET LOCAL citus.multi_shard_modify_mode = 'sequential';
    SET LOCAL lock_timeout = '{LOCK_SEC}s';
    DO $index_set$ BEGIN
        IF coalesce((SELECT value FROM {tables.metadata} WHERE key = 'index_set'), '{READING}') != '{wanted}' THEN
            IF EXISTS (SELECT FROM {tables.metadata} WHERE key = 'distributed') THEN
                LOCK TABLE {tables.sessions} IN ACCESS EXCLUSIVE MODE;
            ELSE
                LOCK TABLE {tables.sessions} IN EXCLUSIVE MODE;
            END IF;
            {steps}
            INSERT INTO {tables.metadata} (key, value) VALUES ('index_set', '{wanted}')
                ON CONFLICT (key) DO UPDATE SET value = excluded.value;
        END IF;
    END $index_set$;
    """
