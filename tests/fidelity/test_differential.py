"""The crate against pydantic, over the whole model space: never a third answer.

10,000 events in an ordinary run; `make proof` runs a million, on all cores.
"""

from __future__ import annotations

import os
from collections import Counter
from random import Random
from typing import TYPE_CHECKING

import pytest
from google.adk.events import Event
from google.adk.sessions import Session
from hypothesis import HealthCheck, given, settings

from adk_psqlpy import _native
from servers import run_sql

from . import damage, proof, rows
from .compare import assert_same
from .strategies import Seen, events, ways

if TYPE_CHECKING:
    from adk_psqlpy import PsqlpySessionService
    from servers import Database

EVENTS = int(os.environ.get("ADK_PSQLPY_PROOF_EVENTS", "10000"))
BATCHES = 10
# How many draws set every field of every class at least once, with room to spare.
DRAWS = 2000

pytestmark = [
    # genai's, for enum members that it does not know: pydantic's half of the comparison warns as well.
    pytest.mark.filterwarnings("ignore:.* is not a valid .*:UserWarning"),
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning"),
]


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """ADK's serializers log every lone surrogate with a traceback."""
    caplog.set_level("CRITICAL", logger="google_adk")


@pytest.mark.parametrize("batch", range(BATCHES))
def test_every_event_is_read_as_pydantic_reads_it(batch: int) -> None:
    """Written as `model_dump`, read as `model_validate`: values, fields set, order, privates, copies."""
    size = EVENTS // BATCHES
    proof.run(range(batch * size, (batch + 1) * size))


@settings(
    max_examples=200, deadline=None, report_multiple_bugs=False, suppress_health_check=list(HealthCheck)
)
@given(events())
def test_any_event(event: Event) -> None:
    """The same with choices of Hypothesis's own, which come with the smallest event that fails."""
    proof.check_event(event)


def test_rows_as_sent_are_read_as_they_are_given_back() -> None:
    """A process makes events that it appended of what it sent: the same as of what the server sends."""
    sent = [proof.event_of(seed) for seed in range(2_000)]
    given_back = _native.decode_events(rows.stored(sent), place="here")
    made, (recording,) = _native.record_events([_row(event) for event in sent], place="here")
    assert_same(made, given_back)
    again, _ = _native.record_events(recording, place="here")
    assert_same(again, given_back)


def _row(event: Event) -> tuple[bytes | None, ...]:
    return tuple(_native.encode_event(event, 128))


def test_every_field_is_covered() -> None:
    """Every field of every model class beneath `Event` is set in some of the events."""
    seen: Seen = Counter()
    for seed in range(DRAWS):
        proof.event_of(seed, seen)
    assert {(model, name) for model in ways() for name in model.model_fields} == set(seen)


def test_every_class_is_in_the_plan() -> None:
    """The plan knows the classes that the annotations name, and no other."""
    reported = {name for name, _, _ in _native.model_report()}
    assert reported - {Session.__name__} == {model.__name__ for model in ways()}


def test_the_classes_that_pydantic_makes() -> None:
    """All but one are made without pydantic: its validator looks at several fields and can refuse."""
    slow = {
        name: (decoding, encoding)
        for name, decoding, encoding in _native.model_report()
        if decoding or encoding
    }
    reason = "has the validator CacheMetadata._enforce_active_state_invariant"
    assert slow == {"CacheMetadata": (reason, None)}


def test_rows_of_other_writers_are_mostly_readable() -> None:
    """The odd rows of the proof test both answers: pydantic accepts some and refuses some."""
    read = [proof.check_fields(proof.odd_fields(Random(seed))) for seed in range(500)]
    assert 100 < sum(read) < 400


@pytest.mark.parametrize("batch", range(4))
def test_damaged_texts(batch: int) -> None:
    """A damaged JSON text is read as Python and pydantic read it, or refused by both."""
    read = [damage.check_text(Random(batch << 32 | seed)) for seed in range(500)]
    assert 0 < sum(read) < len(read)


@pytest.mark.parametrize("batch", range(4))
def test_damaged_arrays(batch: int) -> None:
    """A damaged binary array is read or refused; it never ends the process."""
    for seed in range(250):
        damage.check_arrays(Random(batch << 32 | seed))


def test_arrays_cut_off_anywhere() -> None:
    """An array that ends too early is refused at every length, with the place and the column."""
    arrays = rows.stored([proof.event_of(1), proof.event_of(2)])
    for index, array in enumerate(arrays):
        for end in range(len(array)):
            with pytest.raises(ValueError, match=r"^here, event .*, column "):
                _native.decode_events((*arrays[:index], array[:end], *arrays[index + 1 :]), place="here")


@pytest.mark.parametrize("depth", [600, 10_000, 1_000_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_a_depth_bomb(depth: int, opening: str, closing: str) -> None:
    """A text nested beyond all measure is refused, whether the value is read or stepped over."""
    text = opening * depth + "1" + closing * depth
    for fields in ("custom_metadata", "output"):
        row = dict.fromkeys(rows.NAMES)
        row |= {"id": b"e", "timestamp": bytes(8)}
        name = "extra" if fields == "output" else fields
        row[name] = b"\1" + (f'{{"output": {text}}}' if name == "extra" else f'{{"k": {text}}}').encode()
        with pytest.raises(ValueError, match="nested too deep"):
            _native.decode_events(rows.arrays([list(row.values())]), place="here")


async def test_the_stand_in_for_the_server(
    service: PsqlpySessionService, session: Session, database: Database
) -> None:
    """What the server makes of events is what `rows` makes of them in the other tests, to the last byte."""
    sent = [proof.event_of(seed) for seed in range(300)]
    for place, event in enumerate(sent):
        event.id, event.partial = str(place), None
        await service.append_event(session, event)
    read = await service.get_session(
        app_name=session.app_name, user_id=session.user_id, session_id=session.id
    )
    assert read is not None
    assert_same(read.events, _native.decode_events(rows.stored(sent), place="here"))
    names = [name for name, kind in _native.EVENT_COLUMNS if kind == "jsonb"]
    columns = ", ".join(f'"{name}"::text AS "{name}"' for name in names)
    ((*found,),) = run_sql(database.dsn, f"SELECT {columns} FROM adk_events ORDER BY seq")
    for event, row in zip(sent, found, strict=True):
        expected = dict(zip(rows.NAMES, rows.normalised(_native.encode_event(event, 128)), strict=True))
        texts = {
            name: value if value is None else value[1:].decode()
            for name, value in expected.items()
            if name in names
        }
        assert dict(row) == texts
