"""Splitting state deltas by scope, and converting values as ADK's database service does."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_jsonable_python

from adk_psqlpy import _native

logger = logging.getLogger("adk_psqlpy.sessions.state")


@dataclass(frozen=True, slots=True)
class ScopedState:
    """A delta by scope, as jsonb in PostgreSQL's binary format; `None` for a scope without keys."""

    session: bytes | None
    app: bytes | None
    user: bytes | None


def scoped(delta: Mapping[str, Any], name: str = "state") -> ScopedState:
    """Split a delta by the prefixes of its keys: `app:`, `user:`, or none. `temp:` keys are left out.

    Values that are not JSON are converted as ADK's database service converts them
    (`google.adk.sessions._session_util`): datetimes, sets and pydantic models by pydantic, and what pydantic
    cannot convert, such as a function, by its text, with a warning.
    """
    if not isinstance(delta, Mapping):
        raise ValueError(f"{name} must be a dict, not {type(delta).__name__}")
    encoded = _native.encode_state(dict(delta))
    if encoded is None:
        for key in delta:
            if not isinstance(key, str):
                raise ValueError(f"keys of {name} must be str, not {type(key).__name__}: {key!r}")
        kept = {key: value for key, value in delta.items() if not key.startswith("temp:")}
        encoded = _native.encode_state(_jsonable(kept))
    if encoded is None:
        raise ValueError(f"{name} holds values that have no JSON form")
    return ScopedState(*encoded)


EMPTY = ScopedState(None, None, None)
"""Of a delta without keys."""


def _jsonable(delta: dict[str, Any]) -> dict[str, Any]:
    try:
        converted = to_jsonable_python(delta)
    except ValueError:  # PydanticSerializationError is one, and so are Unicode errors
        logger.warning(
            "Failed to serialize session state; some values are not JSON-serializable (e.g. callables) and"
            " will be replaced with a string representation in the persisted state.",
            exc_info=True,
        )
        converted = to_jsonable_python(delta, serialize_unknown=True)
    return dict(converted)
