"""An application as a process would have it, a model that waits for the test, a client that reads streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from google.adk.agents import LlmAgent
from google.adk.apps import App
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import Runner
from google.genai import types

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from adk_psqlpy.streaming import PartialTextPlugin, resumable_sse
from servers import free_port
from store.support import until

APP = "app"
LIMIT_SEC = 20
PATH = "/users/ann/sessions/s"
KEY = {"app_name": APP, "user_id": "ann", "session_id": "s"}


class Model(BaseLlm):
    """Says what the test lets it say: each piece is let go by one call of `go`."""

    pieces: tuple[str, ...] = ("One", " two", " three.")
    gates: tuple[asyncio.Event, ...] = ()
    fails: bool = False

    def go(self, count: int) -> None:
        """Let so many pieces through, all told."""
        for gate in self.gates[:count]:
            gate.set()

    async def generate_content_async(self, llm_request: Any, stream: bool = False) -> AsyncIterator[Any]:
        for piece, gate in zip(self.pieces, self.gates, strict=True):
            await gate.wait()
            yield LlmResponse(content=_content(piece), partial=True)
        await self.gates[-1].wait()
        if self.fails:
            raise RuntimeError("the secret is 42")
        yield LlmResponse(content=_content("".join(self.pieces)))


def _content(text: str) -> types.Content:
    return types.Content(role="model", parts=[types.Part(text=text)])


@dataclass
class Process:
    """One application, served."""

    service: PsqlpySessionService
    model: Model
    client: httpx.AsyncClient
    server: uvicorn.Server

    async def say(self, text: str, path: str = PATH) -> int:
        """Send a message; the status."""
        return (await self.client.post(f"{path}/messages", json={"text": text})).status_code


@asynccontextmanager
async def process(dsn: str, **settings: Any) -> AsyncIterator[Process]:
    """An application on a pool of its own, with the session that the tests use."""
    config = PsqlpyConfig({"dsn": dsn, "max_db_pool_size": 4})
    service = PsqlpySessionService(PsqlpyADKStore(config))
    await service.store.create_tables()
    if await service.get_session(**KEY) is None:
        await service.create_session(**KEY)
    model = Model(model="script", gates=tuple(asyncio.Event() for _ in range(3)))
    agent = LlmAgent(name="echo", model=model, instruction="Count.")
    runner = Runner(
        app=App(name=APP, root_agent=agent, plugins=[PartialTextPlugin(service)]), session_service=service
    )
    app = FastAPI()
    app.include_router(resumable_sse(service, runner, **settings))
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(app, port=port, log_level="critical", ws="none", timeout_graceful_shutdown=1)
    )
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started or serving.done())
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=LIMIT_SEC) as client:
            yield Process(service, model, client, server)
    finally:
        server.should_exit = True
        await serving
        await service.close()


@dataclass
class View:
    """What a browser has seen of a stream."""

    lines: AsyncIterator[str]
    last_event_id: str | None = None
    events: list[Any] = field(default_factory=list)
    partial: list[Any] = field(default_factory=list)
    ended: str | None = None
    comments: int = 0

    @property
    def said(self) -> list[str]:
        """Texts of the events."""
        return [
            "".join(part["text"] for part in each["content"]["parts"])
            for each in self.events
            if "content" in each
        ]

    @property
    def typing(self) -> list[str]:
        """Texts that are being streamed."""
        return [each["error"] or each["text"] for each in self.partial]

    async def until(self, condition: Any) -> None:
        """Read until it holds."""
        await asyncio.wait_for(self._until(condition), LIMIT_SEC)

    async def _until(self, condition: Any) -> None:
        while not condition():
            await self._message()

    async def _message(self) -> None:
        fields: dict[str, str] = {}
        async for line in self.lines:
            if not line:
                break
            name, _, value = line.partition(": ")
            fields[name] = value
        else:
            raise EOFError("the stream has ended")
        if "" in fields:
            self.comments += 1
        elif "data" in fields:
            data = json.loads(fields["data"])
            match fields.get("event", "message"):
                case "message":
                    self.last_event_id = fields["id"]
                    self.events.append(data)
                case "partial":
                    self.partial = data["texts"]
                case "end":
                    self.ended = data["reason"]


@asynccontextmanager
async def view(there: Process, after: str | None = None, path: str = PATH) -> AsyncIterator[View]:
    """A browser's stream, which goes away at the end of the block."""
    headers = {} if after is None else {"Last-Event-ID": after}
    async with there.client.stream("GET", f"{path}/events", headers=headers) as response:
        assert response.status_code == 200, (await response.aread()).decode()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield View(response.aiter_lines())
