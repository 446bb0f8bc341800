"""Sealed sessions: what can be read, by whom, and what is told where something does not open."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import pytest
from psqlpy.exceptions import NotSupportedError

from adk_psqlpy import PsqlpyADKStore, PsqlpyArtifactService, PsqlpySessionService, _native
from adk_psqlpy.admin.reseal import reseal
from adk_psqlpy.errors import MissingKeyError, SealError
from adk_psqlpy.seal import Seal
from keys import TestKeys, fresh_seal
from where import PLAIN_SQL, SEARCHES, one_server

from .support import SECRET, Sealed, places_of, secret_event

if TYPE_CHECKING:
    from google.adk.sessions import Session


def keys_of(key_id: str) -> _native.Keys:
    made = _native.Keys()
    made.add(key_id, bytes(32))
    return made


KEY: dict[str, Any] = {"app_name": "app", "user_id": "user", "session_id": "s"}
STATE = {"own": f"{SECRET} a", "user:card": f"{SECRET} b", "app:motto": f"{SECRET} c"}


async def a_session(sealed: Sealed, events: int = 3) -> Session:
    session = await sealed.service.create_session(**KEY, state=dict(STATE))
    for number in range(events):
        await sealed.service.append_event(session, secret_event(number))
    return session


def service_with(sealed: Sealed, seal: Seal | None) -> PsqlpySessionService:
    """Another service on the same tables."""
    return PsqlpySessionService(PsqlpyADKStore(sealed.store.config, seal=seal))


async def test_what_was_sealed_is_read_as_it_was_given(sealed: Sealed) -> None:
    """Another process with the same keys reads everything."""
    session = await a_session(sealed)
    read = await service_with(sealed, fresh_seal()).get_session(**KEY)
    assert read is not None
    assert read.events == session.events
    assert read.state == {key: value for key, value in session.state.items() if not key.startswith("temp:")}
    listed = await service_with(sealed, fresh_seal()).list_sessions(app_name="app")
    assert [each.state for each in listed.sessions] == [read.state]


async def test_no_secret_can_be_read_in_the_database(sealed: Sealed) -> None:
    """Names of state keys, identifiers and times stay plain; nothing that was said does."""
    await a_session(sealed)
    assert places_of(SECRET, sealed.database.dsn) == set()
    (row,) = sealed.sql("SELECT id, author, error_code, invocation_id FROM adk_events WHERE seq = 1")
    assert row == {"id": "event-0", "author": "agent", "error_code": "CODE", "invocation_id": "invocation-0"}
    (row,) = sealed.sql(
        "SELECT jsonb_object_keys(state) AS key, jsonb_typeof(state->'own') AS kind FROM adk_sessions"
    )
    assert row == {"key": "own", "kind": "string"}


async def test_columns_keep_their_types(sealed: Sealed) -> None:
    """A sealed JSONB value is a JSON string that begins with U+FDD0, the version and the key's id."""
    await a_session(sealed, events=1)
    (row,) = sealed.sql(
        "SELECT content #>> '{}' AS content, extra #>> '{}' AS extra, error_message FROM adk_events"
    )
    assert row["content"].startswith("\ufdd0seal1:test-1:")
    assert row["extra"].startswith("\ufdd0seal1:test-1:")
    assert row["error_message"] == "\ufdd0seal1:"


async def test_a_long_error_message(sealed: Sealed) -> None:
    """It is longer than its column, sealed or not."""
    session = await a_session(sealed, events=0)
    event = secret_event(error_message="long " * 1000)
    await sealed.service.append_event(session, event)
    read = await sealed.service.get_session(**KEY)
    assert read is not None
    assert read.events == [event]


async def test_plain_and_sealed_rows_lie_side_by_side(sealed: Sealed) -> None:
    """A store that begins to seal reads what it wrote before."""
    plain = service_with(sealed, None)
    session = await plain.create_session(**KEY, state={"own": 1, "user:u": 2, "app:a": 3})
    await plain.append_event(session, secret_event(0, id="plain"))
    await sealed.service.append_event(session, secret_event(1, id="sealed"))
    read = await sealed.service.get_session(**KEY)
    assert read is not None
    assert read.events == session.events
    assert (read.state["user:u"], read.state["app:a"]) == (2, 3)


