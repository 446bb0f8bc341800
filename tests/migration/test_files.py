"""ADK's `FileArtifactService`: each version loads as it did, with its number and time."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from google.adk.artifacts.file_artifact_service import FileArtifactService
from google.genai import types

from adk_psqlpy import PsqlpyArtifactService
from adk_psqlpy.admin.migrate import MigrationOptions, migrate
from servers import Database, run_sql

if TYPE_CHECKING:
    from pathlib import Path

    from adk_psqlpy import PsqlpyConfig

LARGE = bytes(range(256)) * 10_000  # more than a chunk
PARTS = [
    types.Part(text="hello, wörld"),
    types.Part.from_bytes(data=LARGE, mime_type="image/png"),
    types.Part(inline_data=types.Blob(data=b"named", mime_type="text/csv", display_name="sheet.csv")),
    types.Part(inline_data=types.Blob(data=b"", mime_type="application/octet-stream")),
    types.Part(text=""),
]
NAMES = ("report.txt", "folder/report.txt", "folder", "user:mine.txt", "ü n.txt")


@pytest.fixture
async def theirs(place: Path) -> FileArtifactService:
    """Names, scopes and versions of all kinds."""
    service = FileArtifactService(place / "artifacts")
    for app in ("cafe", "shop"):
        for name in NAMES:
            for number, part in enumerate(PARTS):
                await service.save_artifact(
                    app_name=app,
                    user_id="ada",
                    session_id="s1",
                    filename=name,
                    artifact=part,
                    custom_metadata={"number": number},
                )
        await service.save_artifact(app_name=app, user_id="ada", filename="of the user", artifact=PARTS[0])
    return service


async def compared(theirs: FileArtifactService, ours: PsqlpyArtifactService) -> int:
    """Every version loads alike, and is described alike; how many were compared."""
    number = 0
    for app in ("cafe", "shop"):
        key = {"app_name": app, "user_id": "ada", "session_id": "s1"}
        names = await theirs.list_artifact_keys(**key)
        # Ours tells the names of the user's artifacts as they load from the session; ADK's does not.
        assert await ours.list_artifact_keys(**key) == sorted(
            "user:of the user" if name == "of the user" else name for name in names
        )
        for name in (*NAMES, "user:of the user"):
            versions = await theirs.list_artifact_versions(**key, filename=name)
            mine = await ours.list_artifact_versions(**key, filename=name)
            assert [v.version for v in mine] == [v.version for v in versions]
            for one, other in zip(versions, mine, strict=True):
                loaded = await theirs.load_artifact(**key, filename=name, version=one.version)
                assert await ours.load_artifact(**key, filename=name, version=one.version) == loaded
                assert other.custom_metadata == one.custom_metadata
                assert abs(other.create_time - one.create_time) < 1e-6
                number += 1
    return number


async def test_every_version(theirs: FileArtifactService, place: Path, target: PsqlpyConfig) -> None:
    """Of sessions and users, in folders of folders; a second run finds them equal."""
    report = await migrate(place / "artifacts", target)
    assert report.problems == []
    assert report.complete
    assert report.artifacts.copied == 52
    assert await compared(theirs, PsqlpyArtifactService(target)) == 52
    again = await migrate(f"file://{place}/artifacts", target)
    assert (again.artifacts.equal, again.artifacts.copied) == (52, 0)


async def test_gaps_between_numbers_stay(
    theirs: FileArtifactService, place: Path, target: PsqlpyConfig
) -> None:
    """References name versions by number; the next save gets one behind all."""
    remove(place / "artifacts/apps/cafe/users/ada/sessions/s1/artifacts/report.txt/versions/1")
    await migrate(place / "artifacts", target)
    ours = PsqlpyArtifactService(target)
    key = {"app_name": "cafe", "user_id": "ada", "session_id": "s1", "filename": "report.txt"}
    assert await ours.list_versions(**key) == [0, 2, 3, 4]
    assert await ours.save_artifact(**key, artifact=PARTS[0]) == 5


def remove(folder: Path) -> None:
    """Delete a version as somebody would who needs room."""
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


def spoil(root: Path) -> None:
    """A version without its payload, one without metadata, one that is no UTF-8; an early release's tree."""
    versions = root / "apps/cafe/users/ada/sessions/s1/artifacts/report.txt/versions"
    (versions / "1" / "report.txt").unlink()
    (versions / "2" / "metadata.json").write_text("{")
    (versions / "0" / "report.txt").write_bytes(b"\xff\xfe")
    old = root / "users/ada/artifacts/old.txt/versions/0"
    old.mkdir(parents=True)
    (old / "old.txt").write_text("old")
    (old / "metadata.json").write_text(json.dumps({"fileName": "old.txt", "version": 0, "canonicalUri": "x"}))


async def test_bad_ones_are_named(theirs: FileArtifactService, place: Path, target: PsqlpyConfig) -> None:
    """With app, user, session and version; the others are carried."""
    spoil(place / "artifacts")
    report = await migrate(place / "artifacts", target)
    assert (report.artifacts.copied, report.artifacts.left_out) == (49, 4)
    assert {problem.name for problem in report.problems} == {
        *(f"report.txt version {n}" for n in range(3)),
        "old.txt version 0",
    }
    assert any("recorded no app" in problem.reason for problem in report.problems)
    assert report.uncounted == []


async def test_what_is_there_stays(
    theirs: FileArtifactService, place: Path, target: PsqlpyConfig, database: Database
) -> None:
    """Another version of a number is reported; contents that are equal are stored once, and counted right."""
    ours = PsqlpyArtifactService(target)
    key = {"app_name": "cafe", "user_id": "ada", "session_id": "s1", "filename": "report.txt"}
    await ours.save_artifact(**key, artifact=types.Part(text="mine"))
    dry = await migrate(place / "artifacts", target, MigrationOptions(dry_run=True))
    report = await migrate(place / "artifacts", target)
    assert (dry.artifacts, dry.reasons) == (report.artifacts, report.reasons)
    assert (report.artifacts.copied, report.artifacts.different) == (51, 1)
    assert await ours.load_artifact(**key, version=0) == types.Part(text="mine")
    (rows,) = run_sql(
        database.dsn,
        "SELECT c.uses, (SELECT count(*) FROM adk_artifacts AS v WHERE (v.app_name, v.user_id, v.hash) = "
        "(c.app_name, c.user_id, c.hash)) AS versions FROM adk_artifact_contents AS c",
    )
    assert rows
    assert all(row["uses"] == row["versions"] for row in rows)
