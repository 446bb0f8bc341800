"""The plain operations of the store, one section each, then what they promise together."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from google.adk.errors import StaleSessionError
from google.adk.errors.session_not_found_error import SessionNotFoundError

from adk_psqlpy import PsqlpyADKStore, PsqlpySessionService
from adk_psqlpy.sessions.stored import AppendOutcome, StoredSession, Version
from contract.events import at, delta, said, varied
from proxy import Proxy
from servers import Database, run_sql

from .support import KEY, all_back, contents, store_at, version

if TYPE_CHECKING:
    from google.adk.events import Event


async def found(store: PsqlpyADKStore, *key: str) -> StoredSession:
    """The stored session; it must exist."""
    session = await store.get_session(*(key or KEY))
    assert session is not None
    return session


async def filled(store: PsqlpyADKStore, count: int, *key: str) -> list[Event]:
    """A session with so many events, a second apart."""
    assert await store.create_session(*(key or KEY)) is not None
    expected = await version(store, *key)
    events = [said(str(n), seconds=n) for n in range(count)]
    for n, event in enumerate(events):
        revision = await store.append_event(*(key or KEY), event, expected=Version(n, expected.create_time))
        assert revision == n + 1
    return events


# create_session


async def test_create(store: PsqlpyADKStore) -> None:
    """A new session comes back as it is stored: state of all scopes, both times now, no writes yet."""
    before = time.time_ns() // 1000 / 1e6
    session = await store.create_session(*KEY, {"k": [1], "app:a": 2, "user:u": None, "temp:t": 3})
    after = time.time()
    assert session is not None
    assert (session.app_name, session.user_id, session.id) == KEY
    assert session.state == {"k": [1], "app:a": 2, "user:u": None}
    assert before <= session.create_time == session.update_time <= after
    assert (session.revision, session.events) == (0, [])
    assert await found(store) == session


async def test_create_with_shared_state(store: PsqlpyADKStore) -> None:
    """A new session shows what its app and its user have already, and what it adds to both."""
    await store.create_session("app", "user", "1", {"app:a": 1, "user:u": 1, "k": 1})
    await store.create_session("app", "other", "1", {"user:other": 1})
    session = await store.create_session("app", "user", "2", {"app:b": 2, "user:u": 2})
    assert session is not None
    assert session.state == {"app:a": 1, "app:b": 2, "user:u": 2}
    assert await found(store, "app", "user", "2") == session


@pytest.mark.parametrize("state", [None, {}, {"temp:t": 1}])
async def test_create_without_state(store: PsqlpyADKStore, database: Database, state: Any) -> None:
    """Without state, the session has an empty one and shared state gets no row."""
    session = await store.create_session(*KEY, state)
    assert session is not None
    assert session.state == {}
    counts = "SELECT (SELECT count(*) FROM adk_app_states) + (SELECT count(*) FROM adk_user_states) AS n"
    assert run_sql(database.dsn, counts) == [[{"n": 0}]]


async def test_create_what_exists(store: PsqlpyADKStore, database: Database) -> None:
    """An id that is taken gives None, and no state of any scope is touched."""
    await store.create_session(*KEY, {"k": 1, "app:a": 1, "user:u": 1})
    before = contents(database.dsn)
    assert await store.create_session(*KEY, {"k": 2, "app:a": 2, "user:u": 2}) is None
    assert contents(database.dsn) == before


async def test_an_id_is_the_users_own(store: PsqlpyADKStore) -> None:
    """The same id under another user or app is another session."""
    for app in ("a", "b"):
        for user in ("u", "v"):
            assert await store.create_session(app, user, "s", {"k": app + user}) is not None
    assert await store.delete_session("a", "u", "s")
    assert (await found(store, "a", "v", "s")).state == {"k": "av"}
    assert (await found(store, "b", "u", "s")).state == {"k": "bu"}


async def test_racing_creates_have_one_winner(store: PsqlpyADKStore) -> None:
    """Of many creations of one id exactly one makes the session, and only its state is stored."""
    made = await asyncio.gather(*(store.create_session(*KEY, {"k": n, "app:a": n}) for n in range(16)))
    (winner,) = [session for session in made if session is not None]
    assert await found(store) == winner
    assert await store.get_app_state("app") == {"a": winner.state["k"]}


# get_session, get_events


FILTERS: list[tuple[dict[str, Any], range]] = [
    ({}, range(10)),
    ({"limit": None, "after_timestamp": None}, range(10)),
    ({"limit": 0}, range(0)),
    ({"limit": 1}, range(9, 10)),
    ({"limit": 3}, range(7, 10)),
    ({"limit": 10}, range(10)),
    ({"limit": 11}, range(10)),
    ({"limit": 2**62}, range(10)),
    ({"after_timestamp": at(0)}, range(10)),
    ({"after_timestamp": at(4)}, range(4, 10)),
    ({"after_timestamp": at(4) + 1e-6}, range(5, 10)),
    ({"after_timestamp": at(4) - 1e-6}, range(4, 10)),
    ({"after_timestamp": int(at(4))}, range(4, 10)),
    ({"after_timestamp": at(9)}, range(9, 10)),
    ({"after_timestamp": at(10)}, range(0)),
    ({"after_timestamp": 0}, range(10)),
    ({"after_timestamp": -1e9}, range(10)),
    ({"after_timestamp": at(4), "limit": 2}, range(8, 10)),
    ({"after_timestamp": at(8), "limit": 5}, range(8, 10)),
    ({"after_timestamp": at(4), "limit": 0}, range(0)),
]


async def test_filters(store: PsqlpyADKStore) -> None:
    """`limit` keeps the newest, `after_timestamp` those at or after it, both the newest of those."""
    events = await filled(store, 10)
    whole = await found(store)
    for filters, kept in FILTERS:
        expected = [events[n] for n in kept]
        session = await store.get_session(*KEY, **filters)
        assert session is not None
        assert session.events == expected, filters
        assert await store.get_events(*KEY, **filters) == expected, filters
        session.events = whole.events
        assert session == whole, filters


async def test_order_is_that_of_the_appends(store: PsqlpyADKStore) -> None:
    """Events come in the order of their appends, whatever their clocks said; filters too."""
    await store.create_session(*KEY)
    created = (await version(store)).create_time
    seconds = [5.0, 1.0, 1.0, 9.0, 0.0, 5.0]
    for n, second in enumerate(seconds):
        await store.append_event(*KEY, said(str(n), seconds=second), expected=Version(n, created))

    async def order(**filters: Any) -> list[float]:
        return [event.timestamp - at(0) for event in await store.get_events(*KEY, **filters)]

    assert await order() == seconds
    assert await order(limit=3) == [9.0, 0.0, 5.0]
    assert await order(after_timestamp=at(5)) == [5.0, 9.0, 5.0]
    assert await order(after_timestamp=at(1), limit=4) == [1.0, 1.0, 9.0, 5.0][-4:]


async def test_an_event_is_found_from_its_own_time(store: PsqlpyADKStore) -> None:
    """An event counts as at or after its own timestamp, though the column holds microseconds only."""
    chance = random.Random(7)
    await store.create_session(*KEY)
    created = (await version(store)).create_time
    times = [-0.5e-6, 0.5e-6, 1.5e-6, *(chance.uniform(1.7e9, 1.8e9) for _ in range(60))]
    for n, moment in enumerate(times):
        event = said(str(n), timestamp=moment)
        assert await store.append_event(*KEY, event, expected=Version(n, created)) == n + 1
        read = await store.get_events(*KEY, after_timestamp=moment)
        assert event in read, moment
        assert (await store.get_events(*KEY, limit=1))[0].timestamp == moment


async def test_nothing_to_read(store: PsqlpyADKStore) -> None:
    """No such session: None, no events; also where only the app, the user or the id differs."""
    await filled(store, 1)
    for key in (("app", "user", "t"), ("app", "other", "s"), ("other", "user", "s"), ("", "", "")):
        assert await store.get_session(*key) is None
        assert await store.get_events(*key) == []
        assert await store.get_event(*key, "e") is None
        assert await store.last_event(*key) is None
        assert await store.append_outcome(*key, "e") is None
        assert not await store.delete_session(*key)


async def test_every_kind_of_event(store: PsqlpyADKStore) -> None:
    """Each kind of event that agents produce is read as it was appended, alone and in the history."""
    await store.create_session(*KEY)
    created = (await version(store)).create_time
    events = list(varied().values())
    for n, event in enumerate(events):
        assert await store.append_event(*KEY, event, expected=Version(n, created)) == n + 1
        assert await store.get_event(*KEY, event.id) == event
    assert await store.get_events(*KEY) == events


async def test_get_event(store: PsqlpyADKStore) -> None:
    """One event by its id; None for an id that this session does not hold, though another does."""
    events = await filled(store, 3)
    (other,) = await filled(store, 1, "app", "user", "other")
    assert await store.get_event(*KEY, events[1].id) == events[1]
    assert await store.get_event(*KEY, "nothing") is None
    assert await store.get_event(*KEY, other.id) is None


async def test_last_event(store: PsqlpyADKStore) -> None:
    """The session's version, its time of update, and the id of the event appended last."""
    session = await store.create_session(*KEY)
    assert session is not None
    created = session.create_time
    assert await store.last_event(*KEY) == (Version(0, created), created, None)
    late, early = said("late", seconds=5), said("early", seconds=1)
    await store.append_event(*KEY, late, expected=Version(0, created))
    assert await store.last_event(*KEY) == (Version(1, created), at(5), late.id)
    await store.append_event(*KEY, early, expected=Version(1, created))
    assert await store.last_event(*KEY) == (Version(2, created), at(1), early.id)


