"""docs/audit.md: its snippets run, and its table names the actions that are recorded."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig
from adk_psqlpy.admin.conversations import find_session, read_conversation
from servers import run_sql

if TYPE_CHECKING:
    import pytest

    from servers import Database

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/audit.md").read_text(encoding="utf-8")


async def test_the_snippets(
    config: PsqlpyConfig, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    """In order: the table is made, a session is read, and that can be told afterwards."""
    names: dict[str, Any] = {"config": config, "store": PsqlpyADKStore(config)}
    make, read = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    await run(make, names)
    await names["store"].create_session("shop", "ada", "s")
    await read_conversation(config, await find_session(config, "s", app_name="shop", user_id="ada"))
    await run(read, names)
    told = [line.split()[-2:] for line in capsys.readouterr().out.splitlines()]
    assert told == [["show", "s"], ["find-sessions", "s"]]
    (statement,) = re.findall(r"```sql\n(.*?)```", PAGE, flags=re.DOTALL)
    run_sql(database.dsn, statement)


async def run(snippet: str, names: dict[str, Any]) -> None:
    """Run what stands on the page."""
    result = eval(compile(snippet, "audit.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
    assert inspect.iscoroutine(result)
    await result


def test_the_actions() -> None:
    """Those of the page are those of the code."""
    described = set(re.findall(r"`([a-z-]+)`", "\n".join(re.findall(r"^\| (`[^|]*) \|", PAGE, re.MULTILINE))))
    sources = "".join(path.read_text() for path in (ROOT / "python/adk_psqlpy/admin").rglob("*.py"))
    recorded = set(re.findall(r"\.record\(\s*\"([a-z-]+)\"", sources))
    assert described == recorded | {"action"}
