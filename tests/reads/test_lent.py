"""Events that were handed out are handed out again only where nobody can tell."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.adk.events.event import Event
from pydantic import BaseModel

from adk_psqlpy import _native
from adk_psqlpy.sessions.histories import Chunk, History
from contract.events import said, varied

from .conftest import KEY, Reads, dumped

Change = Callable[[Any], None]


def mutable(value: Any) -> Iterator[Any]:
    """All that can be changed, at and below a value: instances, their dicts and sets, dicts, lists, sets."""
    if hasattr(value, "model_fields_set"):
        yield value
        yield value.model_fields_set
        if value.__pydantic_private__ is not None:
            yield value.__pydantic_private__
        yield from mutable(value.__dict__)
    elif isinstance(value, dict):
        yield value
        for item in value.values():
            yield from mutable(item)
    elif isinstance(value, (list, set)):
        yield value
        for item in value:
            yield from mutable(item)


def frozen(value: Any) -> bool:
    return bool(type(value).model_config.get("frozen"))


def reverse(value: dict[str, Any]) -> None:
    """The same members in another order."""
    for key in list(reversed(value)):
        value[key] = value.pop(key)


def changes(value: Any) -> list[Change]:
    """What can be done to a value of this kind; each is one small change."""
    if hasattr(value, "model_fields_set"):
        fields = list(type(value).model_fields)
        first, last = fields[0], fields[-1]
        return [
            lambda it: it.__dict__.__setitem__("further", 1),
            lambda it: BaseModel.__setattr__(it, first, "changed") if not frozen(it) else it.__dict__.clear(),
            lambda it: it.__dict__.__setitem__(last, "changed"),
            lambda it: it.__dict__.__setitem__(last, it.__dict__.pop(last)) or it.__dict__.clear(),
            lambda it: it.__dict__.update({first: it.__dict__.pop(first)}),
            lambda it: object.__setattr__(it, "__pydantic_extra__", {}),
            lambda it: object.__setattr__(it, "__pydantic_private__", {"a": 1}),
            lambda it: object.__setattr__(it, "__pydantic_fields_set__", set()),
            lambda it: object.__setattr__(it, "__class__", type("Sub", (type(it),), {})),
            lambda it: object.__setattr__(it, "__dict__", {}),
        ]
    if isinstance(value, dict):
        return [
            lambda it: it.update(further=1),
            lambda it: it.clear() if it else it.update(a=1),
            lambda it: it.update({next(iter(it)): "changed"}) if it else it.update(a=1),
            lambda it: (
                it.update(reversed([(key, it.pop(key)) for key in list(it)]))
                if len(it) > 1
                else it.update(a=1)
            ),
        ]
    if isinstance(value, list):
        return [
            lambda it: it.append(1),
            lambda it: it.clear() if it else it.append(1),
            lambda it: it.__setitem__(0, "changed") if it else it.append(1),
            lambda it: it.reverse() if len(it) > 1 else it.append(1),
        ]
    return [
        lambda it: it.add("further"),
        lambda it: it.clear() if it else it.add("further"),
        lambda it: it.add("other") or it.discard("author") or it.pop(),
    ]


@pytest.fixture
async def arrays(reads: Reads) -> Any:
    """All kinds of events as the server sends them."""
    await reads.create([*varied().values(), said("plain")])
    await reads.read()
    history = reads.store._histories.get(KEY)
    assert history is not None
    return history.chunks[0].events


def read(recording: Any) -> list[Event]:
    events, _ = _native.record_events(recording, place="")
    return events


def forgetful(recording: Any) -> Any:
    """The same without notes of what the events were like: each is compared member by member."""
    return _native.Recording.joined(recording)


def remembering(recording: Any) -> Any:
    """With notes, where this Python's dicts say when they were changed."""
    return recording


both_ways = pytest.mark.parametrize("prepared", [remembering, forgetful])


async def test_what_nobody_has_is_handed_out_again(arrays: Any) -> None:
    events, (recording,) = _native.record_events(arrays, place="")
    before = [id(event) for event in events]
    del events
    again = read(recording)
    same = sum(id(event) in before for event in again)
    assert same > len(again) / 2
    assert dumped(again) == dumped(_native.decode_events(arrays, place=""))


