"""Bad input: a ValueError that names it, before a connection is opened."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from google.adk.memory.memory_entry import MemoryEntry
from google.genai import types

from adk_psqlpy import PsqlpyConfig
from adk_psqlpy.memory import PsqlpyMemoryService
from contract.events import said
from contract.memory.told import SCOPE, entry, session, texts
from servers import Database, run_sql

Call = Callable[[PsqlpyMemoryService, Any], Awaitable[object]]

METHODS: dict[str, tuple[tuple[str, ...], Call]] = {
    "add_session_to_memory": (
        ("app_name", "user_id", "session_id"),
        lambda m, a: m.add_session_to_memory(
            session("x").model_copy(update=dict(zip(("app_name", "user_id", "id"), a, strict=True)))
        ),
    ),
    "add_events_to_memory": (
        ("app_name", "user_id", "session_id"),
        lambda m, a: m.add_events_to_memory(app_name=a[0], user_id=a[1], session_id=a[2], events=[said("x")]),
    ),
    "add_memory": (
        ("app_name", "user_id"),
        lambda m, a: m.add_memory(app_name=a[0], user_id=a[1], memories=[entry("x")]),
    ),
    "search_memory": (
        ("app_name", "user_id"),
        lambda m, a: m.search_memory(app_name=a[0], user_id=a[1], query="x"),
    ),
    "delete_memory": (
        ("app_name", "user_id", "memory_id"),
        lambda m, a: m.delete_memory(app_name=a[0], user_id=a[1], memory_id=a[2]),
    ),
}
BAD_IDS: dict[str, tuple[Any, str]] = {
    "int": (5, "must be a str, not int"),
    "list": (["id"], "must be a str, not list"),
    "too long": ("x" * 1_000, r"has 1,000 characters, and at most 128 .*PsqlpyMemoryService\(key_length"),
    "nul": ("a\0b", r"U\+0000"),
    "surrogate": ("a\ud800", "lone surrogate"),
}


@pytest.mark.parametrize("kind", BAD_IDS)
@pytest.mark.parametrize(
    ("method", "name"), [(method, name) for method, (names, _) in METHODS.items() for name in names]
)
async def test_bad_identifiers(database: Database, method: str, name: str, kind: str) -> None:
    """Every identifier of every method."""
    names, call = METHODS[method]
    value, message = BAD_IDS[kind]
    await refused(
        database, lambda m: call(m, [value if each == name else "ok" for each in names]), f"{name}.*{message}"
    )


async def refused(
    database: Database, call: Callable[[PsqlpyMemoryService], Awaitable[object]], message: str
) -> None:
    """Await a call that must raise, and see that nothing was connected."""
    async with PsqlpyConfig(pool_config={"dsn": database.dsn}) as config:
        with pytest.raises(ValueError, match=message):
            await call(PsqlpyMemoryService(config))
        assert (await config.create_pool()).status().size == 0, "a connection was opened"


REFUSED: dict[str, tuple[Callable[[Any], Awaitable[object]], str]] = {
    "no session": (lambda m: m.add_session_to_memory(None), "session must be a Session, not NoneType"),
    "no event": (lambda m: m.add_events_to_memory(**SCOPE, events=["x"]), "events must be Events, not str"),
    "no memory": (lambda m: m.add_memory(**SCOPE, memories=["x"]), "memories must be MemoryEntry, not str"),
    "no events": (
        lambda m: m.add_events_to_memory(**SCOPE, events=None),
        "events must be a list of Events, not",
    ),
    "one event": (
        lambda m: m.add_events_to_memory(**SCOPE, events=said("x")),
        "events must be a list of Events, not Event",
    ),
    "one memory": (
        lambda m: m.add_memory(**SCOPE, memories=entry("x")),
        "memories must be a list of MemoryEntry, not MemoryEntry",
    ),
    "event id": (
        lambda m: m.add_events_to_memory(**SCOPE, events=[said("x", id="e" * 129)]),
        "event.id has 129 characters",
    ),
    "event id with nul": (
        lambda m: m.add_events_to_memory(**SCOPE, events=[said("x", id="\0")]),
        r"event.id holds U\+0000",
    ),
    "memory id": (
        lambda m: m.add_memory(**SCOPE, memories=[entry("x", id="e" * 129)]),
        "the id of a memory has 129",
    ),
    "query": (lambda m: m.search_memory(**SCOPE, query=["x"]), "query must be a str, not list"),
    "no query": (lambda m: m.search_memory(**SCOPE, query=None), "query must be a str, not NoneType"),
    "limit": (lambda m: m.search_memory(**SCOPE, query="x", limit=0), "limit must be an integer from 1"),
    "limit bool": (lambda m: m.search_memory(**SCOPE, query="x", limit=True), "limit must be an integer"),
    "filter": (
        lambda m: m.search_memory(**SCOPE, query="x", custom_metadata=[1]),
        "custom_metadata must be a dict",
    ),
    "metadata keys": (
        lambda m: m.add_events_to_memory(**SCOPE, events=[said("x")], custom_metadata={1: 2}),
        "keys of custom_metadata must be str, not int",
    ),
    "metadata values": (
        lambda m: m.add_memory(**SCOPE, memories=[entry("x")], custom_metadata={"k": object()}),
        "custom_metadata holds a value that has no JSON form",
    ),
    "metadata of an entry": (
        lambda m: m.add_memory(**SCOPE, memories=[entry("x", custom_metadata={"k": object()})]),
        "custom_metadata holds a value that has no JSON form",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
async def test_bad_arguments(database: Database, kind: str) -> None:
    """Of the wrong type or size."""
    await refused(database, *REFUSED[kind])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"language": ""}, "language '' is not a"),
        ({"language": "a'b"}, "language .* is not a"),
        ({"language": None}, "language must be a str"),
        ({"limit": 0}, "limit must be an integer from 1"),
        ({"limit": "5"}, "limit must be an integer"),
        ({"batch_size": 0}, "batch_size must be an integer from 1"),
        ({"key_length": 1_025}, "key_length must be an integer from 1 to 1024"),
        ({"ttl": 0}, "ttl must be more than zero"),
        ({"ttl": -1.5}, "ttl must be more than zero"),
        ({"ttl": math.nan}, "ttl must be more than zero"),
        ({"ttl": timedelta(days=-1)}, "ttl must be more than zero"),
        ({"ttl": timedelta.max}, "at most 365000 days"),
        ({"ttl": "1h"}, "ttl must be a timedelta or seconds, not str"),
        ({"embed": "model"}, "embed must be an async function, not str"),
        ({"embed": print}, "embed and dimensions go together"),
        ({"dimensions": 3}, "embed and dimensions go together"),
        ({"embed": print, "dimensions": 16_001}, "dimensions must be an integer from 1 to 16000"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    """Refused when the service is made."""
    with pytest.raises(ValueError, match=message):
        PsqlpyMemoryService(PsqlpyConfig(pool_config={"dsn": "postgresql://nowhere"}), **options)


async def test_a_batch_with_one_bad_memory_stores_none_of_it(
    memory: PsqlpyMemoryService, database: Database
) -> None:
    """The bad one is named, and the good ones beside it are not there."""
    await memory.create_tables()
    with pytest.raises(ValueError, match="custom_metadata"):
        await memory.add_memory(
            **SCOPE, memories=[entry("fish"), entry("fish", custom_metadata={"k": object()})]
        )
    assert run_sql(database.dsn, "SELECT id FROM adk_memories") == [[]]


async def test_what_is_odd_and_yet_fine(memory: PsqlpyMemoryService) -> None:
    """Empty names, strange characters, nothing to add, metadata that pydantic makes JSON of."""
    odd = {"app_name": "", "user_id": "🎉 ' \" \\ %"}
    await memory.add_memory(**odd, memories=[])
    await memory.add_memory(
        **odd, memories=[entry("fish", custom_metadata={"days": timedelta(days=1), "set": {1}})]
    )
    (found,) = (await memory.search_memory(**odd, query="fish")).memories
    assert found.custom_metadata == {"days": "P1D", "set": [1]}
    await memory.add_memory(
        **SCOPE, memories=[MemoryEntry(content=types.Content(parts=[types.Part(text="\0\ud800")]))]
    )
    assert await texts(memory, "\0 \ud800") == []
