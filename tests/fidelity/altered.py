"""A process in which ADK's models are not those that the crate was written for.

`python -m fidelity.altered`, with the directory of the tests on the path, replaces classes beneath `Event` by
subclasses, each changed in one way, and prints what the crate makes of them as JSON: by class, its row of
`model_report`, and what differed from pydantic, which is nothing.
"""

from __future__ import annotations

import datetime
import json
import sys
import types as python_types
import typing
import warnings
from typing import Annotated, Any

from google.adk.events import Event
from google.genai import types
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    computed_field,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)

from adk_psqlpy import _native

from . import rows
from .proof import check_fields
from .strategies import NONE, models_in, ways


class AddedFields(types.Part):
    mood: str | None = "calm"
    tags: list[str] | None = Field(default_factory=list)
    notes: dict[str, Any] | None = None


class BeforeValidator(types.FunctionCall):
    @model_validator(mode="before")
    @classmethod
    def _shout(cls, data: Any) -> Any:
        return {**data, "name": data.get("name", "").upper()} if isinstance(data, dict) else data


class AfterValidator(types.FunctionResponse):
    @model_validator(mode="after")
    def _answer(self) -> AfterValidator:
        self.response = {"wrapped": self.response}
        return self


class FieldValidator(types.ExecutableCode):
    @field_validator("code")
    @classmethod
    def _strip(cls, value: str) -> str:
        return value.strip()


class UnknownNode(types.Blob):
    taken: datetime.datetime | None = None


class ChangedDefault(types.FileData):
    mime_type: str | None = "text/plain"


class MutableDefault(types.CodeExecutionResult):
    tags: list[str] = ["a"]  # noqa: RUF012


class DefaultFromData(types.VideoMetadata):
    label: str = Field(default_factory=lambda data: f"fps {data.get('fps')}")


class Computed(types.ToolCall):
    @computed_field  # type: ignore[prop-decorator]
    @property
    def size(self) -> int:
        return len(self.args or {})


class ModelSerializer(types.ToolResponse):
    @model_serializer(mode="wrap")
    def _mark(self, handler: Any) -> dict[str, Any]:
        return {**handler(self), "id": "marked"}


class FieldSerializer(types.Transcription):
    @field_serializer("text")
    def _upper(self, value: str | None) -> str | None:
        return value and value.upper()


class ExtraAllowed(types.GroundingChunkWeb):
    model_config = ConfigDict(extra="allow")


class PostInit(types.Segment):
    def model_post_init(self, _context: Any) -> None:
        self.text = (self.text or "") + "!"


class PrivateDefault(types.RetrievalMetadata):
    _count: int = PrivateAttr(default=3)


class Stripping(types.SearchEntryPoint):
    model_config = ConfigDict(str_strip_whitespace=True)


class Aliases(types.Citation):
    title: str | None = Field(default=None, validation_alias=AliasChoices("title", "name"))


class Constrained(types.LiveServerGoAway):
    time_left: Annotated[str, Field(max_length=3)] | None = None


class OwnInit(types.LiveServerSessionResumptionUpdate):
    def __init__(self, **fields: Any) -> None:
        super().__init__(**{"resumable": True, **fields})


