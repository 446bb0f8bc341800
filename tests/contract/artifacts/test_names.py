"""Names that are odd, and identifiers that are refused."""

from __future__ import annotations

from typing import Any

import pytest
from google.adk.errors.input_validation_error import InputValidationError
from google.genai import types

from .backends import Artifacts, differs

A, B = types.Part(text="a"), types.Part(text="b")
PATHS = "takes names for paths"
PLAIN = ["a b", "é世界😀", "a/b/c.txt", ".hidden", "%2e%2e"]
PATH_LIKE = ["..", "../x", "a/../b", "/etc/passwd", "\\x", "C:x", "metadata.json", "versions/1"]


async def there_and_back(artifacts: Artifacts, name: str) -> None:
    """Save, load, list, describe, delete."""
    for prefix in ("", "user:"):
        assert await artifacts.save(prefix + name, A) == 0
        assert await artifacts.save(prefix + name, B) == 1
        assert await artifacts.load(prefix + name, 0) == A
        assert await artifacts.keys() == [prefix + name]
        assert await artifacts.versions(prefix + name) == [0, 1]
        assert [each.version for each in await artifacts.described(prefix + name)] == [0, 1]
        await artifacts.delete(prefix + name)
        assert await artifacts.keys() == []


@pytest.mark.parametrize("name", [*PLAIN, "a'b\"c", "100%", "a\nb", "$1", "日" * 60, "user", "0"])
async def test_odd_names(artifacts: Artifacts, name: str) -> None:
    """Names that every service keeps."""
    await there_and_back(artifacts, name)


@differs(file=PATHS, raises=(InputValidationError, OSError, AssertionError))
@pytest.mark.parametrize("name", [*PATH_LIKE, "é" * 1000, "a" * 1000])
async def test_names_that_are_only_names(artifacts: Artifacts, name: str) -> None:
    """Slashes, `..` and lengths mean nothing: no service but the file service has a file system behind it."""
    await there_and_back(artifacts, name)


@differs(file=PATHS)
@pytest.mark.parametrize(("one", "other"), [("a", "./a"), ("a", "a/"), ("a/b", "a//b"), ("a", " a")])
async def test_names_are_compared_by_character(artifacts: Artifacts, one: str, other: str) -> None:
    """Nothing is normalised."""
    await artifacts.save(one, A)
    assert await artifacts.load(other) is None
    assert await artifacts.save(other, B) == 0
    assert await artifacts.load(one) == A


async def test_composed_and_decomposed_are_two_names(artifacts: Artifacts) -> None:
    """Two spellings of one letter."""
    await artifacts.save("\u00e9", A)
    await artifacts.save("e\u0301", B)
    assert (await artifacts.load("\u00e9"), await artifacts.load("e\u0301")) == (A, B)


@differs(file="calls it artifact")
async def test_the_empty_name(artifacts: Artifacts) -> None:
    """It is a name."""
    assert await artifacts.save("", A) == 0
    assert await artifacts.load("") == A
    assert await artifacts.keys() == [""]


@differs(in_memory="keeps it")
@pytest.mark.parametrize("name", ["a\0b", "user:\0", "\ud800"], ids=["nul", "user_nul", "surrogate"])
async def test_names_that_cannot_be_kept(artifacts: Artifacts, name: str) -> None:
    """A ValueError, as the file service's."""
    with pytest.raises(ValueError):
        await artifacts.save(name, A)
    with pytest.raises(ValueError):
        await artifacts.load(name)


@pytest.mark.parametrize("value", ["", " ", "..", "a/../b", "/a", "\\a", "a\0", "C:a", "."])
@pytest.mark.parametrize("which", ["app_name", "user_id", "session_id"])
async def test_identifiers_that_adk_refuses(artifacts: Artifacts, which: str, value: str) -> None:
    """`artifact_util.validate_path_segment`: whatever could lead out of a directory, in every service."""
    scope: dict[str, Any] = {which: value}
    for attempt in (
        artifacts.save("x", A, **scope),
        artifacts.load("x", **scope),
        artifacts.delete("x", **scope),
        artifacts.versions("x", **scope),
        artifacts.described("x", **scope),
        artifacts.describe("x", **scope),
        artifacts.keys(**scope),
    ):
        with pytest.raises(InputValidationError):
            await attempt


@pytest.mark.parametrize("value", ["a:b", "über", "a@b.c", "x" * 128, "a b"])
async def test_identifiers_that_adk_takes(artifacts: Artifacts, value: str) -> None:
    """They are kept as they are."""
    scope: dict[str, Any] = {"app_name": "A" + value[1:], "user_id": "U" + value[1:], "session_id": value}
    if value[1:2] == ":":
        scope = {"app_name": "app", "user_id": f"uu{value}", "session_id": f"ss{value}"}
    await artifacts.save("x", A, **scope)
    assert await artifacts.load("x", **scope) == A
    assert await artifacts.keys(**scope) == ["x"]
