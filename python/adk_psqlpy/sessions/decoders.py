"""Decoders for the columns that the statements of sessions return."""

from __future__ import annotations

from typing import Final

from adk_psqlpy.connections.binary import raw, seconds
from adk_psqlpy.connections.lanes import Decoders
from adk_psqlpy.sql import event_columns

SESSION: Final[Decoders] = {
    "state": raw,
    "app_state": raw,
    "user_state": raw,
    "create_time": seconds,
    "update_time": seconds,
    **dict.fromkeys(event_columns.ARRAYS, raw),
}
"""For a session, its states and its events (`Statements.get_session`), or a part of these."""

LIST: Final[Decoders] = dict.fromkeys(
    (
        *("user_ids", "ids", "states", "create_times", "update_times", "revisions"),
        *("app_state", "state_user_ids", "user_states"),
    ),
    raw,
)
"""For a list of sessions, one array for each column (`Statements.list_sessions`)."""
