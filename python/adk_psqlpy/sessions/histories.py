"""Keeping the histories that a process has read, so that the next read brings only what is new."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from adk_psqlpy._native import Recording
from adk_psqlpy.sql.reading import CHUNK

Key = tuple[str, str, str]
Arrays = tuple[bytes | None, ...]
Row = tuple[bytes | None, ...]
Origin = tuple[int, int]
"""`server` and `seed`, as `KeptStatements.get_unknown` gives them."""

HISTORY_CACHE_BYTES: Final = 64 << 20
"""The default size. It holds 100,000 events of 600 bytes that were read once, or 35,000 that were read twice,
or 7,000 that are kept as the objects that were handed out last.
"""

_CHUNK_BYTES: Final = 700  # the object, its tuple, integers
_HISTORY_BYTES: Final = 1_500  # key, object, its place in the dict; CPython 3.10 takes the most
_BYTES_OBJECT: Final = 33
_REMEMBERED: Final = 1_000


def _row_bytes(row: Row) -> int:
    return (
        2 * _BYTES_OBJECT
        + 8 * len(row)
        + sum(_BYTES_OBJECT + len(value) for value in row if value is not None)
    )


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive events of a session, up to the next chunk's first `seq`.

    `events` are as the server sent them, or, once they were wanted again, as steps that make them: a session
    that is read once costs nothing more than bytes that are there anyway. A list has the rows that this
    process appended, as it sent them; it is not changed.
    """

    first_seq: int
    digest: int
    events: Arrays | list[Row] | Recording

    def __len__(self) -> int:
        """How many events."""
        if not isinstance(self.events, tuple):
            return len(self.events)
        # An array's head: dimensions, flags, type, then the length (PostgreSQL's array_send).
        first = self.events[0]
        return 0 if first is None else int.from_bytes(first[12:16], "big")

    @property
    def nbytes(self) -> int:
        """The bytes it takes, without events that were lent."""
        if isinstance(self.events, Recording):
            return _CHUNK_BYTES + self.events.nbytes
        if isinstance(self.events, list):
            return _CHUNK_BYTES + sum(map(_row_bytes, self.events))
        arrays = sum(_BYTES_OBJECT + len(array) for array in self.events if array is not None)
        return _CHUNK_BYTES + arrays


@dataclass(frozen=True, slots=True)
class History:
    """The chunks of a session in order, and the `seq` after which nothing is known. It is never changed."""

    chunks: tuple[Chunk, ...]
    next_seq: int
    origin: Origin
    nbytes: int
    lent_nbytes: int

    @classmethod
    def of(cls, chunks: Iterable[Chunk], next_seq: int, origin: Origin) -> History:
        """A history, weighed."""
        chunks = tuple(chunks)
        lent = sum(chunk.events.lent_nbytes for chunk in chunks if isinstance(chunk.events, Recording))
        nbytes = _HISTORY_BYTES + sum(chunk.nbytes for chunk in chunks)
        return cls(chunks, next_seq, origin, nbytes, lent)

    def extended(self, seq: int, version: int, row: Row) -> History:
        """With one more event. If others appended between, it begins a chunk, whose digest tells."""
        *chunks, last = self.chunks or (None,)
        follows = seq == self.next_seq
        if last is not None and follows and isinstance(last.events, list) and len(last.events) < CHUNK:
            added = Chunk(last.first_seq, last.digest ^ version, [*last.events, row])
            more = _row_bytes(row)
            chunks = [*chunks, added]
        else:
            added = Chunk(self.next_seq, version, [row])
            more = added.nbytes
            chunks = [*self.chunks, added]
        return replace(self, chunks=tuple(chunks), next_seq=seq + 1, nbytes=self.nbytes + more)

    def release(self) -> None:
        """Release the events that were lent."""
        for chunk in self.chunks:
            if isinstance(chunk.events, Recording):
                chunk.events.release()


