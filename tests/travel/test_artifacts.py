"""Artifacts that go along with a fork."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.events import EventActions
from google.genai import types

from adk_psqlpy import PsqlpyArtifactService, PsqlpyConfig
from contract.events import said
from servers import Database, run_sql

from .test_points import KEY

if TYPE_CHECKING:
    from google.adk.sessions import Session

    from adk_psqlpy import PsqlpySessionService

USER = {"app_name": "app", "user_id": "user"}


@pytest.fixture
def artifacts(config: PsqlpyConfig) -> PsqlpyArtifactService:
    """An artifact service on the configuration of the sessions."""
    return PsqlpyArtifactService(config)


def file(data: bytes) -> types.Part:
    return types.Part(inline_data=types.Blob(mime_type="image/png", data=data))


async def save(
    service: PsqlpySessionService,
    artifacts: PsqlpyArtifactService,
    session: Session,
    filename: str,
    part: types.Part,
) -> None:
    """As a tool does it: the version is saved, and the event says so."""
    version = await artifacts.save_artifact(**KEY, filename=filename, artifact=part)
    await service.append_event(session, said("", actions=EventActions(artifact_delta={filename: version})))


async def data(
    artifacts: PsqlpyArtifactService, session_id: str, filename: str, version: int
) -> bytes | None:
    """The bytes of a version; `None` where there is none."""
    part = await artifacts.load_artifact(**USER, session_id=session_id, filename=filename, version=version)
    return None if part is None or part.inline_data is None else part.inline_data.data


async def filled(service: PsqlpySessionService, artifacts: PsqlpyArtifactService) -> Session:
    """Five events: a is saved, b, a again, c, and a once more."""
    session = await service.create_session(**KEY)
    for name, content in (("a", b"1"), ("b", b"2"), ("a", b"3"), ("c", b"1"), ("a", b"5")):
        await save(service, artifacts, session, name, file(content))
    return session


def rows(dsn: str, sql: str) -> list[dict[str, object]]:
    return run_sql(dsn, sql)[0]


async def test_versions_up_to_the_point(
    service: PsqlpySessionService, artifacts: PsqlpyArtifactService, database: Database
) -> None:
    """The versions that were saved up to the point go along, under their numbers; bytes are not copied."""
    session = await filled(service, artifacts)
    before = rows(database.dsn, "SELECT count(*) AS n FROM adk_artifact_chunks")
    fork = await service.fork_session(session, at_seq=3, artifacts=artifacts)
    assert await artifacts.list_artifact_keys(**USER, session_id=fork.id) == ["a", "b"]
    assert await artifacts.list_versions(**USER, session_id=fork.id, filename="a") == [0, 1]
    assert await data(artifacts, fork.id, "a", 0) == b"1"
    assert await data(artifacts, fork.id, "a", 1) == b"3"
    assert rows(database.dsn, "SELECT count(*) AS n FROM adk_artifact_chunks") == before
    described = await artifacts.list_artifact_versions(**USER, session_id=fork.id, filename="a")
    original = await artifacts.list_artifact_versions(**KEY, filename="a")
    assert [(each.version, each.create_time, each.mime_type) for each in described] == [
        (each.version, each.create_time, each.mime_type) for each in original[:2]
    ]
    assert await artifacts.save_artifact(**USER, session_id=fork.id, filename="a", artifact=file(b"x")) == 2
    assert await data(artifacts, "s", "a", 2) == b"5"


async def test_all_of_them(service: PsqlpySessionService, artifacts: PsqlpyArtifactService) -> None:
    """A fork of the whole has all versions, and those that no event tells of are in every fork."""
    session = await filled(service, artifacts)
    await artifacts.save_artifact(**KEY, filename="upload", artifact=file(b"u"))
    whole = await service.fork_session(session, artifacts=artifacts)
    early = await service.fork_session(session, at_seq=0, artifacts=artifacts)
    assert await artifacts.list_artifact_keys(**USER, session_id=whole.id) == ["a", "b", "c", "upload"]
    assert await artifacts.list_versions(**USER, session_id=whole.id, filename="a") == [0, 1, 2]
    assert await artifacts.list_artifact_keys(**USER, session_id=early.id) == ["upload"]


async def test_without_the_service(service: PsqlpySessionService, artifacts: PsqlpyArtifactService) -> None:
    """Without the argument no artifact goes along."""
    session = await filled(service, artifacts)
    fork = await service.fork_session(session)
    assert await artifacts.list_artifact_keys(**USER, session_id=fork.id) == []


async def test_of_the_user(service: PsqlpySessionService, artifacts: PsqlpyArtifactService) -> None:
    """The user's artifacts are shared by all sessions, so they stay as they are."""
    session = await service.create_session(**KEY)
    await save(service, artifacts, session, "user:f", file(b"1"))
    fork = await service.fork_session(session, at_seq=0, artifacts=artifacts)
    assert await artifacts.list_artifact_keys(**USER, session_id=fork.id) == ["user:f"]
    assert await artifacts.list_versions(**USER, session_id=fork.id, filename="user:f") == [0]


