"""Reading a session that may be a little old, on a replica."""

from __future__ import annotations

from google.adk.sessions.base_session_service import GetSessionConfig
from pydantic import Field


class ReplicaSessionConfig(GetSessionConfig):
    """Read the session on the replica if that is at most `max_staleness_sec` behind, else on the primary.

    It is for readers that do not write: a page that shows a conversation, an evaluation, a report. The bound
    is exact, because `connections.replica` compares positions in the WAL. The session contains every write
    that this configuration had finished before the read began. Writes of other processes may be missing for
    up to `max_staleness_sec`. The object carries the revision that was read, so an append to an outdated one
    raises `StaleSessionError`.

    Without a replica (`PsqlpyConfig(replica=...)`) the primary is read.

    Attributes:
        max_staleness_sec: seconds, above 0 and at most a day.
    """

    max_staleness_sec: float = Field(default=1.0, gt=0, le=86_400)