@both_ways
async def test_what_somebody_has_is_not(arrays: Any, prepared: Callable[[Any], Any]) -> None:
    """Whatever part of an event is held, an event without it is handed out."""
    events, (recording,) = _native.record_events(arrays, place="")
    for index in range(len(events)):
        for place in range(len(list(mutable(events[index])))):
            held = list(mutable(events[index]))[place]
            del events
            recording = prepared(recording)
            events = read(recording)
            assert id(held) not in [id(part) for part in mutable(events[index])], (index, place)
            del held
            events = None
            events = read(recording)


@both_ways
async def test_what_was_changed_is_not(arrays: Any, prepared: Callable[[Any], Any]) -> None:
    """Each small change to each part of each kind of event, one at a time: the next reader sees none."""
    expected = _native.decode_events(arrays, place="")
    texts, names = dumped(expected), [fields_set(event) for event in expected]
    events, (recording,) = _native.record_events(arrays, place="")
    tried = 0
    for index in range(len(events)):
        for place in range(len(list(mutable(events[index])))):
            for number in range(len(changes(list(mutable(events[index]))[place]))):
                part = list(mutable(events[index]))[place]
                changes(part)[number](part)
                del part
                del events
                recording = prepared(recording)
                events = read(recording)
                assert events == expected, (index, place, number)
                assert dumped(events[index : index + 1]) == texts[index : index + 1], (index, place, number)
                assert fields_set(events[index]) == names[index], (index, place, number)
                assert type(events[index]) is Event
                tried += 1
    assert tried > 1_000


def fields_set(value: Any) -> list[set[str]]:
    return [part.model_fields_set for part in mutable(value) if hasattr(part, "model_fields_set")]


@both_ways
async def test_a_weak_reference_counts(arrays: Any, prepared: Callable[[Any], Any]) -> None:
    """Whoever has one would see the next reader's changes. Of sets there are some too."""
    events, (recording,) = _native.record_events(arrays, place="")
    for index in range(len(events)):
        for place in range(len(list(mutable(events[index])))):
            part = list(mutable(events[index]))[place]
            if isinstance(part, (dict, list)):
                continue
            reference = weakref.ref(part)
            del part, events
            recording = prepared(recording)
            events = read(recording)
            assert reference() is None or id(reference()) not in map(id, mutable(events[index]))


async def test_what_was_held_is_handed_out_in_turns(arrays: Any) -> None:
    """Whoever lets go of a session only when he has the next one is given two in turns."""
    events, (recording,) = _native.record_events(arrays, place="")
    others = read(recording)
    first, second = set(map(id, events)), set(map(id, others))
    assert not first & second
    for mine in (first, second, first):
        events, others = others, None
        others = read(recording)
        assert len(mine & set(map(id, others))) > len(others) / 2
        assert dumped(others) == dumped(events)


async def test_copies_are_others(arrays: Any) -> None:
    events, (recording,) = _native.record_events(arrays, place="")
    copies = [copy.copy(events), copy.deepcopy(events), pickle.loads(pickle.dumps(events))]
    shallow = [event.model_copy() for event in events]
    del events
    again = read(recording)
    assert again == copies[1] == copies[2]
    mine = {id(part) for event in again for part in mutable(event)}
    others = {id(part) for each in (*copies, shallow) for event in each for part in mutable(event)}
    assert not mine & others


async def test_what_was_put_into_an_event_is_let_go(arrays: Any) -> None:
    """At the next read, or when memory is short."""

    class Large:
        pass

    for forget in (read, lambda recording: recording.release()):
        events, (recording,) = _native.record_events(arrays, place="")
        events = read(recording)
        read(recording)  # now the one with the large object is not the one handed out last
        large = Large()
        gone = weakref.ref(large)
        events[0].custom_metadata = {"large": large}
        del large, events
        assert gone() is not None
        forget(recording)
        gc.collect()
        assert gone() is None


