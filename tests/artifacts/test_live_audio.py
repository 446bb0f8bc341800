"""Audio of live sessions, which ADK saves as artifacts and refers to in events in a form of its own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from google.adk.artifacts import artifact_util
from google.adk.errors.input_validation_error import InputValidationError
from google.genai import types

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService

if TYPE_CHECKING:
    from google.adk.events import Event

    from adk_psqlpy import PsqlpyArtifactService


@pytest.fixture
def artifacts(service: PsqlpyArtifactService) -> PsqlpyArtifactService:
    """The service, under the name that tells it from that of sessions."""
    return service


USER = {"app_name": "app", "user_id": "user"}
AUDIO = b"\x00\x01" * 500


async def flushed(artifacts: PsqlpyArtifactService, data: bytes, session_id: str = "s") -> Event:
    """The event that ADK makes of what a user said, by its own cache manager."""
    from google.adk.live._realtime_cache_manager import RealtimeCacheManager

    manager = RealtimeCacheManager()
    context = SimpleNamespace(
        **USER,
        session=SimpleNamespace(id=session_id),
        invocation_id="i",
        artifact_service=artifacts,
        input_realtime_cache=None,
        output_realtime_cache=None,
    )
    blob = types.Blob(data=data, mime_type="audio/pcm;rate=16000")
    manager.cache_audio(context, blob, "input")  # type: ignore[arg-type]
    (event,) = await manager.flush_caches(context)  # type: ignore[arg-type]
    return event


def reference(event: Event) -> str:
    assert event.content is not None
    assert event.content.parts is not None
    assert event.content.parts[0].file_data is not None
    uri = event.content.parts[0].file_data.file_uri
    assert uri is not None
    return uri


async def test_what_adk_writes(artifacts: PsqlpyArtifactService) -> None:
    """load_artifact takes the reference of a live event as a name; ADK's own parser does not read it."""
    uri = reference(await flushed(artifacts, AUDIO))
    assert artifact_util.parse_artifact_uri(uri) is None
    assert "/_adk_live/" in uri
    loaded = await artifacts.load_artifact(**USER, session_id="s", filename=uri)
    assert loaded is not None
    assert loaded.inline_data is not None
    assert (loaded.inline_data.data, loaded.inline_data.mime_type) == (AUDIO, "audio/pcm;rate=16000")


async def test_the_version_of_the_reference(artifacts: PsqlpyArtifactService) -> None:
    """The reference names a version: a later one of the same file is not loaded, unless it is asked for."""
    uri = reference(await flushed(artifacts, AUDIO))
    filename = uri.rpartition("/")[2].rpartition("#")[0]
    later = types.Part(inline_data=types.Blob(data=b"later", mime_type="audio/pcm"))
    version = await artifacts.save_artifact(**USER, session_id="s", filename=filename, artifact=later)
    first = await artifacts.load_artifact(**USER, session_id="s", filename=uri)
    assert first is not None
    assert first.inline_data is not None
    assert first.inline_data.data == AUDIO
    assert await artifacts.load_artifact(**USER, session_id="s", filename=uri, version=version) == later


async def test_an_artifact_that_refers_to_it(artifacts: PsqlpyArtifactService) -> None:
    """An artifact that holds the reference loads as the audio."""
    uri = reference(await flushed(artifacts, AUDIO))
    part = types.Part(file_data=types.FileData(file_uri=uri, mime_type="audio/pcm"))
    await artifacts.save_artifact(**USER, session_id="s", filename="said", artifact=part)
    loaded = await artifacts.load_artifact(**USER, session_id="s", filename="said")
    assert loaded is not None
    assert loaded.inline_data is not None
    assert loaded.inline_data.data == AUDIO


@pytest.mark.parametrize("scope", ["other/user/s", "app/other/s"])
async def test_another_scope(artifacts: PsqlpyArtifactService, scope: str) -> None:
    """A reference to another app or user is refused, and so is one without a session to look in."""
    uri = f"artifact://{scope}/_adk_live/a.pcm#0"
    with pytest.raises(InputValidationError, match="same app and user"):
        await artifacts.load_artifact(**USER, session_id="s", filename=uri)
    with pytest.raises(InputValidationError, match="same session"):
        await artifacts.load_artifact(**USER, filename="artifact://app/user/s/_adk_live/a.pcm#0")


async def test_nothing_there(artifacts: PsqlpyArtifactService) -> None:
    """A version that is not there is None, and another session's audio is not loaded."""
    uri = reference(await flushed(artifacts, AUDIO))
    assert await artifacts.load_artifact(**USER, session_id="s", filename=uri[:-1] + "7") is None
    assert await artifacts.load_artifact(**USER, session_id="t", filename=uri) is None


@pytest.mark.parametrize(
    "name", ["artifact://app/user/s/_adk_live/a.pcm", "artifact://app/user/s/_adk_live/#0", "x/_adk_live/a#0"]
)
async def test_other_names(artifacts: PsqlpyArtifactService, name: str) -> None:
    """What is not such a reference is a name like any other."""
    part = types.Part(text="x")
    await artifacts.save_artifact(**USER, session_id="s", filename=name, artifact=part)
    assert await artifacts.load_artifact(**USER, session_id="s", filename=name) == part


async def test_ids_with_slashes(artifacts: PsqlpyArtifactService) -> None:
    """Ids may hold slashes: the reference is read against the ids of the caller."""
    uri = reference(await flushed(artifacts, AUDIO, "a/b"))
    loaded = await artifacts.load_artifact(**USER, session_id="a/b", filename=uri)
    assert loaded is not None


async def test_a_fork(config: PsqlpyConfig, artifacts: PsqlpyArtifactService) -> None:
    """The events of a fork name the session that they were copied from; the audio is that of the fork."""
    store = PsqlpyADKStore(config)
    await store.create_tables()
    service = PsqlpySessionService(store)
    session = await service.create_session(**USER, session_id="s")
    await service.append_event(session, await flushed(artifacts, AUDIO))
    fork = await service.fork_session(session, artifacts=artifacts)
    await artifacts.delete_artifact(
        **USER, session_id="s", filename=reference(session.events[0]).rpartition("/")[2].rpartition("#")[0]
    )
    uri = reference(fork.events[0])
    assert await artifacts.load_artifact(**USER, session_id="s", filename=uri) is None
    loaded = await artifacts.load_artifact(**USER, session_id=fork.id, filename=uri)
    assert loaded is not None
    assert loaded.inline_data is not None
    assert loaded.inline_data.data == AUDIO
