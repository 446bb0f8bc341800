"""What is large: read in pages, warned of, or refused by name before it is sent."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.genai import types
from psqlpy.exceptions import ConnectionExecuteError, DatabaseError

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from adk_psqlpy.sessions import limits
from adk_psqlpy.sessions.decoders import SESSION
from adk_psqlpy.sessions.paging import Pages
from adk_psqlpy.sessions.stored import StoredSession, Version
from contract.events import at, delta, said, stored, varied
from servers import Database, run_sql
from where import changes_tables

from .support import KEY, version

if TYPE_CHECKING:
    from adk_psqlpy.connections.lanes import Decoders, Row

MB = 1 << 20


@pytest.fixture
async def store(config: PsqlpyConfig) -> PsqlpyADKStore:
    """A store that reads everything each time: pages are what these tests are about."""
    opened = PsqlpyADKStore(config, history_cache_bytes=0)
    await opened.create_tables()
    return opened


@pytest.fixture
def service(store: PsqlpyADKStore) -> PsqlpySessionService:
    """A service on that store."""
    return PsqlpySessionService(store)


class Statements:
    """Hands statements on, remembers them, and does something before one of them."""

    def __init__(self, store: PsqlpyADKStore) -> None:
        self._fetch = partial(store._lanes.fetch, kind="read")
        self.seen: list[str] = []
        self.before: dict[int, Callable[[], Awaitable[object]]] = {}

    async def fetch(self, sql: str, parameters: list[Any], decoders: Decoders) -> list[Row]:
        if what := self.before.pop(len(self.seen), None):
            await what()
        self.seen.append(sql)
        return await self._fetch(sql, parameters, decoders)


def paging(store: PsqlpyADKStore, page_bytes: int) -> Statements:
    """Make a store page whatever it reads a second time; its statements."""
    statements = Statements(store)
    store._pages = Pages(
        store._sql,
        statements.fetch,
        statements.fetch,
        SESSION,
        store._values.events,
        page_bytes=page_bytes,
        large_bytes=0,
    )
    return statements


async def filled(store: PsqlpyADKStore, events: list[Event], state: dict[str, Any] | None = None) -> None:
    """A session with these events, which is known as large from then on."""
    assert await store.create_session(*KEY, state) is not None
    expected = await version(store)
    for n, event in enumerate(events):
        assert await store.append_event(*KEY, event, expected=Version(n, expected.create_time))
    assert await store.get_session(*KEY) is not None


async def test_pages_give_what_one_statement_gives(store: PsqlpyADKStore) -> None:
    """All kinds of events, through every filter, are equal and in order, whatever the size of a page."""
    events = list(varied().values())
    whole = PsqlpyADKStore(store.config)
    for page_bytes in (1, 1_000, 3_000, 1 << 30):
        statements = paging(store, page_bytes)
        if page_bytes == 1:
            await filled(store, events, {"k": 1, "app:a": 1, "user:u": [2]})
        else:
            await store.get_session(*KEY)
        for filters in (
            {},
            {"limit": 7},
            {"limit": 1_000},
            {"after_timestamp": at(5)},
            {"after_timestamp": at(5), "limit": 3},
            {"after_timestamp": at(5_000)},
        ):
            del statements.seen[:]
            paged = await store.get_session(*KEY, **filters)
            assert paged == await whole.get_session(*KEY, **filters), (page_bytes, filters)
            assert paged is not None
            if page_bytes == 1:
                assert len(statements.seen) == 2 + len(paged.events)
        assert await store.get_since(*KEY, 4) == await whole.get_since(*KEY, 4)


async def test_a_page_has_the_bytes_asked_for(store: PsqlpyADKStore) -> None:
    """Pages are filled up to their size, as bytes are sent: uncompressed, as text."""
    statements = paging(store, 100_000)
    events = [said(str(n % 10) * 10_000, seconds=n) for n in range(100)]
    await filled(store, events)
    del statements.seen[:]
    session = await store.get_session(*KEY)
    assert session is not None
    assert session.events == events
    # 10,000 bytes of text each, and what is around it.
    assert 10 <= len(statements.seen) - 2 <= 13


async def test_without_events(store: PsqlpyADKStore, database: Database) -> None:
    """A session that was large and lost its events by SQL is read, and is large no more."""
    statements = paging(store, 1)
    await filled(store, [said("x", seconds=1)])
    run_sql(database.dsn, "DELETE FROM adk_events")
    session = await store.get_session(*KEY)
    assert session is not None
    assert session.events == []
    del statements.seen[:]
    assert await store.get_session(*KEY) == session
    assert len(statements.seen) == 1


@pytest.mark.parametrize("place", range(1, 5))
async def test_appends_while_pages_are_read(store: PsqlpyADKStore, place: int) -> None:
    """State and events are those of one revision, whatever is appended between the statements."""
    statements = paging(store, 1)
    events = [delta({"n": n}, seconds=n) for n in range(3)]
    await filled(store, events)
    expected = await version(store)

    async def append() -> None:
        assert await store.append_event(*KEY, delta({"n": 99}, seconds=9), expected=expected)

    statements.before[len(statements.seen) + place] = append
    session = await store.get_session(*KEY)
    assert session is not None
    assert (session.revision, session.state, session.events) == (3, {"n": 2}, events)
    assert not statements.before
    newest = await store.get_session(*KEY)
    assert newest is not None
    assert (newest.revision, newest.state["n"], len(newest.events)) == (4, 99, 4)


async def remade(store: PsqlpyADKStore) -> StoredSession:
    """Delete the session and make it anew with other events at the same revisions."""
    assert await store.delete_session(*KEY)
    made = await store.create_session(*KEY, {"new": True})
    assert made is not None
    for n in range(3):
        event = said(f"new {n}", seconds=n)
        assert await store.append_event(*KEY, event, expected=Version(n, made.create_time))
    return made


@pytest.mark.parametrize("place", range(1, 5))
async def test_a_session_made_anew_while_pages_are_read(store: PsqlpyADKStore, place: int) -> None:
    """Never a mixture: the read begins again, and gives the new session."""
    statements = paging(store, 1)
    await filled(store, [said(f"old {n}", seconds=n) for n in range(3)], {"old": True})
    statements.before[len(statements.seen) + place] = partial(remade, store)
    session = await store.get_session(*KEY)
    assert session is not None
    assert session.state == {"new": True}
    assert session.events == (await PsqlpyADKStore(store.config).get_events(*KEY))
    assert len(session.events) == 3


async def test_a_session_deleted_while_pages_are_read(store: PsqlpyADKStore) -> None:
    """It is not there."""
    statements = paging(store, 1)
    await filled(store, [said(str(n), seconds=n) for n in range(3)])
    statements.before[len(statements.seen) + 3] = partial(store.delete_session, *KEY)
    assert await store.get_session(*KEY) is None


async def test_an_event_deleted_while_pages_are_read(store: PsqlpyADKStore, database: Database) -> None:
    """A page that lacks an event is noticed: what is read is the session without it."""
    statements = paging(store, 100)
    events = [said(str(n), seconds=n) for n in range(3)]
    await filled(store, events)

    async def delete() -> None:
        run_sql(database.dsn, f"DELETE FROM adk_events WHERE id = '{events[0].id}'")

    del statements.seen[:]
    statements.before[2] = delete
    session = await store.get_session(*KEY)
    assert session is not None
    assert session.events == events[1:]
    # Row, pages and first page, twice; then the second page.
    assert len(statements.seen) == 7


async def test_a_session_that_never_stays(store: PsqlpyADKStore) -> None:
    """The third time is the last, and the error says what happened."""
    statements = paging(store, 1)
    await filled(store, [said(str(n), seconds=n) for n in range(3)])

    async def again() -> None:
        await remade(store)
        statements.before[len(statements.seen) + 3] = again

    statements.before[len(statements.seen) + 2] = again
    with pytest.raises(
        DatabaseError, match="was deleted and made again, or lost events, each of the 3 times"
    ):
        await store.get_session(*KEY)


@changes_tables
async def test_a_read_that_fails_for_another_reason(store: PsqlpyADKStore, database: Database) -> None:
    """Nothing is paged where the size is not the reason: the error stays what it was."""
    statements = paging(store, 1 << 30)
    await filled(store, [said("x", seconds=1)])
    store._pages._large.clear()
    run_sql(database.dsn, "ALTER TABLE adk_events RENAME author TO writer")
    del statements.seen[:]
    with pytest.raises(ConnectionExecuteError, match="author"):
        await store.get_session(*KEY)
    assert len(statements.seen) == 2


async def test_a_plain_read_is_one_statement(store: PsqlpyADKStore) -> None:
    """Nobody pays for pages who does not need them."""
    statements = Statements(store)
    store._pages = Pages(store._sql, statements.fetch, statements.fetch, SESSION, store._values.events)
    await filled(store, [said("x", seconds=1)])
    del statements.seen[:]
    for _ in range(3):
        await store.get_session(*KEY)
    assert len(statements.seen) == 3


# Refused by name.


async def test_an_event_too_large_for_jsonb(
    service: PsqlpySessionService, monkeypatch: pytest.MonkeyPatch, database: Database
) -> None:
    """The field, its size and the limit are named, and nothing is sent."""
    monkeypatch.setattr(limits, "JSONB_BYTES", 10_000)
    monkeypatch.setattr("adk_psqlpy.sessions.event_operations.JSONB_BYTES", 10_000)
    session = await service.create_session(app_name="app", user_id="user", session_id="s")
    large = "x" * 10_001
    cases: dict[str, Event] = {
        "content": said(large),
        "custom_metadata": said("", custom_metadata={"k": large}),
        "grounding_metadata": said(
            "", grounding_metadata=types.GroundingMetadata(web_search_queries=[large])
        ),
        r"what has no column of its own \(extra\)": said("", output=large),
        r"actions\.state_delta": delta({"k": large}),
    }
    shared = [(r"actions\.state_delta", delta({scope: large})) for scope in ("app:k", "user:k")]
    for name, event in [*cases.items(), *shared]:
        with pytest.raises(
            ValueError, match=rf"event '{event.id}': {name} is 10,0\d\d bytes of JSON, and .* 10,000"
        ):
            await service.append_event(session, event)
    assert run_sql(database.dsn, "SELECT count(*) AS n FROM adk_events") == [[{"n": 0}]]
    assert (await stored(service, session)).events == []
    await service.append_event(session, said("x" * 9_000))


async def test_an_event_too_large_to_be_read(
    service: PsqlpySessionService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many columns that no answer could bring them are refused, each of them small enough or not."""
    monkeypatch.setattr(limits, "EVENT_BYTES", 15_000)
    monkeypatch.setattr("adk_psqlpy.sessions.event_operations.JSONB_BYTES", 10_000)
    session = await service.create_session(app_name="app", user_id="user", session_id="s")
    with pytest.raises(ValueError, match=r"is 18,\d\d\d bytes, and at most 15,000 are stored"):
        await service.append_event(session, said("x" * 9_000, custom_metadata={"k": "y" * 9_000}))


