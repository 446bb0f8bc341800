"""A service whose agent uses the user's token for a calendar. Tokens and history are sealed in the database.

    export ADK_PSQLPY_KEYS=$(python -c 'from adk_psqlpy.seal import new_key; print(new_key("2026-07"))')
    python examples/fastapi_credentials.py
    curl -X PUT localhost:8000/users/ann/calendar --json '{"token": "secret-of-ann"}'
    curl -X POST localhost:8000/users/ann/questions --json '{"text": "What is on today?"}'

The token is found again after a restart with the same key. The agent's model is a script, and so is the
calendar.
The server is the one that DATABASE_URL, or PGHOST and its kin, names; without them an embedded one
(`pip install 'adk-psqlpy[embedded]'`).
"""

import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Path, Request
from fastapi.openapi.models import HTTPBearer
from google.adk.agents import LlmAgent
from google.adk.auth.auth_credential import AuthCredential, AuthCredentialTypes, HttpAuth, HttpCredentials
from google.adk.auth.auth_tool import AuthConfig
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import Runner
from google.adk.tools.tool_context import ToolContext
from google.genai import types
from pydantic import BaseModel, Field

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from adk_psqlpy.credentials import PsqlpyCredentialService
from adk_psqlpy.seal import EnvironmentKeys, Seal

APP = "fastapi_credentials"
# The key by which the tool and the application mean the same credential.
CALENDAR = AuthConfig(auth_scheme=HTTPBearer(), credential_key="calendar")


async def events_today(token: str) -> str:
    """In place of a request to the calendar's server."""
    return f"10:00 tea (read with the token that ends in {token[-4:]})"


async def read_calendar(tool_context: ToolContext) -> dict[str, str]:
    """Read what is in the user's calendar today."""
    credential = await tool_context.load_credential(CALENDAR)
    if credential is None or credential.http is None or not credential.http.credentials.token:
        return {"error": "no calendar is connected"}
    return {"events": await events_today(credential.http.credentials.token)}


class Script(BaseLlm):
    """In place of a model: it calls the tool, and repeats what the tool gave."""

    async def generate_content_async(
        self,
        llm_request: LlmRequest,
        stream: bool = False,  # noqa: ARG002 - ADK's signature
    ) -> AsyncGenerator[LlmResponse, None]:
        """Call the tool first."""
        last = (llm_request.contents[-1].parts or [types.Part()])[-1]
        if last.function_response is None:
            part = types.Part.from_function_call(name="read_calendar", args={})
        else:
            part = types.Part(text=", ".join((last.function_response.response or {}).values()))
        yield LlmResponse(content=types.Content(role="model", parts=[part]))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One pool for both services, opened after any fork and closed when the process ends."""
    config = PsqlpyConfig()
    seal = Seal(EnvironmentKeys())
    await seal.current(APP, "")  # without a key the service does not start
    credentials = PsqlpyCredentialService(config, seal)
    store = PsqlpyADKStore(config, seal=seal)
    await credentials.create_tables()
    await store.create_tables()
    async with PsqlpySessionService(store) as sessions:
        agent = LlmAgent(name="secretary", model=Script(model="script"), tools=[read_calendar])
        app.state.runner = Runner(
            app_name=APP, agent=agent, session_service=sessions, credential_service=credentials
        )
        yield


def runner_of(request: Request) -> Runner:
    """The one runner of this process: it may be used by all requests at once."""
    runner = request.app.state.runner
    assert isinstance(runner, Runner)
    return runner


def credentials_of(request: Request) -> PsqlpyCredentialService:
    """The runner's credential service, for routes that no agent is part of."""
    credentials = runner_of(request).credential_service
    assert isinstance(credentials, PsqlpyCredentialService)
    return credentials


router = APIRouter()
TheRunner = Annotated[Runner, Depends(runner_of)]
TheCredentials = Annotated[PsqlpyCredentialService, Depends(credentials_of)]
# Who the user is would come from your login, not from the path.
Id = Annotated[str, Path(max_length=128, pattern=r"^[\w.@-]+$")]


class Token(BaseModel):
    """What the calendar's login gave."""

    token: str = Field(min_length=1, max_length=10_000)


class Question(BaseModel):
    """What a user asks."""

    text: str = Field(min_length=1, max_length=10_000)


@router.put("/users/{user_id}/calendar", status_code=204)
async def connect(user_id: Id, given: Token, credentials: TheCredentials) -> None:
    """Keep the user's token in place of an earlier one."""
    bearer = HttpAuth(scheme="bearer", credentials=HttpCredentials(token=given.token))
    credential = AuthCredential(auth_type=AuthCredentialTypes.HTTP, http=bearer)
    await credentials.save(APP, user_id, CALENDAR.credential_key or "", credential)


@router.delete("/users/{user_id}/calendar", status_code=204)
async def disconnect(user_id: Id, credentials: TheCredentials) -> None:
    """Delete the user's token."""
    await credentials.save(APP, user_id, CALENDAR.credential_key or "", None)


@router.post("/users/{user_id}/questions")
async def ask(user_id: Id, question: Question, runner: TheRunner) -> dict[str, str]:
    """Ask the agent in a session of its own."""
    session = await runner.session_service.create_session(app_name=APP, user_id=user_id)
    answer = ""
    async for event in runner.run_async(
        user_id=user_id,
        session_id=session.id,
        new_message=types.Content(role="user", parts=[types.Part(text=question.text)]),
    ):
        answer += "".join(part.text or "" for part in (event.content.parts if event.content else None) or [])
    return {"answer": answer}


app = FastAPI(lifespan=lifespan)
app.include_router(router)

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")), access_log=False)
