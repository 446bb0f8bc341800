"""diff: what two sessions have in common."""

from __future__ import annotations

from typing import Any

import pytest
from google.adk.sessions import Session

from adk_psqlpy import PsqlpySessionService
from contract.events import delta, said

from .test_points import read, told


async def test_two_branches(service: PsqlpySessionService) -> None:
    """Two answers to one question: the common history, what each has of its own, and the states."""
    session = await told(service)
    fork = await service.fork_session(session, at_event="e2")
    other = said("another answer", id="e3")
    await service.append_event(fork, other)
    await service.append_event(fork, delta({"only": "here", "n": 5}, id="e4"))
    found = service.diff(session, fork)
    assert found.common == 2
    assert [event.id for event in found.only_a] == ["e4", "e5"]
    assert found.only_b == [other, fork.events[-1]]
    assert found.state_only_a == {}
    assert found.state_only_b == {"only": "here"}
    assert found.state_changed == {"tier": ("iron", "gold")}
    assert not found.equal
    assert service.diff(session, await read(service)).equal


VALUES: list[tuple[Any, Any, bool]] = [
    (1, 1, True),
    (1, 1.0, False),
    (1, True, False),
    (0.0, -0.0, False),
    (float("nan"), float("nan"), True),
    ([1, {"a": None}], [1, {"a": None}], True),
    ([1], [1, 2], False),
    ({"a": 1}, {"a": 1, "b": 2}, False),
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
    ({"a": [1]}, {"a": [True]}, False),
    ((1, 2), [1, 2], True),
    (None, "", False),
]


@pytest.mark.parametrize(("one", "other", "equal"), VALUES, ids=repr)
def test_values_of_state(one: Any, other: Any, equal: bool) -> None:
    """Values are compared as JSON, so 1, 1.0 and true differ, and NaN equals itself."""
    a = Session(id="a", app_name="app", user_id="user", state={"k": one})
    b = Session(id="b", app_name="app", user_id="user", state={"k": other})
    assert PsqlpySessionService.diff(a, b).equal is equal


def test_an_edited_event_ends_what_is_common() -> None:
    """Events are compared in all fields, not by their ids."""
    events = [said(str(number), id=str(number), seconds=number) for number in range(3)]
    a = Session(id="a", app_name="app", user_id="user", events=events)
    b = a.model_copy(deep=True)
    b.events[1].author = "agent"
    found = PsqlpySessionService.diff(a, b)
    assert (found.common, len(found.only_a), len(found.only_b)) == (1, 2, 2)
    with pytest.raises(ValueError, match="b must be a Session, not str"):
        PsqlpySessionService.diff(a, "b")  # type: ignore[arg-type]
