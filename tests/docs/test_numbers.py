"""The tables of measurements in the pages are those of the results beside them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@pytest.mark.parametrize("name", ["performance.md", "choosing.md"])
def test_tables_are_the_results(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing docs/performance.json into the pages again changes nothing."""
    monkeypatch.setattr(sys, "path", [str(ROOT / "benches"), *sys.path])
    from comparison import report

    results = json.loads((DOCS / "performance.json").read_text(encoding="utf-8"))
    page = DOCS / name
    assert report.pages(results, DOCS)[page] == page.read_text(encoding="utf-8")
