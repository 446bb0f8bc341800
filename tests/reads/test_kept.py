"""A process that has read a session asks for what is new."""

from __future__ import annotations

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from google.adk.events.event import Event
from psqlpy.exceptions import Error

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from adk_psqlpy.sessions.histories import Histories
from contract.events import said, varied
from servers import Database, held
from where import one_server

from .conftest import KEY, Reads, observed_reads

ROW = "SELECT FROM adk_sessions WHERE user_id = 'user' AND id = 's' FOR UPDATE"


def spoken(count: int, first: int = 0) -> list[Event]:
    return [said(f"event {n}", seconds=n) for n in range(first, first + count)]


async def test_an_unchanged_session_is_not_sent_again(reads: Reads) -> None:
    await reads.create(spoken(300))
    for _ in range(4):
        await reads.read()
    assert reads.counted == [(0, 300), (300, 0), (300, 0), (300, 0)]


async def test_only_what_is_new_is_sent(reads: Reads) -> None:
    """Turn after turn, over the boundaries of chunks."""
    await reads.create(spoken(100))
    await reads.read()
    for turn in range(40):
        await reads.append(spoken(7, 100 + 7 * turn))
        await reads.read()
        assert reads.last == (100 + 7 * turn, 7)
    history = reads.store._histories.get(KEY)
    assert history is not None
    assert len(history.chunks) == 3


async def test_a_session_without_events(reads: Reads) -> None:
    await reads.create()
    await reads.read()
    await reads.read()
    await reads.append(spoken(1))
    await reads.read()
    assert reads.last == (0, 1)


async def test_all_kinds_of_events(reads: Reads) -> None:
    """Decoded, recorded, and made again: the same to the order of keys."""
    await reads.create(list(varied().values()))
    for _ in range(3):
        await reads.read()


async def test_a_session_that_is_not_there(reads: Reads) -> None:
    assert await reads.read() is None
    await reads.create(spoken(3))
    await reads.read()
    assert await reads.plain.delete_session(*KEY)
    assert await reads.read() is None
    assert len(reads.store._histories) == 0


async def test_a_session_made_anew(reads: Reads) -> None:
    """The same id, the same number of events, the same revision."""
    await reads.create(spoken(5))
    await reads.read()
    await reads.plain.delete_session(*KEY)
    await reads.create(spoken(5, 50))
    await reads.read()
    assert reads.last == (0, 5)


async def test_own_appends_are_not_sent_again(service: PsqlpySessionService, reads: Reads) -> None:
    """All kinds, as they are read back: the first one was appended before anything was kept."""
    session = await service.create_session(app_name=KEY[0], user_id=KEY[1], session_id=KEY[2])
    kinds = list(varied().values())
    for number, event in enumerate(kinds):
        await service.append_event(session, event)
        await reads.read()
        assert reads.last == ((number + 1, 0) if number else (0, 1))
    assert [event.id for event in session.events] == [event.id for event in kinds]


async def test_many_own_appends_between_two_reads(service: PsqlpySessionService, reads: Reads) -> None:
    session = await service.create_session(app_name=KEY[0], user_id=KEY[1], session_id=KEY[2])
    for count in (1, 300, 20):
        for event in spoken(count, len(session.events)):
            await service.append_event(session, event)
        history = reads.store._histories.get(KEY)
        assert history is None or len(history.chunks) <= 6
        await reads.read()
    assert reads.counted == [(0, 1), (301, 0), (321, 0)]


async def test_own_appends_with_shared_state(service: PsqlpySessionService, reads: Reads) -> None:
    """They go by themselves, in a statement of their own."""
    await reads.create(spoken(3))
    await reads.read()
    session = await service.get_session(app_name=KEY[0], user_id=KEY[1], session_id=KEY[2])
    assert session is not None
    for number, scopes in enumerate(
        ({"app:a": 1}, {"user:u": 1, "s": datetime.now()}, {"app:a": 2, "user:u": 2})
    ):
        event = said("state", seconds=9)
        event.actions.state_delta = {**scopes, "at": number}
        await service.append_event(session, event)
    await reads.read()
    assert reads.last == (6, 0)


