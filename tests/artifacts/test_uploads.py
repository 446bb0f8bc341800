"""Saves that do not come to their end: nothing of them is seen, and what they leave is cleared away."""

from __future__ import annotations

import asyncio
import random
import sys
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psqlpy
import pytest

import adk_psqlpy
from adk_psqlpy import PsqlpyConfig
from adk_psqlpy.artifacts import PsqlpyArtifactService, Purged
from adk_psqlpy.artifacts.blobs import CHUNK
from proxy import Cut, Proxy
from servers import BinaryServer, Database, run_sql, wheel_binaries
from store.support import until

from .support import KEY, LARGE, assert_sound, content, count, counts, png

CHUNKS = "adk_artifact_chunks"


class Stopped:
    """In the place of a service's lanes: calls `stop` once, before a chunk of this number is sent."""

    def __init__(self, service: PsqlpyArtifactService, number: int, stop: Any) -> None:
        self._lanes = service._lanes
        self._chunk = service._sql.upload_chunk
        self._publish = service._sql.save_uploaded
        self._number = number
        self._stop = stop
        service._lanes = self  # type: ignore[assignment]

    async def fetch(self, sql: str, parameters: list[Any], *rest: Any, **options: Any) -> Any:
        number = parameters[3] if sql == self._chunk else None
        if (number == self._number or (sql == self._publish and self._number == -1)) and self._stop:
            stop, self._stop = self._stop, None
            await stop()
        return await self._lanes.fetch(sql, parameters, *rest, **options)


def nothing_to_see(dsn: str) -> bool:
    """Whether there is no version, name or content."""
    return counts(dsn)[:3] == (0, 0, 0)


async def never() -> None:
    """Wait to be cancelled."""
    await asyncio.Event().wait()


@pytest.mark.parametrize("number", [0, 1, 3, -1])
async def test_cancelled(service: PsqlpyArtifactService, database: Database, number: int) -> None:
    """Before any chunk, between two, or before the last statement: no version; saving again works."""
    part = png(content(LARGE))
    lanes = service._lanes
    reached = asyncio.Event()

    async def stop() -> None:
        reached.set()
        await never()

    Stopped(service, number, stop)
    saving = asyncio.create_task(service.save_artifact(**KEY, filename="a", artifact=part))
    await reached.wait()
    saving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await saving
    service._lanes = lanes
    await until(lambda: lanes.in_flight == 0)
    assert nothing_to_see(database.dsn)
    assert await service.load_artifact(**KEY, filename="a") is None
    assert await service.save_artifact(**KEY, filename="a", artifact=part) == 0
    assert await service.load_artifact(**KEY, filename="a") == part
    assert await service.purge(timedelta(0)) == Purged(1, 0, 0)
    assert_sound(database.dsn)


@pytest.mark.parametrize("size", [1000, LARGE], ids=["small", "large"])
async def test_cancelled_at_any_time(service: PsqlpyArtifactService, database: Database, size: int) -> None:
    """A storm of cancellations: each save is there whole or not at all, and numbers have no gaps."""
    parts = [png(content(size, seed)) for seed in range(24)]
    saving = [
        asyncio.create_task(service.save_artifact(**KEY, filename="a", artifact=part)) for part in parts
    ]
    await asyncio.wait(saving, return_when=asyncio.FIRST_COMPLETED)
    for task in saving[::2]:
        task.cancel()
        await asyncio.sleep(0)
    done = await asyncio.gather(*saving, return_exceptions=True)
    await until(lambda: service._lanes.in_flight == 0)
    versions = await service.list_versions(**KEY, filename="a")
    assert versions == list(range(len(versions)))
    assert set(versions) >= {result for result in done if isinstance(result, int)}
    for version in versions:
        assert await service.load_artifact(**KEY, filename="a", version=version) in parts
    await service.purge(timedelta(0))
    assert_sound(database.dsn)


