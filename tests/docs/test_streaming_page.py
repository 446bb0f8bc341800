"""What docs/streaming.md shows is run."""

from __future__ import annotations

import re
from pathlib import Path

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService

PAGE = Path(__file__).parents[2] / "docs" / "streaming.md"


async def test_its_snippet(config: PsqlpyConfig) -> None:
    """It makes an application with the two paths of the page."""
    page = PAGE.read_text(encoding="utf-8")
    (snippet,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    names = {"service": PsqlpySessionService(PsqlpyADKStore(config))}
    exec(snippet, names)
    paths = names["app"].openapi()["paths"]  # type: ignore[attr-defined]
    told = re.findall(r"^\| `(GET|POST) (\S+)`", page, re.MULTILINE)
    assert sorted(told) == sorted((method.upper(), path) for path in paths for method in paths[path])