@pytest.mark.parametrize("gone", ["origin", "fork"])
async def test_one_deletes_and_the_other_keeps(
    service: PsqlpySessionService, artifacts: PsqlpyArtifactService, database: Database, gone: str
) -> None:
    """Bytes are there as long as a version of either session needs them, and are gone afterwards."""
    session = await filled(service, artifacts)
    fork = await service.fork_session(session, artifacts=artifacts)
    first, second = ("s", fork.id) if gone == "origin" else (fork.id, "s")
    for name in "abc":
        await artifacts.delete_artifact(**USER, session_id=first, filename=name)
    await artifacts.purge()
    assert [await data(artifacts, second, "a", version) for version in range(3)] == [b"1", b"3", b"5"]
    for name in "abc":
        await artifacts.delete_artifact(**USER, session_id=second, filename=name)
    assert rows(database.dsn, "SELECT count(*) AS n FROM adk_artifact_blobs") == [{"n": 0}]


async def test_references(service: PsqlpySessionService, artifacts: PsqlpyArtifactService) -> None:
    """An artifact that refers to another one of the session refers to the fork's; to the user's, it stays."""
    session = await service.create_session(**KEY)
    await save(service, artifacts, session, "target", file(b"old"))
    await artifacts.save_artifact(**USER, filename="user:u", artifact=file(b"user"))
    for name, target in (("ref", {**KEY, "filename": "target"}), ("shared", {**USER, "filename": "user:u"})):
        version = await artifacts.get_artifact_version(**target)
        assert version is not None
        part = types.Part(file_data=types.FileData(file_uri=version.canonical_uri, mime_type="image/png"))
        await save(service, artifacts, session, name, part)
    fork = await service.fork_session(session, artifacts=artifacts)
    await artifacts.delete_artifact(**KEY, filename="target")
    assert await data(artifacts, fork.id, "ref", 0) == b"old"
    assert await data(artifacts, fork.id, "shared", 0) == b"user"


async def test_forks_and_deletes_at_once(
    service: PsqlpySessionService, artifacts: PsqlpyArtifactService
) -> None:
    """While artifacts are saved and deleted, every fork loads what it lists."""
    session = await service.create_session(**KEY)

    async def churn(name: str) -> None:
        for number in range(15):
            await artifacts.save_artifact(**KEY, filename=name, artifact=file(b"%d" % (number % 3)))
            if number % 2:
                await artifacts.delete_artifact(**KEY, filename=name)

    async def fork() -> list[str]:
        return [(await service.fork_session(session, artifacts=artifacts)).id for _ in range(10)]

    _, _, *made = await asyncio.gather(churn("a"), churn("b"), fork(), fork())
    listed = 0
    for session_id in [each for forks in made for each in forks]:
        for name in await artifacts.list_artifact_keys(**USER, session_id=session_id):
            for version in await artifacts.list_versions(**USER, session_id=session_id, filename=name):
                assert await data(artifacts, session_id, name, version) in (b"0", b"1", b"2")
                listed += 1
    assert listed, "no fork had an artifact"


async def test_artifacts_left_by_another_session(
    service: PsqlpySessionService, artifacts: PsqlpyArtifactService
) -> None:
    """An id under which artifacts of a deleted session are left is refused: the fork would show them."""
    session = await filled(service, artifacts)
    await artifacts.save_artifact(**USER, session_id="old", filename="a", artifact=file(b"left"))
    with pytest.raises(AlreadyExistsError, match="artifacts"):
        await service.fork_session(session, session_id="old", artifacts=artifacts)
    assert await service.get_session(**USER, session_id="old") is None
    assert await artifacts.list_artifact_keys(**USER, session_id="old") == ["a"]
    await service.fork_session(session, session_id="old")


async def test_another_configuration(service: PsqlpySessionService, database: Database) -> None:
    """An artifact service on another configuration may be on another database: refused."""
    session = await service.create_session(**KEY)
    async with PsqlpyConfig({"dsn": database.dsn}) as other:
        with pytest.raises(ValueError, match="PsqlpyConfig of the session store"):
            await service.fork_session(session, artifacts=PsqlpyArtifactService(other))
    assert [each.id for each in (await service.list_sessions(app_name="app")).sessions] == ["s"]
