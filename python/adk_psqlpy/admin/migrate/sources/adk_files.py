"""The folder of ADK's `FileArtifactService` (google-adk 2.13, `file_artifact_service.py`).

`apps/<app>/users/<user>/` holds `artifacts/` and `sessions/<session>/artifacts/`. In these, each artifact is
a folder. Its `versions/<number>/` holds `metadata.json`, and the payload in a file named like the artifact's
folder.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from google.adk.artifacts.file_artifact_service import FileArtifactVersion
from google.genai import types
from typing_extensions import override

from adk_psqlpy.admin.migrate.records import ArtifactRecord, Counts, Problem, Record
from adk_psqlpy.admin.migrate.sources.base import Source, SourceError, explain

VERSIONS: Final = "versions"
METADATA: Final = "metadata.json"


@dataclass(frozen=True)
class _Version:
    """A version in the folder: `name` is the artifact's path below its scope."""

    app_name: str
    user_id: str
    session_id: str | None
    name: str
    number: int
    folder: Path

    @property
    def payload(self) -> Path:
        return self.folder / self.folder.parent.parent.name


class FileArtifactSource(Source):
    """Artifacts of one folder, a version at a time."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._root = root
        self.description = f"ADK's FileArtifactService, {root}"

    @override
    async def count(self) -> Counts:
        if not (self._root / "apps").is_dir() and not (self._root / "users").is_dir():
            raise SourceError(
                f"{self._root} has no folder apps, so it does not belong to ADK's FileArtifactService"
            )
        found = await asyncio.to_thread(lambda: sum(1 for _ in self._versions()))
        return Counts(artifacts=found)

    @override
    async def read(self) -> AsyncIterator[Record]:
        for version in self._versions():
            yield await asyncio.to_thread(_record, version)

    def _versions(self) -> Iterator[_Version]:
        for user in sorted(self._root.glob("apps/*/users/*")):
            app_name, user_id = user.parent.parent.name, user.name
            for folder, name, number in _below(user / "artifacts"):
                yield _Version(app_name, user_id, None, name, number, folder)
            for session in sorted(user.glob("sessions/*")):
                for folder, name, number in _below(session / "artifacts"):
                    yield _Version(app_name, user_id, session.name, name, number, folder)
        # Releases before 2.0 recorded no app, and ADK no longer reads this tree.
        for user in sorted(self._root.glob("users/*")):
            for session_id, scope in [(None, user / "artifacts")] + [
                (each.name, each / "artifacts") for each in sorted(user.glob("sessions/*"))
            ]:
                for folder, name, number in _below(scope):
                    yield _Version("", user.name, session_id, name, number, folder)


def _below(scope: Path) -> Iterator[tuple[Path, str, int]]:
    """Yield folder, name and number of each version. An artifact's folder may hold further artifacts."""
    for at, folders, _ in os.walk(scope):
        artifact = Path(at)
        if VERSIONS in folders:
            folders.remove(VERSIONS)
            numbers = (each for each in (artifact / VERSIONS).iterdir() if each.name.isdecimal())
            for folder in sorted(numbers, key=lambda each: int(each.name)):
                yield folder, artifact.relative_to(scope).as_posix(), int(folder.name)
        folders.sort()


def _record(version: _Version) -> Record:
    owner = (version.app_name, version.user_id, version.session_id)
    name = f"{version.name} version {version.number}"
    if not version.app_name:
        reason = "it is of an early release of ADK, which recorded no app; ADK does not read it any more"
        return Problem("artifact", *owner, name, reason)
    try:
        metadata = FileArtifactVersion.model_validate_json((version.folder / METADATA).read_bytes())
        part = _part(version, metadata)
        created = round(metadata.create_time * 1e6)
    except (OSError, ValueError) as error:
        return Problem("artifact", *owner, name, explain(error))
    return ArtifactRecord(*owner, metadata.file_name, version.number, part, metadata.custom_metadata, created)


def _part(version: _Version, metadata: FileArtifactVersion) -> types.Part:
    data = version.payload.read_bytes()
    if metadata.mime_type:
        blob = types.Blob(mime_type=metadata.mime_type, data=data, display_name=metadata.display_name)
        return types.Part(inline_data=blob)
    return types.Part(text=data.decode("utf-8"))
