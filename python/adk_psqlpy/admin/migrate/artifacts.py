"""Writing versions of artifacts into the target, with the numbers and times that they had."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from psqlpy.exceptions import DatabaseError, Error
from psqlpy.extra_types import CustomType

from adk_psqlpy import _native
from adk_psqlpy.admin.migrate.records import ArtifactRecord, Problem
from adk_psqlpy.admin.migrate.report import MigrationReport
from adk_psqlpy.artifacts.blobs import CHUNK, digest, new_blob_id
from adk_psqlpy.artifacts.names import Name, checked_name
from adk_psqlpy.artifacts.parts import Packed, encode_metadata, pack
from adk_psqlpy.artifacts.service import ABANDONED, PsqlpyArtifactService
from adk_psqlpy.connections import binary
from adk_psqlpy.connections.lanes import Decoders, Row
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.sql.carry_artifacts import CarryArtifactStatements

DECODERS: Decoders = {
    **dict.fromkeys(("part", "custom_metadata", "hash", "name_hash"), binary.raw),
    "create_time": binary.unix_micros,
}
_TRIES = 5


class ArtifactWriter:
    """Writes versions one after another, each as a whole or not at all."""

    def __init__(
        self, service: PsqlpyArtifactService, report: MigrationReport, *, write: bool, tables_there: bool
    ) -> None:
        self._service = service
        self._sql = CarryArtifactStatements(service.tables)
        self._lanes = service.config.lanes
        self._sealing = service._sealing
        self._report = report
        self._write = write
        self._tables_there = tables_there

    def refuse(self, problem: Problem) -> None:
        """Report a version that cannot be carried."""
        self._report.artifacts.count("left_out")
        self._report.problem(problem)

    async def add(self, record: ArtifactRecord) -> None:
        """A version."""
        try:
            name = checked_name(
                record.app_name, record.user_id, record.filename, record.session_id, self._service.key_length
            )
            packed = pack(record.part)
            metadata = encode_metadata(record.custom_metadata)
            if not 0 <= record.version < 2**62:
                raise ValueError(  # noqa: TRY301
                    f"its version {record.version} is not possible: versions are numbered from 0 on"
                )
        except ValueError as error:
            self.refuse(_problem(record, str(error)))
            return
        content = None if packed.payload is None else await digest(packed.payload)
        contents = None if content is None else await self._sealing.content_hashes(name, content)
        there = await self._known(name, record.version)
        if there is not None:
            self._compare(record, packed, metadata, contents, there, copied=False)
        elif not self._write:
            self._report.artifacts.count("copied")
        else:
            row = [*name.key, record.filename, _time(record.create_micros), packed.mime_type]
            stored = None if content is None else await self._sealing.content_hash(name, content)
            row += [
                CustomType(await self._sealing.part(name, stored, packed.rest)),
                CustomType(await self._sealing.metadata(name, metadata)),
            ]
            await self._save(name, packed, row, stored, record.version)
            there = await self._known(name, record.version)
            self._compare(record, packed, metadata, contents, there, copied=True)

    async def _known(self, name: Name, version: int) -> Row | None:
        if not self._tables_there:
            return None
        rows = await self._lanes.fetch(self._sql.known, name.key, DECODERS, kind="list", repeat=Repeat.READ)
        row = next((row for row in rows if row[0] == version), None)
        if row is None:
            return None
        number, micros, part, metadata, content = row
        part = await self._sealing.open_part(name, content, part)
        metadata = await self._sealing.open_metadata(name, metadata)
        return number, micros, part, metadata, content

    def _compare(
        self,
        record: ArtifactRecord,
        packed: Packed,
        metadata: bytes,
        contents: list[bytes] | None,
        there: Row | None,
        *,
        copied: bool,
    ) -> None:
        def same(one: bytes, other: bytes) -> bool:
            return bool(
                _native.decode_json(one, place="artifact") == _native.decode_json(other, place="artifact")
            )

        tally = self._report.artifacts
        if (
            there is not None
            and there[1] == record.create_micros
            and same(there[2], packed.rest)
            and same(there[3], metadata)
            and (there[4] is None if contents is None else there[4] in contents)
        ):
            tally.count("copied" if copied else "equal")
            return
        tally.count("different")
        self._report.problem(
            _problem(record, "the target holds another version of this number, which was left as it is")
        )

    async def _save(
        self, name: Name, packed: Packed, row: list[Any], content: bytes | None, version: int
    ) -> None:
        """Write a version. If another process wrote it meanwhile, that one stays, and is compared later."""
        try:
            await self._write_version(name, packed, row, content, version)
        except Error:
            if await self._known(name, version) is None:
                raise

    async def _write_version(
        self, name: Name, packed: Packed, row: list[Any], content: bytes | None, version: int
    ) -> None:
        data = packed.payload
        if data is None or content is None:
            await self._lanes.fetch(self._sql.save_reference, [*row, version])
            return
        row = [*row, CustomType(content), len(data)]
        if len(data) <= CHUNK:
            chunk = CustomType(await self._sealing.chunk(name, content, 0, data))
            await self._lanes.fetch(self._sql.save_one_chunk, [*row, new_blob_id(), chunk, version])
            return
        blobs = self._service.blobs(name)
        for _ in range(_TRIES):
            if await self._lanes.fetch(self._sql.save_known, [*row, version]):
                return
            now = datetime.now(timezone.utc)
            blob_id = await blobs.upload(data, content, now, now - ABANDONED)
            if blob_id is not None and await self._lanes.fetch(
                self._sql.save_uploaded, [*row, blob_id, version]
            ):
                return
        raise DatabaseError(
            f"the upload of {name.place} was removed {_TRIES} times before it was complete: purge() was "
            "called with an age that is shorter than an upload takes. Call purge() with a longer older_than, "
            "and run the same command again"
        )


def _time(micros: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=micros)


def _problem(record: ArtifactRecord, reason: str) -> Problem:
    name = f"{record.filename} version {record.version}"
    return Problem("artifact", record.app_name, record.user_id, record.session_id, name, reason)