# list_sessions


def place(session: StoredSession) -> tuple[float, str, str]:
    """Where a session stands in a list, which is also what `after` takes."""
    return session.update_time, session.user_id, session.id


THOUSAND = """
    INSERT INTO adk_sessions (app_name, user_id, id, state, update_time)
    SELECT CASE WHEN n > 1000 THEN 'other' ELSE 'app' END, 'user' || n % 3,
           (ARRAY['a', 'B', 'c', 'é', '_', ' ', '{'])[n % 7 + 1] || md5(n::text),
           jsonb_build_object('n', n), timestamptz '2026-01-01' + (n % 9) * interval '1 microsecond'
    FROM generate_series(1, 1100) AS n
"""


@pytest.mark.parametrize("user", [None, "user1"])
@pytest.mark.parametrize("size", [7, 100, 1000])
async def test_paging_meets_each_session_once(
    store: PsqlpyADKStore, database: Database, size: int, user: str | None
) -> None:
    """Pages of any size through 1,000 sessions, most with the update time of others, are the whole list."""
    run_sql(database.dsn, THOUSAND)
    whole = await store.list_sessions("app", user)
    assert len(whole) == (1000 if user is None else 334)
    assert [place(session) for session in whole] == sorted(place(session) for session in whole)
    met: list[StoredSession] = []
    while page := await store.list_sessions("app", user, limit=size, after=place(met[-1]) if met else None):
        assert len(page) == min(size, len(whole) - len(met))
        met += page
    assert met == whole


