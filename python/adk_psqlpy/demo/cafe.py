"""The agent of the demo: a till with two tools, and a model that follows a script instead of a network."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from typing import Any, Final

from google.adk.agents import LlmAgent
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.tools.tool_context import ToolContext
from google.genai import types
from typing_extensions import override

APP: Final = "cafe"
MENU: Final = {"espresso": 2.2, "tea": 1.9, "croissant": 2.5}
_NUMBERS: Final = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3}


def order(item: str, quantity: int, tool_context: ToolContext) -> dict[str, Any]:
    """Put something from the menu on the order."""
    state = tool_context.state
    # The tools of this turn see it; it is never stored.
    state["temp:added"] = round(MENU[item] * quantity, 2)
    items = dict(state.get("items", {}))
    items[item] = items.get(item, 0) + quantity
    state["items"] = items
    state["user:ordered"] = state.get("user:ordered", 0) + quantity
    state["app:sold"] = state.get("app:sold", 0) + quantity
    return {"item": item, "quantity": quantity}


def bill(tool_context: ToolContext) -> dict[str, Any]:
    """Add the order of this turn to the bill."""
    state = tool_context.state
    total = round(state.get("total", 0.0) + state["temp:added"], 2)
    state["total"] = total
    return {"total": total}


class ScriptedModel(BaseLlm):
    """Calls `order`, then `bill`, then answers. When asked what was ordered, it looks into the history."""

    @override
    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        """Answer the last content of the request."""
        part = _next(llm_request.contents)
        said = sum(len(each.text or "") for content in llm_request.contents for each in content.parts or [])
        yield LlmResponse(
            content=types.Content(role="model", parts=[part]),
            # About as many tokens as a model would count.
            usage_metadata=types.GenerateContentResponseUsageMetadata(
                prompt_token_count=20 + said // 4, candidates_token_count=8 + len(part.text or "") // 4
            ),
            model_version="scripted",
        )


def _next(contents: list[types.Content]) -> types.Part:
    last = (contents[-1].parts or [types.Part()])[0]
    if last.function_response is None:
        words = re.findall(r"[a-z]+", (last.text or "").lower())
        if "what" in words:
            return types.Part(text=_recall(contents))
        item = next(name for name in MENU if name in words or f"{name}s" in words)
        quantity = next((_NUMBERS[word] for word in words if word in _NUMBERS), 1)
        # JSONB alone would put `item` before `quantity`. The stored history keeps this order.
        return types.Part.from_function_call(name="order", args={"quantity": quantity, "item": item})
    if last.function_response.name == "order":
        return types.Part.from_function_call(name="bill", args={})
    total = (last.function_response.response or {})["total"]
    return types.Part(text=f"With pleasure. That makes {total:.2f}.")


def _recall(contents: list[types.Content]) -> str:
    """What was ordered, according to the function responses in the history. The model has no other source."""
    ordered = [
        part.function_response.response or {}
        for content in contents
        for part in content.parts or []
        if part.function_response is not None and part.function_response.name == "order"
    ]
    if not ordered:
        return "Nothing yet."
    return "So far: " + ", ".join(f"{entry['quantity']} {entry['item']}" for entry in ordered) + "."


def agent() -> LlmAgent:
    """The agent, new."""
    return LlmAgent(
        name=APP,
        model=ScriptedModel(model="scripted"),
        instruction="You take orders.",
        tools=[order, bill],
    )
