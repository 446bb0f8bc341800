"""add_session_to_memory, add_events_to_memory, add_memory, delete_memory: what is kept, once."""

from __future__ import annotations

import asyncio
import math
from datetime import datetime
from typing import TYPE_CHECKING

import pytest
from google.adk.events import Event
from google.genai import types

from contract.events import answered, at, called, said, varied

from .backends import MemoryBackend, differs
from .told import SCOPE, entry, found, session, texts

if TYPE_CHECKING:
    from google.adk.memory import BaseMemoryService


async def test_a_session_added_again_adds_what_is_new(memory: BaseMemoryService) -> None:
    """A session may be added many times while it grows; each event is one memory."""
    growing = session("first fish", "second fish")
    await memory.add_session_to_memory(growing)
    growing.events.append(said("third fish"))
    await memory.add_session_to_memory(growing)
    await memory.add_session_to_memory(growing)
    assert sorted(await texts(memory, "fish")) == ["first fish", "second fish", "third fish"]


@differs(in_memory="keeps what the session holds at the last time")
async def test_what_was_added_stays(memory: BaseMemoryService) -> None:
    """A session that lost events since (a rewind, a compaction) takes none away."""
    whole = session("first fish", "second fish")
    await memory.add_session_to_memory(whole)
    await memory.add_session_to_memory(session(whole.events[1]))
    assert sorted(await texts(memory, "fish")) == ["first fish", "second fish"]


async def test_equal_ids_in_two_sessions_are_two_memories(memory: BaseMemoryService) -> None:
    """An event's id is its own within its session."""
    for name in ("s1", "s2"):
        await memory.add_session_to_memory(session(said(f"fish of {name}", id="e"), session_id=name))
    assert sorted(await texts(memory, "fish")) == ["fish of s1", "fish of s2"]


async def test_what_says_nothing_is_passed_over(memory: BaseMemoryService) -> None:
    """Events without content, parts or text are no memories and no error."""
    silent = [
        Event(author="a", invocation_id="i"),
        Event(author="a", invocation_id="i", content=types.Content(role="user")),
        Event(author="a", invocation_id="i", content=types.Content(role="user", parts=[])),
        said(""),
        said("  \n"),
        called({"fish": 1}),
        answered({"fish": 1}),
        Event(
            author="a",
            invocation_id="i",
            content=types.Content(
                parts=[types.Part(inline_data=types.Blob(data=b"fish", mime_type="text/plain"))]
            ),
        ),
    ]
    await memory.add_session_to_memory(session(*silent, "fish"))
    await memory.add_session_to_memory(session(session_id="empty"))
    assert await texts(memory, "fish") == ["fish"]


async def test_events_are_added_to_what_is_there(memory: BaseMemoryService) -> None:
    """add_events_to_memory takes the latest turn, of a session or of none, each event once."""
    events = [said("first fish"), said("second fish"), said("third fish")]
    await memory.add_events_to_memory(**SCOPE, events=events[:1], session_id="s")
    await memory.add_events_to_memory(**SCOPE, events=events[:2], session_id="s")
    await memory.add_events_to_memory(**SCOPE, events=events[2:])
    await memory.add_events_to_memory(**SCOPE, events=events[2:])
    await memory.add_events_to_memory(**SCOPE, events=[], session_id="s")
    await memory.add_session_to_memory(session(*events[:2]))
    assert sorted(await texts(memory, "fish")) == ["first fish", "second fish", "third fish"]


async def test_one_event_twice_in_a_call_is_one_memory(memory: BaseMemoryService) -> None:
    """Also within one call."""
    event = said("fish")
    await memory.add_events_to_memory(**SCOPE, events=[event, event, event.model_copy(deep=True)])
    assert await texts(memory, "fish") == ["fish"]