@pytest.mark.parametrize("which", ["events", "state", "app", "user"])
async def test_a_store_without_a_seal_says_so(sealed: Sealed, which: str) -> None:
    """It is an error with the place, not a value that looks odd."""
    plain = service_with(sealed, None)
    if which == "events":
        session = await plain.create_session(**KEY)
        await sealed.service.append_event(session, secret_event(7, actions={}))
        place = "session 's' of user 'user' in app 'app', event \"event-7\", column actions: sealed"
    else:
        key = {"state": "own", "app": "app:motto", "user": "user:card"}[which]
        await sealed.service.create_session(**KEY, state={key: SECRET})
        column = {"state": "session state", "app": "app state", "user": "user state"}[which]
        place = f"session 's' of user 'user' in app 'app', {column}, key"
        place = place.replace(", key", ": key")
        with pytest.raises(SealError, match="give the store or service the seal="):
            await plain.list_sessions(app_name="app")
    with pytest.raises(SealError, match="give the store or service the seal=") as raised:
        await plain.get_session(**KEY)
    assert place in str(raised.value)


def test_values_read_past_the_store_are_refused() -> None:
    """Whoever decodes a sealed state without a seal, such as an export, is not given the envelope."""
    sealed = _native.seal_state(
        b'\x01{"a": 1}', "k", (keys_of("k"), "a", "u", "s"), scope="session state", patterns=["*"], plain=[]
    )
    for value in (sealed, b"\x01" + sealed[6:-1]):
        with pytest.raises(SealError, match=r"here: .*sealed, and there is nothing to open it with"):
            _native.decode_json(value, place="here")
    assert _native.decode_json(b'\x01{"a": ["\xef\xb7\x90seal1:k:"]}', place="here")


async def test_a_missing_key(sealed: Sealed) -> None:
    """The error names session, event and column, and the key's id."""
    await a_session(sealed)
    other = service_with(sealed, fresh_seal("test-2"))
    with pytest.raises(MissingKeyError) as raised:
        await other.get_session(**KEY)
    message = str(raised.value)
    assert message.startswith(
        "session 's' of user 'user' in app 'app', event \"event-0\", column actions: "
        "sealed with the key 'test-1', which is missing"
    )
    assert SECRET not in message
    for call in (
        other.list_sessions(app_name="app"),
        other.get_user_state(app_name="app", user_id="user"),
    ):
        with pytest.raises(MissingKeyError, match=r"state, key .*: sealed with the key 'test-1'"):
            await call


async def test_another_key_under_the_same_id(sealed: Sealed) -> None:
    """The value does not open."""
    await a_session(sealed)

    class Wrong(TestKeys):
        async def key(self, key_id: str) -> bytes:
            return bytes(32)

    with pytest.raises(SealError, match=r'event "event-0", column actions: .*does not open') as raised:
        await service_with(sealed, Seal(Wrong("test-1"))).get_session(**KEY)
    assert SECRET not in str(raised.value)


CHANGES = {
    "a changed byte": (
        "UPDATE adk_events SET actions = set_byte(actions, 40, get_byte(actions, 40) # 1) WHERE seq = 2",
        'event "event-1", column actions',
    ),
    "a value cut off": (
        "UPDATE adk_events SET actions = substr(actions, 1, 60) WHERE seq = 2",
        'event "event-1", column actions',
    ),
    "another event's value": (
        "UPDATE adk_events AS e SET content = (SELECT content FROM adk_events WHERE seq = 1) WHERE seq = 2",
        'event "event-1", column content',
    ),
    "another column's value": (
        "UPDATE adk_events SET extra = content WHERE seq = 2",
        'event "event-1", column extra',
    ),
    "a rare column of another event": (
        """UPDATE adk_events SET custom_metadata = (SELECT custom_metadata FROM adk_events WHERE seq = 1)
        WHERE seq = 2""",
        'event "event-1", column custom_metadata',
    ),
    "an error message whose text is gone": (
        "UPDATE adk_events SET extra = NULL WHERE seq = 2",
        'event "event-1", column error_message',
    ),
    "an event moved to another session": (
        """INSERT INTO adk_sessions (app_name, user_id, id) VALUES ('app', 'user', 't');
        UPDATE adk_events SET session_id = 't' WHERE seq = 2; DELETE FROM adk_sessions WHERE id = 's';
        UPDATE adk_sessions SET id = 's2' WHERE false""",
        "session 't' of user 'user' in app 'app', event \"event-1\"",
    ),
    "a state value moved to another key": (
        "UPDATE adk_sessions SET state = jsonb_build_object('other', state->'own')",
        'session state: key "other"',
    ),
    "a user's state given to another session": (
        """UPDATE adk_sessions
        SET state = (SELECT jsonb_build_object('card', state->'card') FROM adk_user_states)""",
        'session state: key "card"',
    ),
}


