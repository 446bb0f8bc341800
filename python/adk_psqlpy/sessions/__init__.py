"""ADK's sessions, their state and events in PostgreSQL.

`service` has ADK's rules, `store` the plain operations that they are built on.
"""

from adk_psqlpy.sessions.compacted import CompactedSessionConfig
from adk_psqlpy.sessions.diff import SessionDiff
from adk_psqlpy.sessions.service import PsqlpySessionService
from adk_psqlpy.sessions.stale_reads import ReplicaSessionConfig
from adk_psqlpy.sessions.store import PsqlpyADKStore
from adk_psqlpy.sessions.stored import StoredSession
from adk_psqlpy.sessions.travel import Fork

__all__ = [
    "CompactedSessionConfig",
    "Fork",
    "PsqlpyADKStore",
    "PsqlpySessionService",
    "ReplicaSessionConfig",
    "SessionDiff",
    "StoredSession",
]
