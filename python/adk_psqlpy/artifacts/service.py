"""ADK's artifact service."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from types import TracebackType
from typing import Any, Final

from google.adk.artifacts.base_artifact_service import (
    ArtifactVersion,
    BaseArtifactService,
    ensure_part,
)
from google.adk.errors.input_validation_error import InputValidationError
from google.genai import types
from psqlpy.exceptions import DatabaseError
from psqlpy.extra_types import CustomType
from typing_extensions import Self, override

from adk_psqlpy import _native
from adk_psqlpy.artifacts.blobs import CHUNK, Blobs, digest, new_blob_id
from adk_psqlpy.artifacts.made_tables import MadeTables
from adk_psqlpy.artifacts.names import (
    MAX_REFERENCES,
    USER_PREFIX,
    Name,
    check,
    checked_name,
    checked_version,
    live_reference,
)
from adk_psqlpy.artifacts.parts import Packed, encode_metadata, pack, refers_to, unpack
from adk_psqlpy.artifacts.sealing import Sealing
from adk_psqlpy.checks import LONGEST_KEY, whole
from adk_psqlpy.config import PsqlpyConfig
from adk_psqlpy.connections import binary
from adk_psqlpy.connections.lanes import Decoders, Row, lanes_of
from adk_psqlpy.connections.replica import reads_of
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.connections.sources import Kind
from adk_psqlpy.seal.seal import Seal, checked_seal
from adk_psqlpy.sql.artifact_tables import USER_SCOPE, ArtifactTables
from adk_psqlpy.sql.artifacts import ArtifactStatements
from adk_psqlpy.telemetry import observed

ABANDONED: Final = timedelta(days=1)
"""An unfinished upload of this age counts as abandoned."""

_TRIES: Final = 5

_DECODERS: Final[Decoders] = dict.fromkeys(
    ("part", "custom_metadata", "blob_id", "data", "hashes", "hash"), binary.raw
)


@dataclass(frozen=True, slots=True)
class Purged:
    """How much `purge` removed: unfinished uploads, and contents that no version had."""

    uploads: int
    contents: int
    content_bytes: int


class PsqlpyArtifactService(BaseArtifactService):
    """Artifacts in PostgreSQL, as ADK's `BaseArtifactService` defines them.

    Without a `session_id`, or with a name that begins with `user:`, an artifact belongs to the user. `x`
    without a session and `user:x` are the same artifact. A version is there whole or not at all. Saves that
    race get distinct numbers without gaps. Equal bytes of one user in one app are stored once. Any number of
    tasks, services and processes may use one database.

    Args:
        config: where the server is.
        artifact_table: the table of versions, with its schema if it is not on the search path; five more are
            named after it (`sql.artifact_tables`).
        key_length: the longest app name, user id or session id in characters, 1 to 1,024. The tables are made
            with it.
        seal: encrypts bytes, the rest of a `Part`, and custom metadata before they are sent
            (docs/security.md). File names, MIME types and sizes stay plain. Artifacts that were stored
            without a seal are still read.

    A sealed value that cannot be opened raises `SealError`. Bad arguments raise `InputValidationError`, which
    is ADK's `ValueError`, before anything is sent. A dict that is not a `Part` raises pydantic's
    `ValidationError`, which is a `ValueError` too. Errors of the connection and of the server raise
    `psqlpy.exceptions.Error`.
    """

    def __init__(
        self,
        config: PsqlpyConfig,
        artifact_table: str = "adk_artifacts",
        *,
        key_length: int = 128,
        seal: Seal | None = None,
    ) -> None:
        self.config = config
        self.seal = checked_seal(seal)
        self._sealing = Sealing(self.seal)
        self.tables = ArtifactTables(artifact_table)
        self.key_length = whole("key_length", key_length, LONGEST_KEY)
        self._lanes = lanes_of(config)
        self._made = MadeTables(self.tables, self.key_length, self._lanes, sealed=seal is not None)
        self._reads = reads_of(config, self._lanes)
        self._telemetry = config.telemetry
        self._collections = {"artifacts": self.tables.artifacts.replace('"', "")}

    # Tables.

    async def create_tables(self, *, distributed: bool = False, row_security: bool = False) -> None:
        """Make the tables, or bring them to the newest version. Safe to call from many processes.

        Args:
            distributed: whether to distribute the tables by `user_id` over the nodes of a Citus cluster. They
                stay so. Filled tables are copied, and writes to them wait meanwhile.
            row_security: whether roles see only what `adk_psqlpy.admin.access.grant_access` gave them
                (docs/security.md). It stays so.

        The first use of any other method does this, too. Call it when a program starts to notice missing
        rights early.

        Raises:
            psqlpy.exceptions.NotSupportedError: the server is older than PostgreSQL 15, or the tables were
                made by a newer version of this package.
            ValueError: the tables were made with another name or `key_length`.
        """
        await self._made.create(distributed=distributed, row_security=row_security)

    async def _read(self, sql: str, parameters: list[Any], kind: Kind = "read") -> list[Row]:
        await self._made.ready()
        return await self._reads.fetch(sql, parameters, _DECODERS, kind=kind)

    async def _write(self, sql: str, parameters: list[Any], repeat: Repeat = Repeat.NEVER) -> list[Row]:
        await self._made.ready()
        return await self._lanes.fetch(sql, parameters, _DECODERS, repeat=repeat)

    # ADK's methods.

    @override
    @observed("artifacts")
    async def save_artifact(
        self,
        *,
        app_name: str,
        user_id: str,
        filename: str,
        artifact: types.Part | dict[str, Any],
        session_id: str | None = None,
        custom_metadata: dict[str, Any] | None = None,
    ) -> int:
        """Save a version, and return its number. Numbers begin at 0.

        Up to one chunk (1 MiB), this is one statement. Larger artifacts send their chunks first; then one
        last statement makes the version appear. Bytes that the user has already are not sent again.

        Raises:
            InputValidationError: an argument cannot be stored, the artifact has neither inline data nor text
                nor file data, or it refers to an artifact outside its scope.
        """
        name = self._name(app_name, user_id, filename, session_id)
        part = ensure_part(artifact)
        packed = pack(part)
        if packed.refers_to is not None:
            name.refer(packed.refers_to)
        now = _now()
        row = [
            *name.key,
            filename,
            now,
            packed.mime_type,
        ]
        metadata = await self._sealing.metadata(name, encode_metadata(custom_metadata))
        return await self._save(name, packed, row, metadata, now)

    async def _save(self, name: Name, packed: Packed, row: list[Any], metadata: bytes, now: datetime) -> int:
        # Before a statement is chosen: distributed tables have statements of their own.
        await self._made.ready()
        data = packed.payload
        content = None if data is None else await self._sealing.content_hash(name, await digest(data))
        rest = await self._sealing.part(name, content, packed.rest)
        row = [*row, CustomType(rest), CustomType(metadata)]
        if data is None or content is None:
            return _version(await self._write(self._sql.save_reference, row))
        row = [*row, CustomType(content), len(data)]
        if len(data) <= CHUNK:
            chunk = CustomType(await self._sealing.chunk(name, content, 0, data))
            return _version(await self._write(self._sql.save_one_chunk, [*row, new_blob_id(), chunk]))
        for _ in range(_TRIES):
            if rows := await self._write(self._sql.save_known, row):
                return _version(rows)
            blob_id = await self.blobs(name).upload(data, content, now, now - ABANDONED)
            if blob_id is not None and (rows := await self._write(self._sql.save_uploaded, [*row, blob_id])):
                return _version(rows)
        raise DatabaseError(
            f"the upload of {name.place} was removed {_TRIES} times before it was complete: purge() was "
            "called with an age that is shorter than an upload takes. Call purge() with a longer older_than, "
            "and save the artifact again"
        )

    @override
    @observed("artifacts")
    async def load_artifact(
        self,
        *,
        app_name: str,
        user_id: str,
        filename: str,
        session_id: str | None = None,
        version: int | None = None,
    ) -> types.Part | None:
        """Load a version, by default the newest; `None` if there is none.

        If an artifact refers to another one, the other one is loaded. The name may also be a reference as ADK
        writes it into the events of live audio, `artifact://APP/USER/SESSION/_adk_live/FILE#VERSION`. It
        loads that version of the file in the session.

        Raises:
            InputValidationError: an argument is bad, a reference leads outside the scope, or there are more
                than five in a row.
        """
        name = self._name(app_name, user_id, filename, session_id)
        live = live_reference(filename, app_name, user_id, session_id)
        if live is not None:
            name = self._name(app_name, user_id, live.filename, session_id)
            version = live.version if version is None else version
        for _ in range(MAX_REFERENCES + 1):
            found = await self.load_stored(name, checked_version(version))
            if found is None:
                return None
            rest, payload = found
            uri = refers_to(rest)
            if uri is None:
                return unpack(rest, payload)
            target = name.refer(uri)
            name = self._name(target.app_name, target.user_id, target.filename, target.session_id)
            version = target.version
        raise InputValidationError(f"Exceeded maximum recursion depth resolving artifact reference: {uri}")

    async def load_stored(
        self, name: Name, version: int | None
    ) -> tuple[dict[str, Any], bytes | None] | None:
        """Load a version as it is stored: the part without its bytes, and the bytes."""
        for _ in range(_TRIES):
            rows = await self._read(self._sql.load, [*name.key, version])
            if not rows:
                return None
            part, size, blob_id, first, content = rows[0]
            part = await self._sealing.open_part(name, content, part)
            rest = _native.decode_json(part, place=name.place)
            if size is None:
                return rest, None
            if first is not None:
                first = await self._sealing.open_chunk(name, content, 0, first)
                if len(first) == size:
                    return rest, first
                payload = await self.blobs(name).download(blob_id, content, size, first)
                if payload is not None:
                    return rest, payload
            # It was deleted while it was being read. There may be a new one, so look again.
        raise DatabaseError(
            f"the bytes of {name.place} are not in {self.tables.chunks}: they were removed by hand. Delete "
            "the artifact, or restore its rows from a backup"
        )

    @override
    @observed("artifacts")
    async def list_artifact_keys(
        self, *, app_name: str, user_id: str, session_id: str | None = None
    ) -> list[str]:
        """List the names of the session's and the user's artifacts, sorted; without a session, only the
        user's.

        Each name can be loaded as it is listed. In the list of a session, the user's names begin with
            `user:`.
        """
        check(self.key_length, app_name=app_name, user_id=user_id)
        if session_id is not None:
            check(self.key_length, session_id=session_id)
        rows = await self._read(self._sql.list_names, [app_name, user_id, session_id or USER_SCOPE], "list")
        return sorted(
            USER_PREFIX + filename
            if scope == USER_SCOPE and session_id is not None and not filename.startswith(USER_PREFIX)
            else filename
            for scope, filename in rows
        )

    @override
    @observed("artifacts")
    async def delete_artifact(
        self, *, app_name: str, user_id: str, filename: str, session_id: str | None = None
    ) -> None:
        """Delete an artifact with all its versions, and the bytes that no other version has.

        If there is none, nothing happens. The next save begins at 0 again.
        """
        name = self._name(app_name, user_id, filename, session_id)
        await self._made.ready()
        rows = await self._write(self._sql.delete, name.key, Repeat.AFTER_FAILURE)
        if not rows:
            return
        unseen, hashes = rows[0]
        if unseen or hashes is not None:
            which = None if unseen else CustomType(hashes)
            await self._write(self._sql.collect, [app_name, user_id, which], Repeat.AFTER_FAILURE)

    @override
    @observed("artifacts")
    async def list_versions(
        self, *, app_name: str, user_id: str, filename: str, session_id: str | None = None
    ) -> list[int]:
        """List the numbers of an artifact's versions, in order."""
        name = self._name(app_name, user_id, filename, session_id)
        return [version for (version,) in await self._read(self._sql.list_versions, name.key)]

    @override
    @observed("artifacts")
    async def list_artifact_versions(
        self, *, app_name: str, user_id: str, filename: str, session_id: str | None = None
    ) -> list[ArtifactVersion]:
        """Describe an artifact's versions, in order."""
        name = self._name(app_name, user_id, filename, session_id)
        rows = await self._read(self._sql.describe_versions, name.key)
        return [await self._described(name, row) for row in rows]

    @override
    @observed("artifacts")
    async def get_artifact_version(
        self,
        *,
        app_name: str,
        user_id: str,
        filename: str,
        session_id: str | None = None,
        version: int | None = None,
    ) -> ArtifactVersion | None:
        """Describe a version, by default the newest; `None` if there is none.

        `canonical_uri` is an `artifact://` reference to it.
        """
        name = self._name(app_name, user_id, filename, session_id)
        rows = await self._read(self._sql.describe_version, [*name.key, checked_version(version)])
        return await self._described(name, rows[0]) if rows else None

    # Beyond ADK's.

    @observed("artifacts")
    async def purge(self, older_than: timedelta = ABANDONED) -> Purged:
        """Remove garbage of all apps and users.

        Garbage is uploads that began longer than `older_than` ago and were never finished (the client was
        killed, the task cancelled), and contents that no version has (versions were deleted by SQL, or a
        delete was interrupted). If an upload under way is removed, it starts again.

        Raises:
            ValueError: `older_than` is not a timedelta of zero or more.
        """
        if not isinstance(older_than, timedelta) or older_than < timedelta(0):
            raise ValueError(f"older_than must be a timedelta of zero or more, not {older_than!r}")
        ((uploads,),) = await self._write(
            self._sql.clear_uploads, [_now() - older_than], Repeat.AFTER_FAILURE
        )
        ((contents, content_bytes),) = await self._write(self._sql.collect_all, [], Repeat.AFTER_FAILURE)
        return Purged(uploads, contents, content_bytes)

    async def close(self) -> None:
        """Close the configuration's pool; a later call opens it again."""
        await self.config.close_pool()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    # Beneath.

    @property
    def _sql(self) -> ArtifactStatements:
        return self._made.sql

    def blobs(self, name: Name) -> Blobs:
        """Make uploads and downloads for the artifact."""
        return Blobs(self._lanes, self._reads, self._sql, name, self._sealing)

    async def _described(self, name: Name, row: Row) -> ArtifactVersion:
        version, create_time, mime_type, custom_metadata = row
        metadata = await self._sealing.open_metadata(name, custom_metadata)
        return ArtifactVersion(
            version=version,
            canonical_uri=name.uri(version),
            custom_metadata=_native.decode_json(metadata, place=name.place),
            create_time=create_time.timestamp(),
            mime_type=mime_type,
        )

    def _name(self, app_name: str, user_id: str, filename: str, session_id: str | None) -> Name:
        return checked_name(app_name, user_id, filename, session_id, self.key_length)


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _version(rows: list[Row]) -> int:
    return int(rows[0][0])
