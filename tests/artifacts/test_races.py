"""Several processes at once: numbers without gaps, and bytes that are there as long as they are needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import adk_psqlpy
from adk_psqlpy import PsqlpyConfig
from adk_psqlpy.artifacts import PsqlpyArtifactService
from servers import Database

from .support import KEY, assert_sound, counts

SAVERS = """
import asyncio, json, sys
from adk_psqlpy import PsqlpyConfig
from adk_psqlpy.artifacts import PsqlpyArtifactService
from google.genai import types

KEY = {"app_name": "app", "user_id": "user", "session_id": "s", "filename": "a"}

async def main(dsn, process):
    async with PsqlpyConfig({"dsn": dsn, "max_db_pool_size": 4}) as config:
        service = PsqlpyArtifactService(config)
        print("ready", flush=True)
        sys.stdin.readline()
        texts = [f"{process} {n}" * (1 if n % 4 else 300_000) for n in range(8)]
        saved = await asyncio.gather(
            *(service.save_artifact(**KEY, artifact=types.Part(text=text)) for text in texts)
        )
        for version, text in zip(saved, texts):
            assert (await service.load_artifact(**KEY, version=version)).text == text
        print(json.dumps(saved), flush=True)

asyncio.run(main(*sys.argv[1:]))
"""

CHURN = """
import asyncio, random, sys
from adk_psqlpy import PsqlpyConfig
from adk_psqlpy.artifacts import PsqlpyArtifactService
from google.genai import types

KEY = {"app_name": "app", "user_id": "user", "session_id": "s"}
# Few contents under few names, so that nearly every statement meets another one's.
PARTS = [types.Part(text=letter * size) for letter in "ab" for size in (10, 1_500_000)]

async def churn(service, seed):
    choose = random.Random(seed)
    for _ in range(60):
        name = {**KEY, "filename": choose.choice("xyz")}
        match choose.randrange(10):
            case 0 | 1 | 2 | 3:
                await service.save_artifact(**name, artifact=choose.choice(PARTS))
            case 4 | 5 | 6:
                await service.delete_artifact(**name)
            case _:
                found = await service.load_artifact(**name)
                assert found is None or found in PARTS

async def main(dsn, process):
    async with PsqlpyConfig({"dsn": dsn, "max_db_pool_size": 4}) as config:
        service = PsqlpyArtifactService(config)
        print("ready", flush=True)
        sys.stdin.readline()
        await asyncio.gather(*(churn(service, int(process) * 10 + n) for n in range(3)))
        print("done", flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


def together(program: str, dsn: str, count: int) -> list[str]:
    """Run so many processes, let them begin at once, and give what each said at its end."""
    environment = {"PYTHONPATH": str(Path(adk_psqlpy.__file__).parents[1])}
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", program, dsn, str(number)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        said = []
        for process in processes:
            out, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
            said.append(out.strip())
        return said
    finally:
        for process in processes:
            process.kill()
            process.wait()


async def test_racing_processes_get_distinct_versions(config: PsqlpyConfig, database: Database) -> None:
    """32 savers in 4 processes, which also make the tables: 0 to 31, each with its own content."""
    said = together(SAVERS, database.dsn, 4)
    saved = [int(number) for line in said for number in line.strip("[]").split(",")]
    assert sorted(saved) == list(range(32))
    assert await PsqlpyArtifactService(config).list_versions(**KEY, filename="a") == list(range(32))
    assert_sound(database.dsn)


async def test_saves_and_deletes_of_the_same_bytes(config: PsqlpyConfig, database: Database) -> None:
    """Four processes, four contents, three names: no error, nothing lost, no garbage."""
    assert together(CHURN, database.dsn, 4) == ["done"] * 4
    service = PsqlpyArtifactService(config)
    assert_sound(database.dsn)
    for name in await service.list_artifact_keys(**KEY):
        versions = await service.list_versions(**KEY, filename=name)
        assert versions == list(range(len(versions)))
        for version in versions:
            assert await service.load_artifact(**KEY, filename=name, version=version) is not None
        await service.delete_artifact(**KEY, filename=name)
    assert counts(database.dsn) == (0, 0, 0, 0, 0)
