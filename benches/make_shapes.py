"""Events as agents produce them, one for each shape that costs something of its own.

    python benches/make_shapes.py      # writes benches/shapes/*.json

Each file is one event as `model_dump(mode="json", exclude_none=True)` gives it, made from google-adk's own
models, so a field that is renamed there is noticed here. The same events come out at every run. The
benchmarks of the crate read the files; the comparison of services uses `mixed`.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.adk.events.ui_widget import UiWidget
from google.adk.models.cache_metadata import CacheMetadata
from google.adk.tools.tool_confirmation import ToolConfirmation
from google.genai import types

SHAPES = Path(__file__).parent / "shapes"

# 2033: later than any session that a benchmark makes. Whole microseconds, so that a timestamp is what
# PostgreSQL keeps.
T0 = 2_000_000_000.0


def text_turn() -> Event:
    """What most events are: some lines of text, and what they cost."""
    text = "It is sunny in Paris today, 21.5 °C, with a light breeze from the north.\nEnjoy! " * 5
    return _model([types.Part(text=text)], usage_metadata=_usage(400), **_ENDING)


def function_call() -> Event:
    """A model asks for a tool."""
    args = {"city": "Paris", "units": "metric", "days": 3, "fields": ["temperature", "wind"], "fuzzy": True}
    call = types.FunctionCall(id="call-8f2b6a", name="get_weather", args=args)
    return _model([types.Part(function_call=call)], usage_metadata=_usage(300), **_ENDING)


def function_response() -> Event:
    """A tool answers with 200 KB: rows of a table."""
    dice = random.Random(1)
    rows = [
        {
            "id": number,
            "name": f"item {number} of the catalogue",
            "price": round(dice.uniform(1, 900), 2),
            "stock": dice.randrange(500),
            "tags": dice.sample(["new", "sale", "fragile", "bulky", "gift", "seasonal"], 3),
            "seller": {"name": f"seller {dice.randrange(40)}", "rating": round(dice.uniform(1, 5), 1)},
            "note": None if number % 3 else "ships within two days",
        }
        for number in range(1200)
    ]
    answer = types.FunctionResponse(
        id="call-8f2b6a", name="search", response={"total": len(rows), "rows": rows}
    )
    content = types.Content(role="user", parts=[types.Part(function_response=answer)])
    return _event(content, actions=EventActions(state_delta={"last_query": "gift"}))


def thought_signature() -> Event:
    """A thinking model's turn: the thought, and the signature that the next turn has to send back."""
    parts = [
        types.Part(text="The user asks about Paris; the tool needs a city and units. " * 30, thought=True),
        types.Part(
            function_call=types.FunctionCall(id="call-1", name="get_weather", args={"city": "Paris"}),
            thought_signature=random.Random(2).randbytes(12_000),
        ),
    ]
    return _model(parts, usage_metadata=_usage(2100), **_ENDING)


def grounding() -> Event:
    """An answer from web search: many chunks, and which words rest on which of them."""
    chunks = [
        types.GroundingChunk(
            web=types.GroundingChunkWeb(
                title=f"Source number {i}",
                domain=f"site{i}.example",
                uri=f"https://site{i}.example/articles/2026/paris-weather-{i}?ref=search",
            )
        )
        for i in range(24)
    ]
    supports = [
        types.GroundingSupport(
            grounding_chunk_indices=[i % 24, (i * 7 + 3) % 24],
            confidence_scores=[0.97 - i / 200, 0.61 + i / 300],
            segment=types.Segment(
                part_index=0,
                start_index=i * 40,
                end_index=i * 40 + 38,
                text="In July it is 21 degrees on average.",
            ),
        )
        for i in range(40)
    ]
    metadata = types.GroundingMetadata(
        grounding_chunks=chunks,
        grounding_supports=supports,
        web_search_queries=["weather in Paris in July", "average temperature Paris"],
        search_entry_point=types.SearchEntryPoint(rendered_content='<div class="chip">weather</div>' * 20),
    )
    citations = types.CitationMetadata(
        citations=[
            types.Citation(uri=f"https://site{i}.example/", start_index=i, end_index=i + 9) for i in range(6)
        ]
    )
    text = "In July it is 21 degrees on average. " * 40
    return _model(
        [types.Part(text=text)], grounding_metadata=metadata, citation_metadata=citations, **_ENDING
    )


def multimodal() -> Event:
    """A picture inside the event: 225 KB, 300 KB as base64."""
    picture = types.Blob(data=random.Random(3).randbytes(225_000), mime_type="image/png")
    parts = [
        types.Part(text="What is in this picture?"),
        types.Part(inline_data=picture),
        types.Part(file_data=types.FileData(file_uri="gs://bucket/second.png", mime_type="image/png")),
    ]
    return _event(types.Content(role="user", parts=parts), author="user")


def state_delta() -> Event:
    """A tool that changes a lot of state, of the session, the user and the app."""
    delta: dict[str, Any] = {
        f"step_{i}": {"done": i % 2 == 0, "score": i / 8, "by": "planner"} for i in range(60)
    }
    delta |= {f"user:preference_{i}": f"value {i}" for i in range(20)}
    delta |= {"app:model": "gemini-2.5-pro", "cart": [{"sku": f"A-{i}", "n": i} for i in range(30)]}
    actions = EventActions(
        state_delta=delta,
        artifact_delta={"report.pdf": 3, "user:photo.png": 0},
        transfer_to_agent="checkout",
        requested_tool_confirmations={"call-1": ToolConfirmation(hint="Pay 12.50?", payload={"n": 1})},
    )
    return _event(types.Content(role="model", parts=[types.Part(text="Done.")]), actions=actions)


