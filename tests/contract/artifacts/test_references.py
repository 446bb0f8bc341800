"""`artifact://` references: an artifact that is another one."""

from __future__ import annotations

import pytest
from google.adk.artifacts import artifact_util
from google.adk.errors.input_validation_error import InputValidationError
from google.genai import types

from .backends import APP, SESSION, USER, ArtifactBackend, Artifacts

TEXT = types.Part(text="target")


@pytest.fixture(autouse=True)
def _not_the_file_service(artifact_backend: ArtifactBackend) -> None:
    if artifact_backend.name == "file":
        pytest.skip("it takes no file_data")


def reference(filename: str, version: int = 0, session_id: str | None = SESSION, **other: str) -> types.Part:
    app, user = other.get("app", APP), other.get("user", USER)
    uri = artifact_util.get_artifact_uri(app, user, filename, version, session_id)
    return types.Part(file_data=types.FileData(file_uri=uri, mime_type="text/plain"))


async def test_it_loads_as_its_target(artifacts: Artifacts) -> None:
    """The version that it names, also after newer ones came."""
    await artifacts.save("target", TEXT)
    await artifacts.save("target", types.Part(text="newer"))
    assert await artifacts.save("a", reference("target")) == 0
    assert await artifacts.load("a") == TEXT
    described = await artifacts.describe("a")
    assert described.mime_type is None


async def test_through_several(artifacts: Artifacts) -> None:
    """References to references, up to five in a row."""
    await artifacts.save("r0", TEXT)
    for n in range(1, 7):
        await artifacts.save(f"r{n}", reference(f"r{n - 1}"))
    assert await artifacts.load("r5") == TEXT
    with pytest.raises(InputValidationError, match="recursion depth"):
        await artifacts.load("r6")


async def test_round_in_a_circle(artifacts: Artifacts) -> None:
    """A reference to itself ends in an error."""
    await artifacts.save("a", reference("a"))
    with pytest.raises(InputValidationError, match="recursion depth"):
        await artifacts.load("a")


async def test_to_nothing(artifacts: Artifacts) -> None:
    """What it names need not be there: then it loads as `None`."""
    await artifacts.save("a", reference("nowhere"))
    assert await artifacts.load("a") is None


async def test_to_the_users_own(artifacts: Artifacts) -> None:
    """From a session to the user's, by either form of URI."""
    await artifacts.save("user:target", TEXT)
    await artifacts.save("a", reference("user:target", session_id=None))
    assert await artifacts.load("a") == TEXT


async def test_a_users_reference_into_a_session(artifacts: Artifacts) -> None:
    """It holds in that session only."""
    await artifacts.save("target", TEXT)
    await artifacts.save("user:a", reference("target"))
    assert await artifacts.load("user:a") == TEXT
    with pytest.raises(InputValidationError):
        await artifacts.load("user:a", session_id="s2")


@pytest.mark.parametrize(
    "part",
    [
        reference("x", app="other"),
        reference("x", user="other"),
        reference("x", session_id="s2"),
        types.Part(file_data=types.FileData(file_uri="artifact://nonsense")),
    ],
    ids=["app", "user", "session", "malformed"],
)
async def test_out_of_scope_is_refused(artifacts: Artifacts, part: types.Part) -> None:
    """A reference cannot lead out of its app, user and session; refused when it is saved."""
    with pytest.raises(InputValidationError):
        await artifacts.save("a", part)
    assert await artifacts.keys() == []
