"""`before_append`: the application may change or drop an event before it is stored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from google.adk.events.event import Event

BeforeAppend = Callable[[Event], Awaitable["Event | None"]]
"""Gets its own copy of an event, and returns the event to store, or `None` to drop it."""

_KEPT: Final = ("id", "invocation_id", "timestamp")


async def prepared(hook: BeforeAppend | None, event: Event) -> Event | None:
    """Return the event that is stored in place of this one; `None` if it is dropped.

    Raises:
        ValueError: the hook returned something else, or an event with another id, invocation id or timestamp.
            These are needed to recognise an event that is appended twice, and to find the place of a rewind.
    """
    if hook is None:
        return event
    given = await hook(event.model_copy(deep=True))
    if given is None:
        return None
    if not isinstance(given, Event):
        raise ValueError(f"before_append must give an Event or None, not {type(given).__name__}")
    for name in _KEPT:
        if getattr(given, name) != getattr(event, name):
            raise ValueError(
                f"before_append changed {name} of event {event.id!r}, which must stay as it is: nothing was "
                "stored"
            )
    return given