def live() -> Event:
    """A turn of a live session, and the columns and fields that are rarely set."""
    return _model(
        [
            types.Part(
                executable_code=types.ExecutableCode(code="print(6 * 7)", language=types.Language.PYTHON)
            ),
            types.Part(
                code_execution_result=types.CodeExecutionResult(
                    outcome=types.Outcome.OUTCOME_OK, output="42\n"
                )
            ),
        ],
        branch="root.researcher.coder",
        turn_complete=True,
        interrupted=False,
        error_code="RESOURCE_EXHAUSTED",
        error_message="Quota exceeded for requests per minute. Try again in 20 s.",
        long_running_tool_ids={"call-1"},
        custom_metadata={"trace": {"span": "9f2c", "sampled": True}, "ab_test": "B"},
        input_transcription=types.Transcription(text="what is six times seven", finished=True),
        output_transcription=types.Transcription(text="forty-two", finished=True),
        live_session_resumption_update=types.LiveServerSessionResumptionUpdate(
            new_handle="handle-77", resumable=True
        ),
        cache_metadata=CacheMetadata(fingerprint="f" * 64, contents_count=12),
        avg_logprobs=-0.2518,
        actions=EventActions(
            skip_summarization=True,
            render_ui_widgets=[UiWidget(id="w-1", provider="mcp", payload={"rows": 3})],
        ),
        usage_metadata=_usage(90),
        **_ENDING,
    )


ALL: dict[str, Callable[[], Event]] = {
    maker.__name__: maker
    for maker in (
        text_turn,
        function_call,
        function_response,
        thought_signature,
        grounding,
        multimodal,
        state_delta,
        live,
    )
}


def shape(name: str) -> Event:
    """The event of a file in `shapes/`."""
    return Event.model_validate(json.loads((SHAPES / f"{name}.json").read_text("utf-8")))


def mixed(count: int) -> list[Event]:
    """A conversation of turns of four events (question, call, answer, reply), 620 bytes an event as JSON."""
    return list(_conversation(count))


def _conversation(count: int) -> Iterator[Event]:
    for number in range(count):
        turn, step = divmod(number, 4)
        place: dict[str, Any] = {
            "id": f"event-{number:07}",
            "invocation_id": f"e-{turn:08x}-5c1d-4f0a",
            "timestamp": T0 + number / 64,
        }
        if step == 0:
            parts = [types.Part(text=f"What is the weather like in Paris on day {turn}? " * 5)]
            yield _event(types.Content(role="user", parts=parts), author="user", **place)
        elif step == 1:
            args = {"city": "Paris", "units": "metric", "days": 3}
            call = types.FunctionCall(id=f"call-{turn}", name="get_weather", args=args)
            yield _model([types.Part(function_call=call)], usage_metadata=_usage(300), **_ENDING, **place)
        elif step == 2:
            found = {
                "days": [20, 21.5, 19],
                "text": "sunny spells " * 10,
                "wind": {"dir": "N", "speed": 12.5},
            }
            answer = types.FunctionResponse(id=f"call-{turn}", name="get_weather", response={"result": found})
            content = types.Content(role="user", parts=[types.Part(function_response=answer)])
            yield _event(
                content, actions=EventActions(state_delta={"last_city": "Paris", "asked": turn}), **place
            )
        else:
            parts = [types.Part(text='It is "sunny" in Paris, 21.5 °C.\nEnjoy! ' * 9)]
            yield _model(parts, usage_metadata=_usage(400), **_ENDING, **place)


_ENDING: dict[str, Any] = {"finish_reason": types.FinishReason.STOP, "model_version": "gemini-2.5-pro"}


def _event(content: types.Content, *, author: str = "assistant", **fields: Any) -> Event:
    given: dict[str, Any] = {"id": "5e3f9f5e-0a52-4d0c-8d3b-2f3f5b0c9a11", "invocation_id": "e-1"}
    return Event(author=author, content=content, **(given | {"timestamp": T0} | fields))


def _model(parts: list[types.Part], **fields: Any) -> Event:
    return _event(types.Content(role="model", parts=parts), **fields)


def _usage(total: int) -> types.GenerateContentResponseUsageMetadata:
    return types.GenerateContentResponseUsageMetadata(
        total_token_count=total, prompt_token_count=total - 100, candidates_token_count=100
    )


def main() -> int:
    """Write the files; say how long each is."""
    SHAPES.mkdir(exist_ok=True)
    for name, maker in ALL.items():
        event = maker()
        dumped = event.model_dump(mode="json", exclude_none=True)
        assert Event.model_validate(dumped) == event, f"{name}: pydantic itself does not give it back"
        text = json.dumps(dumped, ensure_ascii=False, separators=(",", ":")) + "\n"
        (SHAPES / f"{name}.json").write_text(text, encoding="utf-8")
        print(f"{name:20} {len(text.encode()):>8,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
