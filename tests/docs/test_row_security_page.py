"""docs/row-security.md: its snippet runs, and the tests that it names are there."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig
from adk_psqlpy.admin.access import Access, list_access

if TYPE_CHECKING:
    from secured import Roles
    from servers import Database

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/row-security.md").read_text(encoding="utf-8")


async def test_the_snippet(database: Database, roles: Roles) -> None:
    """Afterwards the role has its app, and no other one."""
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    role = roles.make("shop_service")
    snippet = re.sub(r"postgresql://\S+(?=\")", database.dsn, snippet).replace('"shop_service"', repr(role))
    names: dict[str, Any] = {}
    code = compile(snippet, "row-security.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(code, names)
    assert inspect.iscoroutine(result)
    await result
    assert await list_access(names["owner"]) == [Access(role, "shop")]
    async with PsqlpyConfig({"dsn": roles.dsn(role)}) as config:
        store = PsqlpyADKStore(config)
        assert await store.create_session("shop", "u", "s") is not None
        assert await store.get_session("other", "u", "s") is None
    await names["owner"].close_pool()


def test_what_the_page_names_is_there() -> None:
    """The tests, and the functions."""
    named = re.findall(r"`(tests/[\w/.]+)`", PAGE)
    assert len(named) >= 2
    for path in named:
        assert (ROOT / path).exists(), path
