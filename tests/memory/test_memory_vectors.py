"""Embeddings: found by meaning, fused with words, checked, and stored with their memory or not at all."""

from __future__ import annotations

import math
from typing import Any

import pytest
from google.adk.memory.memory_entry import MemoryEntry
from google.genai import types
from psqlpy.exceptions import NotSupportedError

from adk_psqlpy import PsqlpyConfig
from adk_psqlpy.memory import PsqlpyMemoryService
from contract.events import said
from contract.memory.told import SCOPE, entry, session, texts
from servers import Database, run_sql
from where import PLANS, makes_tables, on_cluster, one_server

pytestmark = makes_tables

TOPICS = ("dog puppy pet hound", "car vehicle truck", "soup fish salad meal")


class Embedder:
    """Directions for three topics; keeps what it was asked, and fails on demand."""

    def __init__(self, dimensions: int = 4) -> None:
        self.calls: list[list[str]] = []
        self.dimensions = dimensions
        self.broken: Exception | None = None

    async def __call__(self, texts: list[str]) -> list[list[float]]:
        """A vector for each text: how many of its words are of a topic, and a little of none."""
        self.calls.append(texts)
        if self.broken is not None:
            raise self.broken
        return [self.vector(text) for text in texts]

    def vector(self, text: str) -> list[float]:
        found = text.lower().split()
        directions = [float(sum(word in topic.split() for word in found)) for topic in TOPICS]
        return [*directions, 0.1, *[0.0] * (self.dimensions - 4)]


@pytest.fixture
def embed() -> Embedder:
    return Embedder()


async def service_on(config: PsqlpyConfig, **settings: Any) -> PsqlpyMemoryService:
    """A service that makes its table on first use; on a cluster, the table is there and distributed."""
    service = PsqlpyMemoryService(config, **settings)
    if on_cluster():
        await service.create_tables(distributed=True)
    return service


@pytest.fixture
async def vectors(vector_database: Database, config: PsqlpyConfig, embed: Embedder) -> PsqlpyMemoryService:
    """A service with an embedder."""
    return await service_on(config, embed=embed, dimensions=4)


async def test_a_like_meaning_is_found(vectors: PsqlpyMemoryService, embed: Embedder) -> None:
    """Without a word in common; words in common come first."""
    await vectors.add_session_to_memory(session("my dog is old", "a red car", "fish soup"))
    assert len(embed.calls) == 1
    assert sorted(embed.calls[0]) == ["a red car", "fish soup", "my dog is old"]
    assert (await texts(vectors, "puppy"))[0] == "my dog is old"
    assert (await texts(vectors, "vehicle"))[0] == "a red car"
    assert embed.calls[1:] == [["puppy"], ["vehicle"]]


async def test_both_rankings_are_fused(vectors: PsqlpyMemoryService) -> None:
    """Best is what both find; the sum of 1 / (60 + rank) decides among the others."""
    await vectors.add_session_to_memory(
        session("zanzibar hound", "zanzibar in June", "a puppy and a pet", "truck", "meal")
    )
    assert (await texts(vectors, "zanzibar puppy"))[0] in ("zanzibar hound", "a puppy and a pet")
    found = await texts(vectors, "zanzibar dog")
    assert found[0] == "zanzibar hound"
    assert set(found[1:3]) == {"zanzibar in June", "a puppy and a pet"}


async def test_the_words_decide_where_meanings_are_equal(vectors: PsqlpyMemoryService) -> None:
    """And meanings where the query's words are nowhere, or are no words."""
    await vectors.add_session_to_memory(session(*(f"dog number{n}" for n in range(20))))
    assert (await texts(vectors, "number7"))[0] == "dog number7"
    assert len(await texts(vectors, "hound")) == 10
    assert len(await texts(vectors, "?!")) == 10
    assert await texts(vectors, "") == await texts(vectors, " \n") == []


async def test_scope_filters_ttl_and_minus_hold_for_vectors(
    vector_database: Database, config: PsqlpyConfig, embed: Embedder
) -> None:
    """What words do not find because of these, meanings do not find either."""
    memory = await service_on(config, embed=embed, dimensions=4, ttl=600)
    for app, user in [("app", "user"), ("app", "other"), ("other", "user")]:
        await memory.add_memory(
            app_name=app, user_id=user, memories=[entry(f"dog of {app} {user}", custom_metadata={"n": 1})]
        )
    assert await texts(memory, "hound") == ["dog of app user"]
    assert await texts(memory, "hound -user") == []
    for metadata, many in (({"n": 1}, 1), ({"n": 2}, 0)):
        response = await memory.search_memory(**SCOPE, query="hound", custom_metadata=metadata)
        assert len(response.memories) == many
    (found,) = (await memory.search_memory(**SCOPE, query="hound")).memories
    run_sql(
        vector_database.dsn,
        "UPDATE adk_memories SET expire_time = now() - '1 s'::interval WHERE user_id = 'other'",
    )
    assert await texts(memory, "hound", user="other") == []
    await memory.delete_memory(**SCOPE, memory_id=found.id)
    assert await texts(memory, "hound") == []
    (left,) = run_sql(vector_database.dsn, "SELECT count(embedding)::int4 AS n FROM adk_memories")[0]
    assert left["n"] == 2


