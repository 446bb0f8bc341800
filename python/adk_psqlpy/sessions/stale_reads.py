"""Reading a session that may be a little old, on a replica."""

from __future__ import annotations

from google.adk.sessions.base_session_service import GetSessionConfig
from pydantic import Field


class ReplicaSessionConfig(GetSessionConfig):
    """Read the session on the replica, if that is not older than `max_staleness_sec`; else on the primary.

    For those who only look: a page that shows a conversation, an evaluation, a report. `connections.replica`
    compares positions in the WAL, so the bound holds. The session contains every write that this
    configuration had finished before the read began. What other processes wrote may be missing for
    `max_staleness_sec`. The object carries the revision that was read, so an append to an outdated one raises
    `StaleSessionError`.

    Without a replica (`PsqlpyConfig(replica=...)`) the primary is read.

    Attributes:
        max_staleness_sec: seconds, above 0 and at most a day.
    """

    max_staleness_sec: float = Field(default=1.0, gt=0, le=86_400)
