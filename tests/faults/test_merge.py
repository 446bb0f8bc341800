"""`stale_policy="merge"`: writers that know nothing of each other lose nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest
from google.adk.errors import StaleSessionError
from google.adk.events.event import Event
from google.adk.sessions import Session

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from proxy import Cut, Proxy
from servers import Database

from .deadlines import within
from .impatient import ImpatientWriter
from .ledger import Findings, Ledger, compare
from .quiet import settled, whole
from .workload import APP, Writer, create_sessions, under_load, user_of

Seen = Callable[[str, int, Findings], None]


def merging(dsn: str, pool_size: int = 6) -> PsqlpySessionService:
    """A service that appends after what others wrote."""
    config = PsqlpyConfig({"dsn": dsn, "max_db_pool_size": pool_size})
    return PsqlpySessionService(PsqlpyADKStore(config), stale_policy="merge")


async def stored(service: PsqlpySessionService, session: Session) -> Session:
    """The session as it is; it must exist."""
    found = await service.get_session(app_name=APP, user_id=session.user_id, session_id=session.id)
    assert found is not None
    return found


@pytest.mark.parametrize("services", [1, 4])
@pytest.mark.parametrize("appends", [6, pytest.param(200, marks=pytest.mark.torture)])
async def test_32_writers_on_one_session(
    database: Database, ledger: Ledger, seen: Seen, services: int, appends: int
) -> None:
    """Each holds an object of its own, read at the start; none is ever told that it is stale."""
    opened = [merging(database.dsn) for _ in range(services)]
    await opened[0].store.create_tables()
    ids = await create_sessions(opened[0], 1)
    writers = [Writer(opened[n % services], ledger, f"w{n}", ids) for n in range(32)]

    async def nothing() -> None:
        pass

    await under_load(writers, nothing, bound=60 + appends, at_least=appends)
    assert [writer.stale for writer in writers] == [0] * 32
    await settled(database)
    findings = await compare(opened[0], Ledger.read(ledger.path), database.dsn)
    assert findings.acknowledged == 32 * appends
    seen(f"32 writers on one session, merging, {services} services", 32 * appends, findings)
    for service in opened[1:]:
        await service.close()
    await whole(opened[0], database)


@pytest.mark.parametrize("cuts", [40, pytest.param(1000, marks=pytest.mark.torture)])
async def test_merging_while_connections_are_cut(
    database: Database, ledger: Ledger, seen: Seen, cuts: int
) -> None:
    """A merging append whose answer is lost is repeated without a revision to guard it: stored once all the
    same."""
    async with Proxy(database.dsn) as line, line.config(max_db_pool_size=6) as config:
        service = PsqlpySessionService(PsqlpyADKStore(config), stale_policy="merge")
        await service.store.create_tables()
        ids = await create_sessions(service, 2)
        line.fate = lambda: random.choice(list(Cut)) if random.random() < 1 / 8 else None

        async def wait() -> None:
            while line.cuts.total() < cuts:  # noqa: ASYNC110 - the proxy has no event for it
                await asyncio.sleep(0.01)
            line.fate = lambda: None

        writers = [Writer(service, ledger, f"w{n}", ids) for n in range(12)]
        await under_load(writers, wait, bound=60 + cuts)
        await settled(database)
        findings = await compare(service, Ledger.read(ledger.path), database.dsn)
        seen("connection cut under merging writers, 12 on 2 sessions", line.cuts.total(), findings)
        await whole(service, database)


async def test_merging_while_calls_are_cancelled(database: Database, ledger: Ledger, seen: Seen) -> None:
    """What a cancelled append leaves running may be stored before or after the same append again."""
    service = merging(database.dsn)
    await service.store.create_tables()
    ids = await create_sessions(service, 2)
    writers = [ImpatientWriter(service, ledger, f"w{n}", ids) for n in range(12)]

    async def distractions() -> None:
        while sum(writer.cancelled for writer in writers) < 400:
            await within(10, random.choice(writers).distract())

    await under_load(writers, distractions, bound=60)
    await settled(database)
    findings = await compare(service, Ledger.read(ledger.path), database.dsn)
    seen("calls of merging writers cancelled", sum(writer.cancelled for writer in writers), findings)
    await whole(service, database)


async def test_objects_are_brought_up_to_date(database: Database) -> None:
    """After an append the object holds all events up to its own, in order, and the state they left; nothing
    of what it held is replaced."""
    service = merging(database.dsn)
    await service.store.create_tables()
    (identity,) = await create_sessions(service, 1)
    first = await service.get_session(app_name=APP, user_id=user_of(identity), session_id=identity)
    assert first is not None
    objects = [first.model_copy(deep=True) for _ in range(16)]
    for turn in range(6):
        random.shuffle(objects)

        async def append(number: int, session: Session, turn: int = turn) -> None:
            event = Event(author="agent")
            event.actions.state_delta = {
                f"k{number}": turn,
                "last": number,
                "user:last": number,
                "app:n": turn,
            }
            before = [id(each) for each in session.events]
            assert await service.append_event(session, event) is event
            assert session.events[-1] is event
            assert [id(each) for each in session.events][: len(before)] == before

        await within(20, asyncio.gather(*(append(n, each) for n, each in enumerate(objects))))
    final = await stored(service, first)
    assert len(final.events) == 16 * 6
    for each in objects:
        assert each.events == final.events[: len(each.events)]
        own = {k: v for event in each.events for k, v in event.actions.state_delta.items() if ":" not in k}
        assert {k: v for k, v in each.state.items() if ":" not in k} == own
    late = next(each for each in objects if len(each.events) < len(final.events))
    await service.append_event(late, Event(author="user"))
    assert late == await stored(service, first)
    await whole(service, database)


async def test_a_merging_and_a_raising_service(database: Database) -> None:
    """On one session: the raising one is told that it is stale after the other appended, and only then."""
    one = merging(database.dsn)
    config = PsqlpyConfig({"dsn": database.dsn, "max_db_pool_size": 2})
    other = PsqlpySessionService(PsqlpyADKStore(config))
    await one.store.create_tables()
    mine = await one.create_session(app_name=APP, user_id="u", session_id="s")
    theirs = await other.get_session(app_name=APP, user_id="u", session_id="s")
    assert theirs is not None
    await other.append_event(theirs, Event(author="user"))
    await one.append_event(mine, Event(author="agent"))
    assert mine == await stored(one, mine)
    with pytest.raises(StaleSessionError):
        await other.append_event(theirs, Event(author="user"))
    await other.close()
    await whole(one, database)