@one_server(PLANS)
async def test_a_small_user_in_a_large_table_is_found(
    vectors: PsqlpyMemoryService, vector_database: Database
) -> None:
    """The index holds all users; a search goes on in it until it has found enough of this one's."""
    await vectors.add_memory(**SCOPE, memories=[entry(f"dog soup {n}") for n in range(5)])
    run_sql(
        vector_database.dsn,
        "SELECT setseed(0.5)::text",
        "INSERT INTO adk_memories"
        " (app_name, user_id, session_id, id, timestamp, content, words, create_time, embedding)"
        " SELECT 'app', 'crowd', '', n::text, now(), '{}', '', now(),"
        " ARRAY[1, random() / 5, 1.2 * random(), random() / 5]::real[]::vector"
        " FROM generate_series(1, 5000) AS n",
        "VACUUM ANALYZE adk_memories",
    )
    search = (await vectors._made.statements()).search(vectors=True)
    values = ["'app'", "'user'", "'simple'", "'{}'::text[]", "''", "now()", "10", "NULL", "'[1,0,0,0.1]'"]
    for place, value in reversed(list(enumerate(values, 1))):
        search = search.replace(f"${place}", value)
    # As a planner does that believes the index to be the cheaper way.
    (_, _, _, plan, rows) = run_sql(
        vector_database.dsn,
        "SET enable_sort = off",
        "SET enable_bitmapscan = off",
        "SET enable_seqscan = off",
        f"EXPLAIN {search}",
        search,
    )
    assert any("Index Scan using idx_adk_memories_embedding" in row["QUERY PLAN"] for row in plan)
    assert len(rows) == 5
    assert sorted(await texts(vectors, "hound")) == [f"dog soup {n}" for n in range(5)]


async def test_texts_are_embedded_in_batches_and_once(
    vector_database: Database, config: PsqlpyConfig, embed: Embedder
) -> None:
    """A call a batch; events that are there already are not embedded again, nor are texts without any."""
    memory = await service_on(config, embed=embed, dimensions=4, batch_size=10)
    told = session(*(f"dog {n}" for n in range(25)))
    await memory.add_session_to_memory(told)
    assert [len(call) for call in embed.calls] == [10, 10, 5]
    await memory.add_session_to_memory(told)
    assert len(embed.calls) == 3
    told.events.append(said("dog 25"))
    await memory.add_session_to_memory(told)
    assert embed.calls[3:] == [["dog 25"]]
    await memory.add_memory(**SCOPE, memories=[MemoryEntry(content=types.Content(role="user"))])
    assert len(embed.calls) == 4


async def test_what_embed_raises_comes_through_and_nothing_is_half_stored(
    vectors: PsqlpyMemoryService, vector_database: Database, embed: Embedder
) -> None:
    """No row of the batch is there; adding it again stores it whole."""
    await vectors.create_tables()
    embed.broken = ConnectionError("the model is away")
    told = session("my dog", "my car")
    with pytest.raises(ConnectionError, match="away"):
        await vectors.add_session_to_memory(told)
    assert run_sql(vector_database.dsn, "SELECT id FROM adk_memories") == [[]]
    embed.broken = None
    await vectors.add_session_to_memory(told)
    assert (await texts(vectors, "hound"))[0] == "my dog"
    embed.broken = ConnectionError("the model is away")
    with pytest.raises(ConnectionError, match="away"):
        await texts(vectors, "hound")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([[1.0, 2.0, 3.0]], "vector of 3 numbers, and the service has dimensions=4"),
        ([[]], "vector of 0 numbers, and the service has dimensions=4"),
        ([], "embed gave 0 vectors for 1 texts"),
        ([[1.0] * 4] * 2, "embed gave 2 vectors for 1 texts"),
        ([[1.0, 2.0, 3.0, math.nan]], "a finite float of 32 bits"),
        ([[1.0, 2.0, 3.0, math.inf]], "a finite float of 32 bits"),
        ([[1.0, 2.0, 3.0, 1e39]], "a finite float of 32 bits"),
        ([["a", "b", "c", "d"]], "not a number: could not convert string to float"),
        ([[[1.0]] * 4], "something in it that is not a number"),
        (["1234"], "a list of numbers for each text, not str"),
        ([1.0], "a list of numbers for each text, not float"),
        (None, "a list with a vector for each text, not NoneType"),
        ("a", "a list with a vector for each text, not str"),
    ],
)
async def test_a_bad_vector_is_refused(
    vector_database: Database, config: PsqlpyConfig, answer: Any, message: str
) -> None:
    """On adding and on searching; nothing is stored."""

    async def embed(texts: list[str]) -> Any:
        return answer

    memory = await service_on(config, embed=embed, dimensions=4)
    with pytest.raises(ValueError, match=message):
        await memory.add_memory(**SCOPE, memories=[entry("fish")])
    with pytest.raises(ValueError, match=message):
        await texts(memory, "fish")
    assert run_sql(vector_database.dsn, "SELECT id FROM adk_memories") == [[]]