async def test_a_terminated_connection(service: PsqlpyArtifactService, database: Database) -> None:
    """The server ends every connection in the middle of an upload: chunks are sent again, and it succeeds."""
    part = png(content(LARGE))

    async def stop() -> None:
        query = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database.name}'"
        await asyncio.to_thread(run_sql, database.server.dsn, query)

    Stopped(service, 2, stop)
    assert await service.save_artifact(**KEY, filename="a", artifact=part) == 0
    assert await service.load_artifact(**KEY, filename="a") == part
    assert_sound(database.dsn)


async def test_connections_cut_at_any_time(database: Database) -> None:
    """Every sixth request loses its connection, in one way or another: a save is there once, or was not told.

    A save that was told to have failed may be there (nobody knows whether a lost answer was a commit), but
    whole; everything else goes through as if nothing had happened.
    """
    choose = random.Random(7)
    parts = {f"n{n}": png(content(LARGE if n % 3 == 0 else 5000, n)) for n in range(12)}
    saved = set()
    with TemporaryDirectory(prefix="adk-") as directory:
        async with Proxy(database.dsn, Path(directory)) as line, line.config(max_db_pool_size=4) as config:
            service = PsqlpyArtifactService(config)
            await service.create_tables()
            line.fate = lambda: choose.choice(list(Cut)) if choose.random() < 1 / 6 else None
            for name, part in parts.items():
                for _ in range(10):
                    try:
                        await service.save_artifact(**KEY, filename=name, artifact=part)
                    except psqlpy.exceptions.Error:
                        continue
                    saved.add(name)
                    break
            assert saved == set(parts)
            assert await service.list_artifact_keys(**KEY) == sorted(parts)
            for name, part in parts.items():
                versions = await service.list_versions(**KEY, filename=name)
                assert versions == list(range(len(versions)))
                for version in versions:
                    assert await service.load_artifact(**KEY, filename=name, version=version) == part
            assert len(line.cuts) == len(Cut), "not every way was met"
            for name in list(parts)[::2]:
                await service.delete_artifact(**KEY, filename=name)
            await service.purge(timedelta(0))
            assert await service.list_artifact_keys(**KEY) == sorted(list(parts)[1::2])
            line.fate = lambda: None
    assert_sound(database.dsn)


async def test_a_killed_server() -> None:
    """The server dies at once in the middle of an upload: an error, no version; after its return it works."""
    part = png(content(LARGE))
    with BinaryServer(wheel_binaries()) as server:
        settings = {"dsn": server.dsn, "max_db_pool_size": 4, "retry_sec": 1}
        async with PsqlpyConfig(settings) as config:
            service = PsqlpyArtifactService(config)
            await service.save_artifact(**KEY, filename="before", artifact=part)
            lanes = service._lanes

            async def stop() -> None:
                await asyncio.to_thread(
                    server._run, "pg_ctl", "-D", server.directory / "data", "-m", "immediate", "-w", "stop"
                )

            Stopped(service, 2, stop)
            other = png(content(LARGE, 1))
            with pytest.raises(psqlpy.exceptions.Error):
                await service.save_artifact(**KEY, filename="a", artifact=other)
            service._lanes = lanes
            await asyncio.to_thread(
                server._run,
                "pg_ctl",
                "-D",
                server.directory / "data",
                "-l",
                server.directory / "log",
                "start",
            )
            assert await service.load_artifact(**KEY, filename="a") is None
            assert await service.load_artifact(**KEY, filename="before") == part
            assert await service.list_artifact_keys(**KEY) == ["before"]
            assert await service.save_artifact(**KEY, filename="a", artifact=other) == 0
            assert await service.load_artifact(**KEY, filename="a") == other
            assert (await service.purge(timedelta(0))).uploads == 1
            assert_sound(server.dsn)


