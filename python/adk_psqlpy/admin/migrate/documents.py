"""The format that `export` writes and `import` reads: records as lines of JSON, which ADK's own classes can
read.

Each line is an object with a `type`. If ADK has a class for it, the line has a member that the class reads:
`Session.model_validate(line["session"])`, `Event.model_validate(line["event"])`,
`MemoryEntry.model_validate(line["memory"])`, `Part.model_validate(line["part"])`. Times are seconds since
the Unix epoch. NaN and infinities stand as Python's `json` writes and reads them: `NaN`, `Infinity`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import date, datetime, time
from enum import Enum
from typing import Any, Final

from google.adk.events.event import Event
from google.adk.memory.memory_entry import MemoryEntry
from google.adk.sessions.session import Session
from google.genai import types

from adk_psqlpy.admin.migrate.records import (
    ArtifactRecord,
    Fork,
    MemoryRecord,
    Record,
    SessionEvents,
    SessionHead,
    SharedState,
    StateChange,
)

FORMAT: Final = "adk-psqlpy export"
VERSION: Final = 1


def line(document: dict[str, Any]) -> bytes:
    """A document as a line. Characters outside ASCII are not escaped, unless one has no UTF-8 (a lone
    surrogate).
    """
    try:
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def documents(record: Record, key: tuple[str, str, str] | None) -> Iterator[dict[str, Any]]:
    """The lines of a record; `key` is the session that it belongs to."""
    if isinstance(record, SharedState):
        yield {
            "type": "state",
            "app_name": record.app_name,
            "user_id": record.user_id,
            "state": record.state,
            "update_time": seconds(record.update_micros),
        }
    elif isinstance(record, SessionHead):
        yield _session(record)
    elif isinstance(record, SessionEvents):
        assert key is not None, "events come behind their session"
        owner = dict(zip(("app_name", "user_id", "session_id"), key, strict=True))
        for change in record.changes:
            yield {
                "type": "state_change",
                **owner,
                "revision": change.revision,
                "delta": change.delta,
                "create_time": seconds(change.create_micros),
            }
        for number, event in enumerate(record.events):
            seq = None if record.seqs is None else record.seqs[number]
            yield {"type": "event", **owner, "seq": seq, "event": event_document(event)}
    elif isinstance(record, MemoryRecord):
        yield _memory(record)
    elif isinstance(record, ArtifactRecord):
        yield {
            "type": "artifact",
            "app_name": record.app_name,
            "user_id": record.user_id,
            "session_id": record.session_id,
            "filename": record.filename,
            "version": record.version,
            "create_time": seconds(record.create_micros),
            "custom_metadata": record.custom_metadata,
            "part": _plain(record.part.model_dump(mode="python", exclude_unset=True)),
        }


def _session(head: SessionHead) -> dict[str, Any]:
    fork = head.fork and {
        "origin_id": head.fork.origin_id,
        "origin_create_time": seconds(head.fork.origin_create_micros),
        "origin_revision": head.fork.origin_revision,
        "create_time": seconds(head.fork.create_micros),
    }
    return {
        "type": "session",
        "session": {
            "id": head.id,
            "app_name": head.app_name,
            "user_id": head.user_id,
            "state": head.state,
            "last_update_time": seconds(head.update_micros),
        },
        "create_time": seconds(head.create_micros),
        "initial_state": head.initial_state,
        "revision": head.revision,
        "fork": fork,
        "events": head.events,
        "state_changes": head.changes,
    }


def _memory(record: MemoryRecord) -> dict[str, Any]:
    return {
        "type": "memory",
        "app_name": record.app_name,
        "user_id": record.user_id,
        "session_id": record.session_id,
        "time": seconds(record.micros),
        "expire_time": seconds(record.expire_micros),
        "memory": {
            "id": record.id,
            "author": record.author,
            "timestamp": record.time_text,
            "content": _plain(record.content.model_dump(mode="python", exclude_none=True)),
            "custom_metadata": record.metadata,
        },
    }


def event_document(event: Event) -> dict[str, Any]:
    """An event as JSON that `Event.model_validate` turns into an equal one.

    This keeps what pydantic's own JSON loses: NaN in values of any type, lone surrogates, and the class of an
    auth scheme, which pydantic recognises by its aliases only.
    """
    document = event.model_dump(mode="python", exclude_none=True)
    configs = event.actions.requested_auth_configs
    if configs:
        document["actions"]["requested_auth_configs"] = {
            name: config.model_dump(mode="python", exclude_none=True, by_alias=True)
            for name, config in configs.items()
        }
    plain: dict[str, Any] = _plain(document)
    return plain


def _plain(value: Any) -> Any:
    """The JSON form of a value that pydantic dumped for Python."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(each) for each in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bytes):
        return base64.urlsafe_b64encode(value).decode()
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    return value


