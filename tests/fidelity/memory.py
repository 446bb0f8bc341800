"""What many conversions leave behind: reference counts, allocated blocks, resident memory.

A program of its own, since a test's process keeps all sorts of things: `python -m fidelity.memory 1000000`
in `tests/`.
"""

from __future__ import annotations

import dataclasses
import functools
import gc
import json
import logging
import os
import sys
import time
import warnings
from random import Random
from typing import TYPE_CHECKING, Any

from google.adk.events import Event

from adk_psqlpy import _native

from . import rows
from .damage import damaged
from .proof import REFUSALS, event_of
from .strategies import ways

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH = 250
MALFORMED = 10_000
# The part of each run that goes before the first measurement: caches fill, the allocator finds its size.
WARM_UP = 0.2
NOT_EVENTS: list[dict[str, Any]] = [
    {"id": "x" * 200},
    {"timestamp": 1e300},
    {"custom_metadata": {"a": [object()]}},
    {"custom_metadata": {"deep": functools.reduce(lambda inner, _: [inner], range(600), None)}},
]


def shared() -> dict[str, Any]:
    """Objects that every event refers to, by a name that is not one of them."""
    objects: dict[str, Any] = {"the None": None, "the True": True, "the False": False, "the ()": ()}
    for model in ways():
        objects[f"class {model.__name__}"] = model
        objects |= {f"str {name}": sys.intern(name) for name in model.model_fields}
    return objects


@dataclasses.dataclass
class Measured:
    """A state of the process."""

    references: list[int]
    blocks: int
    resident: int

    @classmethod
    def now(cls, objects: dict[str, Any]) -> Measured:
        """The state after a full collection."""
        for _ in range(3):
            gc.collect()
        return cls([sys.getrefcount(each) for each in objects.values()], sys.getallocatedblocks(), resident())


def resident() -> int:
    """Bytes of memory held now; on systems without /proc, the most ever held."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def grown(act: Callable[[int], None], times: int) -> dict[str, Any]:
    """What `act(0)`, `act(1)`, … leave behind once warm: references that moved, blocks, bytes."""
    objects = shared()
    warm = max(1, int(times * WARM_UP))
    for turn in range(warm):
        act(turn)
    before = Measured.now(objects)
    for turn in range(warm, warm + times):
        act(turn)
    after = Measured.now(objects)
    moved = {
        name: now - then
        for name, then, now in zip(objects, before.references, after.references, strict=True)
        if now != then
    }
    return {
        "references": moved,
        "blocks": after.blocks - before.blocks,
        "resident": after.resident - before.resident,
    }


def main(count: int) -> dict[str, Any]:
    """Convert `count` events each way, then `MALFORMED` arrays and events that are refused."""
    # ADK's serializers log the surrogates, genai warns of the enum members that it does not know.
    logging.disable()
    warnings.simplefilter("ignore")
    start = time.perf_counter()
    events = [event_of(seed) for seed in range(BATCH)]
    arrays = rows.stored(events)

    def convert(_: int) -> None:
        made = _native.decode_events(arrays, place="memory")
        for event in made:
            _native.encode_event(event, 128)

    refused = [0, 0]
    cut = rows.stored(events[:4])

    def malformed(turn: int) -> None:
        random = Random(turn)
        index = random.randrange(len(cut))
        array = damaged(random, cut[index]) if turn % 2 else cut[index][: random.randrange(len(cut[index]))]
        try:
            _native.decode_events((*cut[:index], array, *cut[index + 1 :]), place="memory")
        except REFUSALS:
            refused[0] += 1
        fields = {"id": "e", "author": "a", "timestamp": 0.0} | NOT_EVENTS[turn % len(NOT_EVENTS)]
        event = Event.model_construct(**fields)
        try:
            _native.encode_event(event, 128)
        except REFUSALS:
            refused[1] += 1

    converted = grown(convert, count // BATCH)
    return {
        "events": count,
        "converted": converted,
        "malformed": grown(malformed, MALFORMED),
        "refused": refused,
        "resident": resident(),
        "seconds": round(time.perf_counter() - start, 1),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(int(sys.argv[1]))) + "\n")
