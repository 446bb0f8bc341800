"""Points of a session: finding out which one is meant, and the errors if there is no such point."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from google.adk.events.event import Event

from adk_psqlpy import _native
from adk_psqlpy.checks import check_identifier
from adk_psqlpy.errors import NoSuchPointError, UnknownStateError
from adk_psqlpy.sessions import arguments
from adk_psqlpy.sql.travel import PointKind


@dataclass(frozen=True, slots=True)
class Point:
    """A point of a session in the form of `sql.travel`: a kind, and a parameter of that kind."""

    kind: PointKind
    parameters: tuple[Any, ...]
    text: str
    """Its name in errors."""


def point(
    at_event: Event | str | None,
    at_seq: int | None,
    before_invocation_id: str | None,
    key_length: int,
) -> Point:
    """Make a point of one of the three arguments. Without any of them, the point is the session as it is.

    Raises:
        ValueError: more than one is given, or one is not of its type.
    """
    given = {
        "at_event": at_event,
        "at_seq": at_seq,
        "before_invocation_id": before_invocation_id,
    }
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise ValueError(f"{' and '.join(named)} are given: name one point")
    if at_event is not None:
        event_id = at_event.id if isinstance(at_event, Event) else at_event
        check_identifier("at_event (an Event or its id)", event_id, key_length, "PsqlpyADKStore")
        return Point("event", (event_id,), f"event {event_id!r}")
    if at_seq is not None:
        return Point("seq", (arguments.count("at_seq", at_seq),), f"seq {at_seq}")
    if before_invocation_id is not None:
        if not isinstance(before_invocation_id, str) or not before_invocation_id:
            raise ValueError(f"before_invocation_id must be a str with text, not {before_invocation_id!r}")
        return Point(
            "invocation", (_as_stored(before_invocation_id),), f"invocation {before_invocation_id!r}"
        )
    return Point("head", (), "the newest event")


def _as_stored(text: str) -> str:
    """The text with the escapes that it has in a column."""
    encoded = _native.encode_json(text)
    if encoded is None:
        raise ValueError(f"{text!r} has no JSON form")
    return str(json.loads(encoded[1:]))


def check_point(
    wanted: Point, place: str, revision: int, found: int | None, unknown: bool | None, missing: int | None
) -> None:
    """Raise an error if `sql.travel` found no point, or no state.

    Raises:
        NoSuchPointError: the session has no such point.
        UnknownStateError: the state there is not known.
    """
    if found is None:
        newest = f" (its newest is seq {revision})" if wanted.kind == "seq" else ""
        raise NoSuchPointError(f"{place} has no {wanted.text}{newest}: nothing was done")
    if unknown:
        raise UnknownStateError(
            f"the state of {place} at seq {found} is not known, because the state that it was created with "
            "is not known. The session was made before version 2 of the tables, by an older version of "
            f"adk-psqlpy, or with SQL. Only its state now (seq {revision}) is known. Nothing was done"
        )
    if missing:
        raise UnknownStateError(
            f"the state of {place} at seq {found} is not known, because {missing} of the {found} changes up "
            "to there are not recorded: events were deleted, or state was changed by an older version of "
            "adk-psqlpy or with SQL. Nothing was done"
        )