def seconds(micros: int | None) -> float | None:
    """A time in seconds, as ADK has it. Nothing is lost, since `micros_of_seconds` rounds."""
    return None if micros is None else micros / 1e6


def micros_of_seconds(value: float | None) -> int | None:
    """The microseconds from which `seconds` was made."""
    return None if value is None else round(value * 1e6)


def needed_micros(value: float) -> int:
    """The same for a time that must not be missing.

    Raises:
        TypeError: it is not a number.
    """
    return round(value * 1e6)


# Reading. Each function raises KeyError, TypeError or ValueError for a line that is not valid.


def state_of(document: dict[str, Any]) -> SharedState:
    """A line of type `state`."""
    return SharedState(
        document["app_name"],
        document["user_id"],
        _object(document["state"]),
        micros_of_seconds(document["update_time"]),
    )


def session_of(document: dict[str, Any]) -> SessionHead:
    """A line of type `session`."""
    session = Session.model_validate(document["session"] | {"last_update_time": 0.0})
    fork = document.get("fork")
    initial = document.get("initial_state")
    return SessionHead(
        session.app_name,
        session.user_id,
        session.id,
        session.state,
        micros_of_seconds(document.get("create_time")),
        micros_of_seconds(document["session"].get("last_update_time")),
        None if initial is None else _object(initial),
        document.get("revision"),
        fork
        and Fork(
            fork["origin_id"],
            needed_micros(fork["origin_create_time"]),
            fork["origin_revision"],
            needed_micros(fork["create_time"]),
        ),
        document.get("events"),
        document.get("state_changes"),
    )


def key_of(document: dict[str, Any]) -> tuple[str, str, str]:
    """The key of the session that an event or a change belongs to."""
    return document["app_name"], document["user_id"], document["session_id"]


def change_of(document: dict[str, Any]) -> StateChange:
    """A line of type `state_change`."""
    return StateChange(
        document["revision"], _object(document["delta"]), needed_micros(document["create_time"])
    )


def memory_of(document: dict[str, Any]) -> MemoryRecord:
    """A line of type `memory`."""
    entry = MemoryEntry.model_validate(document["memory"])
    if not entry.id:
        raise ValueError("the memory has no id")
    return MemoryRecord(
        document["app_name"],
        document["user_id"],
        document["session_id"],
        entry.id,
        entry.author,
        needed_micros(document["time"]),
        entry.timestamp,
        entry.content,
        entry.custom_metadata,
        micros_of_seconds(document["expire_time"]),
    )


def artifact_of(document: dict[str, Any]) -> ArtifactRecord:
    """A line of type `artifact`."""
    return ArtifactRecord(
        document["app_name"],
        document["user_id"],
        document["session_id"],
        document["filename"],
        document["version"],
        types.Part.model_validate(document["part"]),
        _object(document["custom_metadata"]),
        needed_micros(document["create_time"]),
    )


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{value!r} is not a JSON object")
    return value
