"""docs/faults.md: each test that it names is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(?P<file>[\w/]+\.py)(?:::(?P<test>\w+))?`|`(?P<further>test_\w+)`")


def named() -> Iterator[tuple[str, str | None]]:
    """File and function; a function by itself is in the file named before it on its line."""
    for line in (ROOT / "docs/faults.md").read_text(encoding="utf-8").splitlines():
        file = ""
        for found in NAMED.finditer(line):
            if found["file"]:
                file = found["file"] if "/" in found["file"] else f"tests/faults/{found['file']}"
            yield file, found["test"] or found["further"]


@pytest.mark.parametrize(("file", "test"), sorted(set(named()), key=str))
def test_it_is_there(file: str, test: str | None) -> None:
    """A reader who looks for the proof finds it."""
    text = (ROOT / file).read_text(encoding="utf-8")
    if test is not None:
        assert re.search(rf"^(async )?def {test}\(", text, re.MULTILINE), f"{test} is not in {file}"


def test_all_of_the_suite_is_named() -> None:
    """Every file of faults has a line, but for helpers and the tests of the ledger itself."""
    files = {f"tests/faults/{path.name}" for path in (ROOT / "tests/faults").glob("test_*.py")}
    assert files <= {file for file, _ in named()}
