"""The records that every source yields and the target takes: one stream, in which events follow their
session.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from google.adk.events.event import Event
from google.genai import types

Kind = Literal["session", "event", "state", "memory", "artifact", "source"]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that was not carried, or that differs, and the reason.

    `name` is that of the event, memory or artifact. `session_id` is `None` for something that belongs to no
    session, and `user_id` is `None` for something that belongs to the app.
    """

    kind: Kind
    app_name: str
    user_id: str | None
    session_id: str | None
    name: str | None
    reason: str

    def __str__(self) -> str:
        """One line, from the app to the reason."""
        place = [f"app {self.app_name!r}"] if self.app_name else []
        if self.user_id is not None:
            place.append(f"user {self.user_id!r}")
        if self.session_id:
            place.append(f"session {self.session_id!r}")
        if self.name is not None:
            place.append(f"{self.kind} {self.name!r}")
        return f"{', '.join(place)}: {self.reason}" if place else self.reason


@dataclass(frozen=True, slots=True)
class SharedState:
    """The state of an app, or of a user in it; keys without `app:` and `user:`.

    All times are microseconds since the Unix epoch; `None` if the source has none.
    """

    app_name: str
    user_id: str | None
    state: dict[str, Any]
    update_micros: int | None = None


@dataclass(frozen=True, slots=True)
class Fork:
    """The session that a fork was made from, at which revision, and when."""

    origin_id: str
    origin_create_micros: int
    origin_revision: int
    create_micros: int


@dataclass(frozen=True, slots=True)
class SessionHead:
    """A session without its events. `state` is its own state, without shared state of apps and users.

    Only sessions that adk-psqlpy stored have the other fields: the state at creation (`None`: not known), the
    number of writes, the session that this one was forked from, and the number of events and changes that
    follow.
    """

    app_name: str
    user_id: str
    id: str
    state: dict[str, Any]
    create_micros: int | None
    update_micros: int | None
    initial_state: dict[str, Any] | None = None
    revision: int | None = None
    fork: Fork | None = None
    events: int | None = None
    changes: int | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """The key of the session."""
        return self.app_name, self.user_id, self.id


@dataclass(frozen=True, slots=True)
class StateChange:
    """A change of a session's state without an event, and the revision that it made."""

    revision: int
    delta: dict[str, Any]
    create_micros: int


@dataclass(slots=True)
class SessionEvents:
    """Events of the session that precedes it in the stream, in order. A long session has several of these
    records.

    `problems` are events that could not be read; they are not in `events`. `seqs` are the revisions that the
    events made, if the source knows them; otherwise events are numbered from 1. `changes` are in order, too.
    """

    events: list[Event] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    seqs: list[int] | None = None
    changes: list[StateChange] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class MemoryRecord:
    """A memory: an event of a session, or an explicit memory (`session_id` is empty).

    `time_text` is the time as an explicit memory states it; `None` for the memory of an event.
    """

    app_name: str
    user_id: str
    session_id: str
    id: str
    author: str | None
    micros: int
    time_text: str | None
    content: types.Content
    metadata: dict[str, Any]
    expire_micros: int | None = None


@dataclass(frozen=True, slots=True)
class ArtifactRecord:
    """A version of an artifact with its bytes; `session_id` is `None` for the user's own."""

    app_name: str
    user_id: str
    session_id: str | None
    filename: str
    version: int
    part: types.Part
    custom_metadata: dict[str, Any]
    create_micros: int


Record = SharedState | SessionHead | SessionEvents | MemoryRecord | ArtifactRecord | Problem


@dataclass(slots=True)
class Counts:
    """How many records of each kind there are; `None` if the source cannot tell beforehand."""

    sessions: int | None = 0
    events: int | None = 0
    states: int | None = 0
    memories: int | None = 0
    artifacts: int | None = 0

    def __add__(self, other: Counts) -> Counts:
        """Of two sources together."""
        return Counts(
            _sum(self.sessions, other.sessions),
            _sum(self.events, other.events),
            _sum(self.states, other.states),
            _sum(self.memories, other.memories),
            _sum(self.artifacts, other.artifacts),
        )


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other
