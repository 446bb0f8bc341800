"""Breaches of the fidelity rules that were found and mended, each with its smallest case."""

from __future__ import annotations

import math

import pytest
from google.adk.events import Event, EventActions

from adk_psqlpy import _native

from . import rows
from .compare import assert_same
from .strategies import auth_config


def read_back(event: Event) -> Event:
    """The event, stored and read."""
    (made,) = _native.decode_events(rows.stored([event]), place="here")
    return made


@pytest.mark.parametrize("delta", [{"k": math.inf}, {"k": [math.nan]}, {"\ud83d": 1}], ids=repr)
def test_a_route_beside_values_that_json_lacks(delta: dict[str, object]) -> None:
    """A route leaves the state delta alone."""
    actions = EventActions(route="left", state_delta=delta, agent_state=delta)
    assert_same(read_back(Event(actions=actions)).actions.state_delta, delta)


def test_a_route_beside_an_auth_config() -> None:
    """A route leaves the authentication scheme alone."""
    actions = EventActions(route="left", requested_auth_configs={"fc-1": auth_config("d")})
    assert read_back(Event(actions=actions)).actions == actions


def test_a_timestamp_of_minus_zero() -> None:
    """Minus zero is a float of its own, also as a timestamp."""
    assert repr(read_back(Event(timestamp=-0.0)).timestamp) == "-0.0"


def test_an_object_that_nobody_can_dump() -> None:
    """Whatever cannot be stored is refused by name."""
    with pytest.raises(ValueError, match="custom_metadata"):
        _native.encode_event(Event(custom_metadata={"f": len}), 128)


def test_a_key_that_comes_twice() -> None:
    """Of two equal keys in `actions`, which is no JSONB, the last counts, whatever the first holds."""
    row: dict[str, bytes | None] = dict.fromkeys(rows.NAMES)
    row |= {"id": b"e", "timestamp": bytes(8), "actions": b'{"compaction": {}, "compaction": null}'}
    (made,) = _native.decode_events(rows.arrays([list(row.values())]), place="here")
    assert made.actions.compaction is None
