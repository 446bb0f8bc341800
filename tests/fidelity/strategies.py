"""Events over the whole model space, built from the annotations of ADK's own models.

Nothing here names a field, save where a model demands more than its annotations say, so that a field is
covered the day it appears; an annotation of a new kind is a TypeError, not a gap. The builder takes its
choices from a `random.Random`: Hypothesis gives one whose calls it can shrink, and a seeded one makes a
million events in minutes.
"""

from __future__ import annotations

import enum
import struct
import types
import typing
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any

from fastapi.openapi.models import APIKey, APIKeyIn
from google.adk.auth.auth_credential import AuthCredential, AuthCredentialTypes
from google.adk.auth.auth_tool import AuthConfig
from google.adk.events import Event
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

if TYPE_CHECKING:
    from random import Random

NONE = type(None)
Seen = Counter[tuple[type[BaseModel], str]]
# Past these, containers are left empty and optional models out.
DEEPEST = 9
DEEPEST_JSON = 4

TEXTS = [
    *("", "a", "id", "text", "root.child", "null", "1e5", "\\u0000", "Ünï", "日本", "\U0001f600"),
    *('q"\\/\b\f\n\r\t', "\x01\x1f\x7f\u2028", "\ufffe\uffff\U0010ffff", "z" * 41),
    # What JSONB or UTF-8 cannot hold, and what looks like the escapes for it.
    *(
        "\0",
        "a\0b",
        "\0\0",
        "\ufdd0",
        "\ufdd00000",
        "\ufdd0NaN",
        "\ufdd0-0.0",
        "\ufdd0d83d",
        "\ufdd0fdd0",
        "x\ufdd0",
    ),
    *("\ud83d", "a\udc00b", "\ude00\ud83d", "\ud83d\ufdd0\0"),
    # Keys that mean something elsewhere.
    *(
        "$order",
        "$timestamp",
        "$whole",
        "app:k",
        "user:k",
        "temp:k",
        "message",
        "state",
        "content",
        "__class__",
    ),
]
LONG_TEXTS = ["x" * 257, "é" * 1025, "\0" * 300, "\U0001f600" * 256, "a" * 255 + "\ud800b"]
INTEGERS = [0, 1, -1, 255, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**63, 2**64, -(2**70), 10**100]
FLOATS = [
    *(0.0, -0.0, 0.1, 1.5, -2.0, 1e-7, 1e15, 1e16, -1e22, 1e300, 5e-324, 2.2250738585072014e-308),
    *(1.7976931348623157e308, float("nan"), float("inf"), float("-inf")),
]


def events() -> st.SearchStrategy[Event]:
    """Any event, each choice Hypothesis's own."""
    return st.randoms(note_method_calls=False, use_true_random=False).map(
        lambda random: Builder(random).event()
    )


def json_values() -> st.SearchStrategy[Any]:
    """Any value that JSON has a form for, and those only Python has: NaN, infinities, lone surrogates."""
    text = (
        st.text(st.characters(), max_size=12)
        | st.sampled_from(TEXTS)
        | st.text("\0\ufdd0\ud83d\udc000fd-N", max_size=6)
    )
    leaves = (
        st.none()
        | st.booleans()
        | st.integers()
        | st.integers(-(2**200), 2**200)
        | st.floats()
        | st.sampled_from(FLOATS)
        | text
    )
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(text, inner, max_size=6),
        max_leaves=20,
    )


