"""Artifacts, sealed anew: their versions, and their contents, which get a new hash with the current key."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from datetime import datetime, timezone
from typing import Any, Final

from psqlpy.exceptions import DatabaseError
from psqlpy.extra_types import CustomType

from adk_psqlpy import _native
from adk_psqlpy.admin.reseal.rows import KEY, Values, Work
from adk_psqlpy.artifacts.blobs import new_blob_id
from adk_psqlpy.artifacts.names import USER_PREFIX, Name
from adk_psqlpy.artifacts.sealing import Sealing
from adk_psqlpy.artifacts.service import ABANDONED
from adk_psqlpy.connections.binary import arrays, raw
from adk_psqlpy.connections.lanes import Decoders, Lanes, Row
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.seal.seal import Seal
from adk_psqlpy.sql.artifact_tables import ArtifactTables
from adk_psqlpy.sql.artifacts import ArtifactStatements
from adk_psqlpy.sql.reseal import SealedContents, SealedTable

_RAW: Final[Decoders] = dict.fromkeys(("blob_id", "name_hash", "part", "data"), raw)
_VERSION: Final = (("hash", "bytea"), ("filename", "text"), ("part", "jsonb"), ("custom_metadata", "jsonb"))


def versions_of(tables: ArtifactTables, seal: Seal) -> Work:
    """The table of versions: the part without its bytes, and custom metadata."""
    key = (*KEY, ("session_id", "varchar"), ("name_hash", "bytea"), ("version", "bigint"))
    # The part is bound to the hash, so the statement must match both. It writes the hash back unchanged.
    table = SealedTable(tables.artifacts, key, _VERSION)
    return Work("artifacts", table, lambda key, values: _version(Sealing(seal), seal, key, values))


async def _version(sealing: Sealing, seal: Seal, key: tuple[Any, ...], values: Values) -> Values | None:
    app_name, user_id, session_id, *_ = key
    content, filename, part, metadata = values
    assert filename is not None, "the column is NOT NULL"
    assert part is not None, "the column is NOT NULL"
    assert metadata is not None, "the column is NOT NULL"
    current = await seal.current(app_name, user_id)
    if all(_native.sealed_with(value, form="jsonb") == current for value in (part, metadata)):
        return None
    name = _name(app_name, user_id, session_id, filename.decode())
    part = await sealing.part(name, content, await sealing.open_part(name, content, part))
    metadata = await sealing.metadata(name, await sealing.open_metadata(name, metadata))
    return content, filename, part, metadata


class Contents:
    """The contents, which hold the bytes of versions.

    Each content is uploaded anew, one chunk at a time. Then it replaces the old content.
    """

    def __init__(self, lanes: Lanes, tables: ArtifactTables, seal: Seal) -> None:
        self.table = SealedTable(tables.contents, (*KEY, ("hash", "bytea")), ())
        self._lanes = lanes
        self._seal = seal
        self._sealing = Sealing(seal)
        self._sql = SealedContents(tables)
        self._statements = ArtifactStatements(tables)

    async def again(self, row: Row) -> bool:
        """Store a content anew if its key is not the current one. Return whether it was stored."""
        app_name, user_id, content = row
        uploaded: tuple[bytes, bytes, CustomType] | None = None
        while True:
            versions = await self._fetch(self._sql.versions, [app_name, user_id, CustomType(content)])
            if not versions:  # deleted, stored anew by another process, or without a version
                return False
            uses, blob_id, size = versions[0][:3]
            names = [
                _name(app_name, user_id, session, filename) for *_, session, _, filename, _, _ in versions
            ]
            if uploaded is None or uploaded[0] != blob_id:
                made = await self._upload(names[0], content, blob_id, size)
                if made is None:
                    return False
                uploaded = (blob_id, *made)
            _, new, new_blob = uploaded
            rows = []
            for name, (*_, session, name_hash, _, version, part) in zip(names, versions, strict=True):
                plain = await self._sealing.open_part(name, content, part)
                number = version.to_bytes(8, "big")
                rows.append([session.encode(), name_hash, number, await self._sealing.part(name, new, plain)])
            given = [app_name, user_id, CustomType(content), uses, CustomType(new), new_blob]
            given += arrays(("varchar", "bytea", "bigint", "jsonb"), rows)
            # If somebody has saved the same content meanwhile, it has more uses. Then read its versions
            # again.
            if await self._fetch(self._sql.replace, given, Repeat.NEVER):
                return True

    async def _upload(
        self, name: Name, content: bytes, blob_id: bytes, size: int
    ) -> tuple[bytes, CustomType] | None:
        """The new hash and the new blob, which no version uses yet; `None` if the key is the current one."""
        owner = [name.app_name, name.user_id]
        current = await self._seal.current(*owner)
        leads = await self._fetch(self._sql.leads, [*owner, CustomType(blob_id)])
        if all(_native.sealed_with(lead, form="bytea") == current for (lead,) in leads):
            return None
        digest, length = hashlib.sha256(), 0
        async for chunk in self._chunks(name, content, blob_id, len(leads)):
            digest.update(chunk)
            length += len(chunk)
        if length != size:
            raise DatabaseError(
                f"{name.place} has {length} bytes instead of {size}: it was changed in the database"
            )
        new, new_blob = await self._sealing.content_hash(name, digest.digest()), new_blob_id()
        now = datetime.now(timezone.utc)
        await self._fetch(
            self._statements.begin_upload, [*owner, new_blob, now, now - ABANDONED], Repeat.AFTER_FAILURE
        )
        number = 0
        async for chunk in self._chunks(name, content, blob_id, len(leads)):
            sealed = CustomType(await self._sealing.chunk(name, new, number, chunk))
            await self._fetch(
                self._statements.upload_chunk, [*owner, new_blob, number, sealed], Repeat.AFTER_FAILURE
            )
            number += 1
        return new, new_blob

    async def _chunks(self, name: Name, content: bytes, blob_id: bytes, many: int) -> AsyncIterator[bytes]:
        for number in range(many):
            given = [name.app_name, name.user_id, CustomType(blob_id), number]
            for (data,) in await self._fetch(self._statements.load_chunk, given):
                yield await self._sealing.open_chunk(name, content, number, data)

    async def _fetch(self, sql: str, given: list[Any], repeat: Repeat = Repeat.READ) -> list[Row]:
        return await self._lanes.fetch(sql, given, _RAW, repeat=repeat)


def _name(app_name: str, user_id: str, session_id: str, filename: str) -> Name:
    bare = filename.removeprefix(USER_PREFIX)
    return Name(app_name, user_id, session_id, filename, bare, session_id or None)
