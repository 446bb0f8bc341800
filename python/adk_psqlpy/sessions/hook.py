"""`before_append`: the application's last word on an event before it is stored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from google.adk.events.event import Event

BeforeAppend = Callable[[Event], Awaitable["Event | None"]]
"""Gets a copy of its own of an event and gives the event to store, or `None` to store none."""

_KEPT: Final = ("id", "invocation_id", "timestamp")


async def prepared(hook: BeforeAppend | None, event: Event) -> Event | None:
    """The event that is stored in the place of this one; `None` for none.

    Raises:
        ValueError: the hook gave no event, or one with another id, invocation id or timestamp. By these an
            event that is appended twice is recognised, and a rewind finds its place.
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
