"""Running the Python snippets of a page."""

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

DOCS = Path(__file__).parents[1] / "docs"


async def run_snippets(
    name: str, config: PsqlpyConfig, capsys: pytest.CaptureFixture[str], *, expected: int
) -> None:
    """Run the snippets of a page one after another; each has to print what the page says.

    Args:
        name: the page's file in docs/.
        config: the server; the snippets get it as `config`, with a `store` and a `service` on it.
        capsys: where they print.
        expected: how many snippets the page has, so that none is overlooked.
    """
    store = PsqlpyADKStore(config)
    await store.create_tables()
    names = {"config": config, "store": store, "service": PsqlpySessionService(store)}
    page = (DOCS / name).read_text(encoding="utf-8")
    snippets = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(snippets) == expected
    for snippet in snippets:
        code = compile(snippet, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        running = eval(code, names)
        if inspect.isawaitable(running):
            await running
        assert capsys.readouterr().out.splitlines() == re.findall(r"# -> (.+)", snippet)
