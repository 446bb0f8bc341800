"""A chat service with FastAPI for many users at once: one pool a process, opened and closed by the lifespan.

    python examples/fastapi_service.py
    curl -X POST localhost:8000/users/ann/sessions
    curl -X POST localhost:8000/users/ann/sessions/ID/messages --json '{"text": "Hello"}'

For several processes: `cd examples; uvicorn fastapi_service:app --workers 4`. The agent's model is a script.
The server is the one that DATABASE_URL, or PGHOST and its kin, names; without them an embedded one
(`pip install 'adk-psqlpy[embedded]'`).
"""

import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Path, Request
from fastapi.responses import JSONResponse
from google.adk.agents import LlmAgent
from google.adk.agents.run_config import RunConfig
from google.adk.errors import StaleSessionError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import Runner
from google.adk.sessions.base_session_service import GetSessionConfig
from google.genai import types
from psqlpy.exceptions import Error
from pydantic import BaseModel, Field

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService

APP = "fastapi_service"
logger = logging.getLogger("uvicorn.error")
POOL = {
    # Times the number of processes, this has to stay below the server's max_connections. More would hardly be
    # faster, since each carries several statements at a time: docs/production.md has the formula.
    "max_db_pool_size": 10,
    # Under overload, an error in time is better than an answer that nobody waits for any more.
    "acquire_timeout_sec": 5,
    "read_timeout_sec": 5,
    "write_timeout_sec": 5,
    # A failover of the database is waited out for so long.
    "retry_sec": 10,
}
# What a model is shown of a long history, and what is read of it.
RECENT = GetSessionConfig(num_recent_events=50)


class Script(BaseLlm):
    """In place of a model. Its answer is made of the history that it is given."""

    async def generate_content_async(
        self,
        llm_request: LlmRequest,
        stream: bool = False,  # noqa: ARG002 - ADK's signature
    ) -> AsyncGenerator[LlmResponse, None]:
        """Repeat what the user has said."""
        asked = [content for content in llm_request.contents if content.role == "user"]
        said = [part.text for content in asked for part in content.parts or [] if part.text]
        answer = types.Part(text=f"You said: {', '.join(said)}")
        yield LlmResponse(content=types.Content(role="model", parts=[answer]))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Connect when the process starts, after any fork; close when it ends."""
    store = PsqlpyADKStore(PsqlpyConfig(POOL))
    await store.create_tables()  # all processes may
    async with PsqlpySessionService(store) as service:
        agent = LlmAgent(name="echo", model=Script(model="script"), instruction="Repeat.")
        app.state.runner = Runner(app_name=APP, agent=agent, session_service=service)
        yield


def runner_of(request: Request) -> Runner:
    """The one runner of this process: it may be used by all requests at once."""
    runner = request.app.state.runner
    assert isinstance(runner, Runner)
    return runner


app = FastAPI(lifespan=lifespan)
TheRunner = Annotated[Runner, Depends(runner_of)]
# The longest that the tables take, unless the store was given another key_length.
Id = Annotated[str, Path(max_length=128, pattern=r"^[\w.@-]+$")]


class Message(BaseModel):
    """What a user says."""

    text: str = Field(min_length=1, max_length=10_000)


class Turn(BaseModel):
    """One event of a session."""

    author: str
    text: str


@app.post("/users/{user_id}/sessions", status_code=201)
async def create(user_id: Id, runner: TheRunner) -> dict[str, str]:
    """Begin a conversation."""
    session = await runner.session_service.create_session(app_name=APP, user_id=user_id)
    return {"session_id": session.id}


@app.post("/users/{user_id}/sessions/{session_id}/messages")
async def send(user_id: Id, session_id: Id, message: Message, runner: TheRunner) -> dict[str, str]:
    """Say something, and get the agent's answer. No connection is held while the model thinks."""
    answer = ""
    async for event in runner.run_async(
        user_id=user_id,
        session_id=session_id,
        new_message=types.Content(role="user", parts=[types.Part(text=message.text)]),
        run_config=RunConfig(get_session_config=RECENT),
    ):
        answer += "".join(part.text or "" for part in (event.content.parts if event.content else None) or [])
    return {"answer": answer}


@app.get("/users/{user_id}/sessions/{session_id}")
async def history(user_id: Id, session_id: Id, runner: TheRunner) -> list[Turn]:
    """The newest turns of a conversation, oldest first."""
    session = await runner.session_service.get_session(
        app_name=APP, user_id=user_id, session_id=session_id, config=RECENT
    )
    if session is None:
        raise HTTPException(404, "no such session")
    return [
        Turn(author=event.author, text=event.content.parts[0].text or "")
        for event in session.events
        if event.content and event.content.parts
    ]


@app.exception_handler(SessionNotFoundError)
async def not_found(_request: Request, _error: SessionNotFoundError) -> JSONResponse:
    """The session is not there, or not this user's."""
    return JSONResponse({"detail": "no such session"}, 404)


@app.exception_handler(StaleSessionError)
async def conflict(_request: Request, _error: StaleSessionError) -> JSONResponse:
    """Two messages to one session at once: no answer is given that leaves the other one out.

    The client reads the history, and sends again what is not in it. `PsqlpySessionService(store,
    stale_policy="merge")` would answer both.
    """
    return JSONResponse({"detail": "another message of this session is being answered"}, 409)


@app.exception_handler(Error)
async def unavailable(_request: Request, error: Error) -> JSONResponse:
    """The database is away, or slower than the timeouts above: those are psqlpy errors too."""
    logger.error("%s: %s", type(error).__name__, error)
    return JSONResponse({"detail": "try again"}, 503, headers={"Retry-After": "1"})


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")), access_log=False)
