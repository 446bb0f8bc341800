"""How following ends: the session is deleted, made again or lost, the store is closed, the tables go away."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from google.adk.errors.session_not_found_error import SessionNotFoundError
from psqlpy.exceptions import BaseConnectionPoolError, DatabaseError

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from adk_psqlpy.errors import FollowingClosedError, HistoryLostError, SessionDeletedError
from servers import Database, run_sql
from where import changes_tables

from .support import KEY, append, said, soon, take, until, watcher_of

if TYPE_CHECKING:
    from google.adk.sessions import Session

    from .conftest import Open


async def test_the_session_is_deleted(
    writer: PsqlpySessionService, reader: PsqlpySessionService, session: Session
) -> None:
    """Whoever waits is told at once, by name; after that the iteration is at its end."""
    for service in (reader, writer):
        await writer.create_session(**KEY | {"session_id": "d"})
        async with service.follow(**KEY | {"session_id": "d"}) as events:
            waiting = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0)
            await writer.delete_session(**KEY | {"session_id": "d"})
            with pytest.raises(
                SessionDeletedError, match="session 'd' of user 'user' in app 'app' was deleted"
            ) as told:
                await soon(waiting)
            assert not told.value.made_again
            with pytest.raises(StopAsyncIteration):
                await soon(anext(events))


async def test_deleted_and_made_again(
    writer: PsqlpySessionService, reader: PsqlpySessionService, session: Session
) -> None:
    """The other session's events are not given as if they were this one's, even at the same revision."""
    await append(writer, "1")
    held = await reader.get_session(**KEY)
    async with reader.follow(**KEY, after=0) as events:
        assert await take(events, 1) == ["1"]
        await writer.delete_session(**KEY)
        await writer.create_session(**KEY)
        await append(writer, "another 1")
        with pytest.raises(SessionDeletedError, match="another one was made under its id") as told:
            await soon(anext(events))
        assert told.value.made_again
    for after in (events.position, held):
        with pytest.raises(SessionDeletedError) as told:
            await soon(anext(reader.follow(**KEY, after=after)))
        assert told.value.made_again
    assert await take(reader.follow(**KEY, after=0), 1) == ["another 1"]


async def test_a_session_that_never_was(reader: PsqlpySessionService) -> None:
    for after in (None, 0, 5):
        with pytest.raises(SessionNotFoundError, match="Session s not found") as told:
            await soon(anext(reader.follow(**KEY, after=after)))
        assert not isinstance(told.value, SessionDeletedError)


async def test_the_store_is_closed(
    writer: PsqlpySessionService, reader: PsqlpySessionService, session: Session
) -> None:
    """Waiting, or between two waits. The pool is not opened again by what is left of them."""
    await append(writer, "1")
    waits, between = reader.follow(**KEY), reader.follow(**KEY, after=0)
    waiting = asyncio.ensure_future(anext(waits))
    assert await take(between, 1) == ["1"]
    await until(lambda: bool(watcher_of(reader)._waiting))
    await reader.close()
    for each in (waiting, anext(between)):
        with pytest.raises(FollowingClosedError, match="the store was closed"):
            await soon(each)
    assert reader.store.config._pool is None
    # A later one opens it again, as everything does.
    assert await take(reader.follow(**KEY, after=0), 1) == ["1"]


async def test_commits_that_were_given_are_lost(
    writer: PsqlpySessionService, reader: PsqlpySessionService, session: Session, database: Database
) -> None:
    """As after a failover to a standby that was behind: the revision is an earlier one."""
    await append(writer, "1", "2", "3")
    events = reader.follow(**KEY, after=1)
    assert await take(events, 2) == ["2", "3"]
    run_sql(database.dsn, "DELETE FROM adk_events WHERE seq = 3", "UPDATE adk_sessions SET revision = 2")
    with pytest.raises(HistoryLostError, match="is at revision 2, and was at 3: the server has lost commits"):
        await soon(anext(events))
    with pytest.raises(HistoryLostError, match="was at 9"):
        await soon(anext(reader.follow(**KEY, after=9)))


async def test_commits_that_were_given_are_lost_and_others_took_their_places(
    writer: PsqlpySessionService, reader: PsqlpySessionService, session: Session, database: Database
) -> None:
    """Even where the revision is higher than before when the follower looks again."""
    await append(writer, "1", "2", "3")
    events = reader.follow(**KEY, after=1)
    assert await take(events, 2) == ["2", "3"]
    held = await reader.get_session(**KEY)
    run_sql(
        database.dsn,
        "DELETE FROM adk_events WHERE seq = 3",
        "UPDATE adk_sessions SET revision = 2",
    )
    await append(writer, "another 3", "4")
    for follower in (events, reader.follow(**KEY, after=held), reader.follow(**KEY, after=events.position)):
        with pytest.raises(HistoryLostError, match="another event at seq 3"):
            await soon(anext(follower))


@changes_tables
async def test_the_tables_go_away(
    open_service: Open, writer: PsqlpySessionService, session: Session, database: Database
) -> None:
    """A server that answers, and refuses the statement, is no matter of patience."""
    service = open_service()
    await append(writer, "1")
    events = service.follow(**KEY, after=0)
    assert await take(events, 1) == ["1"]
    run_sql(database.dsn, "ALTER TABLE adk_sessions RENAME TO elsewhere")
    with pytest.raises(DatabaseError, match="there is no table"):
        await soon(anext(events))
    run_sql(database.dsn, "ALTER TABLE elsewhere RENAME TO adk_sessions")
    await append(writer, "2")
    assert said(await soon(anext(events))) == "2"


async def test_a_server_that_never_was_there_is_told_at_once() -> None:
    """Patience is for a server that has answered before."""
    config = PsqlpyConfig({"dsn": "postgresql://nobody@127.0.0.1:1/nothing", "retry_sec": 0})
    service = PsqlpySessionService(PsqlpyADKStore(config))
    with pytest.raises(BaseConnectionPoolError, match="cannot connect"):
        await soon(anext(service.follow(**KEY, after=0)))
    await service.close()
