"""What comes back is what was saved: text, bytes, files, and everything else in a part."""

from __future__ import annotations

from typing import Any

import pytest
from google.adk.errors.input_validation_error import InputValidationError
from google.genai import types

from .backends import Artifacts, differs

LOSES = "keeps the bytes, the MIME type and the display name only"


def blob(data: bytes, mime_type: str | None = "image/png", **fields: Any) -> types.Part:
    return types.Part(inline_data=types.Blob(mime_type=mime_type, data=data, **fields))


@pytest.mark.parametrize(
    "part",
    [
        types.Part(text="héllo 世界 😀\n"),
        types.Part(text="a\0b"),
        types.Part(text=""),
        types.Part(text=" " * 3_000_000 + "."),
        blob(b"\x89PNG\0\xff" * 10),
        blob(b"x" * 3_000_001, "video/mp4", display_name="Film 1.mp4"),
        blob(b"", "text/plain"),
        blob(b"", "image/png"),
        blob(b"\0", "application/octet-stream"),
        blob(b"text", "text/plain; charset=utf-8"),
    ],
    ids=["text", "nul", "empty", "long", "bytes", "large", "no_text", "no_png", "one_zero", "charset"],
)
async def test_a_part_comes_back_equal(artifacts: Artifacts, part: types.Part) -> None:
    """Text stays text, bytes stay bytes; types and names stay."""
    await artifacts.save("a", part)
    found = await artifacts.load("a")
    assert found == part
    assert found.model_dump_json() == part.model_dump_json()
    assert found.model_fields_set == part.model_fields_set
    if part.inline_data is not None:
        assert type(found.inline_data.data) is bytes


@differs(file=LOSES)
@pytest.mark.parametrize(
    "part",
    [
        types.Part(text="why", thought=True, thought_signature=b"\0\xff\xfe"),
        types.Part(
            inline_data=types.Blob(mime_type="video/mp4", data=b"v"),
            video_metadata=types.VideoMetadata(fps=2.5, start_offset="3s"),
        ),
        blob(b"no type", None),
        types.Part(text="t", part_metadata={"k": [1, 2.5, None, {"n": "\0"}]}),
    ],
    ids=["thought", "video", "no_type", "metadata"],
)
async def test_the_rest_of_a_part_comes_back(artifacts: Artifacts, part: types.Part) -> None:
    """Not only the bytes."""
    await artifacts.save("a", part)
    found = await artifacts.load("a")
    assert found == part
    assert found.model_fields_set == part.model_fields_set


@differs(file="writes UTF-8", raises=UnicodeEncodeError)
async def test_a_lone_surrogate_in_text(artifacts: Artifacts) -> None:
    """Text that UTF-8 cannot hold comes back as it was."""
    await artifacts.save("a", types.Part(text="x\ud800y"))
    assert (await artifacts.load("a")).text == "x\ud800y"


async def test_the_mark_of_a_rewind_is_no_artifact(artifacts: Artifacts) -> None:
    """ADK's rewind saves an empty octet-stream to say that there is none: a version that loads as `None`."""
    await artifacts.save("a", types.Part(text="before"))
    assert await artifacts.save("a", blob(b"", "application/octet-stream")) == 1
    assert await artifacts.load("a") is None
    assert await artifacts.load("a", 0) == types.Part(text="before")
    assert await artifacts.versions("a") == [0, 1]
    assert await artifacts.keys() == ["a"]


@pytest.mark.parametrize(
    "document",
    [
        {"inlineData": {"mimeType": "image/png", "data": "iVBORw=="}},
        {"inline_data": {"mime_type": "image/png", "data": b"\x89PNG"}},
    ],
    ids=["camel", "snake"],
)
async def test_a_dict_is_a_part(artifacts: Artifacts, document: dict[str, Any]) -> None:
    """As `ensure_part` reads it, in either spelling."""
    await artifacts.save("a", document)
    assert await artifacts.load("a") == types.Part.model_validate(document)


@differs(file="has neither inline data nor text", raises=InputValidationError)
async def test_a_file_elsewhere(artifacts: Artifacts) -> None:
    """A `file_data` part is kept as it is; nothing is fetched."""
    part = types.Part(file_data=types.FileData(file_uri="gs://bucket/x.pdf", mime_type="application/pdf"))
    await artifacts.save("a", part)
    assert await artifacts.load("a") == part
    assert (await artifacts.describe("a")).mime_type == "application/pdf"


@differs(file="leaves an empty directory, which it lists")
async def test_what_is_no_artifact_is_refused(artifacts: Artifacts) -> None:
    """A part with no content, and one of a function call: refused, and no version is used up."""
    call = types.Part(function_call=types.FunctionCall(name="f"))
    for part in (types.Part(), call):
        with pytest.raises(InputValidationError):
            await artifacts.save("a", part)
    assert await artifacts.keys() == []
    assert await artifacts.save("a", types.Part(text="x")) == 0


@differs(in_memory="keeps a blob without data")
async def test_a_blob_without_data_is_refused(artifacts: Artifacts) -> None:
    """As ADK's file and GCS services refuse it."""
    with pytest.raises(InputValidationError):
        await artifacts.save("a", types.Part(inline_data=types.Blob(mime_type="image/png")))


async def test_what_is_stored_is_detached(artifacts: Artifacts) -> None:
    """Changing the saved part, its metadata or a loaded part later changes nothing stored."""
    part, metadata = types.Part(text="x"), {"k": [1]}
    await artifacts.save("a", part, metadata)
    part.text = "changed"
    metadata["k"].append(2)
    found, described = await artifacts.load("a"), await artifacts.describe("a")
    found.text = "changed"
    described.custom_metadata["k"].append(2)
    assert await artifacts.load("a") == types.Part(text="x")
    assert (await artifacts.describe("a")).custom_metadata == {"k": [1]}
