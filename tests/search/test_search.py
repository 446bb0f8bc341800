"""service.search_events: what is found, in which order, whose, and what is gone."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from google.adk.events.event import Event
from google.genai import types
from psqlpy.exceptions import NotSupportedError

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from servers import Database, run_sql
from where import SEARCHES, one_server

if TYPE_CHECKING:
    from .conftest import Say

pytestmark = one_server(SEARCHES)

ANN = {"app_name": "app", "user_id": "ann"}


async def found(service: PsqlpySessionService, query: str, **where: Any) -> list[str]:
    """What the found events say, the best first."""
    hits = await service.search_events(**(ANN | where), query=query)
    return ["".join(part.text or "" for part in hit.event.content.parts) for hit in hits]  # type: ignore[union-attr]


async def test_an_event_is_found_as_soon_as_it_is_appended(service: PsqlpySessionService, say: Say) -> None:
    """With all that it is, and where it stands."""
    _, second = await say("Hello there", "I would like a window seat to Oslo")
    (hit,) = await service.search_events(**ANN, query="seats by the window?", limit=5)
    assert hit.event == second
    assert (hit.user_id, hit.session_id, hit.seq) == ("ann", "s", 2)
    assert hit.score > 0
    await say("A window again")
    assert len(await service.search_events(**ANN, query="window")) == 2


async def test_the_words_are_those_of_the_memory_service(service: PsqlpySessionService, say: Say) -> None:
    """Any word, case and accents do not count, phrases, exclusion, scripts without spaces."""
    await say("Café in Zürich", "窓側の席をお願いします", "a red car and a blue house", "a red house")
    assert await found(service, "CAFE") == ["Café in Zürich"]
    assert await found(service, "窓側") == ["窓側の席をお願いします"]
    assert await found(service, '"blue house"') == ["a red car and a blue house"]
    assert await found(service, "red -blue") == ["a red house"]
    assert await found(service, "") == await found(service, "?!") == []


async def test_rare_words_come_first(service: PsqlpySessionService, say: Say) -> None:
    await say(
        *(f"please tell me about the order number {number}" for number in range(30)), "the violin please"
    )
    assert (await found(service, "please tell me about the violin"))[0] == "the violin please"
    assert len(await found(service, "please", limit=7)) == 7


async def test_a_language_stems(config: PsqlpyConfig) -> None:
    store = PsqlpyADKStore(config)
    await store.create_tables(event_search="english")
    service = PsqlpySessionService(store)
    session = await service.create_session(**ANN)
    text = types.Content(role="user", parts=[types.Part(text="We were running late")])
    await service.append_event(session, Event(author="user", content=text))
    assert await found(service, "runs") == ["We were running late"]
    assert await found(service, "were") == []  # a stop word
    with pytest.raises(ValueError, match="made with the language 'english', not 'german'"):
        await store.create_tables(event_search="german")
    await store.create_tables(event_search=True)
    with pytest.raises(ValueError, match="not a text search configuration"):
        await PsqlpyADKStore(config, "other_sessions", "other_events").create_tables(event_search="klingon")


async def test_only_text_that_was_said(service: PsqlpySessionService) -> None:
    """No thoughts, no arguments of functions, no file names."""
    session = await service.create_session(**ANN)
    parts = [
        types.Part(text="spoken"),
        types.Part(text="thought", thought=True),
        types.Part(function_call=types.FunctionCall(name="lookup", args={"city": "argument"})),
    ]
    await service.append_event(
        session, Event(author="agent", content=types.Content(role="model", parts=parts))
    )
    await service.append_event(session, Event(author="agent"))
    assert [len(await found(service, word)) for word in ("spoken", "thought", "argument", "lookup")] == [
        1,
        0,
        0,
        0,
    ]


async def test_users_and_apps_are_apart(service: PsqlpySessionService, say: Say) -> None:
    await say("the secret of ann")
    await say("the secret of bob", user="bob")
    await say("the secret of another app", app="other")
    assert await found(service, "secret") == ["the secret of ann"]
    assert await found(service, "secret", user_id="nobody") == []
    everybody = await service.search_events(app_name="app", query="secret")
    assert sorted((hit.user_id, hit.session_id) for hit in everybody) == [("ann", "s"), ("bob", "s")]


async def test_windows(service: PsqlpySessionService, say: Say) -> None:
    """A time span up to now, or bounds: the first included, the second not."""
    await say("old news", at=1_000_000)
    await say("news", at=2_000_000)
    await say("new news", at=time.time() - 60)
    assert await found(service, "news", window=(1_000_000, 2_000_000)) == ["old news"]
    assert await found(service, "news", window=(2_000_000, None)) == ["news", "new news"]  # the shorter first
    assert await found(service, "news", window=(None, 2_000_001)) == ["news", "old news"]
    assert await found(service, "news", window=timedelta(hours=1)) == ["new news"]


async def test_what_is_deleted_is_not_found(
    service: PsqlpySessionService, say: Say, database: Database
) -> None:
    """Sessions, and events that SQL removes; a session that is made again begins with nothing."""
    await say("a window", session="one")
    await say("a window", "another window", session="two")
    assert len(await found(service, "window")) == 3
    await service.delete_session(**ANN, session_id="one")
    run_sql(database.dsn, "DELETE FROM adk_events WHERE seq = 2")
    hits = await service.search_events(**ANN, query="window")
    assert [(hit.session_id, hit.seq) for hit in hits] == [("two", 1)]
    await say("a door", session="one")
    assert await found(service, "door") == ["a door"]
    assert len(await found(service, "window")) == 1


async def test_what_sql_edits_is_found_by_its_new_words(
    service: PsqlpySessionService, say: Say, database: Database
) -> None:
    """Redacted text is not found from the moment of its redaction."""
    await say("one", "my number is 4711", "three")
    assert await found(service, "4711") == ["my number is 4711"]
    content = '{"role": "user", "parts": [{"text": "my number is redacted"}]}'
    run_sql(database.dsn, f"UPDATE adk_events SET content = '{content}' WHERE seq = 2")
    ((words,),) = run_sql(database.dsn, "SELECT count(*)::int4 AS n FROM adk_event_words")
    assert words == {"n": 2}
    assert await found(service, "4711") == []
    assert await found(service, "redacted") == ["my number is redacted"]
    assert sorted(await found(service, "one three")) == ["one", "three"]


async def test_events_from_before_the_index(config: PsqlpyConfig, database: Database) -> None:
    """They get their words in portions, by index_events or by the first search."""
    store = PsqlpyADKStore(config)
    await store.create_tables()
    service = PsqlpySessionService(store)
    session = await service.create_session(**ANN, session_id="s")
    with pytest.raises(NotSupportedError, match=r"create_tables\(event_search=True\)"):
        await service.search_events(**ANN, query="word")
    for number in range(5):
        text = types.Content(role="user", parts=[types.Part(text=f"word {number}")])
        await service.append_event(session, Event(author="user", content=text))
    run_sql(
        database.dsn,
        """INSERT INTO adk_sessions (app_name, user_id, id, revision)
            SELECT 'app', 'user' || n % 7, 'copied' || n, 450 FROM generate_series(1, 45) AS n""",
        """INSERT INTO adk_events (app_name, user_id, session_id, id, seq, content)
            SELECT 'app', s.user_id, s.id, s.id || '-' || n, n,
                jsonb_build_object('parts', jsonb_build_array(jsonb_build_object('text', 'word number' || n)))
            FROM adk_sessions AS s, generate_series(1, 450) AS n WHERE s.id LIKE 'copied%'""",
    )
    await store.create_tables(event_search=True)
    seen: list[int] = []
    assert len(await service.search_events(**ANN, query="word")) == 5
    assert await store.index_events("other") == 0
    assert await store.index_events(progress=seen.append) == 45 * 450
    assert seen[-1] == 45 * 450
    assert len(seen) > 5
    assert await store.index_events() == 0
    ((count,),) = run_sql(database.dsn, "SELECT count(*)::int4 AS n FROM adk_event_words")
    assert count == {"n": 45 * 450 + 5}
    hits = await service.search_events(app_name="app", query="number449", limit=100)
    assert len(hits) == 45


async def test_the_index_is_taken_away(service: PsqlpySessionService, say: Say, database: Database) -> None:
    await say("a window")
    assert await found(service, "window") == ["a window"]
    await service.store.create_tables(event_search=False)
    left = run_sql(database.dsn, "SELECT to_regclass('adk_event_words') IS NULL AS gone")[0]
    assert left == [{"gone": True}]
    with pytest.raises(NotSupportedError):
        await service.search_events(**ANN, query="window")
    await service.store.create_tables(event_search=True)
    assert await found(service, "window") == ["a window"]


async def test_tables_in_a_schema_of_their_own(config: PsqlpyConfig) -> None:
    store = PsqlpyADKStore(config, "agents.chat_sessions", "agents.chat_events")
    await store.create_tables(event_search=True)
    service = PsqlpySessionService(store)
    session = await service.create_session(**ANN)
    text = types.Content(role="user", parts=[types.Part(text="a window")])
    await service.append_event(session, Event(author="user", content=text))
    assert await found(service, "window") == ["a window"]


async def test_bad_input(service: PsqlpySessionService) -> None:
    bad: list[dict[str, Any]] = [
        {"query": 7},
        {"limit": 0},
        {"limit": 1_001},
        {"window": timedelta(0)},
        {"window": 7},
        {"window": (1,)},
        {"window": ("a", None)},
        {"user_id": 7},
        {"app_name": "a" * 129},
    ]
    for arguments in bad:
        with pytest.raises(ValueError, match=r"must|has"):
            await service.search_events(**(ANN | {"query": "word"} | arguments))
