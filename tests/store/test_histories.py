"""A failover that lost commits: a session at the same revision again is another one, with other events.

What a failover does to the tables is done to them here: they are put back to what they were. The same with
two servers, of which one dies, is in `tests/faults/test_failover.py`.
"""

from __future__ import annotations

import asyncio
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from google.adk.errors import StaleSessionError
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.adk.sessions.base_session_service import GetSessionConfig

from adk_psqlpy import PsqlpyADKStore, PsqlpySessionService
from adk_psqlpy.sessions.marker import marked, marker
from adk_psqlpy.sessions.stored import Version
from servers import Database, run_sql

if TYPE_CHECKING:
    from google.adk.sessions.session import Session

KEY = {"app_name": "app", "user_id": "user", "session_id": "s"}
TABLES = ("adk_sessions", "adk_events", "adk_app_states", "adk_user_states", "adk_state_log")


class Backup:
    """The tables as they are now, for `restore`: what was committed since is lost."""

    def __init__(self, database: Database) -> None:
        self._dsn = database.dsn
        run_sql(self._dsn, *(f"CREATE TABLE kept_{table} AS TABLE {table}" for table in TABLES))

    def restore(self) -> None:
        run_sql(
            self._dsn,
            f"TRUNCATE {', '.join(TABLES)} CASCADE",
            *(f"INSERT INTO {table} SELECT * FROM kept_{table}" for table in TABLES),
        )


def event(name: str, second: int, **state: Any) -> Event:
    return Event(
        id=name, author="user", timestamp=1_790_000_000.0 + second, actions=EventActions(state_delta=state)
    )


async def loaded(service: PsqlpySessionService, number: int | None = None) -> Session:
    session = await service.get_session(**KEY, config=GetSessionConfig(num_recent_events=number))
    assert session is not None
    return session


async def ids(service: PsqlpySessionService) -> list[str]:
    return [each.id for each in (await loaded(service)).events]


async def diverged(service: PsqlpySessionService, database: Database, *, seconds: int = 0) -> Session:
    """A session object whose last event is lost, where another writer has written as many since.

    `seconds`: how far apart the two events are in time.
    """
    await service.create_session(**KEY)
    await service.append_event(await loaded(service), event("base", 0))
    mine, theirs = await loaded(service), await loaded(service)
    backup = Backup(database)
    await service.append_event(mine, event("lost", 10))
    backup.restore()
    await service.append_event(theirs, event("theirs", 10 + seconds))
    return mine


@pytest.mark.parametrize("seconds", [0, 1], ids=["at one time", "at another time"])
@pytest.mark.parametrize("state", [{}, {"k": 1}, {"app:a": 1, "user:u": 1}], ids=["plain", "own", "shared"])
async def test_the_same_revision_of_another_history(
    service: PsqlpySessionService, database: Database, seconds: int, state: dict[str, Any]
) -> None:
    """The object that is not what is stored is stale, and stays so; nothing is written."""
    mine = await diverged(service, database, seconds=seconds)
    for n in range(2):
        with pytest.raises(StaleSessionError):
            await service.append_event(mine, event(f"mine{n}", 20, **state))
    assert await ids(service) == ["base", "theirs"]
    assert (await loaded(service)).state == {}


async def test_in_a_group(service: PsqlpySessionService, database: Database) -> None:
    """Appends that travel with others are told apart in the same way."""
    mine = await diverged(service, database)
    others = [
        await service.create_session(app_name="app", user_id="user", session_id=f"other{n}") for n in range(8)
    ]
    results = await asyncio.gather(
        *(service.append_event(each, event("e", 20)) for each in others),
        service.append_event(mine, event("mine", 20)),
        return_exceptions=True,
    )
    assert [type(each) for each in results] == [Event] * 8 + [StaleSessionError]
    assert await ids(service) == ["base", "theirs"]


