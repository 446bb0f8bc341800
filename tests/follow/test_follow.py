"""service.follow: which events, in which order, from where on, and what is left behind."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import TYPE_CHECKING, Any

import pytest
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.sessions import Session

from adk_psqlpy import PsqlpySessionService
from adk_psqlpy.following import FollowSettings
from adk_psqlpy.following import following as module
from adk_psqlpy.sessions.stored import Version
from servers import Database, run_sql

from .support import KEY, append, event, nothing_more, said, soon, take, until, watcher_of

if TYPE_CHECKING:
    from .conftest import Open


async def test_another_process_sees_events_as_they_are_appended(
    writer: PsqlpySessionService, reader: PsqlpySessionService, session: Session
) -> None:
    async with reader.follow(**KEY) as events:
        for number in range(5):
            appended = await writer.append_event(session, event(str(number)))
            assert await soon(anext(events)) == appended
            assert events.seq == number + 1
        await nothing_more(events)


async def test_the_process_that_appends_sees_them_without_a_look(
    open_service: Open, writer: PsqlpySessionService, session: Session
) -> None:
    """With a look an hour, the follower still gets the event at once."""
    service = open_service(follow_settings=FollowSettings(fastest_sec=3600, slowest_sec=3600))
    async with service.follow(**KEY) as events:
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        await append(service, "mine")
        assert said(await soon(waiting)) == "mine"
        # Appended between two waits: not lost either.
        await append(service, "between")
        assert await take(events, 1) == ["between"]


async def test_after_says_where_to_begin(
    writer: PsqlpySessionService, reader: PsqlpySessionService, session: Session
) -> None:
    await append(writer, "1", "2", "3")
    assert await take(reader.follow(**KEY, after=0), 3) == ["1", "2", "3"]
    assert await take(reader.follow(**KEY, after=2), 1) == ["3"]
    held = await reader.get_session(**KEY)
    from_now, from_session = reader.follow(**KEY), reader.follow(**KEY, after=held)
    async with from_now:  # or it would begin at the first await
        await append(writer, "4")
        assert await take(from_now, 1) == ["4"]
    assert await take(from_session, 1) == ["4"]


async def test_it_goes_on_where_another_ended(
    writer: PsqlpySessionService, reader: PsqlpySessionService, session: Session
) -> None:
    await append(writer, "1", "2", "3")
    async with reader.follow(**KEY, after=0) as first:
        assert await take(first, 2) == ["1", "2"]
    held = await reader.store.get_session(*KEY.values())
    assert held is not None
    assert first.position == Version(2, held.create_time, last_event_id=held.events[1].id)
    assert await take(reader.follow(**KEY, after=first.seq), 1) == ["3"]
    assert await take(reader.follow(**KEY, after=first.position), 1) == ["3"]


async def test_a_state_change_without_an_event_is_passed_over(
    writer: PsqlpySessionService, reader: PsqlpySessionService, session: Session
) -> None:
    async with reader.follow(**KEY) as events:
        await writer.store.update_session_state(*KEY.values(), {"a": 1})
        await nothing_more(events)
        await append(writer, "next")
        assert await take(events, 1) == ["next"]
        assert events.seq == 2


async def test_a_slow_consumer_holds_a_page_at_most(
    writer: PsqlpySessionService,
    reader: PsqlpySessionService,
    session: Session,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """300 events are stored, and it takes one at a time; what it holds is bounded, in events and in bytes."""
    await append(writer, *map(str, range(300)))
    events = reader.follow(**KEY, after=0)
    taken = []
    for _ in range(300):
        taken += await take(events, 1)
        assert len(events._page) < module.PAGE_EVENTS
    assert taken == [str(number) for number in range(300)]
    monkeypatch.setattr(module, "PAGE_BYTES", 100)
    few = reader.follow(**KEY, after=0)
    taken = []
    for _ in range(20):
        taken += await take(few, 1)
        assert len(few._page) < 3
    assert taken == [str(number) for number in range(20)]


async def test_many_sessions_are_asked_for_in_one_statement(
    writer: PsqlpySessionService, database: Database, open_service: Open
) -> None:
    """Forty followers of ten sessions: as many looks as one follower would make."""
    ids = [f"s{number}" for number in range(10)]
    for each in ids:
        await writer.create_session(**KEY | {"session_id": each})
    service = open_service(follow_settings=FollowSettings(fastest_sec=0.05, slowest_sec=0.05))
    looks: list[int] = []
    look = service.store.following._look

    async def counted(known: Any) -> Any:
        looks.append(len(known))
        return await look(known)

    service.store.following._look = counted  # type: ignore[method-assign]
    followers = [service.follow(**KEY | {"session_id": each}, after=0) for each in ids for _ in range(4)]
    waiting = [asyncio.ensure_future(anext(each)) for each in followers]
    await until(lambda: len(looks) >= 3)
    assert set(looks[1:]) == {10}
    for each in ids:
        await append(writer, each, session_id=each)
    given = [said(each) for each in await soon(asyncio.gather(*waiting))]
    assert given == [each for each in ids for _ in range(4)]


async def test_a_cancelled_wait_loses_nothing(
    writer: PsqlpySessionService, reader: PsqlpySessionService, session: Session
) -> None:
    """A timeout ends the wait, not the follower; cancelled at any moment, the next wait goes on."""
    texts = [str(number) for number in range(60)]
    events = reader.follow(**KEY, after=0)

    async def write() -> None:
        for text in texts:
            await writer.append_event(session, event(text))

    writing = asyncio.ensure_future(write())
    taken: list[str] = []
    pause = 0.0005
    while len(taken) < len(texts):
        try:
            taken.append(said(await asyncio.wait_for(anext(events), pause)))
        except asyncio.TimeoutError:  # noqa: PERF203 - the next wait goes on
            pause *= 1.3  # a busy machine needs longer for any read
        else:
            pause = 0.0005
    await writing
    assert taken == texts


@pytest.mark.parametrize("how", ["aclose", "break", "cancelled", "forgotten"])
async def test_nothing_is_left_running(
    how: str, writer: PsqlpySessionService, reader: PsqlpySessionService, session: Session
) -> None:
    await append(writer, "1")
    before = asyncio.all_tasks()
    events = reader.follow(**KEY, after=0)
    if how == "break":
        async for _ in events:
            break
    else:
        await take(events, 1)
        waiting = asyncio.ensure_future(anext(events))
        await until(lambda: bool(watcher_of(reader)._waiting))
        if how == "aclose":
            await events.aclose()
            with pytest.raises(StopAsyncIteration):
                await soon(waiting)
            with pytest.raises(StopAsyncIteration):
                await soon(anext(events))
        else:
            waiting.cancel()
            await asyncio.wait({waiting})
        del waiting
    del events
    gc.collect()
    here = reader.store.following._loops[asyncio.get_running_loop()]
    while asyncio.all_tasks() - before:
        await soon(asyncio.wait(asyncio.all_tasks() - before))
    assert (here.watcher._task, here.watcher._waiting, list(here.watcher.watched)) == (None, {}, [])
    assert (here.notifications, here._payloads) == (None, {})


def test_several_event_loops(database: Database) -> None:
    """One service, followed in two loops of two threads, and in a third one after they have ended."""
    from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig

    service = PsqlpySessionService(PsqlpyADKStore(PsqlpyConfig({"dsn": database.dsn})))

    async def prepare() -> None:
        await service.store.create_tables()
        await service.create_session(**KEY)

    asyncio.run(prepare())
    ready = threading.Barrier(3)
    taken: dict[int, list[str]] = {}

    async def follow(number: int) -> None:
        async with service.follow(**KEY) as events:
            await asyncio.to_thread(ready.wait, 10)
            taken[number] = await take(events, 3)

    async def write() -> None:
        await asyncio.to_thread(ready.wait, 10)
        await append(service, "1", "2", "3")

    threads = [threading.Thread(target=lambda n=n: asyncio.run(follow(n))) for n in range(2)]
    for each in threads:
        each.start()
    asyncio.run(write())
    for each in threads:
        each.join(30)
    assert taken == {0: ["1", "2", "3"], 1: ["1", "2", "3"]}

    async def later() -> None:
        assert await take(service.follow(**KEY, after=0), 3) == ["1", "2", "3"]
        await service.close()

    asyncio.run(later())


async def test_one_task_at_a_time(writer: PsqlpySessionService, session: Session) -> None:
    events = writer.follow(**KEY)
    first = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="another task waits"):
        await anext(events)
    await append(writer, "1")
    assert said(await soon(first)) == "1"


async def test_what_is_edited_or_removed_behind_it_is_not_told_of(
    writer: PsqlpySessionService, reader: PsqlpySessionService, session: Session, database: Database
) -> None:
    await append(writer, "1", "2")
    events = reader.follow(**KEY, after=0)
    assert await take(events, 2) == ["1", "2"]
    run_sql(
        database.dsn,
        'UPDATE adk_events SET content = \'{"parts": [{"text": "edited"}]}\' WHERE seq = 1',
        "DELETE FROM adk_events WHERE seq = 2",
    )
    await nothing_more(events)
    await append(writer, "3")
    assert await take(events, 1) == ["3"]


async def test_bad_input(writer: PsqlpySessionService, session: Session) -> None:
    for after in (-1, 2**63, 1.5, True, "3"):
        with pytest.raises(ValueError, match="after must be"):
            writer.follow(**KEY, after=after)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="made by hand"):
        writer.follow(
            **KEY, after=session.model_copy(deep=True).__class__(id="s", app_name="app", user_id="user")
        )
    with pytest.raises(ValueError, match="user_id must be a str"):
        writer.follow(app_name="app", user_id=7, session_id="s")  # type: ignore[arg-type]
    for settings in ({"fastest_sec": 0}, {"slowest_sec": 0.001}, {"patience_sec": -1}, {"fastest_sec": "1"}):
        with pytest.raises(ValueError, match="must be seconds from"):
            FollowSettings(**settings)  # type: ignore[arg-type]
    events = writer.follow(**KEY | {"session_id": "never"})
    with pytest.raises(SessionNotFoundError, match="never not found"):
        await soon(anext(events))
    with pytest.raises(RuntimeError, match="position is known"):
        _ = events.position
