"""Equal bytes are stored once for a user, and stay as long as a version has them, whoever races."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.genai import types

from adk_psqlpy import PsqlpyConfig
from adk_psqlpy.artifacts import PsqlpyArtifactService, Purged
from servers import Database, run_sql
from store.support import until

from .support import KEY, LARGE, assert_sound, content, counts, held_open, png

sizes = pytest.mark.parametrize("size", [1000, LARGE], ids=["small", "large"])


async def blocked(database: Database) -> None:
    """Wait until a statement waits for a lock."""
    await until(lambda: database.waiting_for_locks() > 0)


@sizes
async def test_equal_bytes_are_stored_once(
    service: PsqlpyArtifactService, database: Database, size: int
) -> None:
    """Whatever the name, the session, the kind of part."""
    part = png(b"a" * size)
    for name in ("a", "b", "user:a", "a"):
        await service.save_artifact(**KEY, filename=name, artifact=part)
    await service.save_artifact(**KEY | {"session_id": "t"}, filename="a", artifact=part)
    await service.save_artifact(**KEY, filename="text", artifact=types.Part(text="a" * size))
    versions, names, contents, blobs, _ = counts(database.dsn)
    assert (versions, names, contents, blobs) == (6, 5, 1, 1)
    assert_sound(database.dsn)


async def test_never_across_users_or_apps(service: PsqlpyArtifactService, database: Database) -> None:
    """A user cannot find out, by time or otherwise, what another one has."""
    for app, user in (("a", "u"), ("a", "v"), ("b", "u")):
        await service.save_artifact(
            app_name=app, user_id=user, session_id="s", filename="a", artifact=png(b"x" * 100)
        )
    assert counts(database.dsn) == (3, 3, 3, 3, 3)
    await service.delete_artifact(app_name="a", user_id="u", session_id="s", filename="a")
    assert counts(database.dsn) == (2, 2, 2, 2, 2)
    assert_sound(database.dsn)


@sizes
async def test_the_last_version_takes_the_bytes_along(
    service: PsqlpyArtifactService, database: Database, size: int
) -> None:
    """And only the last one."""
    part, other = png(content(size)), png(content(size, 1))
    await service.save_artifact(**KEY, filename="a", artifact=part)
    await service.save_artifact(**KEY, filename="a", artifact=other)
    await service.save_artifact(**KEY, filename="b", artifact=part)
    await service.delete_artifact(**KEY, filename="a")
    assert await service.load_artifact(**KEY, filename="b") == part
    assert counts(database.dsn)[:4] == (1, 1, 1, 1)
    assert_sound(database.dsn)
    await service.delete_artifact(**KEY, filename="b")
    assert counts(database.dsn) == (0, 0, 0, 0, 0)


@sizes
@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
async def test_a_save_that_is_under_way_while_the_bytes_are_collected(
    service: PsqlpyArtifactService, config: PsqlpyConfig, database: Database, size: int, end: str
) -> None:
    """The save has found the bytes and is not committed; a delete of their only version collects them."""
    part = png(content(size))
    await service.save_artifact(**KEY, filename="a", artifact=part)
    async with held_open(config) as (saving, connection):
        assert await saving.save_artifact(**KEY, filename="b", artifact=part) == 0
        deleting = asyncio.create_task(service.delete_artifact(**KEY, filename="a"))
        await blocked(database)
        await connection.execute(end)
        await deleting
    if end == "COMMIT":
        assert await service.load_artifact(**KEY, filename="b") == part
        assert counts(database.dsn)[2] == 1
    else:
        # Whose use is undone holds nothing: this collection saw the old count and took the bytes.
        assert await service.load_artifact(**KEY, filename="b") is None
        assert counts(database.dsn) == (0, 0, 0, 0, 0)
    assert await service.load_artifact(**KEY, filename="a") is None
    assert_sound(database.dsn)


@sizes
@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
async def test_a_save_that_comes_while_a_collection_is_under_way(
    service: PsqlpyArtifactService, config: PsqlpyConfig, database: Database, size: int, end: str
) -> None:
    """The bytes are being collected, not committed; a save of the same bytes waits, then has them."""
    part = png(content(size))
    await service.save_artifact(**KEY, filename="a", artifact=part)
    async with held_open(config) as (deleting, connection):
        await deleting.delete_artifact(**KEY, filename="a")
        saving = asyncio.create_task(service.save_artifact(**KEY, filename="b", artifact=part))
        await blocked(database)
        await connection.execute(end)
        assert await saving == 0
    assert await service.load_artifact(**KEY, filename="b") == part
    assert await service.load_artifact(**KEY, filename="a") == (None if end == "COMMIT" else part)
    assert_sound(database.dsn)


async def test_a_version_that_comes_in_while_its_artifact_is_deleted(
    service: PsqlpyArtifactService, config: PsqlpyConfig, database: Database
) -> None:
    """The delete waits for the save, and takes the version, which it could not see, with its bytes."""
    await service.save_artifact(**KEY, filename="a", artifact=png(content(1000)))
    async with held_open(config) as (saving, connection):
        assert await saving.save_artifact(**KEY, filename="a", artifact=png(content(1000, 1))) == 1
        deleting = asyncio.create_task(service.delete_artifact(**KEY, filename="a"))
        await blocked(database)
        await connection.execute("COMMIT")
        await deleting
    assert counts(database.dsn) == (0, 0, 0, 0, 0)


async def test_a_save_that_comes_while_its_artifact_is_deleted(
    service: PsqlpyArtifactService, config: PsqlpyConfig, database: Database
) -> None:
    """It begins at 0 again."""
    part = png(content(1000))
    for _ in range(2):
        await service.save_artifact(**KEY, filename="a", artifact=part)
    async with held_open(config) as (deleting, connection):
        await deleting.delete_artifact(**KEY, filename="a")
        saving = asyncio.create_task(service.save_artifact(**KEY, filename="a", artifact=png(b"new")))
        await blocked(database)
        await connection.execute("COMMIT")
        assert await saving == 0
    assert await service.list_versions(**KEY, filename="a") == [0]
    assert await service.load_artifact(**KEY, filename="a") == png(b"new")
    assert_sound(database.dsn)


async def test_two_uploads_of_the_same_bytes(
    service: PsqlpyArtifactService, config: PsqlpyConfig, database: Database
) -> None:
    """Both succeed, and one copy stays."""
    part = png(content(LARGE))
    async with held_open(config) as (first, connection):
        assert await first.save_artifact(**KEY, filename="a", artifact=part) == 0
        second = asyncio.create_task(service.save_artifact(**KEY, filename="b", artifact=part))
        await blocked(database)
        await connection.execute("COMMIT")
        assert await second == 0
    for name in ("a", "b"):
        assert await service.load_artifact(**KEY, filename=name) == part
    assert counts(database.dsn)[:4] == (2, 2, 1, 1)
    assert_sound(database.dsn)


async def test_a_load_while_the_artifact_is_deleted_and_saved_anew(
    service: PsqlpyArtifactService, database: Database
) -> None:
    """It gives one of the two, or nothing; never a mixture, never an error."""
    parts = [png(content(LARGE, seed)) for seed in range(2)]
    seen: list[Any] = []

    async def load() -> None:
        while len(seen) < 60:
            seen.append(await service.load_artifact(**KEY, filename="a"))

    loading = [asyncio.create_task(load()) for _ in range(2)]
    n = 0
    while not all(task.done() for task in loading):
        await service.save_artifact(**KEY, filename="a", artifact=parts[n % 2])
        await service.delete_artifact(**KEY, filename="a")
        n += 1
    await asyncio.gather(*loading)
    assert all(found is None or found in parts for found in seen)
    assert counts(database.dsn) == (0, 0, 0, 0, 0)


async def test_purge_finds_what_sql_left_behind(service: PsqlpyArtifactService, database: Database) -> None:
    """Whoever deletes versions by SQL leaves bytes, which `purge` collects."""
    for name in ("a", "b"):
        await service.save_artifact(**KEY, filename=name, artifact=png(content(1000)))
    await service.save_artifact(**KEY, filename="c", artifact=png(content(500, 1)))
    run_sql(database.dsn, "DELETE FROM adk_artifact_names WHERE filename IN ('a', 'c')")
    assert await service.purge() == Purged(uploads=0, contents=1, content_bytes=500)
    assert await service.load_artifact(**KEY, filename="b") == png(content(1000))
    assert_sound(database.dsn)
    assert await service.purge() == Purged(0, 0, 0)
