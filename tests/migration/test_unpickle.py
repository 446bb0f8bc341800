"""Pickled actions come from a database that others may write to: only data of ADK's classes is made."""

from __future__ import annotations

import collections
import datetime
import decimal
import os
import pathlib
import pickle
import pickletools
import uuid
from typing import Any

import pytest
from google.adk.events import EventActions
from google.adk.sessions import _restricted_pickle

from adk_psqlpy.admin.migrate.unpickle import actions_of, allowed
from contract.events import varied


class Evil:
    """Pickled as a call of whatever it is given."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        function, *arguments = self.call
        return function, tuple(arguments)


@pytest.mark.parametrize("protocol", range(3, pickle.HIGHEST_PROTOCOL + 1))
def test_actions_come_back(protocol: int) -> None:
    """Every field, in every protocol that an ADK on some Python wrote."""
    for event in varied().values():
        assert actions_of(pickle.dumps(event.actions, protocol)) == event.actions


@pytest.mark.parametrize("protocol", range(3, pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_in_state(protocol: int) -> None:
    """What agents put into state beside JSON: ADK pickled it as it was."""
    state: dict[str, Any] = {
        "time": datetime.datetime(2020, 1, 2, tzinfo=datetime.timezone.utc),
        "span": datetime.timedelta(seconds=1),
        "price": decimal.Decimal("1.10"),
        "id": uuid.UUID(int=1),
        "path": pathlib.PurePosixPath("/a"),
        "bytes": b"\x00\xff",
        "array": bytearray(b"ab"),
        "set": {1, 2},
        "tuple": (1, "a"),
        "ordered": collections.OrderedDict(a=1),
        "counted": collections.defaultdict(list, a=[1]),
        "complex": 1j,
    }
    actions = EventActions(state_delta=state)
    assert actions_of(pickle.dumps(actions, protocol)).state_delta == state


@pytest.mark.parametrize(
    ("call", "named"),
    [
        ((os.system, "true"), "posix.system"),
        ((eval, "1"), "builtins.eval"),
        ((exec, ""), "builtins.exec"),
        ((__import__, "os"), "builtins.__import__"),
        ((getattr, 1, "real"), "builtins.getattr"),
        ((pickle.loads, b""), "loads"),
        # Before protocol 4, a method is pickled as a call of getattr.
        ((pathlib.Path.unlink, pathlib.PurePosixPath("x")), ""),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("protocol", [3, 4])
def test_a_call_of_anything_else_is_refused(call: tuple[Any, ...], named: str, protocol: int) -> None:
    """By name, before it is called, wherever in the pickle it stands."""
    for holder in (Evil(*call), EventActions.model_construct(state_delta={"x": Evil(*call)})):
        with pytest.raises(pickle.UnpicklingError, match="refer to") as refused:
            actions_of(pickle.dumps(holder, protocol))
        assert named in str(refused.value)


def test_nothing_was_called(tmp_path: pathlib.Path) -> None:
    """The file that a malicious pickle would make is not there."""
    mark = tmp_path / "mark"
    for protocol in range(3, pickle.HIGHEST_PROTOCOL + 1):
        payload = pickle.dumps(Evil(os.mkdir, str(mark)), protocol)
        assert b"mkdir" in payload
        with pytest.raises(pickle.UnpicklingError):
            actions_of(payload)
    assert not mark.exists()


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_bytes_from_a_number_are_refused(kind: type) -> None:
    """A pickle of 40 bytes would take all memory."""
    with pytest.raises(pickle.UnpicklingError, match="make bytes from a number"):
        actions_of(pickle.dumps(Evil(kind, 10**12), 4))


def test_what_is_no_pickle_of_actions() -> None:
    """Named, and never another kind of error."""
    whole = pickle.dumps(EventActions(state_delta={"k": "v" * 100}), 4)
    for data in (
        b"",
        b"\x80",
        b"nonsense",
        whole[:-20],
        pickle.dumps({"state_delta": {}}),
        b"\x80\x04N",
        whole[5:],
    ):
        with pytest.raises(pickle.UnpicklingError):
            actions_of(data)
    assert actions_of(pickle.dumps(None)) == EventActions()


def test_a_torn_pickle_never_passes_as_another() -> None:
    """Every cut and every changed byte is refused, or gives actions."""
    whole = pickle.dumps(varied()["actions: state"].actions, 4)
    for place in range(len(whole)):
        for data in (whole[:place], whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :]):
            try:
                found = actions_of(data)
            except (pickle.UnpicklingError, ValueError):
                continue
            assert isinstance(found, EventActions)


def test_all_that_adk_admits_is_admitted() -> None:
    """google-adk reads schema v0 with a list of its own; beside it we take frozenset."""
    assert allowed() >= _restricted_pickle._allowed_globals()
    assert allowed() - _restricted_pickle._allowed_globals() == {("builtins", "frozenset")}


def test_the_pickles_of_the_test_are_of_their_protocols() -> None:
    """Or the tests above would say nothing of old ones."""
    for protocol in range(3, pickle.HIGHEST_PROTOCOL + 1):
        opcode, argument, _ = next(pickletools.genops(pickle.dumps(EventActions(), protocol)))
        assert (opcode.name, argument) == ("PROTO", protocol)
