"""Bytes in chunks: sizes around the borders, round trips, memory, and what the server stores."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from google.genai import types
from psqlpy.exceptions import DatabaseError

import adk_psqlpy
from adk_psqlpy.artifacts import PsqlpyArtifactService
from adk_psqlpy.artifacts.blobs import CHUNK
from proxy import Proxy
from servers import Database, run_sql

from .support import KEY, LARGE, assert_sound, content, counts, png


@pytest.mark.parametrize(
    "size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 1, 7 * CHUNK + 5]
)
async def test_sizes_around_the_borders(
    service: PsqlpyArtifactService, database: Database, size: int
) -> None:
    """Every byte comes back, and so many chunks are stored as are needed."""
    data = content(size)
    await service.save_artifact(**KEY, filename="a", artifact=png(data))
    found = await service.load_artifact(**KEY, filename="a")
    assert found is not None
    assert found.inline_data is not None
    assert found.inline_data.data == data
    assert type(found.inline_data.data) is bytes
    assert counts(database.dsn) == (1, 1, 1, 1, max(1, -(-size // CHUNK)))
    assert_sound(database.dsn)


async def test_large_text(service: PsqlpyArtifactService) -> None:
    """A character may lie across the border of two chunks."""
    text = "x" + "世" * (CHUNK // 2)
    await service.save_artifact(**KEY, filename="a", artifact=types.Part(text=text))
    assert await service.load_artifact(**KEY, filename="a") == types.Part(text=text)


async def test_the_server_does_not_compress(service: PsqlpyArtifactService, database: Database) -> None:
    """Even what would compress well: time matters more, and most artifacts are compressed already."""
    await service.save_artifact(**KEY, filename="a", artifact=png(bytes(CHUNK)))
    ((row,),) = run_sql(
        database.dsn, "SELECT pg_column_size(data) AS size FROM adk_artifact_chunks WHERE number = 0"
    )
    assert row["size"] >= CHUNK


async def test_round_trips(database: Database) -> None:
    """One statement for what fits in a chunk, for descriptions, and for bytes that are stored already."""
    small, large = png(content(1000)), png(content(LARGE))
    with TemporaryDirectory() as directory:
        async with Proxy(database.dsn, Path(directory)) as line, line.config() as config:
            service = PsqlpyArtifactService(config)
            await service.create_tables()
            operations = {
                "small": lambda: service.save_artifact(**KEY, filename="a", artifact=small),
                "text": lambda: service.save_artifact(**KEY, filename="a", artifact=types.Part(text="x")),
                "load small": lambda: service.load_artifact(**KEY, filename="a"),
                "large again": lambda: service.save_artifact(**KEY, filename="big", artifact=large),
                "keys": lambda: service.list_artifact_keys(**KEY),
                "versions": lambda: service.list_versions(**KEY, filename="a"),
                "described": lambda: service.list_artifact_versions(**KEY, filename="a"),
                "describe": lambda: service.get_artifact_version(**KEY, filename="a"),
                "missing": lambda: service.load_artifact(**KEY, filename="nowhere"),
                "delete nothing": lambda: service.delete_artifact(**KEY, filename="nowhere"),
            }
            trips = {}
            # Some statements run at once, on a second lane: warm until both have prepared them.
            for _ in range(4):
                for operation in operations.values():
                    await operation()
            for name, operation in operations.items():
                before = line.counted
                await operation()
                trips[name] = line.counted - before
            assert trips == dict.fromkeys(operations, 1)


async def test_chunks_that_were_changed_by_hand(service: PsqlpyArtifactService, database: Database) -> None:
    """Bytes that are missing are an error, never a shorter artifact."""
    await service.save_artifact(**KEY, filename="a", artifact=png(content(LARGE)))
    run_sql(database.dsn, "UPDATE adk_artifact_chunks SET data = 'short' WHERE number = 2")
    with pytest.raises(DatabaseError, match="chunk 2 of an artifact of"):
        await service.load_artifact(**KEY, filename="a")
    run_sql(database.dsn, "DELETE FROM adk_artifact_chunks WHERE number = 2")
    with pytest.raises(DatabaseError, match="removed by hand"):
        await service.load_artifact(**KEY, filename="a")
    run_sql(database.dsn, "DELETE FROM adk_artifact_contents")
    with pytest.raises(DatabaseError, match="removed by hand"):
        await service.load_artifact(**KEY, filename="a")


MEMORY = """
import asyncio, os, sys
from adk_psqlpy import PsqlpyConfig
from adk_psqlpy.artifacts import PsqlpyArtifactService
from google.genai import types

SIZE = 150 * 2**20
KEY = {"app_name": "app", "user_id": "user", "session_id": "s", "filename": "a"}

def memory(name):
    line = next(line for line in open("/proc/self/status") if line.startswith(name))
    return int(line.split()[1]) * 1024

async def main(what, dsn):
    async with PsqlpyConfig({"dsn": dsn, "max_db_pool_size": 4}) as config:
        service = PsqlpyArtifactService(config)
        small = {**KEY, "filename": "small"}
        for size in (100, 3_000_000):
            part = types.Part(inline_data=types.Blob(mime_type="a/b", data=os.urandom(size)))
            await service.save_artifact(**small, artifact=part)
            await service.load_artifact(**small)
        if what == "save":
            data = os.urandom(SIZE)
            part = types.Part(inline_data=types.Blob(mime_type="a/b", data=data))
            before = memory("VmRSS")
            await service.save_artifact(**KEY, artifact=part)
            print(memory("VmHWM") - before)
        else:
            before = memory("VmRSS")
            part = await service.load_artifact(**KEY)
            assert len(part.inline_data.data) == SIZE
            print(memory("VmHWM") - before - SIZE)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's account of peak memory")
def test_memory_beyond_the_artifact_itself(database: Database) -> None:
    """150 MiB are saved and loaded with a few chunks more in memory than the bytes themselves."""
    path = str(Path(adk_psqlpy.__file__).parents[1])
    for what in ("save", "load"):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", MEMORY, what, database.dsn],
            env={"PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) < 32 * 2**20, f"{what}: {int(done.stdout) / 2**20:.0f} MiB above the artifact"