# Citus does not take the SQL of these edits, which compares rows or calls STABLE functions.
ONE_SERVER = (
    "another event's value",
    "a rare column of another event",
    "a state value moved to another key",
    "a user's state given to another session",
)


@pytest.mark.parametrize(
    "change",
    [pytest.param(each, marks=one_server(PLAIN_SQL) if each in ONE_SERVER else ()) for each in CHANGES],
)
async def test_what_was_changed_or_moved_is_noticed(sealed: Sealed, change: str) -> None:
    """The error names where, and shows nothing of the value."""
    await a_session(sealed)
    statements, place = CHANGES[change]
    for statement in statements.split(";"):
        sealed.sql(statement)
    session_id = "t" if "session 't'" in place else "s"
    with pytest.raises(SealError, match=re.escape(place)) as raised:
        await sealed.service.get_session(app_name="app", user_id="user", session_id=session_id)
    assert SECRET not in str(raised.value)


async def test_which_state_keys_are_sealed(sealed: Sealed) -> None:
    """Patterns of ADK's keys; exceptions win."""
    seal = fresh_seal(state=("user:*", "app:key_*", "*_secret"), plain_state=("user:theme",))
    service = service_with(sealed, seal)
    state = {"step": 1, "my_secret": 2, "user:theme": 3, "user:card": 4, "app:key_a": 5, "app:motto": 6}
    await service.create_session(**KEY, state=dict(state))
    kinds = {}
    for table, prefix in (("sessions", ""), ("user_states", "user:"), ("app_states", "app:")):
        rows = sealed.sql(f"SELECT key, jsonb_typeof(value) AS kind FROM adk_{table}, jsonb_each(state)")
        kinds |= {prefix + row["key"]: row["kind"] for row in rows}
    sealed_keys = {key for key, kind in kinds.items() if kind == "string"}
    assert sealed_keys == {"my_secret", "user:card", "app:key_a"}
    read = await service.get_session(**KEY)
    assert read is not None
    assert read.state == state


async def test_state_still_merges_on_the_server(sealed: Sealed) -> None:
    """Racing writers of different keys lose nothing."""
    await sealed.service.create_session(**KEY)

    async def write(number: int) -> None:
        own = service_with(sealed, fresh_seal())
        await own.store.update_session_state(
            "app", "user", "s", {f"user:{number}": number, f"k{number}": number}
        )

    await asyncio.gather(*(write(number) for number in range(16)))
    read = await sealed.service.get_session(**KEY)
    assert read is not None
    assert read.state == {f"k{n}": n for n in range(16)} | {f"user:{n}": n for n in range(16)}


async def test_rotation(sealed: Sealed, ring: TestKeys) -> None:
    """New values are sealed with the new key as soon as the seal has noticed, older ones stay readable."""
    session = await a_session(sealed, events=1)
    ring.ids.append("test-2")
    await sealed.service.append_event(session, secret_event(1))
    assert sealed.store.seal is not None
    sealed.store.seal.forget()
    await sealed.service.append_event(session, secret_event(2))
    rows = sealed.sql("SELECT split_part(content #>> '{}', ':', 2) AS key FROM adk_events ORDER BY seq")
    assert [row["key"] for row in rows] == ["test-1", "test-1", "test-2"]
    reader = TestKeys("test-1", "test-2")
    read = await service_with(sealed, Seal(reader)).get_session(**KEY)
    assert read is not None
    assert read.events == session.events
    assert sorted(reader.asked) == ["test-1", "test-2"]


async def test_an_append_given_twice_is_one(sealed: Sealed) -> None:
    """Sealed twice it is other bytes, and still the same event."""
    session = await a_session(sealed, events=0)
    copy = session.model_copy(deep=True)
    await sealed.service.append_event(session, secret_event(0))
    await sealed.service.append_event(copy, secret_event(0))
    assert len(sealed.sql("SELECT id FROM adk_events")) == 1


