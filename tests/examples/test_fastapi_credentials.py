"""examples/fastapi_credentials.py: a token that outlives the process, sealed, for its own user only."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from adk_psqlpy.seal import new_key
from servers import Database, run_sql

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import ModuleType

    from fastapi import FastAPI

ROOT = Path(__file__).parents[2]
TOKEN = "secret-of-ann"
WITH_IT = "10:00 tea (read with the token that ends in -ann)"
WITHOUT = "no calendar is connected"


@pytest.fixture
def program(example: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The example, with a key."""
    monkeypatch.setenv("ADK_PSQLPY_KEYS", new_key("2026-07"))
    return example("fastapi_credentials")


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application, between its start and its end."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.router.lifespan_context(app))
        transport = httpx.ASGITransport(app=app)
        yield await stack.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url="http://testserver")
        )


async def connect(client: httpx.AsyncClient, user: str) -> None:
    kept = await client.put(f"/users/{user}/calendar", json={"token": TOKEN})
    assert kept.status_code == 204, kept.text


async def ask(client: httpx.AsyncClient, user: str) -> Any:
    answered = await client.post(f"/users/{user}/questions", json={"text": "What is on today?"})
    assert answered.status_code == 200, answered.text
    return answered.json()["answer"]


async def test_the_token_is_found_after_a_restart(program: ModuleType, database: Database) -> None:
    """By the tool, for its own user, until it is deleted."""
    async with served(program.app) as client:
        assert await ask(client, "ann") == WITHOUT
        await connect(client, "ann")
    async with served(program.app) as client:
        assert await ask(client, "ann") == WITH_IT
        assert await ask(client, "bob") == WITHOUT
        assert (await client.delete("/users/ann/calendar")).status_code == 204
        assert await ask(client, "ann") == WITHOUT


async def test_no_row_shows_the_token_or_the_talk(program: ModuleType, database: Database) -> None:
    """Of credentials or of events."""
    async with served(program.app) as client:
        await connect(client, "ann")
        assert await ask(client, "ann") == WITH_IT
    credentials, events = run_sql(
        database.dsn,
        "SELECT c::text AS row FROM adk_credentials AS c",
        "SELECT e::text AS row FROM adk_events AS e",
    )
    assert len(credentials) == 1
    assert len(events) == 4
    rows = [row["row"] for row in credentials + events]
    assert not [row for row in rows if TOKEN in row or "tea" in row or "What is on" in row]


async def test_without_a_key_it_does_not_start(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the variable."""
    monkeypatch.delenv("ADK_PSQLPY_KEYS")
    with pytest.raises(ValueError, match="ADK_PSQLPY_KEYS is not set"):
        async with served(program.app):
            pass


async def test_beside_the_routes_of_adk(program: ModuleType, tmp_path: Path) -> None:
    """The snippet of docs/fastapi.md with `get_fast_api_app`: the routes of the example work there."""
    page = (ROOT / "docs/fastapi.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```python\n([^`]*get_fast_api_app\([^`]*)```", page)
    names: dict[str, Any] = {"lifespan": program.lifespan, "router": program.router}
    assert '"agents"' in snippet
    exec(snippet.replace('"agents"', repr(str(tmp_path))), names)
    async with served(names["app"]) as client:
        assert (await client.get("/list-apps")).json() == []
        await connect(client, "ann")
        assert await ask(client, "ann") == WITH_IT