async def test_paging_under_another_collation(server: Any, database: Database) -> None:
    """A database that sorts text by language pages through every session once as well."""
    icu = "SELECT count(*) AS n FROM pg_collation WHERE collname = 'en-US-x-icu'"
    if not run_sql(database.dsn, icu)[0][0]["n"]:
        pytest.skip("this server has no ICU collations")
    name = f"{database.name}_icu"
    server.create_database(name, "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US' LOCALE 'C'")
    try:
        async with store_at(server.database_dsn(name)) as store:
            run_sql(server.database_dsn(name), THOUSAND)
            whole = await store.list_sessions("app")
            assert [place(session) for session in whole] == sorted(place(session) for session in whole)
            met: list[StoredSession] = []
            while page := await store.list_sessions("app", limit=99, after=place(met[-1]) if met else None):
                met += page
            assert met == whole
    finally:
        server.drop_database(name)


async def test_list(store: PsqlpyADKStore) -> None:
    """The session updated longest ago first; of one user or of all; without events; states merged."""
    for user, identity in (("u", "1"), ("v", "2"), ("u", "3")):
        await filled(store, 1, "app", user, identity)
    await store.update_session_state("app", "u", "1", {"k": 1, "app:a": 2, "user:w": 3})
    await store.update_session_state("app", "v", "2", {"user:w": 4})
    await store.create_session("other", "u", "4", {"app:a": 5})
    for identity, n in (("3", 1), ("1", 2)):
        expected = await version(store, "app", "u", identity)
        event = said("x", seconds=100 + n)
        assert await store.append_event("app", "u", identity, event, expected=expected) is not None

    listed = await store.list_sessions("app")
    assert [(s.user_id, s.id) for s in listed] == [("v", "2"), ("u", "3"), ("u", "1")]
    assert [s.state for s in listed] == [
        {"app:a": 2, "user:w": 4},
        {"app:a": 2, "user:w": 3},
        {"k": 1, "app:a": 2, "user:w": 3},
    ]
    for session in listed:
        whole = await found(store, "app", session.user_id, session.id)
        assert whole.events
        whole.events = []
        assert session == whole
    assert await store.list_sessions("app", "u") == listed[1:]
    assert await store.list_sessions("app", "nobody") == []
    assert await store.list_sessions("nothing") == []
    assert await store.list_sessions("app", limit=0) == []
    assert await store.list_sessions("app", limit=2) == listed[:2]
    assert await store.list_sessions("app", "u", limit=1) == listed[1:2]
    assert await store.list_sessions("app", after=place(listed[0]), limit=1) == listed[1:2]


