"""What the memory service does beyond ADK's contract: limits, filters, times, ranking, batches, plans."""

from __future__ import annotations

import asyncio
import itertools
import time
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from google.adk.memory.memory_entry import MemoryEntry

from adk_psqlpy import PsqlpyConfig
from adk_psqlpy.memory import PsqlpyMemoryService
from adk_psqlpy.sql.memory import COMMON
from contract.events import said
from contract.memory.told import SCOPE, entry, session, text_of, texts
from proxy import Proxy
from servers import Database, run_sql
from where import PLANS, makes_tables, on_cluster, one_server

if TYPE_CHECKING:
    from google.adk.events import Event

COUNT = "SELECT count(*)::int4 AS rows FROM adk_memories"


def rows(database: Database) -> int:
    """How many rows the table has."""
    return int(run_sql(database.dsn, COUNT)[0][0]["rows"])


async def test_the_limit(config: PsqlpyConfig) -> None:
    """Of the service, or of one search."""
    memory = PsqlpyMemoryService(config, limit=3)
    await memory.add_session_to_memory(session(*(f"fish {n}" for n in range(9))))
    assert await texts(memory, "fish") == ["fish 8", "fish 7", "fish 6"]
    response = await memory.search_memory(**SCOPE, query="fish", limit=7)
    assert len(response.memories) == 7


async def test_equal_memories_come_newest_first(memory: PsqlpyMemoryService) -> None:
    """By the time of the event, or by what an explicit memory says of its own."""
    await memory.add_session_to_memory(session(said("fish a", seconds=5), said("fish b", seconds=9)))
    await memory.add_memory(
        **SCOPE,
        memories=[
            entry("fish c", timestamp="2033-05-18T03:33:27Z"),  # seven seconds after the tests' zero
            entry("fish d", timestamp="1999-12-31"),
            entry("fish e", timestamp="long ago"),  # counts as now, years before the tests' zero
        ],
    )
    assert await texts(memory, "fish") == ["fish b", "fish c", "fish a", "fish e", "fish d"]


async def test_a_short_memory_comes_before_a_long_one(memory: PsqlpyMemoryService) -> None:
    """One word of three says more than one of a hundred."""
    long = "fish " + " ".join(f"w{n}" for n in range(100))
    await memory.add_session_to_memory(session("eating fish today", long))
    assert await texts(memory, "fish") == ["eating fish today", long]


@makes_tables
async def test_stop_words_of_a_language(config: PsqlpyConfig) -> None:
    """A query of nothing else finds nothing, in quotes or behind a minus neither."""
    memory = PsqlpyMemoryService(config, language="english")
    await memory.create_tables(distributed=on_cluster())
    await memory.add_session_to_memory(session("the cat is on the mat", "running dogs"))
    for query in ("the", "is on the", '"on the"', "the -is"):
        assert await texts(memory, query) == []
    assert await texts(memory, "what do the dogs do when they run?") == ["running dogs"]
    assert await texts(memory, "dog cat -the") == ["running dogs", "the cat is on the mat"]
    assert await texts(memory, '"cat on mat"') == []
    assert await texts(memory, '"cat is on the mat"') == ["the cat is on the mat"]


async def test_a_word_in_very_many_memories(memory: PsqlpyMemoryService) -> None:
    """It finds the newest ones by itself; beside a rare word it counts, but the rare word decides."""
    told = [f"common talk {n}" for n in range(COMMON + 200)]
    told[3] = "common zanzibar"
    told[5] = "quiet zanzibar"
    await memory.add_session_to_memory(session(*told))
    assert await texts(memory, "common") == told[:-11:-1]
    found = await texts(memory, "common zanzibar")
    assert found[:2] == ["common zanzibar", "quiet zanzibar"]
    assert found[2:] == told[:-9:-1]
    assert (await texts(memory, "zanzibar -common")) == ["quiet zanzibar"]


