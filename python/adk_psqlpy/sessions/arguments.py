"""Checks of the arguments of the store and of the service, before anything is sent."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.adk.sessions.session import Session

from adk_psqlpy.connections.binary import parameter, timestamptz
from adk_psqlpy.sessions.stored import Version


def count(name: str, value: int) -> int:
    """Refuse anything but an integer from 0 to the largest bigint of PostgreSQL.

    Raises:
        ValueError: naming it.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise ValueError(f"{name} must be an integer from 0 to 2**63 - 1, not {value!r}")
    return value


def history_cache_bytes(value: int | None) -> int:
    """Refuse anything but a size of a cache; `None` is 0.

    Raises:
        ValueError: it is negative, or no integer.
    """
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(
            f"history_cache_bytes must be how many bytes of memory to use, 0 or None for none, not {value!r}"
        )
    return value


def micros(name: str, seconds: float) -> int:
    """Round seconds since the Unix epoch to microseconds, as the encoder of events does.

    Raises:
        ValueError: it is not a number, or outside the range of timestamptz (manual, 8.5).
    """
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise ValueError(f"{name} must be seconds since the Unix epoch, not {type(seconds).__name__}")
    if not -210_866_803_200 <= seconds < 9_223_372_000_000:
        raise ValueError(f"{name} {seconds} is outside what is kept (4713 BC to 294246 AD)")
    return round(seconds * 1e6)


def which_events(after_timestamp: float | None, limit: int | None) -> tuple[str, list[Any]]:
    """The variant of `Statements.get_session`, and its further parameters.

    Raises:
        ValueError: an argument is not possible.
    """
    if limit is not None:
        limit = count("limit", limit)
    after = None
    if after_timestamp is not None:
        after = parameter(timestamptz(micros("after_timestamp", after_timestamp)))
    if limit == 0:
        return "none", []
    if after is None:
        return ("all", []) if limit is None else ("newest", [limit])
    return ("after", [after]) if limit is None else ("newest_after", [after, limit])


def seen(expected: Version, check: Callable[..., None]) -> list[bytes | None]:
    """The parts of a version other than its revision, in binary format: create_time, update_time and an
    event's id.

    Raises:
        ValueError: naming what is wrong. For the event's id, `check` raises its own error.
    """
    created, updated, event_id = expected.create_time, expected.update_time, expected.last_event_id
    if event_id is not None:
        check(**{"expected.last_event_id": event_id})
    return [
        timestamptz(micros("create_time", created)),
        None if updated is None else timestamptz(micros("update_time", updated)),
        None if event_id is None else event_id.encode(),
    ]


def check_append(event: Event, expected: Version) -> None:
    """Refuse anything but an event and a version. pydantic checks values when a model is made, not when they
    are assigned.

    Raises:
        ValueError: naming what is wrong.
    """
    if not isinstance(event, Event):
        raise ValueError(f"event must be an Event, not {type(event).__name__}")
    if not isinstance(expected, Version):
        raise ValueError(f"expected must be a Version, not {type(expected).__name__}")
    count("expected.revision", expected.revision)
    if not isinstance(event.actions, EventActions):
        raise ValueError(f"event.actions must be EventActions, not {type(event.actions).__name__}")
    if event.timestamp is None:
        raise ValueError("event.timestamp must be seconds since the Unix epoch, not None")


def require(name: str, value: object, kind: type, *, optional: bool = False) -> None:
    """Refuse a value of another type.

    Raises:
        ValueError: naming it.
    """
    if not isinstance(value, kind) and not (optional and value is None):
        article = "an" if kind.__name__[0] in "AEIO" else "a"
        raise ValueError(f"{name} must be {article} {kind.__name__}, not {type(value).__name__}")


def require_fields(session: Session) -> None:
    """Check the fields that an append reads and changes. pydantic checks values when a model is made, not
    when they are assigned.

    Raises:
        ValueError: naming the field.
    """
    require("session.state", session.state, dict)
    require("session.events", session.events, list)
    updated = session.last_update_time
    if isinstance(updated, bool) or not isinstance(updated, (int, float)) or not math.isfinite(updated):
        raise ValueError(
            f"session.last_update_time must be seconds since the Unix epoch, not {updated!r} "
            "(0.0 for a session that was never read)"
        )
