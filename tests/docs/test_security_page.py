"""docs/security.md: its snippets run, and the tests that it names are there."""

from __future__ import annotations

import json
import re
from importlib.metadata import files, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from adk_psqlpy.seal import Seal, UserKeys, new_key

if TYPE_CHECKING:
    from servers import Database

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/security.md").read_text(encoding="utf-8")


async def test_the_snippets(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, on one server: what they seal is read, and gone with its key."""
    monkeypatch.setenv("ADK_PSQLPY_KEYS", new_key("2026-07"))
    snippets = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(snippets) == 6
    names: dict[str, Any] = {}
    for snippet in snippets:
        exec(re.sub(r"postgresql://localhost/\w+", database.dsn, snippet), names)
    assert isinstance(names["seal"], Seal)
    assert isinstance(names["keys"], UserKeys)
    assert "password" not in repr(names["changing"])
    store = names["store"]
    await store.create_tables()
    await store.create_session("app", "user", "s", {"a": 1})
    session = await store.get_session("app", "user", "s")
    assert session.state == {"a": 1}
    await names["config"].close_pool()
    await names["keys"].config.close_pool()


def test_what_the_page_names_is_there() -> None:
    """The tests of the threat model, and the exceptions."""
    named = re.findall(r"`(tests/[\w/.]+)`", PAGE)
    assert len(named) > 5
    for path in named:
        assert (ROOT / path).exists(), path


def test_the_drivers_own_openssl_is_the_one_that_is_named() -> None:
    """By psqlpy's bill of materials, where its wheel has one."""
    bills = [each for each in files("psqlpy") or () if each.match("*.dist-info/sboms/psqlpy.cyclonedx.json")]
    if not bills:
        pytest.skip("psqlpy was installed without a bill of materials")
    components = json.loads(bills[0].read_text(encoding="utf-8"))["components"]
    (source,) = [each["version"] for each in components if each["name"] == "openssl-src"]
    assert f"psqlpy {version('psqlpy')} is linked with OpenSSL {source.partition('+')[2]}" in PAGE
