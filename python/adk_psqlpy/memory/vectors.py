"""Embeddings: asked for in batches, and checked before anything is stored."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

Embed = Callable[[list[str]], Awaitable[Sequence[Sequence[float]]]]
"""Gives a vector for each text, in the order of the texts."""

MOST_DIMENSIONS: Final = 16_000
"""Of pgvector's `vector` type."""


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
            "they "
            "must be the same"
        )
    numbers = [float(number) for number in vector]
    if not all(map(math.isfinite, numbers)):
        raise ValueError("embed gave a vector with NaN or an infinity in it")
    return f"[{','.join(map(repr, numbers))}]"