# update_session_state, shared state


async def test_update_state(store: PsqlpyADKStore, database: Database) -> None:
    """A delta goes to its scopes, key by key, `temp:` nowhere; the time of update moves; no event."""
    await store.create_session(*KEY, {"k": {"deep": 1}, "kept": 1, "app:a": 1, "app:kept": 1, "user:kept": 1})
    before = await found(store)
    given = {"k": {"other": 2}, "app:a": 2, "user:u": None, "temp:t": 3, "new": None}
    assert await store.update_session_state(*KEY, given) == 1
    after = await found(store)
    assert after.state == {
        "k": {"other": 2},
        "kept": 1,
        "new": None,
        "app:a": 2,
        "app:kept": 1,
        "user:u": None,
        "user:kept": 1,
    }
    assert after.create_time == before.create_time < after.update_time <= time.time()
    assert (after.revision, after.events) == (1, [])
    assert await store.get_app_state("app") == {"a": 2, "kept": 1}
    assert await store.get_user_state("app", "user") == {"u": None, "kept": 1}
    assert "temp" not in contents(database.dsn)


@pytest.mark.parametrize("given", [{}, {"temp:t": 1}, {"app:a": 1}, {"user:u": 1}, {"k": 1}], ids=str)
async def test_update_makes_holders_stale(
    store: PsqlpyADKStore, service: PsqlpySessionService, given: dict[str, Any]
) -> None:
    """Whoever loaded the session before an update, whatever its scope, cannot append to it any more."""
    session = await service.create_session(app_name="app", user_id="user", session_id="s")
    assert await store.update_session_state(*KEY, given) == 1
    with pytest.raises(StaleSessionError):
        await service.append_event(session, said("late"))
    assert await store.get_events(*KEY) == []


async def test_update_of_nothing(store: PsqlpyADKStore, database: Database) -> None:
    """No such session: SessionNotFoundError, and shared state is as it was."""
    await store.create_session(*KEY, {"app:a": 1, "user:u": 1})
    before = contents(database.dsn)
    with pytest.raises(SessionNotFoundError, match="nothing"):
        await store.update_session_state("app", "user", "nothing", {"k": 1, "app:a": 2, "user:u": 2})
    assert contents(database.dsn) == before


async def test_shared_state(store: PsqlpyADKStore) -> None:
    """State of apps and users is read without prefix, and empty where nothing was stored."""
    await store.create_session(*KEY, {"app:a": 1, "user:u": 1, "app:user:x": 2, "user:app:y": 3})
    assert await store.get_app_state("app") == {"a": 1, "user:x": 2}
    assert await store.get_user_state("app", "user") == {"u": 1, "app:y": 3}
    assert await store.get_app_state("other") == {}
    assert await store.get_user_state("app", "other") == {}
    assert await store.get_user_state("other", "user") == {}
    assert (await found(store)).state == {"app:a": 1, "user:u": 1, "app:user:x": 2, "user:app:y": 3}


# delete_session


