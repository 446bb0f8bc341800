"""Builders of events, and the small helpers that the tests of every capability share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.adk.auth.auth_credential import AuthCredential, AuthCredentialTypes
from google.adk.auth.auth_tool import AuthConfig
from google.adk.events import Event, EventActions
from google.adk.events.event_actions import EventCompaction
from google.adk.events.ui_widget import UiWidget
from google.adk.models.cache_metadata import CacheMetadata
from google.adk.tools.tool_confirmation import ToolConfirmation
from google.genai import types

if TYPE_CHECKING:
    from google.adk.sessions import BaseSessionService, Session

APP, USER = "app", "user"
# A second of its own for every event of a test: later than the creation of any session (2033), and
# exact in a float, so that equality is equality.
T0 = 2_000_000_000.0


def at(seconds: float) -> float:
    """The timestamp `seconds` after the tests' zero."""
    return T0 + seconds


def said(text: str, *, seconds: float | None = None, **fields: Any) -> Event:
    """What the user said, at a given time or now."""
    if seconds is not None:
        fields["timestamp"] = at(seconds)
    return Event(
        author="user",
        invocation_id=fields.pop("invocation_id", "inv"),
        content=types.Content(role="user", parts=[types.Part(text=text)]),
        **fields,
    )


def delta(state: dict[str, Any], *, seconds: float | None = None, **fields: Any) -> Event:
    """An event that changes state."""
    return said("", seconds=seconds, actions=EventActions(state_delta=state), **fields)


def called(args: dict[str, Any], *, name: str = "tool", **fields: Any) -> Event:
    """A model's call of a function."""
    call = types.FunctionCall(id="fc-1", name=name, args=args)
    content = types.Content(role="model", parts=[types.Part(function_call=call)])
    return Event(author="agent", invocation_id="inv", content=content, **fields)


def answered(response: dict[str, Any], *, name: str = "tool", **fields: Any) -> Event:
    """A tool's answer to a call."""
    answer = types.FunctionResponse(id="fc-1", name=name, response=response)
    content = types.Content(role="user", parts=[types.Part(function_response=answer)])
    return Event(author="agent", invocation_id="inv", content=content, **fields)


def args_of(event: Event) -> dict[str, Any]:
    """The arguments of the function call that `called` built."""
    args = event.get_function_calls()[0].args
    assert args is not None
    return args


def texts(session: Session | None) -> list[str | None]:
    """The text of each event, in order: what a test compares when it is about order."""
    assert session is not None
    return [e.content.parts[0].text if e.content and e.content.parts else None for e in session.events]


async def stored(service: BaseSessionService, session: Session) -> Session:
    """The session as the service has it now; it must exist."""
    found = await service.get_session(
        app_name=session.app_name, user_id=session.user_id, session_id=session.id
    )
    assert found is not None
    return found


