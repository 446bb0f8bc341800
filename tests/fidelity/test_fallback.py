"""Another ADK than the crate knows: slower perhaps, never different."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from .altered import SAMPLES

# Why pydantic reads and writes them; None for what the plan understands by itself.
REASONS: dict[str, tuple[str | None, str | None]] = {
    "AddedFields": (None, None),
    "BeforeValidator": ("validator BeforeValidator._shout", "validator"),
    "AfterValidator": ("validator AfterValidator._answer", None),
    "FieldValidator": (None, None),
    "UnknownNode": (None, None),
    "ChangedDefault": (None, None),
    "MutableDefault": ("field tags has a default that must be copied", "default"),
    "DefaultFromData": ("field label has a default made from other fields", "default"),
    "Computed": ("has computed fields", "computed"),
    "ModelSerializer": (None, "has a model serializer"),
    "FieldSerializer": (None, None),
    "ExtraAllowed": ("keeps unknown fields", "unknown"),
    "PostInit": ("has a model_post_init of its own", "model_post_init"),
    "PrivateDefault": ("private attribute _count has a default", "private"),
    "Stripping": ("configuration sets str_strip_whitespace", "str_strip_whitespace"),
    "Aliases": ("field title has an alias that is not a string", "alias"),
    "Constrained": (None, None),
    "OwnInit": ("has an __init__ of its own", "__init__"),
}


@pytest.fixture(scope="module")
def altered() -> dict[str, Any]:
    """What a process with altered models printed: a plan is compiled once in each."""
    done = subprocess.run(
        [sys.executable, "-m", "fidelity.altered"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = json.loads(done.stdout)
    return results


@pytest.mark.parametrize("name", REASONS)
def test_answers_are_pydantics(altered: dict[str, Any], name: str) -> None:
    """Whatever was changed in a model, it is read and written as pydantic does."""
    _, differences = altered[name]
    assert differences == []


def test_every_alteration_is_looked_at() -> None:
    """The table of reasons is complete."""
    assert list(REASONS) == [altered.__name__ for altered in SAMPLES]


@pytest.mark.parametrize("name", REASONS)
def test_the_report_says_why(altered: dict[str, Any], name: str) -> None:
    """`model_report` names every class, with the reason where pydantic takes it over."""
    (decoding, encoding), _ = altered[name]
    for found, expected in zip((decoding, encoding), REASONS[name], strict=True):
        assert (found is None) is (expected is None), found
        assert expected is None or expected in found