async def test_an_item_of_another_type_at_the_same_address(reads: Reads) -> None:
    """A list's item is known by its address, and what lies there now may be something else."""

    class Other:  # as large as a list
        __slots__ = ("a", "b", "c", "d")

    event = said("rows")
    event.custom_metadata = {"rows": [[], []]}
    await reads.create([event])
    await reads.read()
    history = reads.store._histories.get(KEY)
    assert history is not None
    _, (recording,) = _native.record_events(history.chunks[0].events, place="")
    (found,) = read(recording)
    assert found.custom_metadata is not None
    rows = found.custom_metadata["rows"]
    spare: list[Any] = [[] for _ in range(200)]
    spare = []  # these fill what CPython keeps for new lists, so that the next one is freed
    address, rows[0] = id(rows[0]), None
    while not spare or id(spare[-1]) != address:
        assert len(spare) < 100_000, "no object came to lie there"
        spare.append(Other())
    rows[0] = spare.pop()
    del rows, found
    (found,) = read(recording)
    assert found.custom_metadata == {"rows": [[], []]}


async def test_what_is_released_weighs_nothing(arrays: Any) -> None:
    events, (recording,) = _native.record_events(arrays, place="")
    once = recording.lent_nbytes
    others = read(recording)
    assert recording.lent_nbytes > 1.5 * once, "two of each"
    del events, others
    recording.release()
    assert recording.lent_nbytes == 0


@pytest.mark.parametrize("freed_by", ["discard", "clear", "another", "room"])
async def test_what_is_freed_may_use_the_store(reads: Reads, freed_by: str) -> None:
    """An object that somebody put into an event runs code of theirs when it goes."""
    histories = reads.store._histories
    finished = []

    class Finisher:
        def __del__(self) -> None:
            histories.get(KEY)
            finished.append(True)

    await reads.create([said("event")])
    for _ in range(3):
        found = await reads.store.get_session(*KEY)
    assert found is not None
    found.events[0].custom_metadata = {"finisher": Finisher()}
    del found
    history = histories.get(KEY)
    assert history is not None
    if freed_by == "room":
        # The next history takes all the room that there is.
        histories._lent.clear()
        histories.nbytes = history.nbytes
        other = History.of([Chunk(1, 1, [(bytes(histories.max_bytes - 5_000),)])], 2, history.origin)
    else:
        other = History.of([], 2, history.origin)
    del history

    def free() -> None:
        if freed_by in ("another", "room"):
            histories.put(KEY if freed_by == "another" else ("app", "user", "other"), other)
        else:
            getattr(histories, freed_by)(*([KEY] if freed_by == "discard" else []))

    thread = threading.Thread(target=free, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive(), "the lock is held meanwhile"
    gc.collect()
    assert finished


async def test_joined_recordings_keep_what_was_lent(arrays: Any) -> None:
    events, (one,) = _native.record_events(arrays, place="")
    others, (other,) = _native.record_events(arrays, place="")
    before = {id(event) for event in (*events, *others)}
    joined = _native.Recording.joined(one, other)
    assert len(joined) == 2 * len(one)
    del events, others
    again = read(joined)
    assert sum(id(event) in before for event in again) > len(joined) / 2
    assert dumped(again) == 2 * dumped(_native.decode_events(arrays, place=""))


async def test_lent_events_go_before_histories(reads: Reads) -> None:
    """With room for one history as it was handed out, others are kept as steps."""
    keys = [("app", "user", f"s{number}") for number in range(4)]
    for key in keys:
        await reads.create([said(f"event {number}", seconds=number) for number in range(30)], key)
        for _ in range(3):
            await reads.read(key)
    histories = reads.store._histories
    history = histories.get(keys[0])
    assert history is not None
    histories.max_bytes = 4 * history.nbytes + history.lent_nbytes + 100
    for key in keys:
        await reads.read(key)
    assert len(histories) == 4
    assert list(histories._lent) == [keys[3]]
    assert histories.nbytes <= histories.max_bytes
    released = histories.get(keys[0])
    assert released is not None
    histories.max_bytes += 2_000
    histories.extend(keys[0], released.origin, released.next_seq, 1, (b"id",))
    assert list(histories._lent) == [keys[3]], "what was released was counted again"
    weighed = [histories._kept[key].nbytes + histories._lent.get(key, 0) for key in histories._kept]
    assert histories.nbytes == sum(weighed)