async def test_others_appended_before(config: PsqlpyConfig, reads: Reads) -> None:
    """Their events come with the next read; the own ones behind them are compared with them."""
    await reads.create(spoken(3))
    await reads.read()
    await reads.append(spoken(2, 3))
    last = await reads.store.last_event(*KEY)
    assert last is not None
    assert await reads.store.append_event(*KEY, said("own", seconds=9), expected=last[0])
    await reads.read()
    assert reads.last == (3, 3)


async def test_others_appended_between(reads: Reads) -> None:
    """What came before the gap is not sent again."""
    await reads.create(spoken(3))
    await reads.read()

    async def own() -> None:
        last = await reads.store.last_event(*KEY)
        assert last is not None
        assert await reads.store.append_event(*KEY, said("own", seconds=9), expected=last[0])

    await own()
    await reads.append(spoken(1, 4))
    await own()
    await reads.read()
    assert reads.last == (4, 2)


@one_server("Citus refuses triggers")
@pytest.mark.parametrize("merge", [False, True])
async def test_an_append_that_fails(reads: Reads, merge: bool) -> None:
    """Only if it asked for the version of its row, the read that follows is a full one."""
    await reads.create(spoken(3))
    await reads.read()
    last = await reads.store.last_event(*KEY)
    assert last is not None
    reads.sql(
        "CREATE FUNCTION refused() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$",
        "CREATE TRIGGER refused BEFORE INSERT ON adk_events FOR EACH ROW EXECUTE FUNCTION refused()",
    )
    with pytest.raises(Error):
        await reads.store.append_event(*KEY, said("a", seconds=9), expected=last[0], merge=merge)
    await reads.read()
    assert reads.last == ((3, 0) if merge else (0, 3))


async def test_an_append_that_took_too_long(database: Database, reads: Reads) -> None:
    """It says nothing about the table."""
    await reads.create(spoken(3))
    await reads.read()
    last = await reads.store.last_event(*KEY)
    assert last is not None
    impatient = PsqlpyConfig({"dsn": database.dsn, "max_db_pool_size": 2, "write_timeout_sec": 0.2})
    store = PsqlpyADKStore(impatient)
    counted = observed_reads(store, reads.plain, database.dsn)
    await counted.read()
    async with held(database, ROW):
        with pytest.raises(TimeoutError):
            await store.append_event(*KEY, said("a", seconds=9), expected=last[0])
    await counted.read()
    assert counted.last == (3, 0)
    await impatient.close_pool()