async def test_delete(store: PsqlpyADKStore, database: Database) -> None:
    """The session and its events go, once; other sessions and shared state stay."""
    await filled(store, 3)
    await filled(store, 2, "app", "user", "other")
    await store.update_session_state(*KEY, {"k": 1, "app:a": 1, "user:u": 1})
    assert await store.delete_session(*KEY)
    assert await store.get_session(*KEY) is None
    assert not await store.delete_session(*KEY)
    assert run_sql(database.dsn, "SELECT session_id, count(*) AS n FROM adk_events GROUP BY 1") == [
        [{"session_id": "other", "n": 2}]
    ]
    assert await store.get_app_state("app") == {"a": 1}
    assert await store.get_user_state("app", "user") == {"u": 1}


# append_event, append_outcome


async def test_append(store: PsqlpyADKStore) -> None:
    """An event and its delta are stored together; the revision, which is its `seq`, comes back."""
    session = await store.create_session(*KEY, {"k": 1, "kept": 1})
    assert session is not None
    created = session.create_time
    first = delta({"k": 2, "app:a": 1, "user:u": 1, "temp:t": 1}, seconds=7)
    assert await store.append_event(*KEY, first, expected=Version(0, created)) == 1
    assert await store.append_outcome(*KEY, first.id) == AppendOutcome(Version(1, created), 1)
    second = said("hi", seconds=8)
    assert await store.append_event(*KEY, second, expected=Version(1, created)) == 2
    assert await store.append_outcome(*KEY, first.id) == AppendOutcome(Version(2, created), 1)
    after = await found(store)
    assert after.state == {"k": 2, "kept": 1, "app:a": 1, "user:u": 1}
    assert (after.create_time, after.update_time, after.revision) == (created, at(8), 2)
    assert [event.id for event in after.events] == [first.id, second.id]


@pytest.mark.parametrize("case", ["moved on", "not there yet", "made anew", "gone", "twice"])
async def test_an_append_that_writes_nothing(store: PsqlpyADKStore, database: Database, case: str) -> None:
    """None, with no trace in any table; append_outcome tells the reasons apart."""
    await filled(store, 1)
    held = await version(store)
    event = delta({"k": 9, "app:a": 9, "user:u": 9}, seconds=9)
    stored: AppendOutcome | None
    if case == "moved on":
        await store.append_event(*KEY, said("first", seconds=2), expected=held)
        stored = AppendOutcome(Version(2, held.create_time), None)
    elif case == "not there yet":
        stored = AppendOutcome(held, None)
        held = Version(2, held.create_time)
    elif case == "made anew":
        await store.delete_session(*KEY)
        await filled(store, 1)
        stored = AppendOutcome(await version(store), None)
        assert stored.version.revision == held.revision
    elif case == "gone":
        await store.delete_session(*KEY)
        stored = None
    else:
        await store.append_event(*KEY, event, expected=held)
        held = Version(2, held.create_time)
        stored = AppendOutcome(held, 2)
    before = contents(database.dsn)
    assert await store.append_event(*KEY, event, expected=held) is None
    assert contents(database.dsn) == before
    assert await store.append_outcome(*KEY, event.id) == stored


async def test_an_event_id_is_the_sessions_own(store: PsqlpyADKStore) -> None:
    """Two sessions may hold events of one id; deleting the one leaves the other's."""
    for identity in ("1", "2"):
        await store.create_session("app", "user", identity)
        event = said(identity, id="e")
        expected = await version(store, "app", "user", identity)
        assert await store.append_event("app", "user", identity, event, expected=expected) == 1
    await store.delete_session("app", "user", "1")
    assert await store.get_event("app", "user", "2", "e") == event


async def test_racing_appends_have_one_winner(store: PsqlpyADKStore) -> None:
    """Of many appends at one version exactly one is stored, and only its delta."""
    await store.create_session(*KEY)
    expected = await version(store)
    events = [delta({"k": n, "app:a": n}) for n in range(16)]
    revisions = await asyncio.gather(*(store.append_event(*KEY, e, expected=expected) for e in events))
    assert Counter(revisions) == {1: 1, None: 15}
    winner = events[revisions.index(1)]
    after = await found(store)
    assert after.events == [winner]
    assert after.state == {"k": after.state["app:a"], "app:a": winner.actions.state_delta["k"]}


# A session made anew.


