"""The ledger's comparison finds what it is there to find: each fault is planted by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from adk_psqlpy import PsqlpySessionService
from servers import Database, run_sql

from .deadlines import within
from .ledger import Entry, Findings, Ledger, compare
from .workload import create_sessions, under_load, writers_of

if TYPE_CHECKING:
    from pathlib import Path

Plant = Callable[[dict[str, Entry], str], None]


async def written(service: PsqlpySessionService, ledger: Ledger) -> dict[str, Entry]:
    """A few writers, nothing broken."""
    await service.store.create_tables()
    ids = await create_sessions(service, 3)

    async def nothing() -> None:
        pass

    await under_load(writers_of(service, ledger, ids, 4), nothing, bound=20, at_least=6)
    return Ledger.read(ledger.path)


def sql(*statements: str) -> Plant:
    return lambda _, dsn: run_sql(dsn, *statements) and None


def swap_first_two(_: dict[str, Entry], dsn: str) -> None:
    where = "WHERE session_id = 's-0' AND seq ="
    run_sql(
        dsn,
        f"UPDATE adk_events SET seq = -1 {where} 1",
        f"UPDATE adk_events SET seq = 1 {where} 2",
        f"UPDATE adk_events SET seq = 2 {where} -1",
    )


def forget_one(entries: dict[str, Entry], _: str) -> None:
    entries.pop(next(iter(entries)))


def expect_one_more(entries: dict[str, Entry], _: str) -> None:
    known = next(iter(entries.values()))
    entries["more"] = dataclasses.replace(known, event_id="more", text="never stored", delta={})


COPY = (
    'INSERT INTO adk_events SELECT (jsonb_populate_record(e, \'{"id": "copy"}\'::jsonb'
    " || jsonb_build_object('seq', (SELECT max(seq) + 1 FROM adk_events WHERE session_id = 's-1')))).*"
    " FROM adk_events AS e WHERE session_id = 's-1' AND seq = 3"
)

PLANTED: dict[str, tuple[Plant, str]] = {
    "an event is gone": (sql("DELETE FROM adk_events WHERE session_id = 's-1' AND seq = 3"), "lost: w"),
    "a session is gone": (sql("DELETE FROM adk_sessions WHERE id = 's-2'"), "lost: w"),
    "an event never arrived": (expect_one_more, "lost: never stored"),
    "an event is there twice": (sql(COPY), "doubled: w"),
    "a stranger": (forget_one, "nobody appended"),
    "two events changed places": (swap_first_two, "stands before"),
    "a revision without an event": (sql("UPDATE adk_sessions SET revision = revision + 1"), "revisions: "),
    "a lost write of session state": (
        sql("UPDATE adk_sessions SET state = state - 'last'"),
        "its events say",
    ),
    "a lost write of user state": (
        sql("UPDATE adk_user_states SET state = state || '{\"w1.s-1\": 0}' WHERE state ? 'w1.s-1'"),
        "its last writes say",
    ),
    "no app state": (sql("DELETE FROM adk_app_states"), "sessions show"),
    "an old value won": (
        sql('UPDATE adk_app_states SET state = state || \'{"last": "w0/s-0/1"}\''),
        "its last writes say",
    ),
}


async def test_nothing_broken(
    database: Database, open_service: Callable[..., PsqlpySessionService], ledger: Ledger
) -> None:
    service = open_service(database.dsn)
    entries = await written(service, ledger)
    findings = await compare(service, entries, database.dsn)
    findings.sound()
    assert findings.acknowledged == len(entries) >= 24
    assert (findings.unacknowledged, findings.of_those_stored) == (0, 0)


@pytest.mark.parametrize("planted", PLANTED)
async def test_a_planted_fault_is_found(
    database: Database, open_service: Callable[..., PsqlpySessionService], ledger: Ledger, planted: str
) -> None:
    plant, message = PLANTED[planted]
    service = open_service(database.dsn)
    entries = await written(service, ledger)
    plant(entries, database.dsn)
    findings: Findings = await within(20, compare(service, entries, database.dsn))
    with pytest.raises(AssertionError, match=message):
        findings.sound()


def test_a_line_cut_off_is_not_written(tmp_path: Path) -> None:
    file = tmp_path / "ledger"
    file.write_text(
        '{"event_id": "e", "key": ["a", "u", "s"], "text": "t", "delta": {}, "begun": 1}\n'
        '{"event_id": "e", "acknowledged": 2'
    )
    assert Ledger.read(file)["e"].acknowledged is None
