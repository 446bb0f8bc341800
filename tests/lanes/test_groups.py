"""Appends that queue go together; each is told its own outcome."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from google.adk.errors import StaleSessionError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.genai import types

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from adk_psqlpy.connections.retry import Repeat
from servers import run_sql
from where import changes_tables, on_cluster

from .support import locker, soon, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from google.adk.sessions.session import Session

    from servers import Database

APP = "app"


def said(text: str, **state: Any) -> Event:
    event = Event(author="user", content=types.Content(parts=[types.Part(text=text)]))
    event.actions.state_delta.update(state)
    return event


@pytest.fixture
async def service(config: PsqlpyConfig) -> AsyncIterator[PsqlpySessionService]:
    store = PsqlpyADKStore(config)
    await store.create_tables()
    yield PsqlpySessionService(store)

    async def answered() -> bool:
        return config.lanes.in_flight == 0

    await until(answered)


@pytest.fixture
def sent(config: PsqlpyConfig, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many events each append statement carried."""
    counted: list[int] = []
    fetch = config.lanes.fetch

    async def counting(sql: str, parameters: list[Any], *further: Any, **options: Any) -> Any:
        rows = await fetch(sql, parameters, *further, **options)
        if options.get("repeat") is Repeat.GUARDED:
            counted.append(len(rows))
        return rows

    monkeypatch.setattr(config.lanes, "fetch", counting)
    return counted


async def sessions(service: PsqlpySessionService, number: int) -> list[Session]:
    return [
        await service.create_session(app_name=APP, user_id=f"u{each}", session_id="s", state={"k": 0})
        for each in range(number)
    ]


async def stored(service: PsqlpySessionService, session: Session) -> Session:
    found = await service.get_session(
        app_name=session.app_name, user_id=session.user_id, session_id=session.id
    )
    assert found is not None
    return found


async def on_nodes(service: PsqlpySessionService, many: list[Session]) -> list[list[int]]:
    """The places of the sessions of each node, once these are known. One server is one node."""
    if not on_cluster():
        return [list(range(len(many)))]
    service.store._groups("u0")
    nodes = service.store._queues[asyncio.get_running_loop()]._nodes
    assert nodes is not None

    async def known() -> bool:
        return None not in [nodes.of(each.user_id) for each in many]

    await until(known)
    found: dict[int | None, list[int]] = {}
    for place, session in enumerate(many):
        found.setdefault(nodes.of(session.user_id), []).append(place)
    return list(found.values())


async def test_what_queues_goes_together(service: PsqlpySessionService, sent: list[int]) -> None:
    """Thirty sessions at once: of each node one goes alone, the rest in one statement; all is stored."""
    many = await sessions(service, 30)
    expected = [size for places in await on_nodes(service, many) for size in (1, len(places) - 1)]
    await asyncio.gather(*(service.append_event(each, said("hello", k=1, own=each.user_id)) for each in many))
    assert sorted(sent) == sorted(expected)
    for session in many:
        assert await stored(service, session) == session
        assert session.state == {"k": 1, "own": session.user_id}


async def test_a_lone_append_goes_alone(service: PsqlpySessionService, sent: list[int]) -> None:
    """One after another, each is a statement of its own."""
    (session,) = await sessions(service, 1)
    for number in range(5):
        await service.append_event(session, said(str(number)))
    assert sent == [1] * 5


async def test_off(config: PsqlpyConfig, service: PsqlpySessionService, sent: list[int]) -> None:
    """`group_appends=False`: always one by one."""
    service = PsqlpySessionService(PsqlpyADKStore(config, group_appends=False))
    many = await sessions(service, 20)
    await asyncio.gather(*(service.append_event(each, said("hello")) for each in many))
    assert sent == [1] * 20