async def test_a_filter_by_metadata(memory: PsqlpyMemoryService) -> None:
    """`custom_metadata` of a search is contained in that of what it finds."""
    for n, metadata in enumerate([{"topic": "food", "tags": ["a", "b"]}, {"topic": "pets"}, {}]):
        await memory.add_events_to_memory(**SCOPE, events=[said(f"fish {n}")], custom_metadata=metadata)

    async def filtered(metadata: dict[str, Any]) -> list[str]:
        found = await memory.search_memory(**SCOPE, query="fish", custom_metadata=metadata)
        return sorted(map(text_of, found.memories))

    assert await filtered({}) == ["fish 0", "fish 1", "fish 2"]
    assert await filtered({"topic": "food"}) == ["fish 0"]
    assert await filtered({"tags": ["b"]}) == ["fish 0"]
    assert await filtered({"topic": "food", "tags": ["c"]}) == []
    assert await filtered({"topic": None}) == []


async def test_events_expire_by_their_own_time(config: PsqlpyConfig, database: Database) -> None:
    """What is past its ttl is neither found nor added, also not again after it was purged."""
    memory = PsqlpyMemoryService(config, ttl=timedelta(hours=1))
    now = time.time()
    young, old = said("fish young", timestamp=now - 60), said("fish old", timestamp=now - 7_200)
    await memory.add_session_to_memory(session(young, old))
    assert await texts(memory, "fish") == ["fish young"]
    assert rows(database) == 1
    run_sql(database.dsn, "UPDATE adk_memories SET expire_time = now() - interval '1 second'")
    assert await texts(memory, "fish") == []
    assert await memory.purge_expired() == 1
    assert await memory.purge_expired() == 0
    assert rows(database) == 0


async def test_explicit_memories_expire_from_when_they_are_added(
    config: PsqlpyConfig, database: Database
) -> None:
    """Whatever time they tell of; adding one again begins anew."""
    memory = PsqlpyMemoryService(config, ttl=600)
    await memory.add_memory(**SCOPE, memories=[entry("fish", id="m", timestamp="1999-12-31")])
    assert await texts(memory, "fish") == ["fish"]
    left = "SELECT extract(epoch FROM expire_time - now())::float8 AS left FROM adk_memories"
    assert 500 < run_sql(database.dsn, left)[0][0]["left"] <= 600
    run_sql(database.dsn, "UPDATE adk_memories SET expire_time = now() - interval '1 second'")
    assert await texts(memory, "fish") == []
    await memory.add_memory(**SCOPE, memories=[entry("fish", id="m")])
    assert await texts(memory, "fish") == ["fish"]


async def test_purging_spares_what_does_not_expire(config: PsqlpyConfig, memory: PsqlpyMemoryService) -> None:
    """Of a service without ttl, in one table with one that has one."""
    await memory.add_session_to_memory(session("fish"))
    await PsqlpyMemoryService(config, ttl=600).add_memory(**SCOPE, memories=[entry("soup")])
    assert await memory.purge_expired() == 0
    assert (await texts(memory, "fish"), await texts(memory, "soup")) == (["fish"], ["soup"])


async def test_nothing_of_a_deleted_memory_is_left(memory: PsqlpyMemoryService, database: Database) -> None:
    """The row that keeps the id holds nothing that was said."""
    await memory.add_events_to_memory(
        **SCOPE, events=[said("secret fish", id="e")], custom_metadata={"secret": 1}
    )
    await memory.delete_memory(**SCOPE, memory_id="e")
    (left,) = run_sql(database.dsn, "SELECT to_jsonb(m)::text AS row FROM adk_memories AS m")[0]
    assert "secret" not in left["row"]
    assert "fish" not in left["row"]
    assert '"e"' in left["row"]


async def test_an_event_without_an_id_is_told_by_what_it_says(memory: PsqlpyMemoryService) -> None:
    """Adding it twice is adding it once."""

    def nameless(text: str) -> Event:
        event = said(text, seconds=1)
        event.id = ""
        return event

    for _ in range(2):
        await memory.add_events_to_memory(**SCOPE, events=[nameless("fish"), nameless("fish soup")])
    assert sorted(await texts(memory, "fish")) == ["fish", "fish soup"]


async def test_an_explicit_memory_without_text_is_kept(
    memory: PsqlpyMemoryService, database: Database
) -> None:
    """Nothing can find it by words, and yet it was asked to be stored."""
    from google.genai import types

    await memory.add_memory(**SCOPE, memories=[MemoryEntry(content=types.Content(role="user"), id="m")])
    assert rows(database) == 1
    await memory.delete_memory(**SCOPE, memory_id="m")


