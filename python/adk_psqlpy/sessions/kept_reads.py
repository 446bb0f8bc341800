"""Reading only what is new of a session, and taking the rest from what the process has read before."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Final

from google.adk.events.event import Event
from psqlpy.exceptions import BaseConnectionPoolError, Error
from psqlpy.extra_types import CustomType

from adk_psqlpy import _native
from adk_psqlpy._native import Recording
from adk_psqlpy.connections import binary
from adk_psqlpy.connections.lanes import Decoders, Row
from adk_psqlpy.sessions.histories import Chunk, Histories, History, Key
from adk_psqlpy.sessions.paging import HEAD, Pages, Read
from adk_psqlpy.sql.delegated_kept import DelegatedKeptStatements
from adk_psqlpy.sql.kept import FIRST_SEQ, LAST_SEQ, KeptStatements
from adk_psqlpy.sql.reading import CHUNK, ReadStatements
from adk_psqlpy.telemetry import Telemetry

logger: Final = logging.getLogger("adk_psqlpy")

_GIVE_UP_AFTER: Final = 3


class KeptReads:
    """Reads sessions as `Pages` does, whole or the newest events, with less to ask of the server.

    Each answer is what a full read would give. In the statement that reads, the server compares the versions
    of all rows with those that the kept events were made from (`KeptStatements.get_unknown`).
    """

    def __init__(
        self,
        sql: ReadStatements,
        read: Read,
        decoders: Decoders,
        pages: Pages,
        histories: Histories,
        telemetry: Telemetry,
    ) -> None:
        """Read by `read(sql, parameters, decoders)`. `pages` reads sessions that are too large for one
        answer.
        """
        self._sql: KeptStatements = KeptStatements(sql.tables)
        self._read = read
        self._decoders = decoders
        self._pages = pages
        self._histories = histories
        self._telemetry = telemetry
        self._failures = 0

    def write_through(self, sql: DelegatedKeptStatements, pages: Pages) -> None:
        """Read distributed tables from now on. What was kept before is read anew, as if of another server."""
        self._sql, self._pages, self._failures = sql, pages, 0

    async def get(self, key: Key, place: str, newest: int | None = None) -> tuple[Row, list[Event]] | None:
        """Give the session's row without events and its events, as `Pages.get`.

        Args:
            key: app name, user id, session id.
            place: what to call the session in an error.
            newest: only so many of the newest events.

        Raises:
            psqlpy.exceptions.Error: the server refused the read.
        """
        known = self._histories.get(key)
        if known is not None and not known.chunks:
            # If the session was made again, it begins before `next_seq`, where no chunk is.
            known = None
        is_full = self._failures >= _GIVE_UP_AFTER or self._histories.is_too_large(key)
        if is_full or (newest is not None and known is None):
            return await self._pages.get(key, *_which(newest), place)
        before, asked = ((), ()) if known is None else _parted(known.chunks, newest)
        firsts = [FIRST_SEQ] if known is None else [*_firsts(asked), known.next_seq]
        if before:
            firsts[0] = asked[0].first_seq
        parameters = [*key, _bigints(firsts), _bigints([chunk.digest for chunk in asked])]
        try:
            rows = await self._read(self._sql.get_unknown, parameters, self._decoders)
        except (TimeoutError, BaseConnectionPoolError):
            raise
        except Error as error:
            return await self._plain(key, place, newest, error)
        self._failures = 0
        if not rows:
            self._histories.discard(key)
            return None
        rows.sort(key=itemgetter(0))
        head, *changed = rows
        server, _, seed = head[HEAD : HEAD + 3]
        if known is not None:
            known = replace(known, chunks=asked)
        chunks, next_seq, events, sent = _assembled(known, changed, place)
        self._histories.put(key, History.of((*before, *chunks), next_seq, (server, seed)))
        if newest is not None and len(events) < newest and before:
            # Some of the newest were deleted, so others are among the newest now.
            found = await self.get(key, place)
            return found and (found[0], found[1][-newest:])
        events = events if newest is None else events[-newest:]
        self._telemetry.record_history(kept=max(len(events) - sent, 0), sent=sent)
        return head[:HEAD], events

    async def _plain(
        self, key: Key, place: str, newest: int | None, error: Error
    ) -> tuple[Row, list[Event]] | None:
        """Read without what is kept, after that has failed: it is too large, say, or the table is a view."""
        self._histories.discard(key)
        found = await self._pages.get(key, *_which(newest), place)
        self._failures += 1
        if self._failures == _GIVE_UP_AFTER:
            logger.warning(
                "sessions are read in full from now on: reading what is new failed %d times in a row where a "
                "full read did not (%s). history_cache_bytes=0 of the store turns it off",
                _GIVE_UP_AFTER,
                error,
            )
        return found


def _assembled(
    known: History | None, changed: list[Row], place: str
) -> tuple[list[Chunk], int, list[Event], int]:
    """The chunks as they are now, the `seq` after them, their events, and how many of these the server sent.

    `changed` are the answer's rows of chunks.
    """
    by_number = {} if known is None else dict(enumerate(known.chunks, start=1))
    next_seq = FIRST_SEQ if known is None else known.next_seq
    sent: set[int] = set()
    for number, *row in changed:
        first_seq, last_seq, digest, *arrays = row[HEAD - 1 :]
        if digest is None:
            del by_number[number]
            continue
        by_number[number] = Chunk(first_seq, digest, tuple(arrays))
        next_seq = max(next_seq, min(last_seq, LAST_SEQ - 1) + 1)
        sent.add(number)
    numbers = sorted(by_number)
    chunks = [by_number[number] for number in numbers]
    if known is None:
        arrays_only = (chunk.events for chunk in chunks if isinstance(chunk.events, tuple))
        events = _native.decode_events(*arrays_only, place=place)
        return chunks, next_seq, events, len(events)
    events, recordings = _native.record_events(*(chunk.events for chunk in chunks), place=place)
    sizes = dict(zip(numbers, map(len, recordings), strict=True))
    return _joined(chunks, recordings), next_seq, events, sum(sizes[number] for number in sent)


def _joined(chunks: list[Chunk], recordings: list[Recording]) -> list[Chunk]:
    """Turn chunks into recordings, and join neighbours as long as they are no larger than the server's
    chunks.

    Otherwise there would be a chunk for the few events of each turn, and each would be looked up by itself.
    """
    joined: list[Chunk] = []
    for chunk, recording in zip(chunks, recordings, strict=True):
        last = joined[-1] if joined else None
        if last and isinstance(last.events, Recording) and len(last.events) + len(recording) <= CHUNK:
            events = Recording.joined(last.events, recording)
            joined[-1] = Chunk(last.first_seq, last.digest ^ chunk.digest, events)
        else:
            joined.append(Chunk(chunk.first_seq, chunk.digest, recording))
    return joined


def _which(newest: int | None) -> tuple[str, list[int]]:
    """As `Pages.get` takes it."""
    return ("all", []) if newest is None else ("newest", [newest])


def _parted(chunks: tuple[Chunk, ...], newest: int | None) -> tuple[tuple[Chunk, ...], tuple[Chunk, ...]]:
    """The chunks that the newest events are in as far as is known, and those before them."""
    if newest is None:
        return (), chunks
    first, count = len(chunks), 0
    while first > 0 and count < newest:
        first -= 1
        count += len(chunks[first])
    return chunks[:first], chunks[first:]


def _firsts(chunks: Sequence[Chunk]) -> list[int]:
    """The first `seq` of each chunk. The first chunk has everything before the second one."""
    return [FIRST_SEQ, *(chunk.first_seq for chunk in chunks[1:])] if chunks else []


def _bigints(values: Sequence[int]) -> CustomType:
    """A parameter of the type bigint[]."""
    return binary.arrays(["bigint"], [[value.to_bytes(8, "big", signed=True)] for value in values])[0]
