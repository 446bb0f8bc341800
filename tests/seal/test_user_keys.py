"""A key for each user: made once, rotated, rewrapped, and erased with all that was sealed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from adk_psqlpy.errors import MissingKeyError, SealError
from adk_psqlpy.seal import Seal, UserKeys
from keys import TestKeys
from servers import Database, run_sql

from .support import SECRET, places_of, secret_event


@pytest.fixture
async def elsewhere(server: Any, database: Database) -> AsyncIterator[PsqlpyConfig]:
    """A second database, for keys alone."""
    name = f"{database.name}_keys"
    run_sql(server.dsn, f'CREATE DATABASE "{name}"')
    async with PsqlpyConfig({"dsn": server.database_dsn(name), "max_db_pool_size": 4}) as config:
        yield config
    run_sql(server.dsn, f'DROP DATABASE "{name}" WITH (FORCE)')


async def service_of(config: PsqlpyConfig, ring: UserKeys) -> PsqlpySessionService:
    return PsqlpySessionService(PsqlpyADKStore(config, seal=Seal(ring), tables_on_first_use=True))


async def test_one_key_a_user(config: PsqlpyConfig, database: Database) -> None:
    """However many ask for it at once, in however many processes."""
    rings = [UserKeys(config, TestKeys("master")) for _ in range(8)]
    ids = await asyncio.gather(*(ring.current("app", user) for ring in rings for user in ("a", "b", "")))
    assert len(set(ids)) == 3
    keys = [await ring.key(key_id) for ring in rings for key_id in dict.fromkeys(ids)]
    assert len(set(keys)) == 3
    assert all(len(key) == 32 for key in keys)
    (rows,) = run_sql(database.dsn, "SELECT user_id, generation FROM adk_user_keys ORDER BY user_id")
    assert [(row["user_id"], row["generation"]) for row in rows] == [("", 1), ("a", 1), ("b", 1)]
    assert all(places_of(key.hex(), database.dsn) == set() for key in keys)


async def test_erasing_the_key_erases_the_person(
    config: PsqlpyConfig, elsewhere: PsqlpyConfig, database: Database
) -> None:
    """What a backup of the data still has can never be read again; others' data can."""
    ring = UserKeys(elsewhere, TestKeys("master"))
    service = await service_of(config, ring)
    for user in ("ann", "bob"):
        session = await service.create_session(app_name="app", user_id=user, session_id="s")
        await service.append_event(session, secret_event(0))
    assert places_of(SECRET, database.dsn) == set()
    assert await ring.erase("app", "ann") == 1
    again = await service_of(config, UserKeys(elsewhere, TestKeys("master")))
    with pytest.raises(MissingKeyError, match=r"session 's' of user 'ann' in app 'app', event .*was erased"):
        await again.get_session(app_name="app", user_id="ann", session_id="s")
    read = await again.get_session(app_name="app", user_id="bob", session_id="s")
    assert read is not None
    assert [event.content for event in read.events] == [secret_event(0).content]
    with pytest.raises(ValueError, match="user_id must not be empty"):
        await ring.erase("app", "")


async def test_rotation(config: PsqlpyConfig) -> None:
    """The newest key is current; older ones still open."""
    ring = UserKeys(config, TestKeys("master"))
    first = await ring.current("app", "ann")
    second = await ring.rotate("app", "ann")
    assert await ring.current("app", "ann") == second != first
    assert await ring.key(first) != await ring.key(second)
    racing = await asyncio.gather(
        *(UserKeys(config, TestKeys("master")).rotate("app", "ann") for _ in range(8))
    )
    assert len(set(racing)) == 8
    assert await ring.erase("app", "ann") == 10


async def test_a_new_master_key(config: PsqlpyConfig) -> None:
    """Users' keys are wrapped anew in portions; then the old master key may go."""
    ring = UserKeys(config, TestKeys("old"))
    ids = [await ring.current("app", f"user{number}") for number in range(7)]
    keys = [await ring.key(key_id) for key_id in ids]
    both = UserKeys(config, TestKeys("old", "new"))
    assert await both.rewrap(portion=3) == 7
    assert await both.rewrap() == 0
    new = UserKeys(config, TestKeys("new"))
    assert [await new.key(key_id) for key_id in ids] == keys
    with pytest.raises(MissingKeyError, match=r"user 'user0' in app 'app'.*'new', which is missing"):
        await UserKeys(config, TestKeys("old")).key(ids[0])


async def test_a_wrapped_key_that_was_moved(config: PsqlpyConfig, database: Database) -> None:
    """Nobody's key becomes another's."""
    ring = UserKeys(config, TestKeys("master"))
    ann, _ = await ring.current("app", "ann"), await ring.current("app", "bob")
    run_sql(
        database.dsn,
        "UPDATE adk_user_keys SET wrapped = (SELECT wrapped FROM adk_user_keys WHERE user_id = 'bob')",
    )
    with pytest.raises(SealError, match=f"the key '{ann}' of user 'ann' in app 'app'.*does not open"):
        await ring.key(ann)
