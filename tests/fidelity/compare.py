"""Equality as the fidelity rules mean it: of types, bits, orders, and of everything pydantic keeps."""

from __future__ import annotations

import copy
import enum
import pickle
from typing import Any

from pydantic import BaseModel

PRIVATE = ("__pydantic_extra__", "__pydantic_private__")


def assert_same(made: Any, expected: Any, where: str = "", *, order: bool = True) -> None:
    """Assert that two values are indistinguishable; `where` is the path shown; `order`: of dict keys, too."""
    kind = type(expected)
    assert type(made) is kind, (
        f"{where}: {type(made).__name__} {made!r}, expected {kind.__name__} {expected!r}"
    )
    if isinstance(expected, BaseModel):
        assert made.__pydantic_fields_set__ == expected.__pydantic_fields_set__, f"{where}: fields set"
        assert_same(made.__dict__, expected.__dict__, where, order=order)
        for name in PRIVATE:
            assert_same(getattr(made, name), getattr(expected, name), f"{where}.{name}", order=order)
    elif kind is dict:
        keys = (list(made), list(expected)) if order else (set(made), set(expected))
        assert keys[0] == keys[1], f"{where}: keys {keys[0]!r}, expected {keys[1]!r}"
        for key, value in expected.items():
            # Most fields are None, and one object is the same as itself.
            if made[key] is not value:
                assert_same(made[key], value, f"{where}.{key}", order=order)
    elif kind is list or kind is tuple:
        assert len(made) == len(expected), f"{where}: {made!r}, expected {expected!r}"
        for index, value in enumerate(expected):
            if made[index] is not value:
                assert_same(made[index], value, f"{where}[{index}]", order=order)
    elif isinstance(expected, enum.Enum):
        # Members that the installed genai does not know are made one at a time.
        known = expected.name in kind.__members__
        same = made is expected if known else (made.value, made.name) == (expected.value, expected.name)
        assert same, f"{where}: {made!r}, expected {expected!r}"
    elif kind is float:
        assert repr(made) == repr(expected), f"{where}: {made!r}, expected {expected!r}"
    else:
        assert made == expected, f"{where}: {made!r}, expected {expected!r}"


def assert_lives_alike(made: BaseModel, expected: BaseModel) -> None:
    """Assert that two equal instances dump alike, and behave alike when copied, pickled and assigned to."""
    assert_same(made.model_dump(), expected.model_dump())
    assert_same(made.model_dump(exclude_unset=True), expected.model_dump(exclude_unset=True))
    assert dumped_json(made) == dumped_json(expected)
    assert_same(copy.copy(made), expected)
    assert_same(copy.deepcopy(made), expected)
    assert_same(made.model_copy(deep=True), expected)
    assert_same(pickle.loads(pickle.dumps(made)), expected)
    for name in type(expected).model_fields:
        changed, model = made.model_copy(), expected.model_copy()
        setattr(changed, name, None)
        setattr(model, name, None)
        assert_same(changed, model)
        break


def dumped_json(model: BaseModel) -> str | type[Exception]:
    """The JSON that pydantic writes, or how it fails."""
    try:
        return model.model_dump_json()
    except ValueError as error:  # a lone surrogate
        return type(error)