@cache
def arms(annotation: Any) -> tuple[Any, ...]:
    """What a value may be: the members of a union, `None` apart; one of itself otherwise."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return arms(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return tuple(arm for each in typing.get_args(annotation) if each is not NONE for arm in arms(each))
    return (annotation,)


@cache
def origin_of(arm: Any) -> tuple[Any, tuple[Any, ...]]:
    """`typing.get_origin` and `typing.get_args`, worked out once."""
    return typing.get_origin(arm), typing.get_args(arm)


class Wanted(typing.NamedTuple):
    """What is to be known of a field to make a value for it."""

    name: str
    # The name to give it by, where an alias is asked for.
    alias: str
    required: bool
    # Whether it may be None.
    optional: bool
    lowest: int | None
    arms: tuple[Any, ...]
    # Those of `arms` that hold models.
    leading: tuple[Any, ...]


@cache
def wanted(model: type[BaseModel]) -> tuple[Wanted, ...]:
    """The fields of a model, read once: asking pydantic takes longer than making a value."""
    return tuple(
        Wanted(
            name=name,
            alias=field.alias if field.alias and model is not Event else name,
            required=field.is_required(),
            optional=not field.is_required() and field.default is None,
            lowest=next((each.ge for each in field.metadata if hasattr(each, "ge")), None),
            arms=arms(field.annotation),
            leading=tuple(arm for arm in arms(field.annotation) if models_in(arm)),
        )
        for name, field in model.model_fields.items()
    )


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The model classes that an annotation names, in unions and containers, too."""
    found = []
    for arm in arms(annotation):
        if isinstance(arm, type) and issubclass(arm, BaseModel):
            found.append(arm)
        elif typing.get_origin(arm) in (list, dict, set, tuple):
            found += [model for inner in typing.get_args(arm) for model in models_in(inner)]
    return found


@cache
def ways(root: type[BaseModel] = Event) -> dict[type[BaseModel], tuple[tuple[type[BaseModel], str], ...]]:
    """Every model class beneath `root`, and the fields that lead to it."""
    found: dict[type[BaseModel], tuple[tuple[type[BaseModel], str], ...]] = {root: ()}
    queue = [root]
    for model in queue:
        for name, field in model.model_fields.items():
            for inner in models_in(field.annotation):
                if inner not in found:
                    found[inner] = (*found[model], (model, name))
                    queue.append(inner)
    return found


