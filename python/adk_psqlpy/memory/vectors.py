"""Asking an embedder for vectors, in batches, and checking them before anything is stored."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

Embed = Callable[[list[str]], Awaitable[Sequence[Sequence[float]]]]
"""Returns a vector for each text, in the order of the texts."""

MOST_DIMENSIONS: Final = 16_000
"""Of pgvector's `vector` type."""

_LARGEST: Final = 3.4028235e38


async def embedded(embed: Embed, dimensions: int, texts: list[str]) -> list[str]:
    """Get the vectors of texts, in pgvector's text form.

    Raises:
        ValueError: `embed` is not async, or did not give a vector for each text, or a vector has another
            length or holds something other than finite numbers.
    """
    answer = embed(texts)
    if not inspect.isawaitable(answer):
        raise ValueError(
            f"embed must be an async function, and it gave {type(answer).__name__} at once: a blocking call "
            "can go through `await asyncio.to_thread(...)`"
        )
    vectors = await answer
    if not _listed(vectors):
        raise ValueError(f"embed must give a list with a vector for each text, not {type(vectors).__name__}")
    if len(vectors) != len(texts):
        raise ValueError(f"embed gave {len(vectors)} vectors for {len(texts)} texts")
    return [_literal(vector, dimensions) for vector in vectors]


def _literal(vector: Sequence[float], dimensions: int) -> str:
    if not _listed(vector):
        raise ValueError(f"embed must give a list of numbers for each text, not {type(vector).__name__}")
    if len(vector) != dimensions:
        raise ValueError(
            f"embed gave a vector of {len(vector)} numbers, and the service has dimensions={dimensions}: "
            "they must be the same"
        )
    try:
        numbers = [float(number) for number in vector]
    except (TypeError, ValueError) as error:
        raise ValueError(f"embed gave a vector with something in it that is not a number: {error}") from error
    if not all(abs(number) <= _LARGEST for number in numbers):
        raise ValueError("embed gave a vector with a number in it that a finite float of 32 bits cannot hold")
    return f"[{','.join(map(repr, numbers))}]"


def _listed(value: object) -> bool:
    """Whether the value may hold numbers or vectors: a list or a NumPy array, not a text."""
    return hasattr(value, "__len__") and not isinstance(value, (str, bytes))
