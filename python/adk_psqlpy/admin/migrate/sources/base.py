"""What a source is, and what several of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any, Final

from typing_extensions import Self

from adk_psqlpy.admin.migrate.records import Counts, Problem, Record, SessionEvents

PAGE_SESSIONS: Final = 200
"""How many sessions are looked up at a time; their events are read one after another."""

PART_EVENTS: Final = 200
"""How many events are handed on at a time."""

PART_BYTES: Final = 2 << 20
"""How many bytes of events are handed on at a time, plus one event."""


NAN_IS_NULL: Final = "NaN and infinities in events were stored as null"
KEYS_ARE_SORTED: Final = "PostgreSQL's JSONB, where events were kept, sorts the keys of objects: they stay so"
"""Differences that several sources have from what an agent had said."""


class SourceError(ValueError):
    """What was given is not a source, or cannot be read. The message says what was found there."""


class Source(ABC):
    """Where sessions come from: counted first, then read as one stream.

    Use it as an async context manager. `description` says in a few words what it is. `differences` says what
    it stores in another form than adk-psqlpy, and may grow while it is read.
    """

    description: str

    def __init__(self) -> None:
        self.differences: list[str] = []

    async def __aenter__(self) -> Self:
        """Open it, without looking at its content."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        return

    @abstractmethod
    async def count(self) -> Counts:
        """Tell what there is to read.

        Raises:
            SourceError: tables or columns are missing.
        """

    @abstractmethod
    def read(self) -> AsyncIterator[Record]:
        """Yield states, then sessions, each followed by its events, then memories and artifacts."""


class EventParts:
    """Collects the events of one session until there are enough to hand on."""

    def __init__(self) -> None:
        self._part = SessionEvents()
        self._bytes = 0

    def add(self, event: Any, size: int) -> SessionEvents | None:
        """Take an event or a problem, and return a part if it is full."""
        if isinstance(event, Problem):
            self._part.problems.append(event)
        else:
            self._part.events.append(event)
        self._bytes += size
        enough = len(self._part.events) + len(self._part.problems) >= PART_EVENTS
        return self.rest() if enough or self._bytes >= PART_BYTES else None

    def rest(self) -> SessionEvents | None:
        """Return what is left; `None` if nothing is."""
        part, self._part, self._bytes = self._part, SessionEvents(), 0
        return part if part.events or part.problems else None


def missing_columns(table: str, there: Sequence[str] | set[str], needed: Sequence[str]) -> str | None:
    """Say which columns a table lacks; `None` if it has all of them."""
    lacking = [name for name in needed if name not in there]
    return f"table {table} has no column {', '.join(lacking)}" if lacking else None


def micros_of(moment: datetime, naive: tzinfo = timezone.utc) -> int:
    """The exact microseconds since the Unix epoch. A time without a zone is in the zone `naive`."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=naive)
    since = moment - datetime(1970, 1, 1, tzinfo=timezone.utc)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def moment(micros: int) -> datetime:
    """The time that `micros_of` turned into microseconds, in UTC."""
    return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=micros)


def explain(error: Exception) -> str:
    """An error as the reason of a problem, shortened: pydantic's errors list every member of a union."""
    lines = str(error).splitlines() or [type(error).__name__]
    text = " ".join(line.strip() for line in lines[:4])
    return f"{text[:500]}{' …' if len(lines) > 4 or len(text) > 500 else ''}"