def varied() -> dict[str, Event]:
    """One event for each kind that agents produce, with most fields of `Event` set in one of them."""
    model = types.Content(role="model", parts=[types.Part(text="hm")])
    events = {
        "bare": Event(author="agent", invocation_id="inv"),
        "text": said("hello, wörld \U0001f600"),
        "call": called(
            {"nested": {"a": [1, {"b": 2.5}], "none": None, "empty": {}, "list": []}, "none": None}
        ),
        "response": answered({"rows": [{"id": 1, "name": None}, [None]], "ok": True}),
        "parallel calls": Event(
            author="agent",
            invocation_id="inv",
            content=types.Content(
                role="model",
                parts=[
                    types.Part(function_call=types.FunctionCall(id=f"fc-{i}", name="f", args={"i": i}))
                    for i in range(3)
                ],
            ),
            long_running_tool_ids={"fc-2", "fc-0"},
        ),
        "bytes": Event(
            author="user",
            invocation_id="inv",
            content=types.Content(
                role="user",
                parts=[
                    types.Part(inline_data=types.Blob(data=bytes(range(256)), mime_type="image/png")),
                    types.Part(file_data=types.FileData(file_uri="gs://b/f", mime_type="text/plain")),
                    types.Part(text="thinking", thought=True, thought_signature=b"\x00\xff\xfe"),
                ],
            ),
        ),
        "code": Event(
            author="agent",
            invocation_id="inv",
            content=types.Content(
                role="model",
                parts=[
                    types.Part(executable_code=types.ExecutableCode(code="1+1", language="PYTHON")),
                    types.Part(
                        code_execution_result=types.CodeExecutionResult(outcome="OUTCOME_OK", output="2")
                    ),
                ],
            ),
        ),
        "metadata": Event(
            author="agent",
            invocation_id="inv",
            content=model,
            model_version="model-1",
            finish_reason=types.FinishReason.STOP,
            turn_complete=True,
            partial=False,
            interrupted=False,
            avg_logprobs=-0.25,
            usage_metadata=types.GenerateContentResponseUsageMetadata(
                prompt_token_count=10, candidates_token_count=3, total_token_count=13
            ),
            grounding_metadata=types.GroundingMetadata(web_search_queries=["a", "b"]),
            citation_metadata=types.CitationMetadata(
                citations=[types.Citation(uri="https://x", start_index=0)]
            ),
            cache_metadata=CacheMetadata(fingerprint="f", contents_count=2),
            input_transcription=types.Transcription(text="said", finished=True),
            output_transcription=types.Transcription(text="answered", finished=False),
            custom_metadata={"zeta": 1, "alpha": {"none": None, "list": [1, 2.5, "x", None, True]}},
        ),
        "error": Event(
            author="agent", invocation_id="inv", error_code="RESOURCE_EXHAUSTED", error_message="slow down"
        ),
        "branch": said("hi", branch="root.child", isolation_scope="fc-1"),
        "node": Event(
            author="agent", invocation_id="inv", output={"b": 1, "a": [None]}, node_path="wf/A@1/B@2"
        ),
        "scalar output": Event(author="agent", invocation_id="inv", output="done"),
    }
    for name, actions in _actions().items():
        events[f"actions: {name}"] = Event(
            author="agent", invocation_id="inv", content=model, actions=actions
        )
    for n, event in enumerate(events.values()):
        event.timestamp = at(n)
    return events


def _actions() -> dict[str, EventActions]:
    """One `EventActions` for each of its fields."""
    return {
        "state": EventActions(
            state_delta={"k": {"deep": [1, None]}, "app:k": 1, "user:k": "v", "gone": None}
        ),
        "artifacts": EventActions(artifact_delta={"a.txt": 0, "user:b.png": 3}),
        "transfer": EventActions(transfer_to_agent="other"),
        "flags": EventActions(skip_summarization=True, escalate=False, end_of_agent=True),
        "agent state": EventActions(agent_state={"step": 2, "none": None}),
        "rewind": EventActions(rewind_before_invocation_id="inv-0"),
        "route": EventActions(route=["left", 2, True]),
        "widgets": EventActions(render_ui_widgets=[UiWidget(id="w", provider="mcp", payload={"u": None})]),
        "model response": EventActions(set_model_response={"answer": [1, {"x": None}]}),
        "compaction": EventActions(
            compaction=EventCompaction(
                start_timestamp=at(0.5),
                end_timestamp=at(1.5),
                compacted_content=types.Content(role="model", parts=[types.Part(text="short")]),
            )
        ),
        "confirmation": EventActions(
            requested_tool_confirmations={"fc-1": ToolConfirmation(hint="sure?", payload={"n": None})}
        ),
        "auth": EventActions(requested_auth_configs={"fc-1": _auth()}),
    }


def _auth() -> AuthConfig:
    from fastapi.openapi.models import APIKey, APIKeyIn

    return AuthConfig(
        auth_scheme=APIKey(**{"in": APIKeyIn.header, "name": "X-Key"}),
        raw_auth_credential=AuthCredential(auth_type=AuthCredentialTypes.API_KEY, api_key="key"),
        credential_key="cred",
    )