async def test_racing_adds_of_one_session(memory: BaseMemoryService) -> None:
    """Many adds of one session at a time store each event once."""
    growing = session(*(f"fish {n}" for n in range(8)))
    await asyncio.gather(*(memory.add_session_to_memory(growing) for _ in range(8)))
    assert sorted(await texts(memory, "fish")) == [f"fish {n}" for n in range(8)]


@differs(sqlite="gives the number of its row as id")
async def test_a_memory_tells_where_it_is_from(memory: BaseMemoryService) -> None:
    """Id and author are the event's; the time is local, in ISO format."""
    await memory.add_session_to_memory(session(said("fish", id="e1", seconds=0.25)))
    (memory_found,) = await found(memory, "fish")
    assert (memory_found.id, memory_found.author) == ("e1", "user")
    assert memory_found.timestamp == datetime.fromtimestamp(at(0.25)).isoformat()


@pytest.mark.parametrize("kind", sorted(name for name, event in varied().items() if event.content))
async def test_contents_are_kept_whole(memory: BaseMemoryService, kind: str) -> None:
    """What is found equals what was said, parts that are not searched included."""
    event = varied()[kind]
    assert event.content is not None
    assert event.content.parts is not None
    event.content.parts.append(types.Part(text="fish"))
    await memory.add_session_to_memory(session(event))
    (memory_found,) = await found(memory, "fish")
    assert memory_found.content == event.content
    assert memory_found.content.model_dump() == event.content.model_dump()


@differs(sqlite="JSON has no NaN, UTF-8 no surrogates", raises=(AssertionError, ValueError))
async def test_what_json_cannot_hold_is_kept(memory: BaseMemoryService) -> None:
    """U+0000, lone surrogates, NaN, infinities, minus zero and large integers."""
    event = called({"nan": math.nan, "inf": -math.inf, "zero": -0.0, "big": 2**70, "float": 1e16})
    assert event.content is not None
    assert event.content.parts is not None
    event.content.parts.append(types.Part(text="fish \0 \ud83d soup \ufdd00000"))
    await memory.add_session_to_memory(session(event))
    (memory_found,) = await found(memory, "soup")
    assert memory_found.content is not None
    assert memory_found.content.parts is not None
    assert memory_found.content.parts[1].text == "fish \0 \ud83d soup \ufdd00000"
    call = memory_found.content.parts[0].function_call
    assert call is not None
    assert repr(call.args) in (
        "{'nan': nan, 'inf': -inf, 'zero': -0.0, 'big': 1180591620717411303424, 'float': 1e+16}",
        # JSONB sorts keys by length, then bytes.
        "{'big': 1180591620717411303424, 'inf': -inf, 'nan': nan, 'zero': -0.0, 'float': 1e+16}",
    )


async def test_a_memory_is_detached_from_what_was_given(memory: BaseMemoryService) -> None:
    """Changing the event, or what a search gave, changes nothing that is stored."""
    event = said("fish")
    assert event.content is not None
    assert event.content.parts is not None
    await memory.add_session_to_memory(session(event))
    event.content.parts[0].text = "soup"
    (memory_found,) = await found(memory, "fish")
    assert memory_found.content.parts is not None
    memory_found.content.parts[0].text = "salad"
    assert await texts(memory, "fish") == ["fish"]


async def test_a_long_text_is_kept_and_found(memory: BaseMemoryService) -> None:
    """Two megabytes of different words, and a word of 100,000 letters."""
    long = "zanzibar " + " ".join(f"w{n}" for n in range(300_000)) + " " + "x" * 100_000
    await memory.add_session_to_memory(session(long))
    assert await texts(memory, "zanzibar") == [long]


@differs(sqlite="deletes nothing")
async def test_a_deleted_memory_stays_deleted(memory: BaseMemoryService) -> None:
    """The id that a search gave deletes the memory, and adding its session again does not bring it back."""
    told = session("first fish", "second fish")
    await memory.add_session_to_memory(told)
    (first,) = await found(memory, "first")
    await memory.delete_memory(**SCOPE, memory_id=first.id)
    assert await texts(memory, "fish") == ["second fish"]
    await memory.add_session_to_memory(told)
    await memory.add_events_to_memory(**SCOPE, events=told.events, session_id=told.id)
    assert await texts(memory, "fish") == ["second fish"]
    await memory.add_events_to_memory(**SCOPE, events=told.events, session_id="another")
    assert sorted(await texts(memory, "fish")) == ["second fish", "second fish"]