async def test_an_embedder_that_is_not_async(vector_database: Database, config: PsqlpyConfig) -> None:
    """The commonest slip with a client of a model that blocks."""

    def embed(texts: list[str]) -> Any:
        return [[1.0] * 4 for _ in texts]

    memory = await service_on(config, embed=embed, dimensions=4)
    with pytest.raises(ValueError, match=r"async function, and it gave list at once: .*to_thread"):
        await memory.add_memory(**SCOPE, memories=[entry("fish")])
    assert run_sql(vector_database.dsn, "SELECT id FROM adk_memories") == [[]]


async def test_without_pgvector_it_says_what_to_run(
    config: PsqlpyConfig, database: Database, embed: Embedder
) -> None:
    """And works once that was done; without an embedder nothing is missing."""
    memory = PsqlpyMemoryService(config, embed=embed, dimensions=4)
    for use in (memory.create_tables(), texts(memory, "fish"), memory.add_session_to_memory(session("fish"))):
        with pytest.raises(NotSupportedError, match="CREATE EXTENSION vector"):
            await use
    await PsqlpyMemoryService(config).add_session_to_memory(session("fish"))
    (available,) = run_sql(database.dsn, "SELECT name FROM pg_available_extensions WHERE name = 'vector'")
    if available:
        run_sql(database.dsn, "CREATE EXTENSION vector")
        await memory.add_session_to_memory(session("my dog", session_id="t"))
        assert await texts(memory, "hound") == ["my dog"]


async def test_a_table_without_vectors_gets_them(
    vector_database: Database, config: PsqlpyConfig, embed: Embedder
) -> None:
    """Memories from before are found by their words; a service without embedder goes on as before."""
    plain = await service_on(config)
    await plain.add_session_to_memory(session("old dog"))
    memory = PsqlpyMemoryService(config, embed=embed, dimensions=4)
    await memory.add_session_to_memory(session("new dog", session_id="t"))
    assert await texts(memory, "hound") == ["new dog"]
    assert sorted(await texts(memory, "dog")) == ["new dog", "old dog"]
    after = PsqlpyMemoryService(config)
    for service in (plain, after):
        await service.add_memory(**SCOPE, memories=[entry("replaced dog", id="m")])
        assert len(await texts(service, "dog")) == 3
    with pytest.raises(ValueError, match="made with dimensions='4', and this service has dimensions='8'"):
        await PsqlpyMemoryService(config, embed=Embedder(8), dimensions=8).create_tables()


async def test_replacing_without_an_embedder_forgets_the_vector(
    vector_database: Database, config: PsqlpyConfig, vectors: PsqlpyMemoryService
) -> None:
    """A vector never stands beside a text that it was not made of."""
    await vectors.add_memory(**SCOPE, memories=[entry("my dog", id="m")])
    await PsqlpyMemoryService(config).add_memory(**SCOPE, memories=[entry("my car", id="m")])
    assert await texts(vectors, "hound") == []


@pytest.mark.parametrize(("dimensions", "index"), [(2_000, "vector"), (3_072, "halfvec"), (4_001, None)])
async def test_long_vectors(
    vector_database: Database, config: PsqlpyConfig, dimensions: int, index: str | None
) -> None:
    """An index of whole, of half, or none at all, as pgvector can; the search is the same."""
    memory = await service_on(config, embed=Embedder(dimensions), dimensions=dimensions)
    await memory.add_session_to_memory(session("my dog", "a car"))
    assert (await texts(memory, "hound"))[0] == "my dog"
    (made,) = run_sql(
        vector_database.dsn, "SELECT indexdef FROM pg_indexes WHERE indexname = 'idx_adk_memories_embedding'"
    )
    assert [f"{index}_cosine_ops" in row["indexdef"] for row in made] == ([] if index is None else [True])


async def test_numbers_of_any_kind(vector_database: Database, config: PsqlpyConfig) -> None:
    """Arrays and integers, and tuples of them, are vectors as well."""
    from array import array

    async def embed(texts: list[str]) -> Any:
        return tuple(array("f", [1, 2, 3]) if n % 2 else (1, 2, 3) for n in range(len(texts)))

    memory = await service_on(config, embed=embed, dimensions=3)
    await memory.add_memory(**SCOPE, memories=[entry("fish"), entry("soup")])
    assert len(await texts(memory, "salad")) == 2
