"""ADK's sessions, their state and events in PostgreSQL."""

from adk_psqlpy.sessions.service import PsqlpySessionService
from adk_psqlpy.sessions.store import PsqlpyADKStore
from adk_psqlpy.sessions.stored import StoredSession

__all__ = ["PsqlpyADKStore", "PsqlpySessionService", "StoredSession"]
