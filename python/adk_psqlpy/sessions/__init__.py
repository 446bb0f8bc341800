"""ADK's sessions, their state and events in PostgreSQL.

`service` has ADK's rules; those for appends to a session that others have changed are in `outdated`. `store`
is the plain operations below them: `session_operations` and `event_operations`, both on `operations`.
`store_tables` makes the tables. `groups` sends appends together, `kept_reads` and `paging` read histories,
`listing` lists, `search` searches, and `travel` goes back in time.
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
