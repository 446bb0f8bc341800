"""The sets of indexes over the session table, and how one takes the place of the other.

An update is heap-only (HOT) if no column that an index holds is changed; PostgreSQL then writes to no index, and
clears the old version away without VACUUM. Each append changes `update_time`, and many change `state`.
Numbers: docs/design.md, "What an update costs".
"""

from __future__ import annotations

from typing import Final, Literal, get_args

from adk_psqlpy.sql.migrate import LOCK
from adk_psqlpy.sql.migrations import READING
from adk_psqlpy.sql.tables import Tables

IndexSet = Literal["reading", "appending"]
INDEX_SETS: Final[tuple[IndexSet, ...]] = get_args(IndexSet)

# From 16 on a BRIN index leaves updates heap-only: it is not one entry a row, but the least and the largest
# value of many pages.
_BRIN_IS_HOT: Final = 160000

LOCK_SEC: Final = 5
"""How long a change of the set waits for transactions that hold the table; meanwhile others wait behind it."""

# Set -> suffix of the index's name -> the oldest server that gets it, and how it is made.
_DEFINITIONS: Final[dict[IndexSet, dict[str, tuple[int, str]]]] = {
    "reading": {
        "app_user": (0, '(app_name COLLATE "C", user_id COLLATE "C", update_time)'),
        "update_time": (0, "(update_time DESC)"),
        "state": (0, "USING gin (state) WHERE state != '{}'"),
    },
    "appending": {
        "user": (0, '(app_name COLLATE "C", user_id COLLATE "C")'),
        "update_time_brin": (_BRIN_IS_HOT, "USING brin (update_time)"),
    },
}


def change_indexes(tables: Tables, wanted: IndexSet) -> str:
    """A batch that brings the session table to a set, whatever is recorded; all of it or nothing happens.

    Nothing is changed where the set is `wanted` already. Else the lock on the table is EXCLUSIVE from the
    beginning: SHARE, which is all that CREATE INDEX takes, would be a deadlock with an append, whose own
    locks on the table are ROW SHARE and then ROW EXCLUSIVE. Reads go on until the old indexes are dropped.
    """
    made, dropped = [], []
    for index_set, definitions in _DEFINITIONS.items():
        for suffix, (oldest, definition) in definitions.items():
            name = tables.index(tables.session_table, suffix)
            if index_set == wanted:
                step = f"CREATE INDEX IF NOT EXISTS {name} ON {tables.sessions} {definition};"
                if oldest:
                    step = f"IF current_setting('server_version_num')::int >= {oldest} THEN {step} END IF;"
                made.append(step)
            else:
                dropped.append(f"DROP INDEX IF EXISTS {tables.in_schema_of(tables.session_table, name)};")
    steps = "\n            ".join([*made, *dropped])
    return f"""
    SET LOCAL client_min_messages = warning;
    SELECT pg_advisory_xact_lock({LOCK});
    SET LOCAL lock_timeout = '{LOCK_SEC}s';
    DO $index_set$ BEGIN
        IF coalesce((SELECT value FROM {tables.metadata} WHERE key = 'index_set'), '{READING}') != '{wanted}' THEN
            LOCK TABLE {tables.sessions} IN EXCLUSIVE MODE;
            {steps}
            INSERT INTO {tables.metadata} (key, value) VALUES ('index_set', '{wanted}')
                ON CONFLICT (key) DO UPDATE SET value = excluded.value;
        END IF;
    END $index_set$;
    """
