"""What docs/memory.md shows is run, in order, on one database; the model that embeds is a toy."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

from adk_psqlpy import PsqlpyConfig
from contract.memory.told import session
from servers import Database, run_sql
from where import FIRST_USE, one_server

PAGE = (Path(__file__).parents[2] / "docs" / "memory.md").read_text(encoding="utf-8")
PLACEHOLDER = "postgresql://user:password@localhost:5432/mydb"


class Toy:
    """Stands for a client of a model: `client.aio.models.embed_content`."""

    @property
    def aio(self) -> Any:
        return self

    models = aio

    async def embed_content(self, *, model: str, contents: list[str]) -> Any:
        """A vector of 3,072 numbers for each."""
        toy = type("Embedding", (), {"values": [1.0] + [0.0] * 3_071})
        return type("Response", (), {"embeddings": [toy] * len(contents)})


@one_server(FIRST_USE)
async def test_the_snippets_run(vector_database: Database, config: PsqlpyConfig) -> None:
    """Python in order on shared names, a table for each service with other settings; SQL as it stands."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert [language for language, _ in found] == ["python", "sql", "python", "python", "python"]
    told = session("My dog is called Rex", app="shop", user="u1")
    names: dict[str, Any] = {"session": told, "client": Toy()}
    for language, text in found:
        if language == "sql":
            run_sql(vector_database.dsn, text)
            continue
        if "embed=embed" in text:
            text = text.replace("PsqlpyMemoryService(config,", "PsqlpyMemoryService(config, 'v_memories',")
        code = compile(
            text.replace(PLACEHOLDER, vector_database.dsn),
            "memory.md",
            "exec",
            ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
        )
        result = eval(code, names)
        if inspect.isawaitable(result):
            await result
        if "response" in text and "client" not in text:
            assert [m.content for m in names["response"].memories] == [told.events[0].content]
    assert names["gone"] == 0
    await names["config"].close_pool()


def test_the_table_of_arguments_is_that_of_the_service() -> None:
    """Names and defaults."""
    from adk_psqlpy.memory import PsqlpyMemoryService

    rows = dict(re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|([^|]*)\|", PAGE.partition("## ")[0], re.MULTILINE))
    written = {
        name.strip("`"): default.strip("` ") for names, default in rows.items() for name in names.split(", ")
    }
    parameters = inspect.signature(PsqlpyMemoryService).parameters
    assert set(written) == set(parameters)
    for name, parameter in parameters.items():
        default = {None: "none", inspect.Parameter.empty: ""}.get(parameter.default, str(parameter.default))
        assert written[name] == default