@one_server("Citus refuses triggers")
async def test_what_a_trigger_changes_is_read(service: PsqlpySessionService, reads: Reads) -> None:
    """What is stored is not what was sent: also where only the way in which a number is written differs."""
    await reads.create(spoken(3))
    reads.sql(
        "CREATE FUNCTION changed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " NEW.custom_metadata := (NEW.custom_metadata #>> '{}')::jsonb || '{\"n\": 1.0}'; RETURN NEW; END $$",
        "CREATE TRIGGER changed BEFORE INSERT ON adk_events FOR EACH ROW EXECUTE FUNCTION changed()",
    )
    session = await service.get_session(app_name=KEY[0], user_id=KEY[1], session_id=KEY[2])
    assert session is not None
    event = said("n", seconds=9)
    event.custom_metadata = {"n": 1}
    await service.append_event(session, event)
    found = await reads.read()
    assert found is not None
    assert found.events[-1].custom_metadata is not None
    assert repr(found.events[-1].custom_metadata["n"]) == "1.0"
    assert reads.last == (3, 1)


@one_server("Citus refuses triggers")
async def test_what_is_changed_after_an_own_append(service: PsqlpySessionService, reads: Reads) -> None:
    """By a trigger behind the insert, and with SQL."""
    await reads.create(spoken(3))
    reads.sql(
        "CREATE FUNCTION changed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " UPDATE adk_events SET author = 'trigger' WHERE id = NEW.id; RETURN NULL; END $$",
        "CREATE TRIGGER changed AFTER INSERT ON adk_events FOR EACH ROW EXECUTE FUNCTION changed()",
    )
    session = await service.get_session(app_name=KEY[0], user_id=KEY[1], session_id=KEY[2])
    assert session is not None
    await service.append_event(session, said("a", seconds=9))
    await reads.read()
    assert reads.last == (3, 1)
    reads.sql("DROP TRIGGER changed ON adk_events")
    await service.append_event(session, said("b", seconds=10))
    reads.sql("UPDATE adk_events SET author = 'sql' WHERE seq = 5")
    await reads.read()
    assert reads.last == (4, 1)


@one_server("it makes a table of partitions")
async def test_own_appends_to_partitions(service: PsqlpySessionService, reads: Reads) -> None:
    """Whose columns lie otherwise than their table's."""
    await reads.create(spoken(3))
    columns = "app_name, user_id, session_id"
    reads.sql(
        "ALTER TABLE adk_events RENAME TO old",
        "CREATE TABLE adk_events (LIKE old INCLUDING DEFAULTS) PARTITION BY LIST (app_name)",
        f"ALTER TABLE adk_events ADD PRIMARY KEY ({columns}, id), ADD UNIQUE ({columns}, seq)",
        "CREATE TABLE part (further int, LIKE old INCLUDING DEFAULTS)",
        "ALTER TABLE part DROP COLUMN further",
        "ALTER TABLE adk_events ATTACH PARTITION part DEFAULT",
        "INSERT INTO adk_events SELECT * FROM old",
    )
    session = await service.get_session(app_name=KEY[0], user_id=KEY[1], session_id=KEY[2])
    assert session is not None
    await service.append_event(session, said("a", seconds=9))
    await reads.read()
    assert reads.last == (4, 0)


async def test_states_are_always_read(reads: Reads) -> None:
    await reads.create(spoken(3))
    await reads.read()
    await reads.plain.update_session_state(*KEY, {"k": 1, "app:k": 2, "user:k": 3})
    found = await reads.read()
    assert found is not None
    assert (found.state["k"], found.state["app:k"], found.state["user:k"]) == (1, 2, 3)
    assert reads.last == (3, 0)


@pytest.mark.parametrize("filters", [{"limit": 3}, {"after_timestamp": 2_000_000_005.0}, {"limit": 0}])
async def test_filters_after_a_kept_read(reads: Reads, filters: dict[str, Any]) -> None:
    await reads.create(spoken(9))
    await reads.read()
    reads.sql('UPDATE adk_events SET content = \'{"parts": [{"text": "edited"}]}\' WHERE seq = 8')
    assert await reads.store.get_session(*KEY, **filters) == await reads.plain.get_session(*KEY, **filters)


async def newest(reads: Reads, count: int) -> tuple[int, int]:
    """Read so many of the newest, compare with a full read's: how many were kept, and how many were sent."""
    found, full = await reads.store.get_session(*KEY, limit=count), await reads.plain.get_session(*KEY)
    assert found is not None
    assert full is not None
    assert found == replace(full, events=full.events[-count:])
    return reads.last


async def test_the_newest_of_a_session_that_is_kept(reads: Reads) -> None:
    await reads.create(spoken(300))
    assert await reads.store.get_session(*KEY, limit=5) is not None
    assert reads.counted == []  # nothing was kept, and nothing is kept for it
    await reads.read()
    assert await newest(reads, 5) == (5, 0)
    await reads.append(spoken(2, 300))
    assert await newest(reads, 5) == (3, 2)
    assert await newest(reads, 200) == (200, 0)
    assert await newest(reads, 1_000) == (302, 0)
    reads.sql("UPDATE adk_events SET author = 'sql' WHERE seq = 10")
    assert await newest(reads, 5) == (5, 0)  # what is before them is not looked at
    await reads.read()
    assert reads.last[1] > 100


async def test_the_newest_after_the_newest_were_deleted(reads: Reads) -> None:
    await reads.create(spoken(300))
    await reads.read()
    reads.sql("DELETE FROM adk_events WHERE seq > 250")
    await newest(reads, 40)
    reads.sql("DELETE FROM adk_events WHERE seq > 100")
    await newest(reads, 40)
    reads.sql("DELETE FROM adk_events")
    await newest(reads, 40)


async def test_what_is_handed_out_is_the_callers_own(reads: Reads) -> None:
    """Whatever is done to the events of one read, the next has them as they are stored."""
    await reads.create(list(varied().values()))
    for _ in range(4):
        found = await reads.read()
        assert found is not None
        for event in found.events:
            spoil(event.__dict__)
            event.author = "nobody"
            object.__setattr__(event, "further", [event])
        found.events.clear()


def spoil(value: Any) -> None:
    """Change all that can be changed in what is below a value."""
    if hasattr(value, "model_fields_set"):
        spoil(value.__dict__)
        value.model_fields_set.clear()
        value.__dict__["added"] = value
        return
    if isinstance(value, dict):
        for item in value.values():
            spoil(item)
        for key in value:
            value[key] = "spoiled"
        value["added"] = value
    elif isinstance(value, list):
        for item in value:
            spoil(item)
        value.append(value)
    elif isinstance(value, set):
        value.add("added")


async def test_two_reads_share_nothing(reads: Reads) -> None:
    await reads.create(list(varied().values()))
    await reads.read()
    found = [await reads.read() for _ in range(3)]
    seen: set[int] = set()
    for session in found:
        assert session is not None
        mine = mutable(session.events)
        assert not mine & seen
        seen |= mine


def mutable(value: Any) -> set[int]:
    """The identities of all that can be changed, at and below a value."""
    if hasattr(value, "model_fields_set"):
        return {id(value), id(value.model_fields_set)} | mutable(value.__dict__)
    if isinstance(value, dict):
        return {id(value)}.union(*map(mutable, value.values()))
    if isinstance(value, (list, set)):
        return {id(value)}.union(*map(mutable, value))
    return set()


async def test_many_readers_at_once(reads: Reads) -> None:
    await reads.create(spoken(50))

    async def reader() -> None:
        for _ in range(10):
            found = await reads.store.get_session(*KEY)
            assert found is not None
            assert [event.timestamp for event in found.events] == [
                event.timestamp for event in spoken(len(found.events))
            ]

    async def writer() -> None:
        for n in range(50, 80):
            await reads.append(spoken(1, n))

    await asyncio.gather(writer(), *(reader() for _ in range(8)))
    await reads.read()


def test_several_event_loops(database: Any) -> None:
    """Threads with a loop each read one session through one store while it grows."""
    config = PsqlpyConfig(pool_config={"dsn": database.dsn, "max_db_pool_size": 8})
    store = PsqlpyADKStore(config)
    reads = Reads(store, PsqlpyADKStore(config, history_cache_bytes=0), database.dsn)

    async def make() -> None:
        await store.create_tables()
        await reads.create(spoken(20))

    async def work(thread: int) -> None:
        for n in range(15):
            if thread == 0:
                await reads.append(spoken(1, 20 + n))
            found = await store.get_session(*KEY)
            assert found is not None
            assert [event.timestamp for event in found.events] == [
                event.timestamp for event in spoken(len(found.events))
            ]

    asyncio.run(make())
    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(asyncio.run, work(number)) for number in range(4)]:
            done.result()
    asyncio.run(config.close_pool())