CLIENT = """
import asyncio, sys
from adk_psqlpy import PsqlpyConfig
from adk_psqlpy.artifacts import PsqlpyArtifactService
from google.genai import types

async def main(dsn):
    async with PsqlpyConfig({"dsn": dsn, "max_db_pool_size": 2}) as config:
        service = PsqlpyArtifactService(config)
        part = types.Part(inline_data=types.Blob(mime_type="a/b", data=bytes(range(256)) * 2**20))
        key = {"app_name": "app", "user_id": "user", "session_id": "s", "filename": "a"}
        print("ready", flush=True)
        await service.save_artifact(**key, artifact=part)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_killed_client(service: PsqlpyArtifactService, database: Database) -> None:
    """kill -9 in the middle of 256 MiB: nothing is seen, and a later save clears the chunks away."""
    environment = {"PYTHONPATH": str(Path(adk_psqlpy.__file__).parents[1])}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", "-c", CLIENT, database.dsn),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 60) == b"ready\n"
        await until(lambda: count(database.dsn, CHUNKS) > 3)
    finally:
        process.kill()
        await process.wait()
    await until(
        lambda: (
            count(
                database.server.dsn, "pg_stat_activity", f"datname = '{database.name}' AND state = 'active'"
            )
            == 0
        )
    )
    assert nothing_to_see(database.dsn)
    part = png(content(LARGE))
    assert await service.save_artifact(**KEY, filename="a", artifact=part) == 0
    assert count(database.dsn, "adk_artifact_blobs", "NOT published") == 1  # it could still be alive
    run_sql(database.dsn, "UPDATE adk_artifact_blobs SET create_time = now() - interval '25 hours'")
    assert await service.save_artifact(**KEY, filename="b", artifact=png(content(LARGE, 1))) == 0
    assert_sound(database.dsn)
    assert await service.load_artifact(**KEY, filename="a") == part


async def test_purge_leaves_what_is_young(service: PsqlpyArtifactService, database: Database) -> None:
    """An upload counts as abandoned by its age."""
    insert = "INSERT INTO adk_artifact_blobs VALUES ('app', 'user', gen_random_uuid(), false, now() - {})"
    run_sql(database.dsn, *(insert.format(f"interval '{hours} hours'") for hours in (1, 23, 25, 100)))
    assert await service.purge() == Purged(2, 0, 0)
    assert await service.purge(timedelta(hours=2)) == Purged(1, 0, 0)
    assert await service.purge(timedelta(minutes=30)) == Purged(1, 0, 0)


@pytest.mark.parametrize("number", [1, 3, -1])
async def test_purged_while_it_is_under_way(
    service: PsqlpyArtifactService, database: Database, number: int
) -> None:
    """The save notices, and starts over."""
    part = png(content(LARGE))

    async def stop() -> None:
        async with PsqlpyConfig({"dsn": database.dsn, "max_db_pool_size": 2}) as config:
            assert await PsqlpyArtifactService(config).purge(timedelta(0)) == Purged(1, 0, 0)

    Stopped(service, number, stop)
    assert await service.save_artifact(**KEY, filename="a", artifact=part) == 0
    assert await service.load_artifact(**KEY, filename="a") == part
    assert_sound(database.dsn)


async def test_the_same_chunk_twice(service: PsqlpyArtifactService, database: Database) -> None:
    """A chunk that is sent again after a broken connection changes nothing."""
    lanes = service._lanes

    class Twice:
        in_flight = 0

        async def fetch(self, *arguments: Any, **options: Any) -> Any:
            if arguments[0] in (service._sql.upload_chunk, service._sql.begin_upload):
                await lanes.fetch(*arguments, **options)
            return await lanes.fetch(*arguments, **options)

    service._lanes = Twice()  # type: ignore[assignment]
    part = png(content(LARGE))
    assert await service.save_artifact(**KEY, filename="a", artifact=part) == 0
    assert await service.load_artifact(**KEY, filename="a") == part
    assert counts(database.dsn) == (1, 1, 1, 1, -(-LARGE // CHUNK))
    assert_sound(database.dsn)
