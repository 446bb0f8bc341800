"""The statements that read a file of ADK's `SqliteSessionService` (google-adk 2.13, `sqlite_session_service.py`)."""

from __future__ import annotations

from typing import Final

BEGIN: Final = "BEGIN"
"""What follows sees one state of the file."""

ROLLBACK: Final = "ROLLBACK"

OBJECTS: Final = "SELECT name FROM sqlite_master WHERE type = 'table'"
"""The tables."""

COLUMNS: Final = "SELECT name FROM pragma_table_info(?)"
"""The columns of a table."""

APP_STATES: Final = "SELECT app_name, state, update_time FROM app_states"
USER_STATES: Final = "SELECT app_name, user_id, state, update_time FROM user_states"

SESSIONS: Final = """
SELECT app_name, user_id, id, state, create_time, update_time FROM sessions
WHERE (app_name, user_id, id) > (?, ?, ?) ORDER BY app_name, user_id, id LIMIT ?
"""
"""The sessions after a key, in the order of the keys."""

EVENTS: Final = """
SELECT app_name, user_id, session_id, id, event_data FROM events
WHERE (app_name, user_id, session_id) > (?, ?, ?) AND (app_name, user_id, session_id) <= (?, ?, ?)
ORDER BY app_name, user_id, session_id, timestamp, rowid
"""
"""The events of the sessions between two keys, as the service orders them."""

LAST_EVENTS: Final = """
SELECT app_name, user_id, session_id, id, event_data FROM events
WHERE (app_name, user_id, session_id) > (?, ?, ?)
ORDER BY app_name, user_id, session_id, timestamp, rowid
"""
"""The events after a key."""


def count(table: str) -> str:
    """How many rows one of the four tables has."""
    return f"SELECT count(*) FROM {table}"
