"""A `Runner` with sessions, memory and artifacts in one PostgreSQL, and a second one that finds them all.

    python examples/runner_with_all_services.py

The agent is a travel desk with three tools: one writes the state and saves a file, one searches the memory,
one reads the file. Its model is a script. The second runner has services and connections of its own, as it
would in another process.

The server is the one that DATABASE_URL, or PGHOST and its kin, names; without them an embedded one
(`pip install 'adk-psqlpy[embedded]'`).
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from google.adk.agents import LlmAgent
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import Runner
from google.adk.sessions.session import Session
from google.adk.tools.tool_context import ToolContext
from google.genai import types

from adk_psqlpy import (
    PsqlpyADKStore,
    PsqlpyArtifactService,
    PsqlpyConfig,
    PsqlpyMemoryService,
    PsqlpySessionService,
)

APP, USER = "travel_desk", "ann"


async def book(city: str, tool_context: ToolContext) -> dict[str, Any]:
    """Book a trip, and write the ticket."""
    tool_context.state["city"] = city
    tool_context.state["user:trips"] = tool_context.state.get("user:trips", 0) + 1
    ticket = types.Part.from_bytes(data=f"Ticket to {city}".encode(), mime_type="text/plain")
    version = await tool_context.save_artifact("user:ticket.txt", ticket)
    return {"booked": city, "ticket_version": version}


async def recall(query: str, tool_context: ToolContext) -> dict[str, Any]:
    """Look into what this user said in earlier sessions. (ADK's own tool for it is `load_memory`.)"""
    found = await tool_context.search_memory(query)
    return {"said": [part.text for memory in found.memories for part in memory.content.parts or []]}


async def read_ticket(tool_context: ToolContext) -> dict[str, Any]:
    """Read the newest ticket."""
    part = await tool_context.load_artifact("user:ticket.txt")
    data = part.inline_data.data if part and part.inline_data else None
    return {"ticket": data.decode() if data else "none"}


class Script(BaseLlm):
    """In place of a model: a word of the message chooses the tool, whose answer is the answer."""

    async def generate_content_async(
        self,
        llm_request: LlmRequest,
        stream: bool = False,  # noqa: ARG002 - ADK's signature
    ) -> AsyncGenerator[LlmResponse, None]:
        """Call a tool; after its response, speak."""
        last = (llm_request.contents[-1].parts or [types.Part()])[0]
        text = last.text or ""
        if last.function_response:
            part = types.Part(text=str(last.function_response.response))
        elif "ticket" in text:
            part = types.Part.from_function_call(name="read_ticket", args={})
        elif text.endswith("?"):
            part = types.Part.from_function_call(name="recall", args={"query": text})
        else:
            part = types.Part.from_function_call(name="book", args={"city": text.split()[-1].strip(".")})
        yield LlmResponse(content=types.Content(role="model", parts=[part]))


async def open_runner() -> Runner:
    """The three services on one configuration: they share its connections."""
    config = PsqlpyConfig()
    store = PsqlpyADKStore(config)
    await store.create_tables()  # memory and artifacts make theirs on first use
    return Runner(
        app_name=APP,
        agent=LlmAgent(
            name="desk", model=Script(model="script"), tools=[book, recall, read_ticket], instruction="Help."
        ),
        session_service=PsqlpySessionService(store),
        memory_service=PsqlpyMemoryService(config, language="english"),
        artifact_service=PsqlpyArtifactService(config),
    )


async def close(runner: Runner) -> None:
    """`Runner.close()` leaves services open; closing one of ours closes the configuration that all share."""
    await runner.close()
    assert isinstance(runner.session_service, PsqlpySessionService)
    await runner.session_service.close()


async def say(runner: Runner, session: Session, text: str) -> None:
    """Send one message, and print what comes back."""
    print("user:", text)
    message = types.Content(role="user", parts=[types.Part(text=text)])
    async for event in runner.run_async(user_id=USER, session_id=session.id, new_message=message):
        for part in (event.content.parts if event.content else None) or []:
            if part.text:
                print("desk:", part.text)


async def main() -> None:
    """One runner books and remembers; another one finds it all."""
    runner = await open_runner()
    first = await runner.session_service.create_session(app_name=APP, user_id=USER)
    await say(runner, first, "I like window seats, please book Oslo.")
    # With its events, which the object from `create_session` does not have.
    stored = await runner.session_service.get_session(app_name=APP, user_id=USER, session_id=first.id)
    assert stored is not None
    assert runner.memory_service is not None
    await runner.memory_service.add_session_to_memory(stored)
    await close(runner)

    runner = await open_runner()
    second = await runner.session_service.create_session(app_name=APP, user_id=USER)
    print("trips so far:", second.state["user:trips"])
    await say(runner, second, "Which seat do I like?")
    await say(runner, second, "Show me my ticket.")
    stored = await runner.session_service.get_session(app_name=APP, user_id=USER, session_id=first.id)
    assert stored is not None
    print("first session:", stored.state["city"], "in", len(stored.events), "events")
    await close(runner)


if __name__ == "__main__":
    asyncio.run(main())
