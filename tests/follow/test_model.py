"""Racing writers, followers that come, go and restart, sessions deleted and made again: checked by a model.

What a follower gives is, for each life of a session, the events stored after its place, in their order.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from google.adk.errors import StaleSessionError
from google.adk.errors.session_not_found_error import SessionNotFoundError

from adk_psqlpy import PsqlpySessionService
from adk_psqlpy.errors import FollowingClosedError, SessionDeletedError
from adk_psqlpy.sessions.stored import Version
from servers import Database, run_sql
from where import NOTIFIES, one_server

from .support import KEY, event

if TYPE_CHECKING:
    from .conftest import Open

IDS = ("s0", "s1", "s2")


@dataclass
class Seen:
    """What one follower has given of one life of a session."""

    created: float
    ids: list[str] = field(default_factory=list)


@dataclass
class World:
    """Who runs, and what was seen."""

    chance: random.Random
    done: bool = False
    appended: int = 0
    seen: dict[str, list[Seen]] = field(default_factory=lambda: {each: [] for each in IDS})
    stored: dict[tuple[str, float], list[str]] = field(default_factory=dict)


async def write(world: World, service: PsqlpySessionService) -> None:
    """Append to any of the sessions, as one of several processes that race."""
    while not world.done:
        key = KEY | {"session_id": world.chance.choice(IDS)}
        session = await service.get_session(**key)
        if session is None:
            await asyncio.sleep(0.002)  # while somebody makes it anew
            continue
        try:
            for number in range(world.chance.randrange(1, 5)):
                await service.append_event(session, event(str(number)))
                world.appended += 1
        except (StaleSessionError, SessionNotFoundError):
            continue


async def follow(world: World, service: PsqlpySessionService, session_id: str) -> None:
    """Follow from the beginning of each life, giving up and going on at random."""
    key = KEY | {"session_id": session_id}
    position: Version | None = None
    while not (world.done and world.chance.random() < 0.5):
        follower = service.follow(**key, after=0 if position is None else position)
        try:
            async with follower:
                for _ in range(world.chance.randrange(1, 40)):
                    given = await asyncio.wait_for(anext(follower), world.chance.choice([0.05, 1.0]))
                    if position is None:
                        world.seen[session_id].append(Seen(follower.position.create_time))
                    position = follower.position
                    world.seen[session_id][-1].ids.append(given.id)
        except asyncio.TimeoutError:
            continue
        except (SessionDeletedError, SessionNotFoundError):
            position = None
            await asyncio.sleep(0.002)  # while somebody makes it anew
        except FollowingClosedError:
            continue


async def disturb(
    world: World, database: Database, service: PsqlpySessionService, reader: PsqlpySessionService
) -> None:
    """Restart a process, cut its connections, delete a session and make it again."""
    for _ in range(12):
        await asyncio.sleep(world.chance.uniform(0.05, 0.25))  # load
        what = world.chance.choice(["close", "cut", "anew", "anew"])
        if what == "close":
            await reader.close()
        elif what == "cut":
            run_sql(
                database.dsn,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid != pg_backend_pid()",
            )
        else:
            session_id = world.chance.choice(IDS)
            await keep(world, service, session_id)
            await service.create_session(**KEY | {"session_id": session_id})
    world.done = True


async def keep(world: World, service: PsqlpySessionService, session_id: str) -> None:
    """Delete a session, and note what its life was: nobody may append in between."""
    config = service.store.config
    find = "FROM adk_sessions WHERE app_name = 'app' AND user_id = 'user' AND id = $1"
    events = "SELECT id FROM adk_events WHERE session_id = $1 ORDER BY seq"
    async with config.provide_connection() as connection, connection.transaction() as transaction:
        created = f"SELECT extract(epoch FROM create_time)::float8 {find} FOR UPDATE"
        held = await transaction.fetch(created, [session_id])
        rows = await transaction.fetch(events, [session_id])
        await transaction.execute(f"DELETE {find}", [session_id])
    ((since,),) = held.result(as_tuple=True)
    world.stored[session_id, since] = [row[0] for row in rows.result(as_tuple=True)]


@pytest.mark.parametrize(("seed", "notify"), [(0, False), pytest.param(1, True, marks=one_server(NOTIFIES))])
async def test_racing_writers_and_restarts(
    open_service: Open, database: Database, seed: int, notify: bool
) -> None:
    world = World(random.Random(seed))
    services = [open_service() for _ in range(3)]
    await services[0].store.create_tables(notify=notify)
    for each in IDS:
        await services[0].create_session(**KEY | {"session_id": each})
    tasks = [
        *(write(world, each) for each in services),
        *(follow(world, services[1 + number % 2], each) for number, each in enumerate(IDS)),
        disturb(world, database, services[0], services[2]),
    ]
    await asyncio.wait_for(asyncio.gather(*tasks), 120)
    for session_id in IDS:
        await keep(world, services[0], session_id)
        for seen in world.seen[session_id]:
            life = world.stored[session_id, seen.created]
            assert seen.ids == life[: len(seen.ids)], f"{session_id} as of {seen.created}"
    assert sum(len(seen.ids) for each in world.seen.values() for seen in each) > world.appended / 3 > 10
