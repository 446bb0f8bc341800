"""Tasks cancelled at random points, or torn down in groups: all or nothing of each call, and all goes on."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable

import pytest
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.events.event import Event

from adk_psqlpy import PsqlpySessionService
from servers import Database

from .deadlines import within
from .impatient import ImpatientWriter
from .ledger import Findings, Ledger, compare
from .quiet import settled, whole
from .workload import APP, Writer, create_sessions, under_load, user_of

Open = Callable[..., PsqlpySessionService]
Seen = Callable[[str, int, Findings], None]


@pytest.mark.parametrize("cancellations", [400, pytest.param(40_000, marks=pytest.mark.torture)])
async def test_a_storm_of_cancellations(
    database: Database, open_service: Open, ledger: Ledger, seen: Seen, cancellations: int
) -> None:
    """Each event is repeated until it is acknowledged, and is stored once."""
    service = open_service(database.dsn)
    await service.store.create_tables()
    # Many sessions in a long storm, so that it is not about reading long ones.
    ids = await create_sessions(service, max(8, cancellations // 500 * 8))
    # Two writers a session: the one has to find out what the other's ghosts did.
    writers = [ImpatientWriter(service, ledger, f"w{n}", ids[n % 8 :: 8]) for n in range(16)]

    async def distractions() -> None:
        while sum(writer.cancelled for writer in writers) < cancellations:
            await within(10, random.choice(writers).distract())

    await under_load(writers, distractions, bound=60 + cancellations / 20)
    assert [writer.errors for writer in writers] == [[]] * 16
    await settled(database)
    findings = await compare(service, Ledger.read(ledger.path), database.dsn)
    seen("calls cancelled at random, repeated", sum(writer.cancelled for writer in writers), findings)
    await whole(service, database)


@pytest.mark.parametrize("rounds", [60, pytest.param(4000, marks=pytest.mark.torture)])
async def test_abandoned_appends(
    database: Database, open_service: Open, ledger: Ledger, seen: Seen, rounds: int
) -> None:
    """An append cancelled and never repeated is stored whole or not at all; the next one finds out."""
    service = open_service(database.dsn)
    await service.store.create_tables()
    turns = -(-rounds // 100)  # of a hundred appends to one session
    ids = await create_sessions(service, 8 * turns)
    writers = [ImpatientWriter(service, ledger, f"w{n}", ids[n::8]) for n in range(8)]

    async def abandon(writer: ImpatientWriter) -> None:
        for session_id in writer.session_ids:
            session = await writer.load(session_id)
            for number in range(1, rounds // turns + 1):
                event = writer.event(number, session_id)
                ledger.begun(session, event)
                if number % 3:
                    attempt = asyncio.ensure_future(service.append_event(session, event))
                    if await writer.cancelled_after(attempt, random.expovariate(1000)):
                        continue
                    if attempt.exception() is None:
                        ledger.acknowledged(event)
                        continue
                session = await Writer.append(writer, session, event)
                ledger.acknowledged(event)

    await within(60 + rounds / 5, asyncio.gather(*map(abandon, writers)))
    await settled(database)
    findings = await compare(service, Ledger.read(ledger.path), database.dsn)
    assert findings.unacknowledged > rounds
    seen("appends cancelled, not repeated", findings.unacknowledged, findings)
    await whole(service, database)


@pytest.mark.parametrize("turns", range(12))
async def test_cancelled_at_every_turn_of_the_event_loop(
    database: Database, open_service: Open, turns: int
) -> None:
    """Whatever an append is awaiting after so many turns; then the same append again."""
    service = open_service(database.dsn, 2)
    await service.store.create_tables()
    session = await service.create_session(app_name=APP, user_id="u", session_id="s")
    await service.append_event(session, Event(author="user"))
    event = Event(author="agent")
    task = asyncio.ensure_future(service.append_event(session, event))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task}, timeout=2)
    assert task.done()
    await within(10, service.append_event(session, event))
    found = await service.get_session(app_name=APP, user_id="u", session_id="s")
    assert found == session
    assert [each.id for each in session.events][1:] == [event.id]
    await whole(service, database)


@pytest.mark.parametrize("turns", range(0, 12, 2))
async def test_a_cancelled_create(database: Database, open_service: Open, turns: int) -> None:
    """It is there with all of its state, or not at all."""
    service = open_service(database.dsn, 2)
    await service.store.create_tables()
    key = {"app_name": APP, "user_id": "u", "session_id": "s"}
    state = {"k": 1, "user:k": 2, "app:k": 3}
    task = asyncio.ensure_future(service.create_session(**key, state=state))  # type: ignore[arg-type]
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task}, timeout=2)
    await settled(database)
    found = await service.get_session(**key)
    if found is None:
        assert await service.get_user_state(app_name=APP, user_id="u") == {}
        found = await service.create_session(**key, state=state)  # type: ignore[arg-type]
    else:
        with pytest.raises(AlreadyExistsError):
            await service.create_session(**key)
    assert found.state == state
    await whole(service, database)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.TaskGroup came with Python 3.11")
@pytest.mark.parametrize("rounds", [15, pytest.param(500, marks=pytest.mark.torture)])
async def test_task_groups_torn_down(database: Database, open_service: Open, rounds: int) -> None:
    """One task of a group fails, the others are cancelled: what they began is repeated afterwards."""
    service = open_service(database.dsn, 4)
    await service.store.create_tables()
    ids = await create_sessions(service, 8)
    sessions = [
        await service.create_session(app_name="g", user_id=user_of(each), session_id=each) for each in ids
    ]

    async def fail() -> None:
        await asyncio.sleep(random.expovariate(500))
        raise ZeroDivisionError

    async def torn_down(events: list[Event]) -> None:
        async with asyncio.TaskGroup() as group:
            for session, event in zip(sessions, events, strict=True):
                group.create_task(service.append_event(session, event))
                group.create_task(
                    service.get_session(app_name="g", user_id=session.user_id, session_id=session.id)
                )
                group.create_task(service.list_sessions(app_name=APP))
            group.create_task(fail())

    given = []
    for _ in range(rounds):
        events = [Event(author="agent") for _ in sessions]
        with pytest.raises(ExceptionGroup) as caught:  # noqa: F821 - where TaskGroup is, this is
            await within(10, torn_down(events))
        assert [type(each) for each in caught.value.exceptions] == [ZeroDivisionError]
        again = [service.append_event(*pair) for pair in zip(sessions, events, strict=True)]
        await within(10, asyncio.gather(*again))
        given.append([event.id for event in events])
    for number, session in enumerate(sessions):
        found = await service.get_session(app_name="g", user_id=session.user_id, session_id=session.id)
        assert found == session
        assert [event.id for event in session.events] == [ids[number] for ids in given]
    await whole(service, database)
