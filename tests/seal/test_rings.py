"""Key rings, and what a `Seal` remembers of them."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from adk_psqlpy.errors import MissingKeyError
from adk_psqlpy.seal import EnvironmentKeys, FileKeys, KeyRing, Seal, new_key
from keys import TestKeys


async def test_keys_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one is current; all open."""
    new, old = new_key("2026-07"), new_key("2026-01")
    monkeypatch.setenv("ADK_PSQLPY_KEYS", f" {new}, {old} ")
    ring = EnvironmentKeys()
    assert isinstance(ring, KeyRing)
    assert await ring.current("app", "user") == "2026-07"
    assert await ring.key("2026-01") == base64.b64decode(old.partition(":")[2])
    with pytest.raises(MissingKeyError, match="variable ADK_PSQLPY_KEYS has no key '2025'"):
        await ring.key("2025")


async def test_keys_of_a_file(tmp_path: Path) -> None:
    """Read again whenever it is asked."""
    path = tmp_path / "keys"
    first = new_key("a")
    path.write_text(f"# keys of the shop\n{first}\n")
    ring = FileKeys(path)
    assert await ring.current("app", "user") == "a"
    path.write_text(f"{new_key('b')}\n{first}\n")
    assert await ring.current("app", "user") == "b"
    assert await ring.key("a") == base64.b64decode(first.partition(":")[2])
    assert repr(ring) == f"FileKeys('{path}')"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "KEYS is not set, or is empty"),
        ("a:c2hvcnQ=", "entry 1 .* is no key"),
        ("a b", "entry 1 .* is no key"),
        ("é:" + "A" * 43 + "=", "entry 1 .* is no key"),
        (new_key("a") + " b:***", "entry 2 .* is no key"),
        (new_key("a") + " " + new_key("a"), "two keys with the id 'a'"),
    ],
    ids=["none", "short", "a blank", "not ascii", "second", "twice"],
)
async def test_what_is_no_key(monkeypatch: pytest.MonkeyPatch, text: str, complaint: str) -> None:
    """Told by its place, never by its text."""
    monkeypatch.setenv("KEYS", text)
    with pytest.raises(ValueError, match=complaint) as raised:
        await EnvironmentKeys("KEYS").current("app", "user")
    assert "c2hvcnQ" not in str(raised.value)
    assert "***" not in str(raised.value)


def test_ids_of_new_keys() -> None:
    """An id can stand in an envelope."""
    with pytest.raises(ValueError, match="a key id must be"):
        new_key("a:b")


async def test_a_ring_is_asked_once_within_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """And again after it, so that a deleted key stops opening values."""
    now = 1000.0
    monkeypatch.setattr("adk_psqlpy.seal.seal.time.monotonic", lambda: now)
    ring = TestKeys("test-1")
    seal = Seal(ring, cache_sec=60)
    for _ in range(3):
        assert await seal.current("app", "user") == "test-1"
    assert ring.asked == ["test-1"]
    now += 59
    ring.ids.append("test-2")
    assert await seal.current("app", "user") == "test-1"
    now += 2
    assert await seal.current("app", "user") == "test-2"
    assert "test-1" not in seal.keys
    assert len(seal.keys) == 1


@pytest.mark.parametrize("key", [b"short", "x" * 32, None])
async def test_a_ring_that_gives_no_key(key: object) -> None:
    """Refused before anything is sealed with it."""

    class Odd(TestKeys):
        async def key(self, key_id: str) -> bytes:
            return key  # type: ignore[return-value]

    with pytest.raises(ValueError, match=r"the key 'test-1' of .* is not 32 bytes"):
        await Seal(Odd()).current("app", "user")
