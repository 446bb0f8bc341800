"""An agent that keeps notes and files. Its model follows a script, so it needs no key and no network.

It answers `note milk`, `notes`, `files` and `recall milk`; a file that is uploaded becomes an artifact.

    adk-psqlpy init .   # wrote services.py here and in desk/
    adk web --session_service_uri "$URI" --memory_service_uri "$URI" --artifact_service_uri "$URI" .
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from google.adk.agents import LlmAgent
from google.adk.agents.callback_context import CallbackContext
from google.adk.apps.app import App
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.plugins.save_files_as_artifacts_plugin import SaveFilesAsArtifactsPlugin
from google.adk.tools.tool_context import ToolContext
from google.genai import types
from typing_extensions import override


def note(text: str, tool_context: ToolContext) -> dict[str, Any]:
    """Write a note into the session's state, and count the user's and the app's."""
    state = tool_context.state
    state["notes"] = [*state.get("notes", []), text]
    state["user:notes"] = state.get("user:notes", 0) + 1
    state["app:notes"] = state.get("app:notes", 0) + 1
    return {"answer": f"Noted: {text}."}


def notes(tool_context: ToolContext) -> dict[str, Any]:
    """Read the notes of this session, and how many the user has in all."""
    state = tool_context.state
    return {
        "answer": f"Notes: {', '.join(state.get('notes', []))}. Yours in all: {state.get('user:notes', 0)}."
    }


async def files(tool_context: ToolContext) -> dict[str, Any]:
    """List the files of this session."""
    return {"answer": f"Files: {', '.join(await tool_context.list_artifacts())}."}


async def recall(query: str, tool_context: ToolContext) -> dict[str, Any]:
    """Look for words in earlier sessions of the user."""
    found = (await tool_context.search_memory(query)).memories
    said = {part.text for entry in found for part in entry.content.parts or [] if part.text}
    return {"answer": f"Recalled: {'; '.join(sorted(said))}."}


async def remember(callback_context: CallbackContext) -> None:
    """Put what is new in the session into the memory after each turn."""
    await callback_context.add_session_to_memory()


class ScriptedModel(BaseLlm):
    """Calls the tool that the message begins with, and says what the tool answered."""

    @override
    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        """Answer the last content of the request."""
        yield LlmResponse(content=types.Content(role="model", parts=[_next(llm_request.contents[-1])]))


def _next(said: types.Content) -> types.Part:
    first = (said.parts or [types.Part()])[0]
    if first.function_response is not None:
        return types.Part(text=(first.function_response.response or {})["answer"])
    word, _, rest = (first.text or "").strip().partition(" ")
    if word == "note":
        return types.Part.from_function_call(name="note", args={"text": rest})
    if word == "recall":
        return types.Part.from_function_call(name="recall", args={"query": rest})
    if word in ("notes", "files"):
        return types.Part.from_function_call(name=word, args={})
    return types.Part(text="I know: note TEXT, notes, files, recall WORDS.")


root_agent = LlmAgent(
    name="desk",
    model=ScriptedModel(model="scripted"),
    instruction="Keep notes and files.",
    tools=[note, notes, files, recall],
    after_agent_callback=remember,
)
app = App(name="desk", root_agent=root_agent, plugins=[SaveFilesAsArtifactsPlugin()])
