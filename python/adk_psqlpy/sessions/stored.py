"""What the store returns: a stored session, and the version of it that somebody has seen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from google.adk.events.event import Event


@dataclass(slots=True)
class StoredSession:
    """A session as it is stored.

    `state` is what ADK shows: the session's own keys, and those of app and user with their prefixes.
    Times are in seconds since the Unix epoch; `revision` counts the writes to the session.
    """

    app_name: str
    user_id: str
    id: str
    state: dict[str, Any]
    create_time: float
    update_time: float
    revision: int
    events: list[Event] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Version:
    """The version of a session that a writer has seen.

    A session that was deleted and made again has another `create_time`. So whoever holds the old one is
    stale, even if the revisions are equal.

    After a failover that lost commits, others may bring a session back to a revision that a writer has seen
    with another history. `update_time` and `last_event_id` (an event that the writer has seen) distinguish
    the two. `None` is not compared.
    """

    revision: int
    create_time: float
    update_time: float | None = None
    last_event_id: str | None = None


@dataclass(frozen=True, slots=True)
class AppendOutcome:
    """Why an append wrote nothing: the stored version, and the event's `seq` if the event is stored."""

    version: Version
    seq: int | None
