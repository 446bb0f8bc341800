"""Sealed memories are found by keyed hashes of their words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from google.adk.memory.memory_entry import MemoryEntry
from google.genai import types

from adk_psqlpy import PsqlpyMemoryService
from adk_psqlpy.errors import MissingKeyError, SealError
from adk_psqlpy.seal import Seal
from keys import TestKeys, fresh_seal
from servers import run_sql
from where import makes_tables

if TYPE_CHECKING:
    from adk_psqlpy.config import PsqlpyConfig
    from servers import Database

pytestmark = makes_tables
USER: dict[str, Any] = {"app_name": "app", "user_id": "user"}


def entry(text: str, **fields: Any) -> MemoryEntry:
    return MemoryEntry(content=types.Content(parts=[types.Part(text=text)]), **fields)


async def texts(service: PsqlpyMemoryService, query: str, **scope: Any) -> list[str]:
    found = await service.search_memory(**(USER | scope), query=query)
    return [part.text or "" for memory in found.memories for part in memory.content.parts or ()]


async def test_words_phrases_and_exclusions(config: PsqlpyConfig) -> None:
    """As in plain memories: any word, accents and case folded, "phrases", -words; the best first."""
    service = PsqlpyMemoryService(config, seal=fresh_seal())
    memories = ["Green tea in the morning", "tea, green, but cold", "Café au lait", "東京タワーに行った"]
    await service.add_memory(**USER, memories=[entry(text) for text in memories])
    assert set(await texts(service, "green tea")) == set(memories[:2])
    assert await texts(service, '"green tea"') == memories[:1]
    assert await texts(service, "tea -cold") == memories[:1]
    assert await texts(service, "CAFE") == memories[2:3]
    assert await texts(service, "東京タワー") == memories[3:]
    assert await texts(service, "coffee") == []
    assert await texts(service, "morning tea") == memories[:2]


async def test_nobody_elses(config: PsqlpyConfig, database: Database) -> None:
    """The hash of a word is another one for each user, so hashes of two users cannot be compared."""
    service = PsqlpyMemoryService(config, seal=fresh_seal())
    for user in ("ann", "bob"):
        await service.add_memory(app_name="app", user_id=user, memories=[entry("tea")])
    (rows,) = run_sql(database.dsn, "SELECT words::text AS words FROM adk_memories")
    assert len({row["words"] for row in rows}) == 2
    assert all("tea" not in row["words"] for row in rows)


async def test_after_a_rotation_all_are_found(config: PsqlpyConfig) -> None:
    """A query looks for its words under every key of the ring; scores compare."""
    await PsqlpyMemoryService(config, seal=fresh_seal("old")).add_memory(
        **USER, memories=[entry("green tea")]
    )
    service = PsqlpyMemoryService(config, seal=fresh_seal("old", "new"))
    await service.add_memory(**USER, memories=[entry("green leaf")])
    assert set(await texts(service, "green")) == {"green tea", "green leaf"}
    assert await texts(service, '"green tea"') == ["green tea"]


async def test_plain_and_sealed_do_not_share_a_table(config: PsqlpyConfig) -> None:
    """Words beside their hashes would tell what these are, and a search would miss the other half."""
    await PsqlpyMemoryService(config).add_memory(**USER, memories=[entry("plain")])
    with pytest.raises(
        ValueError, match=r"adk_memories.* was made without a seal, and this service is with one"
    ):
        await PsqlpyMemoryService(config, seal=fresh_seal()).search_memory(**USER, query="plain")
    other = {"memory_table": "sealed_memories"}
    await PsqlpyMemoryService(config, seal=fresh_seal(), **other).add_memory(**USER, memories=[entry("x")])
    with pytest.raises(ValueError, match="was made with a seal, and this service is without one"):
        await PsqlpyMemoryService(config, **other).search_memory(**USER, query="x")


async def test_what_is_refused(config: PsqlpyConfig) -> None:
    """By name, when the service is made or the search is asked for."""

    async def embed(texts: Any) -> list[list[float]]:
        raise AssertionError(texts)

    with pytest.raises(ValueError, match="language must be 'simple' where memories are sealed"):
        PsqlpyMemoryService(config, seal=fresh_seal(), language="english")
    with pytest.raises(ValueError, match="embed cannot be used with seal"):
        PsqlpyMemoryService(config, seal=fresh_seal(), embed=embed, dimensions=3)
    service = PsqlpyMemoryService(config, seal=fresh_seal())
    with pytest.raises(ValueError, match="sealed memories cannot be searched by custom_metadata"):
        await service.search_memory(**USER, query="x", custom_metadata={"a": 1})


async def test_errors_name_the_memory(config: PsqlpyConfig, database: Database) -> None:
    """Memory, session, user and column; no text of it."""
    service = PsqlpyMemoryService(config, seal=fresh_seal())
    await service.add_memory(**USER, memories=[entry("hidden words", id="m1"), entry("hidden too", id="m2")])
    ring = TestKeys("test-1")
    other = PsqlpyMemoryService(config, seal=Seal(ring))
    run_sql(
        database.dsn,
        "UPDATE adk_memories SET content = (SELECT content FROM adk_memories WHERE id = 'm2') "
        "WHERE id = 'm1'",
    )
    with pytest.raises(SealError, match="memory 'm1' of session '' of user 'user' in app 'app'"):
        await other.search_memory(**USER, query="words")
    run_sql(
        database.dsn,
        "UPDATE adk_memories SET content = to_jsonb(replace(content #>> '{}', 'test-1', 'gone'))",
    )
    with pytest.raises(MissingKeyError, match=r"memory 'm1' .*, column content: sealed with the key"):
        await other.search_memory(**USER, query="words")


async def test_a_very_long_memory(config: PsqlpyConfig) -> None:
    """More words than a tsvector holds hashes of: the first ones are found."""
    service = PsqlpyMemoryService(config, seal=fresh_seal())
    await service.add_memory(**USER, memories=[entry("first " + " ".join(f"w{n}" for n in range(60_000)))])
    assert len(await texts(service, "first")) == 1
    assert len(await texts(service, "w20000")) == 1
