"""Decoding and encoding beside pydantic and orjson: the cases of `cases.py`, interleaved.

`crate.rs` times the same callables with criterion, one after another and with its statistics; here each round
gives every one a turn, so that what else the machine does falls on all of them alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import cases
import make_shapes

# Of one turn: what is shorter is called more often.
_TURN_SEC = 0.01


def measure(rounds: int, tick: Callable[[], None]) -> dict[str, dict[str, float]]:
    """Median microseconds an event, by case and name."""
    found: dict[str, dict[str, float]] = {}
    for case, events, callables in cases.cases():
        taken: dict[str, list[float]] = {name: [] for name in callables}
        for number in range(rounds + 1):
            for name, call in callables.items():
                start = time.perf_counter()
                turn = 0
                while not turn or time.perf_counter() - start < _TURN_SEC:
                    before = time.perf_counter()
                    result = call()
                    after = time.perf_counter()
                    del result
                    turn += 1
                    if number:
                        taken[name].append((after - before) * 1e6 / events)
        found[case] = {name: statistics.median(values) for name, values in taken.items()}
        tick()
    return found


CASES = 2 * (len(make_shapes.ALL) + 1)
