"""Sealing artifacts before they are stored, and opening them."""

from __future__ import annotations

from adk_psqlpy import _native
from adk_psqlpy.artifacts.names import Name
from adk_psqlpy.seal.seal import Seal

_CHUNK = "artifact chunk"


class Sealing:
    """Seals and opens the values of one service. Without a seal it changes nothing, and refuses sealed
    values.

    Equal contents are found by a hash. With a seal, the hash is keyed: a plain hash would tell who has a
    known file. Chunks are bound to that hash and to their number, so that no other content can take their
    place. The part without its bytes is bound to the artifact and the hash.
    """

    def __init__(self, seal: Seal | None) -> None:
        self._seal = seal

    async def content_hash(self, name: Name, digest: bytes) -> bytes:
        """The stored hash of a content: its SHA-256, or an HMAC of that in letters."""
        if (seal := self._seal) is None:
            return digest
        key_id = await seal.current(name.app_name, name.user_id)
        return _keyed(seal, key_id, name, digest)

    async def content_hashes(self, name: Name, digest: bytes) -> list[bytes]:
        """All hashes that the content may be stored under: plain, or with any of the user's keys."""
        if (seal := self._seal) is None:
            return [digest]
        key_ids = await seal.searched(name.app_name, name.user_id)
        return [digest, *(_keyed(seal, key_id, name, digest) for key_id in key_ids)]

    async def chunk(self, name: Name, content: bytes, number: int, data: bytes) -> bytes:
        """Seal a chunk of the content with this stored hash."""
        return await self._sealed(name, _CHUNK, [content, _numbered(number)], data, "bytea")

    async def open_chunk(self, name: Name, content: bytes, number: int, data: bytes) -> bytes:
        """Undo `chunk`."""
        told = f"{name.place}, chunk {number}"
        return await self._opened(name, _CHUNK, [content, _numbered(number)], data, "bytea", told)

    async def part(self, name: Name, content: bytes | None, rest: bytes) -> bytes:
        """Seal a part without its bytes (jsonb). `content` is its content's stored hash, if it has one."""
        return await self._sealed(name, "artifact part", _artifact(name, content or b""), rest, "jsonb")

    async def open_part(self, name: Name, content: bytes | None, rest: bytes) -> bytes:
        """Undo `part`."""
        place = _artifact(name, content or b"")
        return await self._opened(name, "artifact part", place, rest, "jsonb", f"{name.place}, column part")

    async def metadata(self, name: Name, metadata: bytes) -> bytes:
        """Custom metadata, as jsonb."""
        return await self._sealed(name, "artifact metadata", _artifact(name), metadata, "jsonb")

    async def open_metadata(self, name: Name, metadata: bytes) -> bytes:
        """Undo `metadata`."""
        told = f"{name.place}, column custom_metadata"
        return await self._opened(name, "artifact metadata", _artifact(name), metadata, "jsonb", told)

    async def _sealed(self, name: Name, kind: str, rest: list[bytes], value: bytes, form: str) -> bytes:
        if (seal := self._seal) is None:
            return value
        key_id = await seal.current(name.app_name, name.user_id)
        place = (kind, name.app_name, name.user_id, rest)
        return _native.seal_value(value, seal.keys, key_id, place, form=form)

    async def _opened(
        self, name: Name, kind: str, rest: list[bytes], value: bytes, form: str, told: str
    ) -> bytes:
        place = (kind, name.app_name, name.user_id, rest)
        if (seal := self._seal) is None:
            return _native.open_value(value, None, place, form=form, told=told)
        return await seal.opening(lambda: _native.open_value(value, seal.keys, place, form=form, told=told))


def _keyed(seal: Seal, key_id: str, name: Name, digest: bytes) -> bytes:
    (keyed,) = seal.keys.hash_words(key_id, name.app_name, name.user_id, [f"artifact:{digest.hex()}"])
    return keyed.encode()


def _numbered(number: int) -> bytes:
    return number.to_bytes(4, "big")


def _artifact(name: Name, *further: bytes) -> list[bytes]:
    return [name.scope.encode(), name.bare.encode(), *further]