@differs(sqlite="deletes nothing")
async def test_deleting_is_for_one_user(memory: BaseMemoryService) -> None:
    """An id is deleted for this user of this app; no id, or an unknown one, is no error."""
    for app, user in [("a", "u"), ("a", "v"), ("b", "u")]:
        await memory.add_session_to_memory(session(said("fish", id="e"), app=app, user=user))
    await memory.delete_memory(app_name="a", user_id="u", memory_id="e")
    await memory.delete_memory(app_name="a", user_id="u", memory_id="e")
    await memory.delete_memory(app_name="a", user_id="v", memory_id="unknown")
    await memory.delete_memory(app_name="a", user_id="v")
    await memory.delete_memory(app_name="a", user_id="v", memory_id="")
    assert [
        len(await texts(memory, "fish", app=a, user=u)) for a, u in [("a", "u"), ("a", "v"), ("b", "u")]
    ] == [0, 1, 1]


@differs(in_memory="takes no explicit memories", sqlite="takes no explicit memories")
async def test_an_explicit_memory_reads_back_equal(memory: BaseMemoryService) -> None:
    """Every field, the time as the text that was given; one without an id gets one."""
    full = entry(
        "fish",
        id="m1",
        author="agent \0 \ud800",
        timestamp="last summer",
        custom_metadata={"k": [1, None, {"x": 2.5}]},
    )
    bare = entry("soup")
    await memory.add_memory(**SCOPE, memories=[full, bare])
    assert await found(memory, "fish") == [full]
    (read,) = await found(memory, "soup")
    assert read.id
    assert read.model_copy(update={"id": None}) == bare


@differs(in_memory="takes no explicit memories", sqlite="takes no explicit memories")
async def test_an_explicit_memory_is_replaced_by_its_id(memory: BaseMemoryService) -> None:
    """A memory is corrected under its id, also after it was deleted; the last one of a call wins."""
    await memory.add_memory(**SCOPE, memories=[entry("fish", id="m"), entry("fish soup", id="m")])
    assert await texts(memory, "fish") == ["fish soup"]
    await memory.add_memory(**SCOPE, memories=[entry("salad", id="m")])
    assert (await texts(memory, "fish"), await texts(memory, "salad")) == ([], ["salad"])
    await memory.delete_memory(**SCOPE, memory_id="m")
    assert await texts(memory, "salad") == []
    await memory.add_memory(**SCOPE, memories=[entry("salad again", id="m")])
    assert await texts(memory, "salad") == ["salad again"]


@differs(in_memory="drops it", sqlite="gives its own")
async def test_metadata_of_a_call_is_that_of_its_memories(memory: BaseMemoryService) -> None:
    """custom_metadata comes back with each memory."""
    await memory.add_events_to_memory(**SCOPE, events=[said("fish")], custom_metadata={"topic": "food"})
    assert [m.custom_metadata for m in await found(memory, "fish")] == [{"topic": "food"}]
    await memory.add_memory(
        **SCOPE, memories=[entry("soup", custom_metadata={"a": 1})], custom_metadata={"a": 0, "b": 2}
    )
    assert [m.custom_metadata for m in await found(memory, "soup")] == [{"a": 1, "b": 2}]


async def test_another_service_finds_it(memory_backend: MemoryBackend) -> None:
    """What one service stored, the next one finds."""
    if not memory_backend.persistent:
        pytest.skip("its data die with the service")
    async with memory_backend.open() as first:
        await first.add_session_to_memory(session("fish"))
    async with memory_backend.open() as second:
        assert await texts(second, "fish") == ["fish"]