@pytest.mark.parametrize("appended", [0, 1, 3])
async def test_a_copy_from_before_delete_and_create(service: PsqlpySessionService, appended: int) -> None:
    """It is stale for ever, also where the new session has as many appends as the copy has."""
    key = {"app_name": "app", "user_id": "user", "session_id": "s"}
    old = await service.create_session(**key)
    for n in range(appended):
        await service.append_event(old, said("old", seconds=n))
    await service.delete_session(**key)
    new = await service.create_session(**key)
    for n in range(appended):
        await service.append_event(new, said("new", seconds=n))
    for _ in range(2):
        with pytest.raises(StaleSessionError):
            await service.append_event(old, delta({"k": "ghost", "app:k": "ghost"}, seconds=9))
    assert await service.get_session(**key) == new
    await service.append_event(new, said("more", seconds=10))
    assert await service.get_session(**key) == new
    await service.delete_session(**key)
    with pytest.raises(SessionNotFoundError):
        await service.append_event(new, said("more", seconds=11))


@pytest.mark.parametrize("appended", [0, 1])
async def test_repeating_an_append_to_a_session_made_anew(
    service: PsqlpySessionService, appended: int
) -> None:
    """An event of the deleted session is not taken for one of the new session, though it is there as well."""
    key = {"app_name": "app", "user_id": "user", "session_id": "s"}
    old = await service.create_session(**key)
    event = said("same", seconds=5)
    for n in range(appended):
        await service.append_event(old, said("old", seconds=n))
    held = old.model_copy(deep=True)
    await service.append_event(old, event)
    await service.delete_session(**key)
    new = await service.create_session(**key)
    for n in range(appended):
        await service.append_event(new, said("new", seconds=n))
    await service.append_event(new, event)
    with pytest.raises(StaleSessionError):
        await service.append_event(held, event)
    assert await service.get_session(**key) == new


# Together.


async def test_racing_writers_of_shared_state_lose_nothing(store: PsqlpyADKStore, database: Database) -> None:
    """200 appends at once, over eight sessions and two services: every key of app and user is there."""
    async with store_at(database.dsn) as second:
        services = [PsqlpySessionService(store), PsqlpySessionService(second)]
        sessions = [
            await services[n % 2].create_session(app_name="app", user_id="user", session_id=str(n))
            for n in range(8)
        ]

        async def append(n: int) -> None:
            event = delta({f"app:{n}": n, f"user:{n}": n, f"app:same{n % 5}": n, "user:last": n, f"k{n}": n})
            await services[n % 2].append_event(sessions[n % 8], event)

        await asyncio.wait_for(asyncio.gather(*(append(n) for n in range(200))), 30)
        for read, state in (
            ("app", await store.get_app_state("app")),
            ("user", await second.get_user_state("app", "user")),
        ):
            assert {key: value for key, value in state.items() if key.isdigit()} == {
                str(n): n for n in range(200)
            }, read
        app = await store.get_app_state("app")
        assert {n: app[f"same{n}"] % 5 for n in range(5)} == {n: n for n in range(5)}
        for n, session in enumerate(sessions):
            stored = await services[(n + 1) % 2].get_session(
                app_name="app", user_id="user", session_id=str(n)
            )
            assert stored is not None
            assert len(stored.events) == 25
            assert {key for key in stored.state if key.startswith("k")} == {f"k{m}" for m in range(n, 200, 8)}
            assert [event.id for event in stored.events] == [event.id for event in session.events]


async def test_mixed_deltas_do_not_deadlock(store: PsqlpyADKStore, database: Database) -> None:
    """Writers of app, user and session state in every mixture, by every operation, all come through."""
    mixtures: list[dict[str, Any]] = [
        {"app:a": 1},
        {"user:u": 1},
        {"user:u": 2, "app:a": 2},
        {"k": 1, "app:a": 3},
        {"user:v": 4, "k": 2},
        {"app:b": 5, "user:w": 5, "k": 3},
    ]
    async with store_at(database.dsn) as second:
        stores = [store, second]
        for n in range(6):
            await store.create_session("app", f"user{n % 2}", str(n))

        async def write(n: int) -> object:
            mine, session, mixture = stores[n % 2], ("app", f"user{n % 2}", str(n % 6)), mixtures[n % 7 % 6]
            if n % 4 == 0:
                return await mine.create_session("app", f"user{n % 2}", f"new{n}", mixture)
            if n % 4 == 1:
                return await mine.update_session_state(*session, mixture)
            if n % 4 == 2:
                expected = await version(mine, *session)
                return await mine.append_event(*session, delta(mixture), expected=expected) or "lost the race"
            return await mine.delete_session("app", f"user{n % 2}", f"new{n - 3}") or "not made yet"

        results = await asyncio.wait_for(asyncio.gather(*(write(n) for n in range(240))), 30)
        assert all(results)


