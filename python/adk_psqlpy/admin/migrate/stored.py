"""Reading many stored sessions of adk-psqlpy at a time, to verify or to export them."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

from adk_psqlpy import _native
from adk_psqlpy.admin.migrate import copying
from adk_psqlpy.admin.migrate.records import Fork, SessionEvents, StateChange
from adk_psqlpy.connections import binary
from adk_psqlpy.connections.lanes import Decoders, Lanes
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.seal.seal import Seal
from adk_psqlpy.sessions.values import Values
from adk_psqlpy.sql import event_columns
from adk_psqlpy.sql.carry import CHUNK, CarryStatements
from adk_psqlpy.sql.tables import Tables

Key = tuple[str, str, str]

READ_EVENTS: Final = 2_000
"""How many events are read at a time."""

READ_BYTES: Final = 16 << 20
"""How many bytes of events are read at a time, plus one chunk."""

DECODERS: Final[Decoders] = {
    "state": binary.raw,
    "initial_state": binary.raw,
    "delta": binary.raw,
    "origin_create_time": binary.unix_micros,
    "create_time": binary.unix_micros,
    "update_time": binary.unix_micros,
    **dict.fromkeys(event_columns.ARRAYS, binary.raw),
}


@dataclass(frozen=True, slots=True)
class StoredHead:
    """A stored session without its events. `bytes` is the space that the events take on disk."""

    key: Key
    state: dict[str, Any]
    initial_state: dict[str, Any] | None
    create_micros: int
    update_micros: int
    revision: int
    events: int
    last_seq: int
    bytes: int
    changes: int


def place_of(key: Key) -> str:
    """The session in an error message."""
    app_name, user_id, session_id = key
    return f"session {session_id!r} of user {user_id!r} in app {app_name!r}"


def key_arrays(keys: Sequence[Key]) -> list[Any]:
    """The first three parameters of the statements."""
    rows = [[part.encode() for part in key] for key in keys]
    return list(binary.arrays(("varchar", "varchar", "varchar"), rows))  # type: ignore[arg-type]


class StoredSessions:
    """Reads sessions of one set of tables."""

    def __init__(self, lanes: Lanes, tables: Tables, seal: Seal | None = None) -> None:
        self._lanes = lanes
        self._values = Values(seal)
        self._sql = CarryStatements(tables)

    async def heads(self, keys: Sequence[Key]) -> dict[Key, StoredHead]:
        """Return those of the sessions that exist."""
        rows = await self._lanes.fetch(
            self._sql.heads, key_arrays(keys), DECODERS, kind="list", repeat=Repeat.READ
        )
        heads = [await self._head(keys[place - 1], rest) for place, *rest in rows]
        return {head.key: head for head in heads}

    async def events(self, heads: Sequence[StoredHead]) -> AsyncIterator[tuple[StoredHead, SessionEvents]]:
        """Yield the events of sessions, session after session and in order, in parts of a few megabytes.

        Changes of state come before a session's first events.
        """
        changes = await self._changes([head for head in heads if head.changes])
        for group in _groups(heads):
            async for head, part in self._group(group):
                if head.key in changes:
                    yield head, SessionEvents(seqs=[], changes=changes.pop(head.key))
                yield head, part
        for head in heads:
            if head.key in changes:
                yield head, SessionEvents(seqs=[], changes=changes[head.key])

    async def _group(self, group: list[StoredHead]) -> AsyncIterator[tuple[StoredHead, SessionEvents]]:
        """Read small sessions in one statement, and a large one in ranges of its events."""
        head = group[0]
        if len(group) > 1 or (head.events <= READ_EVENTS and head.bytes <= READ_BYTES):
            ranges = [(0, 2**63 - 1)]
        else:
            width = _width(head)
            ranges = [(first, first + width - 1) for first in range(0, head.last_seq + 1, width)]
        for first, last in ranges:
            async for part in self._read(group, first, last):
                yield part

    async def _read(
        self, heads: Sequence[StoredHead], first: int, last: int
    ) -> AsyncIterator[tuple[StoredHead, SessionEvents]]:
        (lasts,) = binary.arrays(("bigint",), [[head.last_seq.to_bytes(8, "big")] for head in heads])
        parameters = [*key_arrays([head.key for head in heads]), lasts, first, last]
        rows = await self._lanes.fetch(
            self._sql.events, parameters, DECODERS, kind="list", repeat=Repeat.READ
        )
        rows.sort(key=itemgetter(0, 1))
        for place, _, seqs, *arrays in rows:
            head = heads[place - 1]
            if seqs:
                events = await self._values.events(head.key, [tuple(arrays)], place_of(head.key))
                yield head, SessionEvents(events, seqs=seqs)

    async def _changes(self, heads: Sequence[StoredHead]) -> dict[Key, list[StateChange]]:
        found: dict[Key, list[StateChange]] = {}
        if heads:
            parameters = key_arrays([head.key for head in heads])
            rows = await self._lanes.fetch(
                self._sql.changes, parameters, DECODERS, kind="list", repeat=Repeat.READ
            )
            for place, revision, delta, micros in rows:
                key = heads[place - 1].key
                change = StateChange(revision, await self._state(key, delta), micros)
                found.setdefault(key, []).append(change)
        return found

    async def forks(self, keys: Sequence[Key]) -> dict[Key, Fork]:
        """The origins of those sessions that are forks."""
        rows = await self._lanes.fetch(
            self._sql.forks, key_arrays(keys), DECODERS, kind="list", repeat=Repeat.READ
        )
        return {keys[place - 1]: Fork(*rest) for place, *rest in rows}

    async def page(
        self, app_name: str | None, user_id: str | None, after: Key, limit: int
    ) -> list[StoredHead]:
        """The sessions that come after a key, in the order of the keys."""
        rows = await self._lanes.fetch(
            self._sql.session_page,
            [app_name, user_id, *after, limit],
            DECODERS,
            kind="list",
            repeat=Repeat.READ,
        )
        return [await self._head((app, user, identity), rest) for app, user, identity, *rest in rows]

    async def _head(self, key: Key, row: Sequence[Any]) -> StoredHead:
        state, initial, *rest = row
        known = None if initial is None else await self._state(key, initial)
        return StoredHead(key, await self._state(key, state), known, *rest)

    async def _state(self, key: Key, value: bytes) -> dict[str, Any]:
        return await self._values.state(key, value, None, None, place_of(key))


def _groups(heads: Sequence[StoredHead]) -> list[list[StoredHead]]:
    """Sessions that are read together."""
    groups: list[list[StoredHead]] = []
    events = size = 0
    for head in heads:
        if not head.events:
            continue
        if not groups or events + head.events > READ_EVENTS or size + head.bytes > READ_BYTES:
            groups.append([])
            events = size = 0
        groups[-1].append(head)
        events += head.events
        size += head.bytes
    return groups


def _width(head: StoredHead) -> int:
    """How many values of `seq` of a large session are read at a time, in whole chunks."""
    average = max(1, head.bytes // head.events)
    return max(1, min(READ_EVENTS, READ_BYTES // average) // CHUNK) * CHUNK


class SessionDigest:
    """SHA-256 over a session's events in their order and in the form in which they are stored.

    A second one is over the changes of its state that came without an event.
    """

    def __init__(self) -> None:
        self._events = hashlib.sha256()
        self._changes = hashlib.sha256()
        self.events = 0
        self.changes = 0

    def add(self, fields: bytes) -> None:
        """Take the next event, as `copying.fields` gives it."""
        self._events.update(fields)
        self.events += 1

    def add_change(self, change: StateChange) -> None:
        """Take the next change of state."""
        values = [change.revision.to_bytes(8, "big"), _native.encode_json(change.delta)]
        self._changes.update(copying.fields([*values, binary.timestamptz(change.create_micros)]))
        self.changes += 1

    def add_stored(self, part: SessionEvents, key_length: int) -> None:
        """Take the events and changes that were read from the tables."""
        for change in part.changes:
            self.add_change(change)
        for event in part.events:
            self.add(copying.fields(_native.encode_event(event, key_length)))

    @property
    def value(self) -> bytes:
        """The digest of the events that were added so far."""
        return self._events.digest()

    @property
    def changes_value(self) -> bytes:
        """The digest of the changes that were added so far."""
        return self._changes.digest()