class Histories:
    """The histories that were read last, as many as fit. Several threads may use it.

    No history is freed while the lock is held: that may free what somebody put into an event, and so run code
    that uses the store.

    If memory is short, lent events are released first, beginning with the least recently used history. The
    steps that make them take a quarter of their memory.
    """

    def __init__(self, max_bytes: int) -> None:
        """Keep at most `max_bytes`."""
        self.max_bytes = max_bytes
        self.nbytes = 0
        # Least recently used first. For histories in `_lent`, the events that were handed out last are kept,
        # too.
        self._kept: OrderedDict[Key, History] = OrderedDict()
        self._lent: OrderedDict[Key, int] = OrderedDict()
        self._too_large: OrderedDict[Key, None] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many."""
        return len(self._kept)

    def get(self, key: Key) -> History | None:
        """Return the history kept of a session, and mark it as most recently used."""
        with self._lock:
            history = self._kept.get(key)
            if history is not None:
                self._kept.move_to_end(key)
            return history

    def put(self, key: Key, history: History) -> None:
        """Keep a history in place of the session's last one; let go of the least recently used."""
        with self._lock:
            released, _replaced = self._put(key, history)
        _release(released)

    def origin(self, key: Key) -> Origin | None:
        """What an append to a session needs to say by which version its row is known; `None`: not kept."""
        history = self.get(key)
        return None if history is None else history.origin

    def extend(self, key: Key, origin: Origin, seq: int, version: int, row: Row) -> None:
        """Add an event that was appended, unless the session's history is not what it was any more.

        Args:
            key: of the session.
            origin: which was sent with the append.
            seq: of the event.
            version: of its row.
            row: what was sent.
        """
        released: list[History] = []
        with self._lock:
            history = self._kept.get(key)
            if history is not None and history.origin == origin and seq >= history.next_seq:
                released, _replaced = self._put(key, history.extended(seq, version, row))
        _release(released)

    def _put(self, key: Key, history: History) -> tuple[list[History], History | None]:
        """Returns those to release, and what was replaced. Both are freed without the lock."""
        replaced = self._discard(key)
        if history.nbytes <= self.max_bytes:
            self._keep(key, history)
            return self._let_go(), replaced
        self._too_large[key] = None
        if len(self._too_large) > _REMEMBERED:
            self._too_large.popitem(last=False)
        return [], replaced

    def _keep(self, key: Key, history: History) -> None:
        self._kept[key] = history
        self.nbytes += history.nbytes
        if history.lent_nbytes:
            self._lent[key] = history.lent_nbytes
            self.nbytes += history.lent_nbytes

    def _let_go(self) -> list[History]:
        """Forget histories until the rest fits. Returns them and those whose lent events must be released."""
        released = []
        while self.nbytes > self.max_bytes:
            if self._lent:
                key, lent = self._lent.popitem(last=False)
                self.nbytes -= lent
                released.append(self._kept[key])
                self._kept[key] = replace(self._kept[key], lent_nbytes=0)
            else:
                _, oldest = self._kept.popitem(last=False)
                self.nbytes -= oldest.nbytes
                released.append(oldest)
        return released

    def discard(self, key: Key) -> None:
        """Let go of a session."""
        with self._lock:
            _dropped = self._discard(key)

    def clear(self) -> None:
        """Let go of all."""
        with self._lock:
            _dropped, self._kept = self._kept, OrderedDict()
            self._lent.clear()
            self._too_large.clear()
            self.nbytes = 0

    def is_too_large(self, key: Key) -> bool:
        """Whether the session was too large when it was last kept."""
        return key in self._too_large

    def _discard(self, key: Key) -> History | None:
        """Returns what was kept, for the caller to free without the lock."""
        self._too_large.pop(key, None)
        self.nbytes -= self._lent.pop(key, 0)
        history = self._kept.pop(key, None)
        if history is not None:
            self.nbytes -= history.nbytes
        return history


def _release(histories: list[History]) -> None:
    """Release lent events, without the lock."""
    for history in histories:
        history.release()
