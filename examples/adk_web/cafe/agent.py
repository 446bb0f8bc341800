"""A café's till for `adk web`: session state, user state, uploaded files and memory.

The model follows a script, so neither a key nor a network is needed, and what it says is what the services
kept. For a real one put `model="gemini-..."` in its place: the tools and the plugin stay as they are.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncGenerator
from typing import Any

from google.adk.agents import LlmAgent
from google.adk.agents.callback_context import CallbackContext
from google.adk.apps import App
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.plugins.save_files_as_artifacts_plugin import SaveFilesAsArtifactsPlugin
from google.adk.tools.tool_context import ToolContext
from google.genai import types
from typing_extensions import override

_ORDER = re.compile(r"(\d+) (\w+?)s?\b")


async def take_menu(filename: str, tool_context: ToolContext) -> dict[str, Any]:
    """Read an uploaded file with lines of `name,price` into the session."""
    part = await tool_context.load_artifact(filename)
    if part is None or part.inline_data is None or part.inline_data.data is None:
        return {"error": f"there is no file {filename}"}
    lines = csv.reader(io.StringIO(part.inline_data.data.decode()))
    menu = {name: float(price) for name, price in lines}
    tool_context.state["menu"] = menu
    return {"menu": menu}


def order(item: str, quantity: int, tool_context: ToolContext) -> dict[str, Any]:
    """Put something on the bill of this session, and count what the user ordered in all of them."""
    state = tool_context.state
    if item not in state.get("menu", {}):
        return {"error": f"{item} is not on the menu"}
    state["bill"] = round(state.get("bill", 0.0) + state["menu"][item] * quantity, 2)
    state["user:ordered"] = state.get("user:ordered", 0) + quantity
    return {"item": item, "quantity": quantity, "bill": state["bill"]}


async def recall(query: str, tool_context: ToolContext) -> dict[str, Any]:
    """What was said about something in all sessions of the user, the latest first."""
    found = await tool_context.search_memory(query)
    latest_first = sorted(found.memories, key=lambda memory: memory.timestamp or "", reverse=True)
    parts = (part for memory in latest_first for part in memory.content.parts or [])
    return {"said": [part.text for part in parts if part.text]}


async def remember(callback_context: CallbackContext) -> None:
    """Keep the session in memory after each turn; what is there already is not added again."""
    await callback_context.add_session_to_memory()


class ScriptedModel(BaseLlm):
    """Calls the tool that fits the last message, and puts the tool's answer into words."""

    @override
    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        """Answer the last content of the request."""
        parts = llm_request.contents[-1].parts or []
        answer = parts[0].function_response
        if answer is None:
            part = _act(" ".join(part.text or "" for part in parts))
        else:
            part = _go_on(answer.name, answer.response or {})
        yield LlmResponse(content=types.Content(role="model", parts=[part]))


def _act(message: str) -> types.Part:
    # The plugin puts this in the place of a file.
    if uploaded := re.search(r'\[Uploaded Artifact: "(.+?)"\]', message):
        if uploaded[1].endswith(".csv"):
            return types.Part.from_function_call(name="take_menu", args={"filename": uploaded[1]})
        return types.Part(text=f"Thank you for {uploaded[1]}.")
    if "last time" in message:
        return types.Part.from_function_call(name="recall", args={"query": "ordered"})
    if ordered := _ORDER.search(message):
        return _order(ordered)
    return types.Part(text="Tell me how many of what, or upload a menu.")


def _go_on(tool: str | None, answer: dict[str, Any]) -> types.Part:
    if "error" in answer:
        return types.Part(text=f"Sorry, {answer['error']}.")
    if tool == "take_menu":
        items = (f"{name} for {price:.2f}" for name, price in answer["menu"].items())
        return types.Part(text=f"We have {', '.join(items)}.")
    if tool == "recall":
        earlier = next(filter(None, map(_ORDER.search, answer["said"])), None)
        return _order(earlier) if earlier else types.Part(text="I do not remember any order.")
    ordered = f"{answer['quantity']} {answer['item']}"
    return types.Part(text=f"You ordered {ordered}. That makes {answer['bill']:.2f}.")


def _order(found: re.Match[str]) -> types.Part:
    return types.Part.from_function_call(name="order", args={"item": found[2], "quantity": int(found[1])})


root_agent = LlmAgent(
    name="cafe",
    description="Takes orders.",
    model=ScriptedModel(model="scripted"),
    instruction="You take orders.",
    tools=[take_menu, order, recall],
    after_agent_callback=remember,
)

# Of a module that has both, `adk web` takes `app`. Without the plugin a file stays within its event.
app = App(name="cafe", root_agent=root_agent, plugins=[SaveFilesAsArtifactsPlugin()])
