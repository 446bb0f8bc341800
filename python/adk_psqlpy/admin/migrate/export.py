"""Writing the content of adk-psqlpy's tables as JSON Lines."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Final

from adk_psqlpy.admin.migrate import documents
from adk_psqlpy.admin.migrate.records import (
    ArtifactRecord,
    Counts,
    MemoryRecord,
    Record,
    SessionEvents,
    SessionHead,
    SharedState,
)
from adk_psqlpy.admin.migrate.report import MigrationProgress, MigrationReport
from adk_psqlpy.admin.migrate.run import AHEAD, MigrationOptions, ahead, migrate
from adk_psqlpy.admin.migrate.sources.base import SourceError
from adk_psqlpy.admin.migrate.sources.own import OwnSource
from adk_psqlpy.admin.table_names import TableNames
from adk_psqlpy.config import PsqlpyConfig
from adk_psqlpy.seal.seal import Seal

_BUFFER: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written: the number of each kind, the number of bytes, and the SHA-256 of all lines but the
    last.
    """

    counts: Counts
    size: int
    sha256: str


async def export(
    config: PsqlpyConfig,
    target: Path | BinaryIO,
    *,
    app_name: str | None = None,
    user_id: str | None = None,
    names: TableNames | None = None,
    seal: Seal | None = None,
    on_progress: Callable[[MigrationProgress], None] | None = None,
) -> ExportReport:
    """Write sessions with events, states, memories and artifacts as JSON Lines that ADK's own classes read.

    Each session is exported as it was at one moment. Sessions that are created while the export runs may be
    missing. The file appears complete or not at all: it is written under another name, and renamed at the
    end.

    Args:
        config: where the tables are; its pool stays open.
        target: a file, which is overwritten, or an open binary stream.
        app_name: only this app.
        user_id: only this user of the app, with the app's state.
        names: the tables, if they are not the usual ones.
        seal: opens what is sealed. What is written is plain text.
        on_progress: called now and then with how far it is.

    Raises:
        ValueError: a user is given without an app.
        SourceError: there are no tables of adk-psqlpy.
        SealError: a value is sealed, and there is no `seal`, or it does not open.
        OSError: the file cannot be written.
        psqlpy.exceptions.Error: the database failed.
    """
    if user_id is not None and app_name is None:
        raise ValueError("user_id is given without app_name: a user belongs to an app")
    source = OwnSource(
        config, names or TableNames(), app_name=app_name, user_id=user_id, close=False, seal=seal
    )
    if not isinstance(target, Path):
        return await _write(source, target, on_progress)
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            report = await _write(source, file, on_progress)
            await asyncio.to_thread(os.fsync, file.fileno())
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
    return report


async def _write(
    source: OwnSource, stream: BinaryIO, on_progress: Callable[[MigrationProgress], None] | None
) -> ExportReport:
    counts = Counts()
    digest, size = hashlib.sha256(), 0
    buffer = bytearray()

    async def write(*, all_of_it: bool = False) -> None:
        if len(buffer) >= _BUFFER or all_of_it:
            await asyncio.to_thread(stream.write, bytes(buffer))
            buffer.clear()

    def add(document: dict[str, object]) -> None:
        nonlocal size
        line = documents.line(document)
        digest.update(line)
        size += len(line)
        buffer.extend(line)

    async with source:
        expected = await source.count()
        head = {"type": "header", "format": documents.FORMAT, "version": documents.VERSION}
        add(head | {"create_time": time.time(), "counts": asdict(expected)})
        key: tuple[str, str, str] | None = None
        async for record in ahead(source.read(), AHEAD):
            if isinstance(record, SessionHead):
                key = record.key
            for document in documents.documents(record, key):
                add(document)
            _count(counts, record)
            await write()
            if on_progress is not None:
                done = (counts.sessions or 0, counts.events or 0, counts.memories or 0, counts.artifacts or 0)
                on_progress(MigrationProgress(*done, expected))
    sha256 = digest.hexdigest()
    add({"type": "end", "counts": asdict(counts), "sha256": sha256})
    await write(all_of_it=True)
    await asyncio.to_thread(stream.flush)
    return ExportReport(counts, size, sha256)


def _count(counts: Counts, record: Record) -> None:
    name, many = "", 1
    if isinstance(record, SessionEvents):
        name, many = "events", len(record.events)
    elif isinstance(record, SessionHead):
        name = "sessions"
    elif isinstance(record, SharedState):
        name = "states"
    elif isinstance(record, MemoryRecord):
        name = "memories"
    elif isinstance(record, ArtifactRecord):
        name = "artifacts"
    if name:
        setattr(counts, name, getattr(counts, name) + many)


async def load_export(
    source: Path | str, target: PsqlpyConfig, options: MigrationOptions | None = None
) -> MigrationReport:
    """Read what `export` wrote into tables of adk-psqlpy. This is `migrate` for exports only.

    After a round trip these are equal: sessions with their times, revisions, events, initial states and
    changes of state; shared states; memories; artifacts with their versions.

    Args:
        source: the file, or `"-"` for standard input.
        target: where to; its pool stays open.
        options: as for `migrate`.

    Raises:
        SourceError: the file is not an export. Other errors are those of `migrate`.
    """
    check_export(str(source))
    return await migrate(source, target, options)


def check_export(source: str) -> None:
    """Refuse a path that cannot be an export, before it is taken for another kind of source.

    Raises:
        SourceError: it is a URL, a folder, or does not begin as an export does.
    """
    if source == "-":
        return
    path = Path(source)
    if not path.is_file():
        raise SourceError(f"there is no file {path}")
    with path.open("rb") as file:
        if not file.read(1) == b"{":
            raise SourceError(
                f"{path} is not an export of adk-psqlpy: import reads exports; migrate reads everything else"
            )
