"""What a program can ask about itself; `adk-psqlpy doctor` prints the same."""

from importlib.metadata import version

from google.adk.events.event import Event

from adk_psqlpy import _native
from adk_psqlpy.admin.diagnostics import ModelPath, model_paths, versions


def test_every_class_is_named_once_in_order() -> None:
    paths = model_paths()
    names = [path.name for path in paths]
    assert names == sorted(set(names))
    assert len(names) == len(_native.model_report())
    assert Event.__name__ in names


def test_a_class_is_fast_or_says_why() -> None:
    paths = model_paths()
    assert next(path for path in paths if path.name == "Event").fast
    slow = [path for path in paths if not path.fast]
    assert all(path.reading or path.writing for path in slow)
    assert not ModelPath("A", None, "has a model serializer").fast
    assert not ModelPath("A", "has the validator check", None).fast


def test_versions_are_those_installed() -> None:
    found = versions()
    for name in ("psqlpy", "google-adk", "google-genai", "pydantic"):
        assert found[name] == version(name)
    assert found["adk-psqlpy"].startswith(_native.__version__)
