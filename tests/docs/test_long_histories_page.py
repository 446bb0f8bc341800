"""What docs/long-histories.md shows is run."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING

from adk_psqlpy import PsqlpyADKStore, PsqlpySessionService

if TYPE_CHECKING:
    import pytest

    from adk_psqlpy import PsqlpyConfig

PAGE = Path(__file__).parents[2] / "docs" / "long-histories.md"


async def test_its_snippets(config: PsqlpyConfig, capsys: pytest.CaptureFixture[str]) -> None:
    """Each runs as it stands, and prints what the page says."""
    store = PsqlpyADKStore(config)
    await store.create_tables()
    names = {"config": config, "store": store, "service": PsqlpySessionService(store)}
    snippets = re.findall(
        r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert len(snippets) == 3
    for snippet in snippets:
        code = compile(snippet, PAGE.name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        running = eval(code, names)
        if inspect.isawaitable(running):
            await running
        assert capsys.readouterr().out.splitlines() == re.findall(r"# -> (.+)", snippet)
