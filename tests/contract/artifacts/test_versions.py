"""Numbers of versions, from 0, and which of them a load gives."""

from __future__ import annotations

import asyncio

import pytest
from google.genai import types

from .backends import ArtifactBackend, Artifacts


def text(value: str) -> types.Part:
    return types.Part(text=value)


async def test_versions_count_from_zero(artifacts: Artifacts) -> None:
    """The first save is version 0; each further one the next."""
    assert [await artifacts.save("a", text(str(n))) for n in range(3)] == [0, 1, 2]
    assert await artifacts.versions("a") == [0, 1, 2]


async def test_loads_give_the_newest_or_the_one_named(artifacts: Artifacts) -> None:
    """No version means the newest."""
    for n in range(3):
        await artifacts.save("a", text(str(n)))
    assert await artifacts.load("a") == text("2")
    assert [await artifacts.load("a", n) for n in range(3)] == [text("0"), text("1"), text("2")]


@pytest.mark.parametrize("version", [3, -1, 2**31, 2**70, -(2**70)])
async def test_a_version_that_is_not_there_is_none(artifacts: Artifacts, version: int) -> None:
    """Neither an error nor another version."""
    for n in range(3):
        await artifacts.save("a", text(str(n)))
    assert await artifacts.load("a", version) is None
    assert await artifacts.describe("a", version) is None


async def test_an_artifact_that_is_not_there(artifacts: Artifacts) -> None:
    """`None` and empty lists."""
    assert await artifacts.load("a") is None
    assert await artifacts.load("a", 0) is None
    assert await artifacts.describe("a") is None
    assert await artifacts.versions("a") == []
    assert await artifacts.described("a") == []
    assert await artifacts.keys() == []
    await artifacts.delete("a")


async def test_equal_saves_are_versions_of_their_own(artifacts: Artifacts) -> None:
    """Saving the same bytes again is a new version."""
    part = types.Part(inline_data=types.Blob(mime_type="image/png", data=b"png"))
    assert [await artifacts.save("a", part) for _ in range(3)] == [0, 1, 2]
    assert [await artifacts.load("a", n) for n in range(3)] == [part] * 3


async def test_racing_saves_get_distinct_versions_without_gaps(artifacts: Artifacts) -> None:
    """16 at once: the numbers 0 to 15, each with its own content."""
    saved = await asyncio.gather(*(artifacts.save("a", text(str(n))) for n in range(16)))
    assert sorted(saved) == list(range(16))
    for n, version in enumerate(saved):
        assert await artifacts.load("a", version) == text(str(n))


async def test_deleting_takes_all_versions_and_starts_over(artifacts: Artifacts) -> None:
    """After a delete nothing is left, and numbers begin at 0 again. Others stay."""
    for n in range(2):
        await artifacts.save("a", text(str(n)))
        await artifacts.save("a/b", text(str(n)))
    await artifacts.delete("a")
    assert await artifacts.load("a") is None
    assert await artifacts.load("a", 0) is None
    assert await artifacts.versions("a") == []
    assert await artifacts.keys() == ["a/b"]
    assert await artifacts.load("a/b") == text("1")
    assert await artifacts.save("a", text("new")) == 0
    assert await artifacts.load("a") == text("new")


async def test_another_service_sees_it(artifact_backend: ArtifactBackend) -> None:
    """What one stored a second one loads."""
    if not artifact_backend.persistent:
        pytest.skip("its data die with the service")
    async with artifact_backend.open() as first:
        await Artifacts(first).save("a", text("x"), {"k": 1})
    async with artifact_backend.open() as second:
        assert await Artifacts(second).load("a") == text("x")
        described = await Artifacts(second).describe("a")
        assert described.custom_metadata == {"k": 1}