async def test_each_has_its_own_failure(service: PsqlpySessionService, sent: list[int]) -> None:
    """A stale session and a deleted one fail; the others of their group are stored."""
    many = await sessions(service, 20)
    await service.append_event(await stored(service, many[10]), said("earlier"))
    await service.delete_session(app_name=APP, user_id=many[15].user_id, session_id="s")
    of_nodes = await on_nodes(service, many)
    sent.clear()
    outcomes = await asyncio.gather(
        *(service.append_event(each, said("hello", k=1)) for each in many), return_exceptions=True
    )
    stored_together = [len(set(places[1:]) - {10, 15}) for places in of_nodes]
    assert max(sent) == max(stored_together)
    assert on_cluster() or max(sent) == 17
    assert isinstance(outcomes.pop(15), SessionNotFoundError)
    assert isinstance(outcomes.pop(10), StaleSessionError)
    assert all(isinstance(outcome, Event) for outcome in outcomes)
    del many[15], many[10]
    for session in many:
        assert await stored(service, session) == session


@changes_tables
async def test_a_statement_that_fails_fails_for_one(
    service: PsqlpySessionService, database: Database, sent: list[int]
) -> None:
    """PostgreSQL refuses one event of a group: the group goes again one by one, and one caller is told."""
    run_sql(database.dsn, "ALTER TABLE adk_events ADD CHECK (author != 'nobody')")
    many = await sessions(service, 20)
    events = [said("hello") for _ in many]
    events[12].author = "nobody"
    outcomes = await asyncio.gather(
        *(service.append_event(*each) for each in zip(many, events, strict=True)), return_exceptions=True
    )
    assert [place for place, outcome in enumerate(outcomes) if not isinstance(outcome, Event)] == [12]
    assert "violates check constraint" in str(outcomes[12])
    del many[12]
    for session in many:
        assert await stored(service, session) == session


async def test_a_locked_session_holds_up_no_other(service: PsqlpySessionService, database: Database) -> None:
    """Somebody holds the rows of three sessions; the appends to the others are done meanwhile."""
    many = await sessions(service, 20)
    # A statement each: Citus locks rows of one shard at a time.
    lock = "SELECT FROM adk_sessions WHERE user_id = '{}' FOR UPDATE"
    async with locker(database.dsn, *map(lock.format, ("u0", "u1", "u7"))):
        tasks = [asyncio.ensure_future(service.append_event(each, said("hello"))) for each in many]
        held = [tasks.pop(7), tasks.pop(1), tasks.pop(0)]
        for number in range(3):
            await soon(asyncio.gather(*tasks))
            tasks = [
                asyncio.ensure_future(service.append_event(each, said(f"again {number}")))
                for each in many
                if each.user_id not in ("u0", "u1", "u7")
            ]
        await soon(asyncio.gather(*tasks))
        assert not any(each.done() for each in held)
    await soon(asyncio.gather(*held))
    for session in many:
        assert await stored(service, session) == session


async def test_one_session_once_in_a_group(service: PsqlpySessionService, sent: list[int]) -> None:
    """Appends of one session follow each other, also through two objects of it and the store itself."""
    many = await sessions(service, 10)
    await asyncio.gather(
        *(service.append_event(each, said(str(number))) for number in range(4) for each in many)
    )
    assert sum(sent) == 40
    for session in many:
        found = await stored(service, session)
        assert found == session
        assert [event.content.parts[0].text for event in found.events] == ["0", "1", "2", "3"]  # type: ignore[union-attr,index]


async def test_cancelled_while_it_queues(service: PsqlpySessionService) -> None:
    """Of cancelled appends some are stored and some are not; the others all are, and nothing hangs."""
    many = await sessions(service, 30)
    tasks = [asyncio.ensure_future(service.append_event(each, said("hello"))) for each in many]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await soon(asyncio.wait(tasks))
    for place, session in enumerate(many):
        found = await stored(service, session)
        assert len(found.events) <= 1
        assert place % 2 == 0 or found == session


async def test_shared_state_is_not_lost(service: PsqlpySessionService) -> None:
    """Events with `app:` and `user:` deltas among the others."""
    many = await sessions(service, 20)
    await asyncio.gather(
        *(
            service.append_event(each, said("hello", **({f"app:{each.user_id}": 1} if place % 3 else {})))
            for place, each in enumerate(many)
        )
    )
    found = await stored(service, many[0])
    assert {key for key in found.state if key.startswith("app:")} == {
        f"app:u{place}" for place in range(20) if place % 3
    }
