"""A file that `export` wrote."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final

from google.adk.events.event import Event
from typing_extensions import Self, override

from adk_psqlpy.admin.migrate import documents
from adk_psqlpy.admin.migrate.records import Counts, Problem, Record, SessionEvents, SessionHead
from adk_psqlpy.admin.migrate.sources.base import PART_BYTES, PART_EVENTS, Source, SourceError, explain

_LINES: Final = 50


class JsonlSource(Source):
    """Reads the lines once, from the first to the last.

    Args:
        path: the file.
        stream: a stream to read instead, such as standard input.
    """

    def __init__(self, path: Path, stream: BinaryIO | None = None) -> None:
        super().__init__()
        self._path = path
        self._given = stream
        self._file: BinaryIO | None = None
        self._head: dict[str, Any] = {}
        self._hash = hashlib.sha256()
        self.description = f"an export of adk-psqlpy, {path}"

    @override
    async def __aenter__(self) -> Self:
        file = self._given if self._given is not None else await asyncio.to_thread(self._path.open, "rb")
        self._file = file
        first = await asyncio.to_thread(file.readline)
        try:
            self._head = json.loads(first)
            known = self._head["format"] == documents.FORMAT and self._head["version"]
        except (KeyError, TypeError, ValueError):
            known = False
        if known != documents.VERSION:
            await self.__aexit__()
            newer = " of a newer version: upgrade adk-psqlpy" if known else ""
            raise SourceError(f"{self._path} is not an export of adk-psqlpy{newer}")
        self._hash.update(first)
        return self

    @override
    async def __aexit__(self, *_: object) -> None:
        if self._file is not None and self._given is None:
            self._file.close()

    @override
    async def count(self) -> Counts:
        counts = self._head.get("counts") or {}
        names = ("sessions", "events", "states", "memories", "artifacts")
        return Counts(*(counts.get(name) for name in names))

    async def _documents(self) -> AsyncIterator[tuple[int, dict[str, Any] | Problem]]:
        file = self._file
        assert file is not None, "used outside of its context"
        number = 1
        while lines := await asyncio.to_thread(lambda: list(islice(file, _LINES))):
            for line in lines:
                number += 1
                try:
                    document = json.loads(line)
                    if document["type"] != "end":
                        self._hash.update(line)
                    yield len(line), document
                except (KeyError, TypeError, ValueError, RecursionError) as error:
                    self._hash.update(line)
                    yield len(line), _bad(f"line {number} cannot be read: {explain(error)}")

    @override
    async def read(self) -> AsyncIterator[Record]:
        session: SessionHead | None = None
        events = changes = 0
        part, size = SessionEvents(seqs=[]), 0
        end: dict[str, Any] | None = None
        async for length, document in self._documents():
            if isinstance(document, Problem):
                yield document
                continue
            kind = document["type"]
            if kind in ("event", "state_change"):
                try:
                    key = documents.key_of(document)
                except KeyError as error:
                    yield _bad(f"a line of type {kind} has no member {error}")
                    continue
                if session is None or key != session.key:
                    yield Problem("event", *key, None, "its line does not follow that of its session")
                    continue
                events += kind == "event"
                changes += kind == "state_change"
                _take(part, document)
                size += length
                if size < PART_BYTES and len(part.events) < PART_EVENTS:
                    continue
            if part.events or part.problems or part.changes:
                yield part
                part, size = SessionEvents(seqs=[]), 0
            if kind in ("event", "state_change"):
                continue
            if session is not None and (problem := _cut(session, events, changes)) is not None:
                yield SessionEvents(problems=[problem])
            session, events, changes = None, 0, 0
            if kind == "end":
                end = document
                continue
            record = _record(kind, document)
            if isinstance(record, SessionHead):
                session = record
            yield record
        if part.events or part.problems or part.changes:
            yield part
        if session is not None and (problem := _cut(session, events, changes)) is not None:
            yield SessionEvents(problems=[problem])
        if end is None:
            yield _bad(f"{self._path} ends before its last line: it was cut off")
        elif end.get("sha256") != self._hash.hexdigest():
            self.differences.append(f"{self._path} was changed after the export: its digest is another one")


def _take(part: SessionEvents, document: dict[str, Any]) -> None:
    key = documents.key_of(document)
    try:
        if document["type"] == "state_change":
            part.changes.append(documents.change_of(document))
            return
        event = Event.model_validate(document["event"])
        seq = document["seq"]
        if not isinstance(seq, int) or not 0 < seq < 2**62:
            raise ValueError(f"its seq is {seq!r}")  # noqa: TRY301
    except (KeyError, TypeError, ValueError) as error:
        named = document.get("event")
        identity = named.get("id") if isinstance(named, dict) else None
        part.problems.append(Problem("event", *key, identity, explain(error)))
        return
    part.events.append(event)
    assert part.seqs is not None
    part.seqs.append(seq)


def _cut(session: SessionHead, events: int, changes: int) -> Problem | None:
    """Tell whether lines of a session are missing."""
    if session.events in (None, events) and session.changes in (None, changes):
        return None
    reason = f"the file has {events:,} of its {session.events or 0:,} events"
    if session.events in (None, events):
        reason = f"the file has {changes:,} of its {session.changes or 0:,} changes of state"
    return Problem("event", *session.key, None, reason)


_READERS: Final[dict[str, Callable[[dict[str, Any]], Record]]] = {
    "state": documents.state_of,
    "session": documents.session_of,
    "memory": documents.memory_of,
    "artifact": documents.artifact_of,
}


def _record(kind: str, document: dict[str, Any]) -> Record:
    reader = _READERS.get(kind)
    if reader is None:
        return _bad(f"a line has the type {kind!r}, which this version does not know")
    try:
        record = reader(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        owner = document.get("session") if kind == "session" else document
        owner = owner if isinstance(owner, dict) else {}
        names = (
            owner.get("app_name"),
            owner.get("user_id"),
            owner.get("id" if kind == "session" else "session_id"),
        )
        app, user, session = (name if isinstance(name, str) else None for name in names)
        reason = f"no member {error}" if isinstance(error, KeyError) else explain(error)
        return Problem(kind, app or "", user, session, document.get("filename"), reason)  # type: ignore[arg-type]
    return record


def _bad(reason: str) -> Problem:
    return Problem("source", "", None, None, None, reason)
