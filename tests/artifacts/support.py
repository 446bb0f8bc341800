"""What the tests of artifacts share: parts, looking beside the service, and statements held open."""

from __future__ import annotations

import hashlib
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from google.genai import types

from adk_psqlpy import PsqlpyConfig
from adk_psqlpy.artifacts import PsqlpyArtifactService
from adk_psqlpy.artifacts.blobs import CHUNK
from servers import run_sql

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from psqlpy import Connection

KEY = {"app_name": "app", "user_id": "user", "session_id": "s"}
TABLES = ("adk_artifacts", "adk_artifact_names", "adk_artifact_contents", "adk_artifact_blobs")


def content(size: int, seed: int = 0) -> bytes:
    """So many bytes, others for each seed."""
    return random.Random(seed).randbytes(size)


def png(data: bytes) -> types.Part:
    """A part of these bytes."""
    return types.Part(inline_data=types.Blob(mime_type="image/png", data=data))


LARGE = 3 * CHUNK + 17


def count(dsn: str, table: str, where: str = "true") -> int:
    """Rows of a table."""
    ((row,),) = run_sql(dsn, f"SELECT count(*) AS n FROM {table} WHERE {where}")
    return int(row["n"])


def counts(dsn: str) -> tuple[int, int, int, int, int]:
    """Versions, names, contents, blobs, chunks."""
    return tuple(count(dsn, table) for table in (*TABLES, "adk_artifact_chunks"))  # type: ignore[return-value]


def assert_sound(dsn: str) -> None:
    """Every version has its bytes, whole and unchanged, and nothing is there that no version has."""
    ((*rows,),) = run_sql(
        dsn,
        """SELECT v.hash AS hash, v.size AS size, c.size AS content_size,
                  (SELECT string_agg(k.data, ''::bytea ORDER BY k.number) FROM adk_artifact_chunks AS k
                   WHERE (k.app_name, k.user_id, k.blob_id) = (c.app_name, c.user_id, c.blob_id)) AS data
           FROM adk_artifacts AS v
           LEFT JOIN adk_artifact_contents AS c USING (app_name, user_id, hash)
           WHERE v.hash IS NOT NULL""",
    )
    for row in rows:
        data = row["data"]
        assert data is not None, "a version has lost its bytes"
        assert (len(data), len(data)) == (row["size"], row["content_size"])
        assert hashlib.sha256(data).digest() == row["hash"]
    same = "(c.app_name, c.user_id, c.hash) = (v.app_name, v.user_id, v.hash)"
    unused = f"NOT EXISTS (SELECT FROM adk_artifacts AS v WHERE {same})"
    assert count(dsn, "adk_artifact_contents AS c", unused) == 0
    held = "(c.app_name, c.user_id, c.blob_id) = (b.app_name, b.user_id, b.blob_id)"
    lost = f"NOT EXISTS (SELECT FROM adk_artifact_contents AS c WHERE {held})"
    assert count(dsn, "adk_artifact_blobs AS b", lost) == 0
    assert count(dsn, "adk_artifact_blobs", "NOT published") == 0


class OneConnection:
    """In the place of a service's lanes: all goes through one connection, in the transaction open there."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    async def fetch(self, sql: str, parameters: list[Any], decoders: Any = None, **_: Any) -> list[Any]:
        result = await self.connection.fetch(sql, parameters)
        return result.result(as_tuple=True, custom_decoders=decoders)


@asynccontextmanager
async def held_open(config: PsqlpyConfig) -> AsyncIterator[tuple[PsqlpyArtifactService, Connection]]:
    """A service whose statements all belong to one transaction, which the test ends (or the block undoes)."""
    async with config.provide_connection() as connection:
        service = PsqlpyArtifactService(config)
        await service.create_tables()
        service._lanes = OneConnection(connection)  # type: ignore[assignment]
        await connection.execute("BEGIN")
        yield service, connection
