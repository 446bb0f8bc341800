"""Embeddings: asked for in batches, and checked before anything is stored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

Embed = Callable[[list[str]], Awaitable[Sequence[Sequence[float]]]]
"""Gives a vector for each text, in the order of the texts."""

MOST_DIMENSIONS: Final = 16_000
"""Of pgvector's `vector` type."""

_LARGEST: Final = 3.4028235e38


async def embedded(embed: Embed, dimensions: int, texts: list[str]) -> list[str]:
    """The vectors of the texts, as pgvector reads them.

    Raises:
        ValueError: not a vector for each text, one of another length, or one that holds no finite numbers.
    """
    vectors = await embed(texts)
    if len(vectors) != len(texts):
        raise ValueError(f"embed gave {len(vectors)} vectors for {len(texts)} texts")
    return [_literal(vector, dimensions) for vector in vectors]


def _literal(vector: Sequence[float], dimensions: int) -> str:
    if len(vector) != dimensions:
        raise ValueError(
            f"embed gave a vector of {len(vector)} numbers, and the service has dimensions={dimensions}: "
            "they must be the same"
        )
    numbers = [float(number) for number in vector]
    if not all(abs(number) <= _LARGEST for number in numbers):
        raise ValueError("embed gave a vector with a number in it that a finite float of 32 bits cannot hold")
    return f"[{','.join(map(repr, numbers))}]"