class Builder:
    """Builds events from a source of choices; `seen` counts how often each field of each class was set."""

    def __init__(self, random: Random, *, seen: Seen | None = None) -> None:
        self._random = random
        self._seen = seen
        self._way: frozenset[tuple[type[BaseModel], str]] = frozenset()

    def event(self) -> Event:
        """Some event. It leads to a class picked from all of them, so that none is rarer than another."""
        targets = ways()
        self._way = frozenset(targets[self._pick(list(targets))])
        event = self.model(Event, 0)
        assert isinstance(event, Event)
        return event

    def model(self, model: type[BaseModel], depth: int) -> BaseModel:
        """An instance with some of its fields set, by name or by alias."""
        fields, chance = wanted(model), self._random.random
        while True:
            share = chance() ** 2
            by_alias = self._chance(0.2)
            given = {}
            names = []
            for field in fields:
                name = field.name
                on_the_way = (model, name) in self._way
                if not (on_the_way or field.required or chance() < share):
                    continue
                value = self._field(model, field, depth, on_the_way=on_the_way)
                given[field.alias if by_alias else name] = value
                if value is not None:
                    names.append(name)
            try:
                made = model(**given)
            except ValidationError:
                continue  # fields that depend on each other
            if self._seen is not None:
                self._seen.update((model, name) for name in names)
            return made

    def json(self, depth: int = 0) -> Any:
        """Any JSON value."""
        kind = self._random.randrange(8 if depth < DEEPEST_JSON else 6)
        if kind == 6:
            return [self.json(depth + 1) for _ in range(self._size())]
        if kind == 7:
            return {self.text(): self.json(depth + 1) for _ in range(self._size() + 1)}
        return (self.text, self.text, self.integer, self.float, self.boolean, lambda: None)[kind]()

    def text(self) -> str:
        """A string."""
        kind = self._random.random()
        if kind < 0.7:
            return self._pick(TEXTS)
        if kind < 0.73:
            return self._pick(LONG_TEXTS)
        top = self._pick([0x80, 0x300, 0x10000, 0x110000])
        return "".join(chr(self._random.randrange(top)) for _ in range(self._random.randrange(8)))

    def integer(self, lowest: int | None = None) -> int:
        """An integer of any size."""
        value = self._pick(INTEGERS) if self._chance(0.3) else self._random.randrange(-1000, 1000)
        return value if lowest is None or value >= lowest else lowest - value

    def float(self) -> float:
        """A float: one with a story, or any 64 bits."""
        if self._chance(0.3):
            return self._pick(FLOATS)
        if self._chance(0.5):
            return self._random.randrange(-(10**9), 10**9) / 10 ** self._random.randrange(12)
        (value,) = struct.unpack("<d", struct.pack("<Q", self._random.getrandbits(64)))
        return float(value)

    def boolean(self) -> bool:
        """True or false."""
        return self._chance(0.5)

    def timestamp(self) -> float:
        """A time that timestamptz can hold, with more digits than it keeps."""
        if self._chance(0.2):
            return self._pick([0.0, -0.0, 1e-9, -1.5, 1e9 + 0.3, 253402300799.9999, -210866803200.0, 9e12])
        return 1.7e9 + self._random.randrange(10**9) / self._pick([1, 1000, 10**6, 10**9])

    def _field(self, model: type[BaseModel], field: Wanted, depth: int, *, on_the_way: bool) -> Any:
        demanded = DEMANDED.get((model.__name__, field.name))
        if demanded is not None:
            return demanded(self)
        if not on_the_way and field.optional and self._chance(0.05):
            return None
        arm = self._pick(field.leading if on_the_way else field.arms)
        if arm is int and field.lowest is not None:
            return self.integer(field.lowest)
        return self._value(arm, depth + 1, fill=on_the_way)

    def _value(self, annotation: Any, depth: int, *, fill: bool = False) -> Any:
        arm = self._pick(arms(annotation))
        simple = SIMPLE.get(arm)
        if simple is not None:
            return simple(self)
        origin, inner = origin_of(arm)
        if origin is typing.Literal:
            return self._pick(inner)
        if origin in (list, set, dict):
            size = 1 if fill else 0 if depth > DEEPEST else self._size()
            if origin is list:
                return [self._value(inner[0], depth, fill=fill) for _ in range(size)]
            if origin is set:
                return {self._value(inner[0], depth) for _ in range(size)}
            if inner[0] is str:
                return {self.text(): self._value(inner[1], depth, fill=fill) for _ in range(size)}
        elif isinstance(arm, type) and issubclass(arm, enum.Enum):
            return self._pick(list(arm))
        elif isinstance(arm, type) and issubclass(arm, BaseModel):
            return self.model(arm, depth)
        raise TypeError(f"there is no way here to build a {arm}")

    def _size(self) -> int:
        return self._pick([0, 1, 1, 2, 3])

    def _chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def _pick(self, choices: Any) -> Any:
        return choices[self._random.randrange(len(choices))]


SIMPLE: dict[Any, typing.Callable[[Builder], Any]] = {
    Any: Builder.json,
    str: Builder.text,
    int: Builder.integer,
    float: Builder.float,
    bool: Builder.boolean,
    bytes: lambda builder: builder.text().encode("utf-8", "surrogatepass"),
}


def _identifier(builder: Builder) -> str:
    return f"e-{builder.integer()}" + builder._pick(["", "ü", "\U0001f600", "'\""])


def auth_config(text: str) -> AuthConfig:
    """A request for an API key: as dumped by name, its scheme would be read as another class."""
    scheme = APIKey(**{"in": APIKeyIn.header, "name": "X-Key", "description": text})
    credential = AuthCredential(auth_type=AuthCredentialTypes.API_KEY, api_key=text)
    return AuthConfig(auth_scheme=scheme, raw_auth_credential=credential, credential_key="key")


def _auth_configs(builder: Builder) -> dict[str, AuthConfig]:
    return builder._pick([{}, {}, {"fc-1": auth_config(builder.text())}])


# What a model wants beyond its annotations.
DEMANDED: dict[tuple[str, str], typing.Callable[[Builder], Any]] = {
    ("Event", "id"): _identifier,
    ("Event", "timestamp"): Builder.timestamp,
    ("EventActions", "requested_auth_configs"): _auth_configs,
}