async def test_a_seal_is_a_seal(sealed: Sealed) -> None:
    """What is none is refused by name."""
    with pytest.raises(ValueError, match="seal must be a Seal, not TestKeys"):
        PsqlpyADKStore(sealed.store.config, seal=TestKeys())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="keys must be a key ring"):
        Seal(b"secret")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="state must be a collection of patterns"):
        fresh_seal(state="user:*")
    with pytest.raises(ValueError, match="cache_sec"):
        fresh_seal(cache_sec=-1)


async def test_a_fork_is_sealed_for_its_own_place(sealed: Sealed) -> None:
    """Every column of it, with the current key; the origin may be plain in part, and have another key."""
    plain = service_with(sealed, None)
    session = await plain.create_session(**KEY, state={"own": f"{SECRET} first"})
    await plain.append_event(session, secret_event(0))
    await service_with(sealed, fresh_seal("test-1", "test-0")).append_event(session, secret_event(1))
    await sealed.store.update_session_state("app", "user", "s", {"k": SECRET})
    forking = service_with(sealed, fresh_seal("test-0", "test-1"))
    fork = await forking.fork_session(session, at_seq=2, session_id="fork")
    assert fork.events == session.events
    assert fork.state["own"] == f"{SECRET} own"
    assert await forking.state_at(fork, at_seq=0) == fork.state | {"own": f"{SECRET} first"}
    sealed.sql("DELETE FROM adk_sessions WHERE id = 's'")
    for scope in ("user", "app"):
        sealed.sql(f"DELETE FROM adk_{scope}_states")
    assert places_of(SECRET, sealed.database.dsn) == set()
    read = await service_with(sealed, fresh_seal("test-1")).get_session(**KEY | {"session_id": "fork"})
    assert read is not None
    assert read.events == session.events


async def test_artifacts_do_not_go_along_with_a_fork(sealed: Sealed) -> None:
    """What describes them is bound to their session; nothing is made."""
    session = await a_session(sealed, events=2)
    artifacts = PsqlpyArtifactService(sealed.store.config, seal=sealed.store.seal)  # type: ignore[arg-type]
    with pytest.raises(NotSupportedError, match="forks no artifacts"):
        await sealed.service.fork_session(session, artifacts=artifacts)
    assert len(sealed.sql("SELECT id FROM adk_sessions")) == 1


async def test_followers_open_what_they_are_given(sealed: Sealed) -> None:
    """Another process follows a sealed session."""
    session = await a_session(sealed, events=2)
    reader = service_with(sealed, fresh_seal())
    events = []
    async for event in reader.follow(**KEY, after=0):
        events.append(event)
        if len(events) == 2:
            break
    assert events == session.events


@one_server(SEARCHES)
async def test_a_search_that_was_there_before(sealed: Sealed) -> None:
    """Its words are plain: sealing does not begin beside them, and `False` drops them."""
    plain = service_with(sealed, None)
    await plain.store.create_tables(event_search=True)
    session = await plain.create_session(**KEY)
    await plain.append_event(session, secret_event(0))
    assert len(await plain.store.search_events("app", query="content")) == 1
    words = "SELECT 1 AS one FROM pg_class WHERE relname = 'adk_event_words'"
    assert len(sealed.sql(words)) == 1
    later = PsqlpyADKStore(sealed.store.config, seal=fresh_seal())
    with pytest.raises(NotSupportedError, match=r"adk_event_words.* holds the words of events in plain text"):
        await later.create_tables()
    done = await reseal(sealed.store.config, fresh_seal())  # type: ignore[arg-type]
    assert [each.partition(":")[0] for each in done.left] == ["adk_event_words"]
    await later.create_tables(event_search=False)
    assert sealed.sql(words) == []
    await later.create_tables()
    assert places_of(SECRET, sealed.database.dsn) == set()


async def test_search_over_sealed_events_is_refused(sealed: Sealed) -> None:
    """It would find nothing, and its index would hold the words of events in plain text."""
    await a_session(sealed, events=1)
    for refused in (
        sealed.store.search_events("app", query="x"),
        sealed.store.index_events("app"),
        sealed.store.create_tables(event_search=True),
    ):
        with pytest.raises(NotSupportedError, match="a store with a seal has no search over events"):
            await refused
    await sealed.store.create_tables(event_search=False)