# Where an instance stands in an event, and JSON objects for it, good and bad.
SAMPLES: dict[type[BaseModel], tuple[str, list[Any]]] = {
    AddedFields: (
        "content.parts.0",
        [
            {"text": "x"},
            {"mood": "glad", "tags": ["t"], "notes": {"z": 1, "a": 2}},
            {"mood": None},
            {"mood": 1},
        ],
    ),
    BeforeValidator: (
        "content.parts.0.function_call",
        [{"name": "f", "args": {"z": 1, "a": 2}}, {}, {"name": 1}, {"x": 1}],
    ),
    AfterValidator: ("content.parts.0.function_response", [{"response": {"z": 1}}, {}, {"response": []}]),
    FieldValidator: (
        "content.parts.0.executable_code",
        [{"code": " x "}, {"language": "PYTHON"}, {"code": 1}],
    ),
    UnknownNode: (
        "content.parts.0.inline_data",
        [{"taken": "2024-01-01T00:00:00Z", "data": "AA=="}, {"data": "AA=="}, {"taken": "x"}],
    ),
    ChangedDefault: (
        "content.parts.0.file_data",
        [{"file_uri": "u"}, {"mime_type": None}, {"mime_type": "a"}, {"mime_type": 1}],
    ),
    MutableDefault: ("content.parts.0.code_execution_result", [{}, {"tags": []}, {"tags": None}]),
    DefaultFromData: ("content.parts.0.video_metadata", [{"fps": 1.5}, {"label": "x"}, {"fps": "x"}]),
    Computed: ("content.parts.0.tool_call", [{"args": {"z": 1}}, {}, {"size": 1}]),
    ModelSerializer: ("content.parts.0.tool_response", [{"response": {"z": 1}}, {}, {"response": 1}]),
    FieldSerializer: ("input_transcription", [{"text": "x"}, {"finished": True}, {"text": 1}]),
    ExtraAllowed: ("grounding_metadata.grounding_chunks.0.web", [{"uri": "u", "more": [1]}, {}, {"uri": 1}]),
    PostInit: ("grounding_metadata.grounding_supports.0.segment", [{"text": "x"}, {}, {"text": 1}]),
    PrivateDefault: (
        "grounding_metadata.retrieval_metadata",
        [{}, {"google_search_dynamic_retrieval_score": 0.5}, {"x": 1}],
    ),
    Stripping: (
        "grounding_metadata.search_entry_point",
        [{"rendered_content": " x "}, {"rendered_content": 1}],
    ),
    Aliases: ("citation_metadata.citations.0", [{"title": "t"}, {"name": "n"}, {"uri": "u"}, {"title": 1}]),
    Constrained: ("go_away", [{"time_left": "1s"}, {"time_left": "1000s"}, {}]),
    OwnInit: ("live_session_resumption_update", [{}, {"resumable": False}, {"new_handle": 1}]),
}


def replaced(annotation: Any, new: dict[type[BaseModel], type[BaseModel]]) -> Any:
    """The annotation with classes replaced."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, python_types.UnionType):
        return typing.Union[tuple(replaced(each, new) for each in inner)]  # noqa: UP007 - made at run time
    if origin in (list, set, dict):
        return origin[tuple(each if each is NONE else replaced(each, new) for each in inner)]
    return new.get(annotation, annotation) if isinstance(annotation, type) else annotation


def alter() -> None:
    """Put the subclasses in the places of their bases."""
    new = {altered.__bases__[0]: altered for altered in SAMPLES}
    models = [*ways(), *SAMPLES]
    for model in models:
        for field in model.model_fields.values():
            if set(models_in(field.annotation)) & set(new):
                field.annotation = replaced(field.annotation, new)
    # A schema holds those of the classes beneath it as they were when it was made, so the deepest go first.
    for _ in range(max(len(way) for way in ways().values())):
        for model in reversed(models):
            model.model_rebuild(force=True)
    ways.cache_clear()


def fields_with(path: str, value: Any) -> dict[str, Any]:
    """The JSON of an event that holds a value at a place."""
    for step in reversed(path.split(".")):
        value = [value] if step.isdecimal() else {step: value}
    return {"id": "e", "timestamp": rows.Number("1.5"), **value}


def differences(altered: type[BaseModel]) -> list[str]:
    """Where the crate's answers for a class are not pydantic's."""
    path, samples = SAMPLES[altered]
    found = []
    for sample in samples:
        fields = rows.loads(json.dumps(fields_with(path, sample)))
        try:
            read = check_fields(fields)
        except AssertionError as error:
            found.append(f"reading {sample}: {error}")
            continue
        if read:
            event = Event.model_validate(rows.plain(fields))
            made: Any = event
            for step in path.split("."):
                made = made[int(step)] if step.isdecimal() else getattr(made, step)
            if type(made) is not altered:
                found.append(f"{path} holds a {type(made).__name__}")
            written = rows.fields_of(rows.normalised(_native.encode_event(event, 128)))
            dump = event.model_dump(mode="json", exclude_none=True)
            if written != dump:
                found.append(f"writing {sample}: {written} instead of {dump}")
    return found


def main() -> None:
    """Alter, look, and print."""
    warnings.simplefilter("ignore")
    alter()
    report = {name: (decoding, encoding) for name, decoding, encoding in _native.model_report()}
    results = {altered.__name__: (report.get(altered.__name__), differences(altered)) for altered in SAMPLES}
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
