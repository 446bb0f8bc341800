"""Sending and reading bytes in chunks, with few copies in memory at any time."""

from __future__ import annotations

import asyncio
import hashlib
import io
import uuid
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

from psqlpy.exceptions import DatabaseError
from psqlpy.extra_types import CustomType

from adk_psqlpy.artifacts.names import Name
from adk_psqlpy.artifacts.sealing import Sealing
from adk_psqlpy.connections.lanes import Lanes
from adk_psqlpy.connections.replica import Reads
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.sql.artifacts import ArtifactStatements

CHUNK: Final = 1 << 20
"""Bytes in a chunk. Larger chunks make larger copies on the way, so this is the smallest of the fast sizes.
Measured with two chunks in flight (Unix socket, 2 cores), MiB/s up and down: 256 KiB 101 and 627, 512 KiB 206
and 880, 1 MiB 233 and 845, 2 MiB 254 and 848, 4 MiB 189 and 844, 8 MiB 162 and 409, 16 MiB 99 and 220.
"""

IN_FLIGHT: Final = 2
"""Chunks of one artifact under way at a time. MiB/s up and down: one 214 and 663, two 233 and 845, three 244
and 1,006."""

_OTHER_THREAD: Final = 1 << 20
"""Above this size, hashing (1.1 GiB/s) would block the event loop for more than a millisecond."""


async def digest(data: bytes) -> bytes:
    """SHA-256. It is twice as fast as BLAKE2b here, because processors have instructions for it."""
    if len(data) > _OTHER_THREAD:
        return (await asyncio.to_thread(hashlib.sha256, data)).digest()
    return hashlib.sha256(data).digest()


def new_blob_id() -> CustomType:
    """A random uuid as a parameter."""
    return CustomType(uuid.uuid4().bytes)


class Blobs:
    """Uploads and downloads of one artifact's blobs. `content` is the stored hash of the whole."""

    def __init__(
        self, lanes: Lanes, reads: Reads, sql: ArtifactStatements, name: Name, sealing: Sealing
    ) -> None:
        self._lanes = lanes
        self._reads = reads
        self._sql = sql
        self._name = name
        self._sealing = sealing
        self._owner = [name.app_name, name.user_id]

    async def upload(
        self, data: bytes, content: bytes, now: datetime, stale_before: datetime
    ) -> CustomType | None:
        """Send bytes as chunks of a new blob, which nobody sees yet; `None` if it was cleared away meanwhile.

        After an error or a cancellation the blob stays unpublished. It is then garbage, which `begin_upload`
        of a later save removes, or `clear_uploads`.
        """
        blob_id = new_blob_id()
        begin = [*self._owner, blob_id, now, stale_before]
        await self._lanes.fetch(self._sql.begin_upload, begin, repeat=Repeat.AFTER_FAILURE)
        present = True
        view = memoryview(data)

        async def send(number: int) -> bool:
            nonlocal present
            # Copied into bytes: the driver reads a memoryview byte by byte (40 MiB/s; bytes reached 100).
            part = bytes(view[number * CHUNK : (number + 1) * CHUNK])
            chunk = CustomType(await self._sealing.chunk(self._name, content, number, part))
            parameters = [*self._owner, blob_id, number, chunk]
            rows = await self._lanes.fetch(self._sql.upload_chunk, parameters, repeat=Repeat.AFTER_FAILURE)
            present = present and bool(rows)
            return present

        await _each(range(-(-len(data) // CHUNK)), send)
        return blob_id if present else None

    async def download(self, blob_id: bytes, content: bytes, size: int, first: bytes) -> bytes | None:
        """Put a blob together, after its first chunk, which is given opened; `None` if the blob was deleted
        meanwhile.

        In CPython, `BytesIO.getvalue` hands over the buffer without a copy, so nothing is held twice.
        """
        whole = io.BytesIO()
        whole.seek(size - 1)
        whole.write(b"\0")
        whole.seek(0)
        whole.write(first)
        length = len(first)
        identity = CustomType(blob_id)
        present = True

        async def receive(number: int) -> bool:
            nonlocal present
            # May be read on the replica: a server that has the version has its chunks, which were stored
            # before it.
            parameters = [*self._owner, identity, number]
            rows = await self._reads.fetch(self._sql.load_chunk, parameters, {"data": _raw})
            if rows:
                chunk = await self._sealing.open_chunk(self._name, content, number, rows[0][0])
                if len(chunk) != min(length, size - number * length):
                    raise DatabaseError(
                        f"chunk {number} of an artifact of {size} bytes has {len(chunk)} bytes instead of "
                        f"{min(length, size - number * length)}: it was changed in the database"
                    )
                whole.seek(number * length)
                whole.write(chunk)
            present = present and bool(rows)
            return present

        await _each(range(1, -(-size // length)), receive)
        return whole.getvalue() if present else None


async def _each(numbers: range, work: Callable[[int], Awaitable[bool]]) -> None:
    """Do `work` for each number, `IN_FLIGHT` at a time, until one returns `False` or raises.

    When it ends, also by cancellation, no work is under way any more in this process.
    """
    waiting = iter(numbers)

    async def worker() -> None:
        for number in waiting:
            if not await work(number):
                return

    workers = [asyncio.create_task(worker()) for _ in range(min(IN_FLIGHT, len(numbers)))]
    try:
        await asyncio.gather(*workers)
    finally:
        for task in workers:
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


def _raw(value: bytes) -> bytes:
    return value
