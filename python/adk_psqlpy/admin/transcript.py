"""Events for people to read: who did what and when, from messages and calls to changes of state."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from google.adk.events.event import Event
from google.genai import types

Kind = Literal["text", "thought", "call", "answer", "code", "file", "state", "action", "error"]

SHOWN: Final = 300
"""Values of calls, answers and states that have more characters than this are cut."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that an event says.

    `time` is in seconds since the Unix epoch. `text` has one line or several, and may hold any character that
    the event held.
    """

    time: float
    author: str
    kind: Kind
    text: str


def entries(event: Event, *, longest: int | None = SHOWN) -> Iterator[Entry]:
    """List what an event says, in the order of its parts, and then what it did.

    Args:
        event: the event.
        longest: longer values of calls, answers and states are cut; `None` cuts none. Text of people and
            models is never cut.
    """
    for kind, text in _said(event, longest):
        yield Entry(event.timestamp, event.author, kind, text)


def _said(event: Event, longest: int | None) -> Iterator[tuple[Kind, str]]:
    for part in (event.content.parts if event.content else None) or []:
        yield from _part(part, longest)
    for transcription in (event.input_transcription, event.output_transcription):
        if transcription is not None and transcription.text:
            yield "text", transcription.text
    if event.output is not None and event.content is None:
        yield "text", shown(event.output, longest)
    if event.error_code or event.error_message:
        yield "error", ": ".join(filter(None, (event.error_code, event.error_message)))
    if event.interrupted:
        yield "action", "was interrupted"
    actions = event.actions
    for name, value in actions.state_delta.items():
        yield "state", f"{name} = {shown(value, longest)}"
    for name, version in actions.artifact_delta.items():
        yield "file", f"saves {name}, version {version}"
    if actions.transfer_to_agent:
        yield "action", f"hands over to {actions.transfer_to_agent}"
    if actions.escalate:
        yield "action", "escalates"
    if actions.rewind_before_invocation_id:
        yield "action", f"rewinds to before {actions.rewind_before_invocation_id}"
    if actions.compaction is not None:
        yield "action", "sums up what was said before"
    for name in actions.requested_auth_configs:
        yield "action", f"asks for credentials ({name})"
    for name in actions.requested_tool_confirmations:
        yield "action", f"asks for a confirmation ({name})"


def _part(part: types.Part, longest: int | None) -> Iterator[tuple[Kind, str]]:
    if part.text:
        yield ("thought" if part.thought else "text"), part.text
    if (call := part.function_call) is not None:
        arguments = ", ".join(f"{name}={shown(value, longest)}" for name, value in (call.args or {}).items())
        yield "call", f"{call.name}({arguments})"
    if (answer := part.function_response) is not None:
        yield "answer", f"{answer.name} gives {shown(answer.response, longest)}"
    if part.executable_code is not None:
        yield "code", part.executable_code.code or ""
    if part.code_execution_result is not None:
        yield (
            "answer",
            f"the code gives {part.code_execution_result.output or part.code_execution_result.outcome}",
        )
    if (blob := part.inline_data) is not None:
        name = f"{blob.display_name}, " if blob.display_name else ""
        yield "file", f"{name}{blob.mime_type or 'unknown type'}, {len(blob.data or b''):,} bytes"
    if (file := part.file_data) is not None:
        yield "file", ", ".join(filter(None, (file.display_name, file.mime_type, file.file_uri)))


def shown(value: object, longest: int | None = SHOWN) -> str:
    """A value as JSON on one line, cut to `longest` characters."""
    text = json.dumps(value, ensure_ascii=False, default=_plain)
    if longest is not None and len(text) > longest:
        return f"{text[:longest]}... ({len(text):,} characters)"
    return text


def _plain(value: object) -> Any:
    """A value that JSON cannot express: bytes as base64, as ADK writes them, anything else as its text."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)
