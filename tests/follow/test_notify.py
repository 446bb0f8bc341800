"""create_tables(notify=True): a wake-up by PostgreSQL, and never data."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from google.adk.sessions import Session

from adk_psqlpy import PsqlpyADKStore, PsqlpySessionService
from adk_psqlpy.following import FollowSettings
from servers import Database, run_sql
from where import NOTIFIES, one_server

from .support import KEY, append, soon, take, until, watcher_of

if TYPE_CHECKING:
    from .conftest import Open

pytestmark = one_server(NOTIFIES)

RARELY = FollowSettings(fastest_sec=600, slowest_sec=600)
LISTENERS = """SELECT pid::int4 FROM pg_stat_activity
    WHERE query LIKE 'LISTEN%' AND datname = current_database()"""
TRIGGERS = """SELECT tgname::text AS name FROM pg_trigger
    WHERE NOT tgisinternal AND tgrelid = 'adk_sessions'::regclass"""


def listeners(database: Database) -> list[int]:
    """The backends that listen."""
    return [row["pid"] for row in run_sql(database.dsn, LISTENERS)[0]]


def triggers(database: Database) -> list[str]:
    return [row["name"] for row in run_sql(database.dsn, TRIGGERS)[0]]


async def test_it_is_made_and_dropped(writer: PsqlpySessionService, database: Database) -> None:
    """Twice is once; a call that does not say it leaves it."""
    store = writer.store
    assert triggers(database) == []
    for _ in range(2):
        await store.create_tables(notify=True)
        assert triggers(database) == ["idx_adk_sessions_notify"]
    await store.create_tables()
    assert triggers(database) == ["idx_adk_sessions_notify"]
    for _ in range(2):
        await store.create_tables(notify=False)
        assert triggers(database) == []


async def test_a_notification_takes_the_place_of_looking(
    open_service: Open, writer: PsqlpySessionService, session: Session, database: Database
) -> None:
    """With a look every ten minutes, events of others and the end are seen at once."""
    await writer.store.create_tables(notify=True)
    reader = open_service(follow_settings=RARELY)
    async with reader.follow(**KEY) as events:
        await until(lambda: len(listeners(database)) == 1)
        for number in range(5):
            await append(writer, str(number))
            assert await take(events, 1) == [str(number)]
        assert watcher_of(reader).told
        run_sql(database.dsn, "UPDATE adk_sessions SET revision = revision + 1")
        await append(writer, "after SQL by hand")
        assert await take(events, 1) == ["after SQL by hand"]
    await until(lambda: not listeners(database))


async def test_what_it_misses_is_found_by_looking(
    open_service: Open, writer: PsqlpySessionService, session: Session, database: Database
) -> None:
    """The listening connection is cut: events come all the same, and it listens again."""
    await writer.store.create_tables(notify=True)
    reader = open_service(follow_settings=FollowSettings(fastest_sec=0.2, slowest_sec=0.2))
    async with reader.follow(**KEY) as events:
        await until(lambda: len(listeners(database)) == 1)
        (pid,) = listeners(database)
        await append(writer, "1")
        assert await take(events, 1) == ["1"]
        run_sql(database.dsn, f"SELECT pg_terminate_backend({pid})")
        await append(writer, "2")
        assert await take(events, 1) == ["2"]
        await until(lambda: listeners(database) not in ([], [pid]))
        await append(writer, "3")
        assert await take(events, 1) == ["3"]


async def test_closing_ends_the_listening_connection(
    open_service: Open, writer: PsqlpySessionService, session: Session, database: Database
) -> None:
    await writer.store.create_tables(notify=True)
    reader = open_service()
    events = reader.follow(**KEY)
    waiting = asyncio.ensure_future(anext(events))
    await until(lambda: len(listeners(database)) == 1)
    await reader.close()
    await asyncio.wait({waiting})
    await until(lambda: not listeners(database))


async def test_tables_in_a_schema_of_their_own(open_service: Open, database: Database) -> None:
    """Each session table has a channel of its own, and the trigger stands beside it."""
    from adk_psqlpy import PsqlpyConfig

    async with PsqlpyConfig({"dsn": database.dsn}) as config:
        store = PsqlpyADKStore(config, "agents.adk_sessions", "agents.adk_events", follow_settings=RARELY)
        await store.create_tables(notify=True)
        other = PsqlpySessionService(PsqlpyADKStore(config, "agents.adk_sessions", "agents.adk_events"))
        await other.create_session(**KEY)
        async with store.follow(*KEY.values()) as events:
            await until(lambda: len(listeners(database)) == 1)
            await append(other, "1")
            assert await soon(take(events, 1)) == ["1"]