async def test_merging(store: PsqlpyADKStore, database: Database) -> None:
    """`stale_policy="merge"` adds to what is stored, not to a history that is gone."""
    merging = PsqlpySessionService(store, stale_policy="merge")
    mine = await diverged(merging, database)
    with pytest.raises(StaleSessionError):
        await merging.append_event(mine, event("mine", 20))
    assert await ids(merging) == ["base", "theirs"]
    # One that had seen nothing of what was lost is brought up to date as ever.
    behind = await loaded(merging)
    await merging.append_event(await loaded(merging), event("more", 21))
    await merging.append_event(behind, event("merged", 22))
    assert [each.id for each in behind.events] == ["base", "theirs", "more", "merged"]


async def test_without_events(service: PsqlpySessionService, database: Database) -> None:
    """An object that was read without events knows when the session was updated."""
    await service.create_session(**KEY)
    await service.append_event(await loaded(service), event("base", 0))
    backup = Backup(database)
    await service.append_event(await loaded(service), event("lost", 10))
    mine = await loaded(service, 0)
    backup.restore()
    await service.append_event(await loaded(service), event("theirs", 11))
    with pytest.raises(StaleSessionError):
        await service.append_event(mine, event("mine", 20))
    assert await ids(service) == ["base", "theirs"]


async def test_a_change_of_state_that_was_lost(
    service: PsqlpySessionService, store: PsqlpyADKStore, database: Database
) -> None:
    """Changes without an event count as well."""
    await service.create_session(**KEY)
    await service.append_event(await loaded(service), event("base", 0))
    backup = Backup(database)
    await store.update_session_state("app", "user", "s", {"k": "lost"})
    mine = await loaded(service)
    backup.restore()
    await store.update_session_state("app", "user", "s", {"k": "theirs"})
    with pytest.raises(StaleSessionError):
        await service.append_event(mine, event("mine", 20))
    assert (await loaded(service)).state == {"k": "theirs"}


async def test_the_same_history_again(service: PsqlpySessionService, database: Database) -> None:
    """An append that was lost and is given again by the writer's retry continues the same history."""
    await service.create_session(**KEY)
    before = await loaded(service)
    mine = await loaded(service)
    backup = Backup(database)
    lost = event("lost", 10)
    await service.append_event(mine, lost)
    backup.restore()
    await service.append_event(before, lost.model_copy(deep=True))
    await service.append_event(mine, event("more", 20))
    assert await ids(service) == ["lost", "more"]


VERSIONS = [
    Version(7, 1_790_000_000.25, 1_790_000_001.000001, "an@id @"),
    Version(0, 1.5, 1.5),
    Version(0, -1e-06),
]


@pytest.mark.parametrize("version", VERSIONS, ids=["whole", "no event", "revision only"])
async def test_the_marker(service: PsqlpySessionService, version: Version) -> None:
    """What a session object carries tells the version, also after a pickle."""
    session = await service.create_session(**KEY)
    session._storage_update_marker = marker(version)
    assert marked(pickle.loads(pickle.dumps(session))) == version


async def test_markers_of_older_processes(service: PsqlpySessionService) -> None:
    """A marker that an older process made is taken for what it says; an older process takes ours for none."""
    session = await service.create_session(**KEY)
    version = marked(session)
    assert version is not None
    revision, at, _ = (session._storage_update_marker or "").partition("@")
    assert at
    assert not revision.isdigit()  # what the older process looks at
    session._storage_update_marker = f"0@{version.create_time!r}"
    assert marked(session) == Version(0, version.create_time)
    await service.append_event(session, event("e", 0))
    assert await ids(service) == ["e"]


async def test_writers_that_know_less(store: PsqlpyADKStore) -> None:
    """A version of revision and create_time alone is compared as far as it goes."""
    made = await store.create_session("app", "user", "s")
    assert made is not None
    for n in range(2):
        held = Version(n, made.create_time)
        assert await store.append_event("app", "user", "s", event(f"e{n}", n), expected=held) == n + 1
    wrong = (Version(2, made.create_time, made.update_time), Version(2, made.create_time, None, "gone"))
    for held in wrong:
        assert await store.append_event("app", "user", "s", event("e", 9), expected=held) is None