@pytest.mark.parametrize("size", [0, None])
async def test_off(config: PsqlpyConfig, reads: Reads, size: int | None) -> None:
    store = PsqlpyADKStore(config, history_cache_bytes=size)
    await reads.create(spoken(3))
    assert await store.get_session(*KEY) == await store.get_session(*KEY)
    assert len(store._histories) == 0


@pytest.mark.parametrize("size", [-1, 1.5, "64MB", True])
def test_a_size_that_is_none(config: PsqlpyConfig, size: Any) -> None:
    with pytest.raises(ValueError, match=r"history_cache_bytes must be how many bytes .*, not "):
        PsqlpyADKStore(config, history_cache_bytes=size)


async def test_the_least_recently_read_go_first(config: PsqlpyConfig, reads: Reads) -> None:
    keys = [("app", "user", f"s{n}") for n in range(6)]
    for key in keys:
        await reads.create(spoken(20), key)
    await reads.read(keys[0])
    one = reads.store._histories.nbytes
    store = PsqlpyADKStore(config, history_cache_bytes=3 * one + one // 2)
    for key in keys[:3]:
        await store.get_session(*key)
    assert store._histories.get(keys[0])
    await store.get_session(*keys[3])
    assert [key for key in keys if store._histories.get(key)] == [keys[0], keys[2], keys[3]]
    assert store._histories.nbytes <= store._histories.max_bytes


async def test_a_session_that_does_not_fit(config: PsqlpyConfig, reads: Reads) -> None:
    """It is read in full from then on, until it is made anew."""
    await reads.create(spoken(50))
    store = PsqlpyADKStore(config, history_cache_bytes=10_000)
    for _ in range(3):
        assert await store.get_session(*KEY) == await reads.plain.get_session(*KEY)
        assert store._histories.nbytes == 0
        assert store._histories.is_too_large(KEY)
    await store.delete_session(*KEY)
    await reads.create(spoken(2))
    await store.get_session(*KEY)
    assert len(store._histories) == 1


async def test_the_memory_is_bounded_by_what_is_measured(reads: Reads) -> None:
    """What is counted is at least what Python has allocated for it."""
    import tracemalloc

    await reads.create([*varied().values(), *spoken(200)])
    await reads.store.get_session(*KEY)
    for _ in range(2):
        await reads.store.get_session(*KEY)
    gc.collect()
    tracemalloc.start()
    try:
        histories: Histories = reads.store._histories
        histories.clear()
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(2):
            await reads.store.get_session(*KEY)
            await asyncio.sleep(0)  # the event loop lets go of what has just ended
            gc.collect()
            held = tracemalloc.get_traced_memory()[0] - before
            assert 0 < held <= histories.nbytes, (held, histories.nbytes)
    finally:
        tracemalloc.stop()


@one_server("it puts a view in the place of the table")
async def test_appends_where_rows_have_no_versions_any_more(
    service: PsqlpySessionService, reads: Reads
) -> None:
    """A session is kept, then its table becomes a view: one append finds out."""
    await reads.create(spoken(3))
    await reads.read()
    session = await service.get_session(app_name=KEY[0], user_id=KEY[1], session_id=KEY[2])
    assert session is not None
    reads.sql("ALTER TABLE adk_events RENAME TO hidden", "CREATE VIEW adk_events AS SELECT * FROM hidden")
    with pytest.raises(Error):
        await service.append_event(session, said("a", seconds=9))
    await service.append_event(session, said("a", seconds=9))
    await reads.read()


@one_server("it puts a view in the place of the table")
async def test_where_rows_have_no_versions(reads: Reads, caplog: pytest.LogCaptureFixture) -> None:
    """A view has no xmin: reads are full, and after some of them it is said why."""
    await reads.create(spoken(3))
    reads.sql("ALTER TABLE adk_events RENAME TO hidden", "CREATE VIEW adk_events AS SELECT * FROM hidden")
    for _ in range(5):
        await reads.read()
    assert caplog.text.count("sessions are read in full from now on") == 1
