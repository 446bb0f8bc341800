"""What the store gives: a session as it is stored, and which state of it somebody has seen."""

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
    """Which state of which session a writer has seen.

    A session that was deleted and made again under its id has another `create_time`, so that whoever holds
    the old one is stale even where the revisions are the same.

    After a failover that lost commits, others may bring a session back to a revision that a writer has seen
    with another history. `update_time` and `last_event_id`, an event that the writer has seen, tell the two
    apart; `None` is not compared.
    """

    revision: int
    create_time: float
    update_time: float | None = None
    last_event_id: str | None = None


@dataclass(frozen=True, slots=True)
class AppendOutcome:
    """Why an append wrote nothing: what is stored, and the event's `seq` if it is among it."""

    version: Version
    seq: int | None
