"""What docs/artifacts.md shows is run, in order, on one database; its table of arguments is the signature."""

from __future__ import annotations

import ast
import inspect
import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from adk_psqlpy.artifacts import PsqlpyArtifactService
from servers import Database, run_sql

PAGE = (Path(__file__).parents[2] / "docs" / "artifacts.md").read_text(encoding="utf-8")
PLACEHOLDER = "postgresql://user:password@localhost:5432/mydb"


async def test_the_snippets_run(database: Database) -> None:
    """Python on shared names, printing what stands behind `# ->`; SQL as it stands."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert [language for language, _ in found] == ["python", "python", "sql", "sql"]
    names: dict[str, Any] = {}
    # The query first, while there is something to find.
    for language, text in (*found[:2], found[3], found[2]):
        if language == "sql":
            ((*rows,),) = run_sql(database.dsn, text)
            assert len(rows) == (1 if text.startswith("SELECT") else 0)
            continue
        code = compile(
            text.replace(PLACEHOLDER, database.dsn), "artifacts.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        )
        with redirect_stdout(StringIO()) as output:
            result = eval(code, names)
            if inspect.isawaitable(result):
                await result
        assert output.getvalue().splitlines() == re.findall(r"# -> (.*)$", text, re.MULTILINE)
    purged = await names["artifacts"].purge()
    assert purged.contents == 1, "the page says that purge collects what SQL left behind"
    await names["config"].close_pool()


def test_the_arguments_are_those_of_the_service() -> None:
    """Each with its default."""
    signature = inspect.signature(PsqlpyArtifactService).parameters
    rows = dict(re.findall(r"^\| `(\w+)` \|([^|]*)\|", PAGE, re.MULTILINE))
    said = {name: rows[name].strip().strip("`") for name in signature}
    empty = inspect.Parameter.empty
    assert said == {name: "" if p.default is empty else str(p.default) for name, p in signature.items()}
