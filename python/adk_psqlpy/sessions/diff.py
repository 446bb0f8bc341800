"""Comparing two sessions: what they have in common, and where they differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.adk.events.event import Event
from google.adk.sessions.session import Session


@dataclass(frozen=True, slots=True)
class SessionDiff:
    """What `a` and `b` have in common, and where they differ.

    `common` is the number of events at the beginning that are equal in all fields. `only_a` and `only_b` are
    the events after those. `state_only_a` and `state_only_b` are the keys that only one of the two has, with
    their values. `state_changed` maps each key whose values differ to `(a's value, b's value)`. All state
    that ADK shows is compared.
    """

    common: int
    only_a: list[Event]
    only_b: list[Event]
    state_only_a: dict[str, Any]
    state_only_b: dict[str, Any]
    state_changed: dict[str, tuple[Any, Any]]

    @property
    def equal(self) -> bool:
        """Whether events and state are equal."""
        return not (
            self.only_a or self.only_b or self.state_only_a or self.state_only_b or self.state_changed
        )


def diff(a: Session, b: Session) -> SessionDiff:
    """Compare events and state of two sessions as they are in memory; nothing is read.

    Values of state are compared as JSON: 1, 1.0 and true are three values, and NaN equals itself.

    Raises:
        ValueError: one of them is not a Session.
    """
    for name, session in (("a", a), ("b", b)):
        if not isinstance(session, Session):
            raise ValueError(f"{name} must be a Session, not {type(session).__name__}")
    common = 0
    for one, other in zip(a.events, b.events, strict=False):
        if one != other:
            break
        common += 1
    return SessionDiff(
        common=common,
        only_a=a.events[common:],
        only_b=b.events[common:],
        state_only_a={key: value for key, value in a.state.items() if key not in b.state},
        state_only_b={key: value for key, value in b.state.items() if key not in a.state},
        state_changed={
            key: (value, b.state[key])
            for key, value in a.state.items()
            if key in b.state and not same(value, b.state[key])
        },
    )


def same(one: object, other: object) -> bool:
    """Whether two values are the same JSON value. A tuple counts as a list."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return repr(one) == repr(other)
    return type(one) is type(other) and one == other