async def test_batches_and_progress(database: Database) -> None:
    """A statement a batch and a look before it; what is known is not sent again."""
    with TemporaryDirectory(prefix="rt") as directory:
        async with Proxy(database.dsn, Path(directory)) as counter, counter.config() as config:
            memory = PsqlpyMemoryService(config, batch_size=100)
            await memory.create_tables()
            told = session(*(f"fish {n}" for n in range(250)))
            async with config.provide_connection():
                """Connections are open."""

            steps: list[tuple[int, int]] = []

            async def trips(growing: Any) -> int:
                before = counter.counted
                await memory.add_session_to_memory(growing, progress=lambda *step: steps.append(step))
                return counter.counted - before

            first = await trips(told)
            assert steps == [(100, 250), (200, 250), (250, 250)]
            # Preparing a statement on a connection is a round trip as well.
            assert first <= 2 * (3 + 3) + 4
            assert await trips(told) <= 3 + 1
            assert await trips(session(said("one more"))) <= 2 + 2
            before = counter.counted
            await memory.add_memory(**SCOPE, memories=[entry(f"soup {n}") for n in range(100)])
            assert counter.counted - before <= 3
            before = counter.counted
            assert len(await texts(memory, "fish")) == 10
            assert counter.counted - before <= 3
    assert rows(database) == 351


async def test_racing_replacements_do_not_deadlock(memory: PsqlpyMemoryService) -> None:
    """Writers of the same memories in different orders wait for each other."""
    ids = [f"m{n}" for n in range(20)]
    orders = [list(order) for order in itertools.islice(itertools.permutations(ids, 20), 0, 40, 5)]
    orders += [ids[::-1], ids]
    for _ in range(3):
        await asyncio.gather(
            *(
                memory.add_memory(**SCOPE, memories=[entry(f"fish {n} {i}", id=i) for i in order])
                for n, order in enumerate(orders)
            )
        )
    assert len((await memory.search_memory(**SCOPE, query="fish", limit=100)).memories) == 20


async def test_a_cancelled_add_can_be_repeated(memory: PsqlpyMemoryService) -> None:
    """Cancelled anywhere, adding it again completes it."""
    told = session(*(f"fish {n}" for n in range(40)))
    await memory.create_tables()
    for wait in (0.0, 0.001, 0.003, 0.01):
        task = asyncio.create_task(memory.add_session_to_memory(told))
        await asyncio.wait([task], timeout=wait)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await memory.add_session_to_memory(told)
    assert len((await memory.search_memory(**SCOPE, query="fish", limit=100)).memories) == 40


@one_server(PLANS)
async def test_the_index_serves_the_search(memory: PsqlpyMemoryService, database: Database) -> None:
    """A word is looked up together with the user, in one index."""
    await memory.create_tables()
    run_sql(
        database.dsn,
        "INSERT INTO adk_memories (app_name, user_id, session_id, id, timestamp, content, words, create_time)"
        " SELECT 'app', 'u' || n % 50, '', n::text, now(), '{}', to_tsvector('simple', 'fish w' || n), now()"
        " FROM generate_series(1, 20000) AS n",
        "VACUUM ANALYZE adk_memories",
    )
    search = (await memory._made.statements()).search(vectors=False)
    values = ["'app'", "'u7'", "'simple'", "ARRAY['fish', 'w57']", "''", "now()", "10", "NULL"]
    for place, value in reversed(list(enumerate(values, 1))):
        search = search.replace(f"${place}", value)
    (plan,) = run_sql(database.dsn, f"EXPLAIN {search}")
    lines = [row["QUERY PLAN"].strip() for row in plan]
    at = next(n for n, line in enumerate(lines) if "Bitmap Index Scan on idx_adk_memories_words" in line)
    assert "@>" in lines[at + 1]
    assert "words @@ terms.query" in lines[at + 1]
    assert not any("Seq Scan on adk_memories" in line for line in lines)


def test_one_service_in_several_event_loops(database: Database) -> None:
    """One loop after another."""
    config = PsqlpyConfig(pool_config={"dsn": database.dsn})
    memory = PsqlpyMemoryService(config)
    for n in range(3):
        asyncio.run(memory.add_session_to_memory(session("fish", session_id=str(n))))
    assert asyncio.run(texts(memory, "fish")) == ["fish"] * 3
    asyncio.run(memory.close())