async def test_a_state_too_large_for_jsonb(store: PsqlpyADKStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """State of any scope is refused when it is given, with its size."""
    monkeypatch.setattr(limits, "JSONB_BYTES", 10_000)
    for name in ("k", "app:k", "user:k"):
        with pytest.raises(ValueError, match=r"state is 10,0\d\d bytes of JSON"):
            await store.create_session(*KEY, {name: "x" * 10_001})
    assert await store.create_session(*KEY) is not None
    for name in ("k", "app:k", "user:k"):
        with pytest.raises(ValueError, match=r"state is 10,0\d\d bytes of JSON"):
            await store.update_session_state(*KEY, {name: "x" * 10_001})


# Warned of.


async def test_a_large_state_is_warned_of_once(
    service: PsqlpySessionService, caplog: pytest.LogCaptureFixture
) -> None:
    """One line a session, whoever meets the state first; the line names no user and shows no value."""
    caplog.set_level(logging.WARNING, "adk_psqlpy")
    small = await service.create_session(
        app_name="app", user_id="user", session_id="s", state={"k": "v" * 99_000}
    )
    await stored(service, small)
    assert caplog.records == []
    await service.append_event(small, delta({"more": "v" * 2_000}))
    assert caplog.records == []
    for _ in range(3):
        await stored(service, small)
    (record,) = caplog.records
    assert record.getMessage().startswith("the state of session 's' in app 'app' is 101 kB: every append")
    assert (record.name, record.levelname) == ("adk_psqlpy", "WARNING")
    for text in ("user'", "vvv"):
        assert text not in caplog.text
    large = await service.create_session(app_name="app", user_id="user", session_id="t")
    await service.append_event(large, delta({"k": "v" * 200_000}))
    await stored(service, large)
    await service.create_session(app_name="app", user_id="user", session_id="u", state={"k": "v" * 200_000})
    assert ["session 't'" in caplog.messages[1], "session 'u'" in caplog.messages[2]] == [True, True]
    assert len(caplog.messages) == 3


def test_warnings_are_remembered_for_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory of warnings has an end."""
    monkeypatch.setattr(limits, "_REMEMBERED", 3)
    sizes = limits.StateSizes()
    for n in range(10):
        sizes.look(("app", "user", str(n)), b"x" * 200_000)
    assert len(sizes._told) == 3


# For real.


async def test_a_state_of_10_mb(service: PsqlpySessionService) -> None:
    """It is stored, merged with and read."""
    state = {f"k{n}": "v" * 1_000 for n in range(10_000)}
    session = await service.create_session(app_name="app", user_id="user", session_id="s", state=state)
    await service.append_event(session, delta({"k0": "new", "more": 1}))
    read = await stored(service, session)
    assert read.state == state | {"k0": "new", "more": 1} == session.state


@pytest.mark.torture
async def test_100_000_events(service: PsqlpySessionService, database: Database) -> None:
    """A session of 100,000 events: appended to, read whole, and its end read."""
    session = await service.create_session(app_name="app", user_id="user", session_id="s")
    await service.append_event(session, said("first", seconds=0))
    run_sql(
        database.dsn,
        """INSERT INTO adk_events
               (app_name, user_id, session_id, id, seq, timestamp, author, invocation_id, content)
           SELECT app_name, user_id, session_id, 'e' || n, n, timestamp + n * interval '1 s',
                  author, invocation_id,
                  jsonb_set(content, '{parts,0,text}', to_jsonb('event ' || n))
           FROM adk_events, generate_series(2, 99999) AS n""",
        "UPDATE adk_sessions SET revision = 99999",
    )
    session = await stored(service, session)
    assert len(session.events) == 99_999
    await service.append_event(session, said("last", seconds=100_000))
    read = await stored(service, session)
    texts = [event.content.parts[0].text for event in read.events if event.content and event.content.parts]
    assert texts == ["first", *(f"event {n}" for n in range(2, 100_000)), "last"]


@pytest.mark.torture
async def test_200_mb_events(service: PsqlpySessionService) -> None:
    """An event of 200 MB is stored and read; six of them, which no answer could hold, are read in pages."""
    session = await service.create_session(app_name="app", user_id="user", session_id="s")
    for n in range(6):
        await service.append_event(session, said(str(n) * (200 * MB), seconds=n))
        if n == 0:
            assert (await stored(service, session)).events == session.events
    again = await stored(service, session)
    assert again.events == session.events
    with pytest.raises(
        ValueError, match=r"content is 283,115,\d\d\d bytes of JSON, and .* holds 268,435,455"
    ):
        await service.append_event(session, said("x" * (270 * MB)))
    blob = types.Blob(data=bytes(200 * MB), mime_type="image/png")
    content = types.Content(role="user", parts=[types.Part(inline_data=blob)])
    with pytest.raises(ValueError, match=r"bytes are base64 there, a third longer"):
        await service.append_event(session, Event(author="user", content=content))
    numbers = EventActions(state_delta={"k": [1] * 40_000_000})
    # Shorter than the limit as text, longer as jsonb: PostgreSQL's own refusal, once, and nothing is stored.
    with pytest.raises(ConnectionExecuteError):
        await service.append_event(session, Event(author="user", actions=numbers))
    assert (await version(service.store, "app", "user", "s")).revision == 6
