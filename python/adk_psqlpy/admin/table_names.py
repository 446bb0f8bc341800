"""The names of the tables of several services."""

from __future__ import annotations

from dataclasses import dataclass

from adk_psqlpy.sql import Tables


@dataclass(frozen=True)
class TableNames:
    """The tables of sessions, memory and artifacts."""

    session_table: str = "adk_sessions"
    events_table: str = "adk_events"
    memory_table: str = "adk_memories"
    artifact_table: str = "adk_artifacts"

    @property
    def tables(self) -> Tables:
        """Those of sessions."""
        return Tables(self.session_table, self.events_table)
