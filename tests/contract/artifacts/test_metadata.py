"""What is said of versions: numbers, times, MIME types, custom metadata, URIs."""

from __future__ import annotations

import time
from typing import Any

import pytest
from google.adk.artifacts.base_artifact_service import ArtifactVersion
from google.genai import types

from .backends import Artifacts, differs

PNG = types.Part(inline_data=types.Blob(mime_type="image/png", data=b"png"))
TEXT = types.Part(text="text")


async def test_versions_are_described(artifacts: Artifacts) -> None:
    """One `ArtifactVersion` a version, in order; one of them as `get_artifact_version` gives it."""
    before = time.time()
    for n in range(3):
        await artifacts.save("a", PNG, {"n": n})
    after = time.time()
    described = await artifacts.described("a")
    assert [each.version for each in described] == [0, 1, 2]
    assert [each.custom_metadata for each in described] == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert {each.mime_type for each in described} == {"image/png"}
    times = [each.create_time for each in described]
    assert times == sorted(times)
    assert before - 1e-3 <= times[0] <= times[-1] <= after + 1e-3
    assert all(isinstance(each, ArtifactVersion) for each in described)
    for each in described:
        assert await artifacts.describe("a", each.version) == each
    assert await artifacts.describe("a") == described[-1]


async def test_no_metadata_is_an_empty_dict(artifacts: Artifacts) -> None:
    """And so is an empty one."""
    await artifacts.save("a", PNG)
    await artifacts.save("a", PNG, {})
    assert [each.custom_metadata for each in await artifacts.described("a")] == [{}, {}]


@differs(file="says nothing of text's type")
async def test_text_is_text_plain(artifacts: Artifacts) -> None:
    """A text part has a MIME type too."""
    await artifacts.save("a", TEXT)
    assert (await artifacts.describe("a")).mime_type == "text/plain"


@differs(file="writes NaN as null")
async def test_metadata_comes_back_equal(artifacts: Artifacts) -> None:
    """Any JSON value: nesting, large and small numbers, U+0000, NaN's kin."""
    metadata: dict[str, Any] = {
        "text": "é\0😀",
        "numbers": [0, -1, 2**40, 1.5, 1e16, float("inf")],
        "nested": {"a": {"b": [None, True, False, {}, []]}},
        "": "empty key",
    }
    await artifacts.save("a", PNG, metadata)
    found = (await artifacts.describe("a")).custom_metadata
    assert found == metadata
    assert [type(value) for value in found["numbers"]] == [type(value) for value in metadata["numbers"]]


async def test_each_version_has_a_uri_of_its_own(artifacts: Artifacts) -> None:
    """Of all versions of all artifacts."""
    uris = set()
    for name, session_id in (("a", "s1"), ("a", "s2"), ("b", "s1"), ("user:a", "s1")):
        for _ in range(2):
            await artifacts.save(name, PNG, session_id=session_id)
        uris |= {each.canonical_uri for each in await artifacts.described(name, session_id=session_id)}
    assert len(uris) == 8
    assert all("://" in uri for uri in uris)


@pytest.mark.parametrize("name", ["a", "dir/a b.txt", "user:a"])
async def test_the_names_stand_in_the_uri(artifacts: Artifacts, name: str) -> None:
    """The URI tells whose artifact it is."""
    await artifacts.save(name, PNG)
    uri = (await artifacts.describe(name)).canonical_uri
    assert uri.startswith(("memory://apps/app/users/user/", "file://", "artifact://apps/app/users/user/"))
    assert "/versions/0" in uri
