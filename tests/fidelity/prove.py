"""The differential proof over a million events: `make proof`, or

    python -m tests.fidelity.prove 1000000 --write-docs

runs the seeds 0 to 999,999 on all cores and, if nothing differs, writes the result to docs/proof.md. A
difference ends it with the seed of the event, and the file stays as it is.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import sys
import time
import warnings
from collections import Counter
from datetime import datetime, timezone
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from adk_psqlpy import _native

from . import proof
from .strategies import Seen, ways

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).parents[2] / "docs" / "proof.md"
# Seeds that a process takes at a time: a second or so.
BATCH = 500
PACKAGES = ("google-adk", "google-genai", "pydantic", "pydantic-core")

TEXT = """# The proof

What the crate makes of an event is what pydantic makes of it. For each event:

- it is encoded, and the columns hold what `model_dump(mode="json", exclude_none=True)` says; NaN, infinities,
  U+0000 and lone surrogates included, which a dump or PostgreSQL would lose;
- the columns, printed as PostgreSQL prints them, are decoded, and the event equals `Event.model_validate` of
  the dump: types and bits of all values, `model_fields_set`, the order of `__dict__` and of all dicts, extra
  and private attributes;
- of every fourth event also what becomes of it: `model_dump`, `model_dump(exclude_unset=True)`,
  `model_dump_json`, `copy`, `deepcopy`, `model_copy`, pickle, assignment;
- for every second event, a row altered as only other writers would (other types, unknown or doubled keys,
  enum members of a later release, digits without end): both read it, to equal events, or both refuse it.

The events are drawn from the annotations of the installed google-adk's own models, so that a new field is
covered the day it appears; each has a seed, with which it can be made again. `make test` runs 10,000 of them,
`make proof` as many as below, and writes this page.

| | |
|---|---|
| date | {date} |
| duration | {minutes} minutes, {processes} processes |
| seeds | 0 to {last} |
| events equal | {events} of {events} |
| of them copied, pickled, dumped | {lives} |
| altered rows read by both, equal | {read} |
| altered rows refused by both | {refused} |
| differences | 0 |
| model classes beneath `Event` | {classes}, all of them drawn |
| of them made without pydantic | {fast} |
| fields of these classes | {fields}, all of them set |
| the field set least often | `{rarest}`, in {least} instances |
| versions | {versions} |
"""


def main() -> int:
    """Run the proof, print its result, and write the page where asked to."""
    parser = argparse.ArgumentParser(prog="python -m tests.fidelity.prove")
    parser.add_argument("events", type=int, help="how many")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="as many as there are cores")
    parser.add_argument("--write-docs", action="store_true", help="write docs/proof.md")
    arguments = parser.parse_args()
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    versions = f"adk-psqlpy {_native.__version__}, {packages}, Python {platform.python_version()}"
    start = time.monotonic()
    checked, seen = proof.Checked(), Counter[tuple[str, str]]()
    batches = [
        range(first, min(first + BATCH, arguments.events)) for first in range(0, arguments.events, BATCH)
    ]
    try:
        for part, set_there in _parts(batches, arguments.processes):
            for name, value in vars(part).items():
                setattr(checked, name, getattr(checked, name) + value)
            seen.update(set_there)
            _show(checked.events, arguments.events, time.monotonic() - start)
    except AssertionError as error:
        sys.stderr.write(f"\n{error}\n")
        return 1
    fields = {_key(model, name) for model in ways() for name in model.model_fields}
    missing = fields - set(seen)
    if missing:
        sys.stderr.write(f"\nno event set {', '.join(sorted('.'.join(key) for key in missing))}: run more\n")
        return 1
    assert checked.events == arguments.events
    rarest, least = min(seen.items(), key=lambda item: item[1])
    page = TEXT.format(
        date=datetime.now(timezone.utc).date(),
        minutes=f"{(time.monotonic() - start) / 60:,.1f}",
        processes=arguments.processes,
        last=f"{arguments.events - 1:,}",
        **{name: f"{value:,}" for name, value in vars(checked).items()},
        classes=len(ways()),
        fast=sum(slow is None for name, slow, _ in _native.model_report() if name != "Session"),
        fields=len(fields),
        rarest=".".join(rarest),
        least=f"{least:,}",
        versions=versions,
    )
    sys.stderr.write("\n")
    sys.stdout.write(page[page.index("| date") :])
    if arguments.write_docs:
        PAGE.write_text(page)
    return 0


def _parts(batches: list[range], processes: int) -> Iterator[tuple[proof.Checked, Counter[tuple[str, str]]]]:
    with get_context("spawn").Pool(processes, _quiet) as pool:
        yield from pool.imap_unordered(_batch, batches)


def _quiet() -> None:
    """ADK's serializers log lone surrogates, and genai warns of the enum members that it does not know."""
    logging.disable()
    warnings.simplefilter("ignore")


def _batch(seeds: range) -> tuple[proof.Checked, Counter[tuple[str, str]]]:
    seen: Seen = Counter()
    checked = proof.run(seeds, seen=seen)
    return checked, Counter({_key(model, name): times for (model, name), times in seen.items()})


def _key(model: type, name: str) -> tuple[str, str]:
    return f"{model.__module__}.{model.__qualname__}", name


def _show(done: int, events: int, seconds: float) -> None:
    """A line over and over on a terminal; elsewhere, one for every hundredth part."""
    left = seconds / done * (events - done)
    line = f"{done:,} of {events:,} events ({done / events:.0%}), {left / 60:,.0f} minutes left"
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{line} ")
    elif done == events or done * 100 // events != max(done - BATCH, 0) * 100 // events:
        sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
