"""How a `Part` is stored: its bytes apart, everything else as one JSON object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from google.adk.artifacts import artifact_util
from google.adk.errors.input_validation_error import InputValidationError
from google.genai import types
from pydantic_core import to_jsonable_python

from adk_psqlpy import _native
from adk_psqlpy.checks import UNSTORABLE

_EMPTY_BLOB: Final = types.Part(inline_data=types.Blob(mime_type="application/octet-stream", data=b""))


@dataclass(frozen=True, slots=True)
class Packed:
    """A part as it is stored.

    `rest` is the part without its bytes, as jsonb. `payload` holds the bytes of its inline data or its text
    (UTF-8); it is `None` for a part that only refers to something. `refers_to` is the `artifact://` URI if
    the part refers to an artifact.
    """

    rest: bytes
    payload: bytes | None
    mime_type: str | None
    refers_to: str | None = None


def pack(part: types.Part) -> Packed:
    """Take a part apart, without copying its inline data.

    Raises:
        InputValidationError: it has no inline data, text or file data, or holds what cannot be stored.
    """
    if not isinstance(part, types.Part):
        raise InputValidationError(f"artifact must be a Part or a dict, not {type(part).__name__}")
    payload: bytes | None = None
    refers_to: str | None = None
    exclude: dict[str, Any] = {}
    if part.inline_data is not None:
        payload = part.inline_data.data
        if not isinstance(payload, bytes):
            raise InputValidationError("Artifact inline_data must contain data.")
        mime_type = part.inline_data.mime_type
        exclude["inline_data"] = {"data"}
    elif part.text is not None:
        # A lone surrogate has no UTF-8. With `surrogatepass` it comes back unchanged.
        payload = part.text.encode("utf-8", "surrogatepass")
        mime_type = "text/plain"
        exclude["text"] = True
    elif part.file_data is not None:
        mime_type = part.file_data.mime_type
        if artifact_util.is_artifact_ref(part):
            # The artifact that it refers to has its own MIME type, as in ADK's in-memory service.
            mime_type, refers_to = None, part.file_data.file_uri
    else:
        raise InputValidationError("Not supported artifact type.")
    if mime_type is not None and UNSTORABLE.search(mime_type):
        raise InputValidationError(f"the MIME type {mime_type!r} holds U+0000 or a lone surrogate")
    return Packed(_rest(part, exclude), payload, mime_type, refers_to)


def _rest(part: types.Part, exclude: dict[str, Any]) -> bytes:
    # The text is dumped as an empty string, so that a text part stays a text part.
    document = part.model_dump(mode="json", exclude_unset=True, exclude=exclude | {"part_metadata": True})
    if "text" in exclude:
        document["text"] = ""
    # pydantic writes NaN as null.
    if part.part_metadata is not None:
        document["part_metadata"] = part.part_metadata
    rest = _native.encode_json(document)
    if rest is None:
        document["part_metadata"] = _jsonable("part_metadata", part.part_metadata)
        rest = _native.encode_json(document)
    if rest is None:
        raise InputValidationError("the artifact's part holds values that have no JSON form")
    return rest


def refers_to(rest: dict[str, Any]) -> str | None:
    """The `artifact://` URI of a stored part that is a reference; `None` if it is not one."""
    if "inline_data" in rest or "text" in rest:
        return None
    uri = (rest.get("file_data") or {}).get("file_uri")
    return uri if isinstance(uri, str) and uri.startswith("artifact://") else None


def assembled(rest: dict[str, Any], payload: bytes | None) -> types.Part:
    """Put a part together as it was saved."""
    part = types.Part.model_validate(rest)
    if payload is not None:
        if part.inline_data is not None:
            part.inline_data.data = payload
        else:
            part.text = payload.decode("utf-8", "surrogatepass")
    return part


def unpack(rest: dict[str, Any], payload: bytes | None) -> types.Part | None:
    """Put a part together; `None` for the part that ADK stores to say that there is no artifact any more.

    ADK's session rewind saves an empty `application/octet-stream` for that (google-adk 2.13,
    `artifact_util._is_rewind_tombstone`).
    """
    part = assembled(rest, payload)
    return None if part == _EMPTY_BLOB else part


def encode_metadata(custom_metadata: dict[str, Any] | None) -> bytes:
    """Custom metadata as jsonb. As in ADK's file service, pydantic converts values that are not JSON.

    Raises:
        InputValidationError: it is not a dict, or pydantic has no JSON form for a value in it.
    """
    if custom_metadata is None:
        custom_metadata = {}
    if not isinstance(custom_metadata, dict):
        raise InputValidationError(f"custom_metadata must be a dict, not {type(custom_metadata).__name__}")
    encoded = _native.encode_json(custom_metadata)
    if encoded is None:
        encoded = _native.encode_json(_jsonable("custom_metadata", custom_metadata))
    if encoded is None:
        raise InputValidationError("custom_metadata holds values that have no JSON form")
    return encoded


def _jsonable(name: str, value: object) -> object:
    try:
        return to_jsonable_python(value)
    except ValueError as error:  # PydanticSerializationError is one
        raise InputValidationError(f"{name} cannot be stored as JSON: {error}") from error
