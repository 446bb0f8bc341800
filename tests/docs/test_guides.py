"""The snippets of guides that go on with a store and a service are run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from snippets import run_snippets

if TYPE_CHECKING:
    from adk_psqlpy import PsqlpyConfig


@pytest.mark.parametrize(
    ("page", "expected"), [("following.md", 3), ("long-histories.md", 3), ("search.md", 2)]
)
async def test_its_snippets(
    page: str, expected: int, config: PsqlpyConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each runs as it stands, and prints what the page says."""
    await run_snippets(page, config, capsys, expected=expected)
