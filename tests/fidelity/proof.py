"""The differential proof: what the crate makes of an event, held against pydantic.

`prove` runs a million events on all cores; the tests run fewer. Every event has a seed, and a failure names
it: `event_of(seed)` is that event.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from google.adk.events import Event

from adk_psqlpy import _native

from . import rows
from .compare import assert_lives_alike, assert_same
from .strategies import Builder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .strategies import Seen

# Values that a field may be given by another writer, an older ADK or a newer one.
ODD = [
    *(
        None,
        True,
        False,
        rows.Number("0"),
        rows.Number("1"),
        rows.Number("-1"),
        rows.Number("1.0"),
        rows.Number("2.5"),
    ),
    *(rows.Number("9" * 30), rows.Number("1" + "0" * 400), rows.Number("0." + "0" * 400 + "1")),
    *("", "x", "1", "true", "1.5", "nan", "STOP", "stop", "A_NEWER_VALUE", "2024-01-01T00:00:00Z"),
    *("_-8=", "+/8=", "AA==", "AA", "A", "AA=A", " AA==", "\ufdd00000", "\ufdd0", "\ufdd0d83d"),
    *(
        [],
        {},
        [None],
        [[]],
        {"": None},
        {"a": rows.Number("1")},
        [{"text": "x"}],
        {"text": None},
        {"parts": []},
    ),
]
# How pydantic refuses; the others are genai's enumerations given anything but a string, and a key "self".
REFUSALS = (ValueError, AttributeError, TypeError)
ODD_KEYS = [
    "",
    "x",
    "text",
    "role",
    "self",
    "value",
    "data",
    "__dict__",
    "\ufdd00000",
    "state",
    "message",
    "citationSources",
]


def event_of(seed: int, seen: Seen | None = None) -> Event:
    """The event of this seed."""
    return Builder(Random(seed), seen=seen).event()


def check_event(event: Event, *, lives: bool = True) -> None:
    """Assert that an event is written as pydantic dumps it, and read back as pydantic would read that.

    `lives`: copies, pickles and dumps are compared as well, which takes as long as all the rest.
    """
    row = rows.normalised(_native.encode_event(event, 128))
    dump = rows.ideal(event)
    assert_same(rows.fields_of(row), dump, order=False)
    expected = Event.model_validate(dump)
    (made,) = _native.decode_events(rows.arrays([row]), place="proof")
    assert_same(made, expected)
    if lives:
        assert_lives_alike(made, expected)


def check_fields(fields: dict[str, Any]) -> bool:
    """Assert that a row of these values (of `rows.loads`) is read as pydantic reads them; whether it is."""
    # A column holds no JSON null: NULL is a field that is not there.
    fields = {
        key: value for key, value in fields.items() if value is not None or key not in rows.COLUMN_FIELDS
    }
    arrays = rows.arrays([rows.row_of(fields)])
    try:
        expected = Event.model_validate(rows.plain(rows.loads(rows.jsonb(fields))))
    except REFUSALS as error:
        refused = error
    else:
        (made,) = _native.decode_events(arrays, place="proof")
        assert_same(made, expected)
        return True
    try:
        made = _native.decode_events(arrays, place="proof")
    except REFUSALS:
        return False
    raise AssertionError(f"pydantic refuses {refused}, but it was read as {made!r}")


def odd_fields(random: Random) -> dict[str, Any]:
    """The JSON values of some event, altered in a few places as only other writers would."""
    row = rows.normalised(_native.encode_event(Builder(random).event(), 128))
    fields = rows.raw_fields_of(row)
    for _ in range(random.choice([1, 1, 1, 2, 5])):
        _alter(random, fields)
    return fields


def _alter(random: Random, fields: dict[str, Any]) -> None:
    places = [
        place
        for key, value in fields.items()
        if key in rows.JSON_FIELDS
        for place in _places(fields, key, value)
    ]
    if not places:
        return
    container, key = places[random.randrange(len(places))]
    act = random.randrange(6)
    # Among the event's own fields, only values change: its keys are columns.
    if isinstance(container, dict) and container is not fields and act >= 2:
        if act == 2:
            container[ODD_KEYS[random.randrange(len(ODD_KEYS))]] = copy.deepcopy(_odd(random))
        elif act == 3:
            del container[key]
        elif act == 4:
            container[_camel(key)] = container.pop(key)
        else:
            container[_camel(key)] = copy.deepcopy(_odd(random))
    else:
        container[key] = copy.deepcopy(_odd(random, like=container[key]))


def _odd(random: Random, like: Any = None) -> Any:
    """An odd value; mostly one of the same kind, since one of another kind is only ever refused."""
    alike = [value for value in ODD if type(value) is type(like) or value is None]
    choices = alike if like is not None and random.random() < 0.7 else ODD
    return choices[random.randrange(len(choices))]


def _places(container: Any, key: Any, value: Any) -> Iterable[tuple[Any, Any]]:
    yield container, key
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for each, below in inner:
        yield from _places(value, each, below)


def _camel(key: str) -> str:
    head, *tail = key.split("_")
    return head + "".join(word.capitalize() for word in tail)


@dataclass
class Checked:
    """How much was compared, all of it equal."""

    events: int = 0
    # Of the events: copied, pickled, assigned to and dumped as well.
    lives: int = 0
    # Rows of odd values that both read, and that both refused.
    read: int = 0
    refused: int = 0


def run(seeds: range, *, seen: Seen | None = None) -> Checked:
    """Check the event of each seed, and half as many rows of odd values.

    Raises:
        AssertionError: one of them differs; the message begins with its seed.
    """
    checked = Checked()
    for seed in seeds:
        lives = seed % 4 == 0
        try:
            check_event(event_of(seed, seen), lives=lives)
            if seed % 2 == 0:
                read = check_fields(odd_fields(Random(seed)))
                checked.read += read
                checked.refused += not read
        except (AssertionError, ValueError) as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        checked.events += 1
        checked.lives += lives
    return checked
