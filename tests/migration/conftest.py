"""Fixtures of the suite: an empty target, and what opens our service on it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from google.adk.memory.memory_entry import MemoryEntry
from google.genai import types

from adk_psqlpy import (
    PsqlpyADKStore,
    PsqlpyArtifactService,
    PsqlpyConfig,
    PsqlpyMemoryService,
    PsqlpySessionService,
)

from .support import fill, folder_in_memory, said

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from servers import Database


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder for SQLite files."""
    with folder_in_memory() as folder:
        yield folder


@pytest.fixture
async def target(database: Database) -> AsyncIterator[PsqlpyConfig]:
    """A configuration of an empty database; the migration makes the tables."""
    async with PsqlpyConfig({"dsn": database.dsn, "max_db_pool_size": 4}) as config:
        yield config


@pytest.fixture
def ours(target: PsqlpyConfig) -> PsqlpySessionService:
    """Our service on the target's tables."""
    return PsqlpySessionService(PsqlpyADKStore(target))


@pytest.fixture(autouse=True)
def quiet_adk() -> Iterator[None]:
    """ADK says at each look that schema v0 is old."""
    logger = logging.getLogger("google_adk")
    level = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(level)


@pytest.fixture
async def filled(target: PsqlpyConfig, ours: PsqlpySessionService) -> int:
    """Everything that our tables can hold; how many events there are."""
    await ours.store.create_tables()
    events = await fill(ours)
    hard = await ours.create_session(
        app_name="cafe", user_id="ada", session_id="hard", state={"n": float("nan"), "k": 5}
    )
    values = {"nan": float("nan"), "inf": [float("-inf")], "zero": -0.0, "text": "\0\ud800", "big": 10**30}
    await ours.append_event(hard, said("hard", custom_metadata=values, timestamp=1_700_000_000.1234567))
    await ours.store.update_session_state("cafe", "ada", "hard", {"changed": 1})
    again = await ours.get_session(app_name="cafe", user_id="ada", session_id="hard")
    assert again is not None
    await ours.append_event(again, said("behind the change"))
    await ours.fork_session(again, session_id="fork", at_seq=2)
    memory = PsqlpyMemoryService(target)
    await memory.add_session_to_memory(again)
    entry = MemoryEntry(
        id="told",
        author="ada",
        timestamp="last summer",
        content=types.Content(parts=[types.Part(text="likes tea")]),
    )
    await memory.add_memory(
        app_name="cafe", user_id="ada", memories=[entry], custom_metadata={"from": "test"}
    )
    artifacts = PsqlpyArtifactService(target)
    for scope in ("s1", None):
        for part in (
            types.Part(text="draft"),
            types.Part.from_bytes(data=bytes(2_000_000), mime_type="image/png"),
        ):
            await artifacts.save_artifact(
                app_name="cafe",
                user_id="ada",
                filename="a/b.txt",
                artifact=part,
                session_id=scope,
                custom_metadata={"by": "test"},
            )
    return events