# One round trip.


async def appending(store: PsqlpyADKStore, session: StoredSession, event: Event) -> None:
    """Append to a session that nobody has appended to."""
    key = (session.app_name, session.user_id, session.id)
    assert await store.append_event(*key, event, expected=Version(0, session.create_time)) == 1


# Each is given the store, an empty session, and its id; see `test_one_round_trip_an_operation`.
OPERATIONS: dict[str, Callable[[PsqlpyADKStore, StoredSession, str], Awaitable[object]]] = {
    "create": lambda store, _, s: store.create_session("app", "new", s),
    "create with state": lambda store, _, s: store.create_session(
        "app", "newer", s, {"k": 1, "app:a": 1, "user:u": 1}
    ),
    "get": lambda store, _, s: store.get_session("app", "user", s),
    "get newest": lambda store, _, s: store.get_session("app", "user", s, limit=2),
    "get after": lambda store, _, s: store.get_session("app", "user", s, after_timestamp=at(1)),
    "get newest after": lambda store, _, s: store.get_session(
        "app", "user", s, after_timestamp=at(1), limit=1
    ),
    "get without events": lambda store, _, s: store.get_session("app", "user", s, limit=0),
    "get nothing": lambda store, _, s: store.get_session("app", "nobody", s),
    "events": lambda store, _, s: store.get_events("app", "user", s),
    "event": lambda store, _, s: store.get_event("app", "user", s, "e"),
    "last event": lambda store, _, s: store.last_event("app", "user", s),
    "outcome": lambda store, _, s: store.append_outcome("app", "user", s, "e"),
    "list": lambda store, _, s: store.list_sessions("app"),
    "list one user": lambda store, _, s: store.list_sessions("app", "user"),
    "list a page": lambda store, _, s: store.list_sessions("app", limit=3, after=(0.0, "", "")),
    "update": lambda store, _, s: store.update_session_state(
        "app", "user", s, {"k": 1, "app:a": 1, "user:u": 1}
    ),
    "append": lambda store, session, _: appending(store, session, said("hi")),
    "append with state": lambda store, session, _: appending(store, session, delta({"k": 1})),
    "append with shared state": lambda store, session, _: appending(
        store, session, delta({"k": 1, "app:a": 1, "user:u": 1})
    ),
    "app state": lambda store, _, s: store.get_app_state("app"),
    "user state": lambda store, _, s: store.get_user_state("app", "user"),
    "delete": lambda store, _, s: store.delete_session("app", "user", s),
}


async def test_one_round_trip_an_operation(database: Database) -> None:
    """Once a statement is prepared, its operation sends one message that it waits for; the service too."""
    # Not tmp_path: the path of a socket holds 108 bytes.
    with tempfile.TemporaryDirectory(prefix="adk-") as directory:
        async with Proxy(database.dsn, Path(directory)) as line, line.config() as config:
            store = PsqlpyADKStore(config)
            await store.create_tables()
            cold, warm = {}, {}
            for name, operation in OPERATIONS.items():
                for temperature, counts in (("cold", cold), ("warm", warm)):
                    identity = f"{name}, {temperature}"
                    session = await store.create_session("app", "user", identity, {"app:a": 1, "user:u": 1})
                    assert session is not None
                    before = line.counted
                    await operation(store, session, identity)
                    counts[name] = line.counted - before
            assert cold["get"] > 1, "the preparation of a statement was not counted"
            assert warm == dict.fromkeys(OPERATIONS, 1)

            service = PsqlpySessionService(store)
            mine = await service.create_session(app_name="app", user_id="user")
            before = line.counted
            await service.append_event(mine, said("hi"))
            await service.get_session(app_name="app", user_id="user", session_id=mine.id)
            assert line.counted - before == 2
            await all_back(config)
