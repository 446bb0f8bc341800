"""Writing memories into the target, with the times and ids that they had."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, Final

from psqlpy.extra_types import CustomType

from adk_psqlpy import _native
from adk_psqlpy.admin.migrate.records import MemoryRecord, Problem
from adk_psqlpy.admin.migrate.report import MigrationReport
from adk_psqlpy.connections import binary
from adk_psqlpy.connections.lanes import Decoders, Row
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.memory import entries
from adk_psqlpy.memory.service import PsqlpyMemoryService
from adk_psqlpy.sql.carry_memories import CarryMemoryStatements
from adk_psqlpy.sql.memory import MemoryStatements, text_search_configuration

BATCH: Final = 200
BATCH_BYTES: Final = 4 << 20

DECODERS: Final[Decoders] = entries.ROW | {"timestamp": binary.unix_micros, "expire_time": binary.unix_micros}


class MemoryWriter:
    """Collects memories and writes them in batches; `finish` writes the rest. `service` names the table."""

    def __init__(
        self, service: PsqlpyMemoryService, report: MigrationReport, *, write: bool, tables_there: bool
    ) -> None:
        self._service = service
        self._sealing = service._sealing
        self._sql = MemoryStatements(service.table, None)
        self._carry = CarryMemoryStatements(service.table)
        self._lanes = service.config.lanes
        self._report = report
        self._write = write
        self._tables_there = tables_there
        self._waiting: dict[tuple[str, str], tuple[MemoryRecord, entries.Stored]] = {}
        self._bytes = 0

    async def add(self, record: MemoryRecord) -> None:
        """A memory."""
        try:
            stored = self._stored(record)
        except ValueError as error:
            self.refuse(_problem(record, str(error)))
            return
        key = (record.session_id, record.id)
        first = next((each for each, _ in self._waiting.values()), record)
        other_owner = (first.app_name, first.user_id) != (record.app_name, record.user_id)
        if other_owner or key in self._waiting or len(self._waiting) >= BATCH or self._bytes >= BATCH_BYTES:
            await self.finish()
        self._waiting[key] = (record, stored)
        self._bytes += len(stored.content)

    def refuse(self, problem: Problem) -> None:
        """Report a memory that cannot be carried."""
        self._report.memories.count("left_out")
        self._report.problem(problem)

    def _stored(self, record: MemoryRecord) -> entries.Stored:
        identifiers = {
            "app_name": record.app_name,
            "user_id": record.user_id,
            "session_id": record.session_id,
            "the id of a memory": record.id,
        }
        for name, value in identifiers.items():
            entries.check_key(name, value, self._service.key_length)
        return entries.Stored(
            record.id,
            record.author,
            record.micros,
            record.time_text,
            entries.encode_content(record.content, 0.0),
            entries.encode_metadata(record.metadata),
            entries.searched_text(record.content),
            record.expire_micros,
        )

    async def finish(self) -> None:
        """Write what was collected so far."""
        waiting, self._waiting, self._bytes = list(self._waiting.values()), {}, 0
        if not waiting:
            return
        before = await self._known(waiting)
        new = [stored for place, (_, stored) in enumerate(waiting, start=1) if place not in before]
        if self._write and new:
            by_session: dict[str, list[entries.Stored]] = {}
            for place, (record, stored) in enumerate(waiting, start=1):
                if place not in before:
                    by_session.setdefault(record.session_id, []).append(stored)
            for session_id, rows in by_session.items():
                await self._insert(waiting[0][0], session_id, rows)
        after = await self._known(waiting) if self._write else before
        for place, (record, stored) in enumerate(waiting, start=1):
            self._outcome(record, stored, after.get(place), copied=place not in before)

    async def _known(self, waiting: list[tuple[MemoryRecord, entries.Stored]]) -> dict[int, Row]:
        if not self._tables_there:
            return {}
        first = waiting[0][0]
        parameters = [
            first.app_name,
            first.user_id,
            entries.texts([record.session_id for record, _ in waiting]),
            entries.texts([record.id for record, _ in waiting]),
        ]
        rows = await self._lanes.fetch(
            self._carry.known, parameters, DECODERS, kind="list", repeat=Repeat.READ
        )
        return {place: await self._opened(waiting[place - 1][0], rest) for place, *rest in rows}

    async def _opened(self, record: MemoryRecord, row: list[Any]) -> Row:
        author, micros, time_text, content, metadata, expires = row
        if content is None:  # deleted
            return tuple(row)
        sealed = (record.id, author, micros, time_text, content, metadata, record.session_id)
        owner = [record.app_name, record.user_id]
        _, _, _, time_text, content, metadata = await self._sealing.opened(owner, sealed)
        return (author, micros, time_text, content, metadata, expires)

    async def _insert(self, owner: MemoryRecord, session_id: str, rows: list[entries.Stored]) -> None:
        language = ".".join(f'"{part}"' for part in text_search_configuration(self._service.language) if part)
        rows = [replace(row) for row in rows]  # what was said is compared afterwards
        await self._sealing.rows([owner.app_name, owner.user_id, session_id], rows)
        now = CustomType(binary.timestamptz(time.time_ns() // 1000))
        await self._lanes.fetch(
            self._sql.add(replace=False),
            [
                owner.app_name,
                owner.user_id,
                session_id,
                language,
                now,
                *entries.columns(sorted(rows, key=lambda row: row.id), vectors=False),
            ],
            repeat=Repeat.AFTER_FAILURE,
        )

    def _outcome(
        self, record: MemoryRecord, stored: entries.Stored, there: Row | None, *, copied: bool
    ) -> None:
        tally = self._report.memories
        if there is None and not self._write:
            tally.count("copied")
        elif there is None or there[3] is None:
            tally.count("different")
            self._report.problem(_problem(record, "it was deleted from the target before, and stays deleted"))
        elif _same(stored, there):
            tally.count("copied" if copied else "equal")
        else:
            tally.count("different")
            self._report.problem(
                _problem(record, "the target holds another memory of this id, which was left as it is")
            )


def _same(stored: entries.Stored, row: Row) -> bool:
    author, micros, time_text, content, metadata, expires = row
    place = f"memory {stored.id!r}"
    return (
        (author, micros, time_text, expires)
        == (stored.author, stored.micros, stored.time_text, stored.expires)
        and _native.decode_json(content, place=place) == _native.decode_json(stored.content, place=place)
        and _native.decode_json(metadata, place=place) == _native.decode_json(stored.metadata, place=place)
    )


def _problem(record: MemoryRecord, reason: str) -> Problem:
    return Problem("memory", record.app_name, record.user_id, record.session_id or None, record.id, reason)
