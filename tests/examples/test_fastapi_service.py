"""examples/fastapi_service.py over HTTP, through uvicorn: many users, two messages at once, no database."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvicorn

from servers import Database, free_port, run_sql
from store.support import all_back, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import ModuleType

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "examples" / "fastapi_service.py"
USERS = 60
LIMIT_SEC = 60


@pytest.fixture
def program(example: Callable[[str], ModuleType]) -> ModuleType:
    """The example."""
    return example("fastapi_service")


@asynccontextmanager
async def served(program: ModuleType) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application, which listens on a port of its own."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(program.app, port=port, log_level="critical", ws="none"))
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started or serving.done())
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", timeout=LIMIT_SEC, limits=httpx.Limits(max_connections=USERS)
    ) as client:
        yield client
    server.should_exit = True
    await serving


async def begin(client: httpx.AsyncClient, user: str) -> str:
    """The path of a new session."""
    created = await client.post(f"/users/{user}/sessions")
    assert created.status_code == 201
    return f"/users/{user}/sessions/{created.json()['session_id']}"


async def say(client: httpx.AsyncClient, session: str, text: str) -> Any:
    answered = await client.post(f"{session}/messages", json={"text": text})
    assert answered.status_code == 200, answered.text
    return answered.json()["answer"]


def connections(database: Database, state: str = "%") -> int:
    """How many there are to the database, beside the one that asks."""
    ((row,),) = run_sql(
        database.server.dsn,
        f"""SELECT count(*)::int4 AS n FROM pg_stat_activity
            WHERE datname = '{database.name}' AND state LIKE '{state}'""",
    )
    return int(row["n"])


async def test_many_users_at_once(program: ModuleType, database: Database) -> None:
    """Each gets answers made of what that user said; the pool keeps its size, and gets all back."""

    async def talk(client: httpx.AsyncClient, user: str) -> None:
        session = await begin(client, user)
        said: list[str] = []
        turns = []
        for number in range(3):
            said.append(f"{user} {number}")
            answer = await say(client, session, said[-1])
            assert answer == f"You said: {', '.join(said)}"
            turns += [{"author": "user", "text": said[-1]}, {"author": "echo", "text": answer}]
        assert (await client.get(session)).json() == turns

    async with served(program) as client:
        await asyncio.gather(*(talk(client, f"user{number}") for number in range(USERS)))
        config = program.app.state.runner.session_service.store.config
        assert 1 <= connections(database) <= program.POOL["max_db_pool_size"]
        await all_back(config)
        assert connections(database, "idle in transaction%") == 0
    await until(lambda: connections(database) == 0)
    ((stored,),) = run_sql(
        database.dsn,
        """SELECT count(DISTINCT (user_id, session_id))::int4 AS sessions, count(*)::int4 AS events
           FROM adk_events WHERE app_name = 'fastapi_service'""",
    )
    assert stored == {"sessions": USERS, "events": USERS * 6}


async def test_another_users_session_is_not_there(program: ModuleType) -> None:
    """Nor one that never was; an id that no table takes is refused."""
    async with served(program) as client:
        theirs = (await begin(client, "ann")).replace("ann", "bob")
        for session in (theirs, "/users/ann/sessions/none"):
            assert (await client.get(session)).status_code == 404
            assert (await client.post(f"{session}/messages", json={"text": "Hi"})).status_code == 404
        for user in ("a" * 129, "a%00"):
            assert (await client.post(f"/users/{user}/sessions")).status_code == 422


async def test_two_messages_of_one_session_at_once(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second comes while the model thinks about the first: the answer that knows both is given."""
    thinking: list[int] = []
    go_on = asyncio.Event()

    class Slow(program.Script):  # type: ignore[name-defined,misc]
        async def generate_content_async(self, request: Any, stream: bool = False) -> AsyncIterator[Any]:
            thinking.append(len(request.contents))
            await go_on.wait()
            async for response in super().generate_content_async(request, stream):
                yield response

    monkeypatch.setattr(program, "Script", Slow)
    async with served(program) as client:
        session = await begin(client, "ann")
        posts = []
        for number in (1, 2):
            path, body = f"{session}/messages", {"text": f"message {number}"}
            posts.append(asyncio.create_task(client.post(path, json=body)))
            await until(lambda arrived=number: len(thinking) == arrived)  # type: ignore[misc]
        go_on.set()
        first, second = await asyncio.gather(*posts)
        assert (first.status_code, second.status_code) == (409, 200)
        assert second.json() == {"answer": "You said: message 1, message 2"}
        turns = [(turn["author"], turn["text"]) for turn in (await client.get(session)).json()]
        assert turns == [
            ("user", "message 1"),
            ("user", "message 2"),
            ("echo", "You said: message 1, message 2"),
        ]


async def test_the_database_goes_away_and_comes_back(program: ModuleType, database: Database) -> None:
    """503 meanwhile, without a restart afterwards."""
    program.POOL["retry_sec"] = 0
    async with served(program) as client:
        session = await begin(client, "ann")
        run_sql(
            database.server.dsn,
            f'ALTER DATABASE "{database.name}" ALLOW_CONNECTIONS false',
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database.name}'",
        )
        refused = await client.post(f"{session}/messages", json={"text": "Hello"})
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        run_sql(database.server.dsn, f'ALTER DATABASE "{database.name}" ALLOW_CONNECTIONS true')
        assert await say(client, session, "Hello again") == "You said: Hello again"


def test_as_a_program(database: Database) -> None:
    """`python examples/fastapi_service.py` serves until Ctrl-C, and leaves no connection behind."""
    port = free_port()
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "GOOGLE_"))}
    environment |= {"DATABASE_URL": database.dsn, "PYTHONPATH": str(ROOT / "python"), "PORT": str(port)}
    process = subprocess.Popen(
        [sys.executable, PROGRAM], env=environment, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_it_answers(url, process)
        session = httpx.post(f"{url}/users/ann/sessions").json()["session_id"]
        answer = httpx.post(f"{url}/users/ann/sessions/{session}/messages", json={"text": "Hello"})
        assert answer.json() == {"answer": "You said: Hello"}
        process.send_signal(signal.SIGINT)
        _, log = process.communicate(timeout=LIMIT_SEC)
    finally:
        process.kill()
    assert "Application shutdown complete." in log
    assert connections(database) == 0


def _wait_until_it_answers(url: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + LIMIT_SEC
    while True:
        try:
            httpx.get(f"{url}/openapi.json")
        except httpx.ConnectError:  # noqa: PERF203 - the loop waits on purpose
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "it never listened"
            time.sleep(0.05)  # between two looks at the condition
        else:
            return
