"""Memory that is searched by words and by vectors, with an embedder that needs no model.

    python examples/memory_with_vectors.py

The embedder here is a toy: it hashes groups of three letters, so texts are alike that are spelled alike. That
forgives a typo and finds "violin" for "violinist", and knows nothing of meanings. Put your model's in its
place: docs/memory.md has one. Vectors need the extension pgvector, which the embedded server brings.

The server is the one that DATABASE_URL, or PGHOST and its kin, names; without them an embedded one
(`pip install 'adk-psqlpy[embedded]'`).
"""

import asyncio
import math
import zlib

from google.adk.memory.memory_entry import MemoryEntry
from google.genai import types

from adk_psqlpy import PsqlpyConfig, PsqlpyMemoryService

APP, USER, DIMENSIONS = "memory_with_vectors", "ann", 256
TOLD = {
    "1": "I cancelled my subscription to the newspaper.",
    "2": "My daughter plays the violin.",
    "3": "The kitchen is painted yellow.",
    "4": "We fly to Reykjavik in May.",
}


async def embed(texts: list[str]) -> list[list[float]]:
    """A toy: how often each group of three letters occurs, by its hash, as a vector of length 1."""
    return [toy_vector(text.lower()) for text in texts]


def toy_vector(text: str) -> list[float]:
    """Counts of the groups, scaled."""
    vector = [0.0] * DIMENSIONS
    for word in text.split():
        for start in range(len(word)):
            vector[zlib.crc32(f" {word} "[start : start + 3].encode()) % DIMENSIONS] += 1
    length = math.sqrt(sum(number * number for number in vector)) or 1.0
    return [number / length for number in vector]


async def main() -> None:
    """Remember, and search twice: by words alone, and by words and vectors."""
    config = PsqlpyConfig()
    async with config.provide_connection() as connection:
        # Once a database, as a role that may.
        await connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    entries = [
        MemoryEntry(id=id, content=types.Content(role="user", parts=[types.Part(text=text)]))
        for id, text in TOLD.items()
    ]
    # A table of its own: the vectors of one table are all of one length.
    async with PsqlpyMemoryService(
        config, "vector_memories", language="english", embed=embed, dimensions=DIMENSIONS
    ) as memory:
        by_words = PsqlpyMemoryService(config, "vector_memories", language="english")
        await memory.add_memory(app_name=APP, user_id=USER, memories=entries)  # again replaces: they have ids
        for query in ("kitchens in yellow", "violinist", "subscripton", "Rejkjavik in May"):
            print(f"\n{query}")
            for kind, service in (("words", by_words), ("words and vectors", memory)):
                found = await service.search_memory(app_name=APP, user_id=USER, query=query, limit=1)
                texts = [part.text for entry in found.memories for part in entry.content.parts or []]
                print(f"  by {kind}: {texts[0] if texts else 'nothing'}")


if __name__ == "__main__":
    asyncio.run(main())
