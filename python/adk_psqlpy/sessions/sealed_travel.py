"""Earlier points of sealed sessions: rows are read, opened, and sealed for the place where they are to be."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from google.adk.sessions.state import State

from adk_psqlpy import _native
from adk_psqlpy.connections.binary import arrays, parameter, raw, timestamptz
from adk_psqlpy.connections.lanes import Decoders
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.seal.seal import Seal
from adk_psqlpy.sessions.points import Point
from adk_psqlpy.sessions.sealed_events import opened_column, opened_event, sealed_event
from adk_psqlpy.sessions.state import scoped
from adk_psqlpy.sql import event_columns
from adk_psqlpy.sql.sealed_travel import SealedTravelStatements
from adk_psqlpy.sql.travel import CUT

if TYPE_CHECKING:
    from adk_psqlpy.sessions.store import PsqlpyADKStore

Key = tuple[str, str, str]

_ACTIONS: Final = event_columns.NAMES.index("actions")
_DECODERS: Final[Decoders] = dict.fromkeys(
    ("create_time", "state", "initial_state", "app_state", "user_state", *event_columns.NAMES), raw
)
_SHARED: Final = (State.APP_PREFIX, State.USER_PREFIX, State.TEMP_PREFIX)


@dataclass(slots=True)
class Past:
    """A session up to a point, as it is stored. Times and values are in PostgreSQL's binary format.

    `events` are `seq` and columns, `changes` revision, delta and time; those up to the point, or none where
    they were not asked for.
    """

    revision: int | None
    create_time: bytes | None
    point: int | None
    state: bytes | None
    initial_state: bytes | None
    app: bytes | None
    user: bytes | None
    events: list[tuple[int, list[bytes | None]]] = field(default_factory=list)
    changes: list[tuple[int, bytes, bytes]] = field(default_factory=list)

    @property
    def unknown(self) -> bool:
        """Whether the state at the point needs an initial state, and there is none."""
        return self.is_earlier and self.initial_state is None

    @property
    def missing(self) -> int:
        """How many revisions up to the point are neither an event nor a change, where that matters."""
        if not self.is_earlier or self.unknown or self.point is None:
            return 0
        return self.point - len(self.events) - len(self.changes)

    @property
    def is_earlier(self) -> bool:
        """Whether the point is before the newest revision."""
        return self.point is not None and self.revision is not None and self.point < self.revision


class SealedTravel:
    """Reads and writes for one store that seals."""

    def __init__(self, store: PsqlpyADKStore, seal: Seal) -> None:
        self._store = store
        self._seal = seal

    async def past(self, key: Key, at: Point, create_time: Any, *, whole: bool) -> Past:
        """Read a session at a point. `whole` reads all columns of its events, and all changes of state."""
        if at.kind == "invocation" and len(at.parameters[0]) > CUT:
            at = await self._long_invocation(key, at)
        given = [*key, create_time, *at.parameters]
        sql = (await self._statements()).past(kind=at.kind, whole=whole)
        rows, beside = await self._store._with_app_state(key[0], self._store._read(sql, given, _DECODERS))
        past: Past | None = None
        events, changes = [], []
        for what, seq, time_, point, state, initial, app, user, *columns in rows:
            if what == "session":
                past = Past(seq, time_, point, state, initial, app or beside, user)
            elif what == "event":
                events.append((seq, columns))
            else:
                changes.append((seq, state, time_))
        assert past is not None, "there is always such a row"
        past.events, past.changes = sorted(events), sorted(changes)
        return past

    async def _long_invocation(self, key: Key, at: Point) -> Point:
        """The point by its revision: an id that is longer than its column stands in the sealed `extra`."""
        (wanted,) = at.parameters
        sql = (await self._statements()).long_invocation
        rows = await self._store._read(sql, [*key, wanted], {"extra": raw})
        for seq, event_id, extra in rows:
            if extra is not None:
                plain = await opened_column(self._seal, key, event_id, "extra", extra)
                # Numbers stay text: Python refuses those of more than 4,300 digits.
                whole = json.loads(plain[1:], parse_int=str, parse_float=str).get("$whole", {})
                if whole.get("invocation_id") == wanted:
                    return Point("seq", (seq - 1,), at.text)
        return at

    async def own_state(self, key: Key, past: Past, place: str) -> dict[str, Any]:
        """The session's own state at the point: initial state and deltas, added up as the server does it."""
        if not past.is_earlier:
            return await self._state(key, past.state, place)
        deltas: list[tuple[int, dict[str, Any]]] = [(0, await self._state(key, past.initial_state, place))]
        deltas += [(seq, await self._state(key, delta, place)) for seq, delta, _ in past.changes]
        for seq, columns in past.events:
            event_id, actions = columns[0], columns[_ACTIONS]
            if event_id is None or actions is None:
                continue
            plain = await opened_column(self._seal, key, event_id.decode(), "actions", actions)
            decoded = _native.decode_json(
                b"\x01" + plain, place=f"{place}, event {event_id.decode()!r}, actions"
            )
            deltas.append((seq, decoded.get("state_delta") or {}))
        state: dict[str, Any] = {}
        for _, delta in sorted(deltas, key=lambda each: each[0]):
            state |= {name: value for name, value in delta.items() if not name.startswith(_SHARED)}
        return state

    async def _state(self, key: Key, value: bytes | None, place: str) -> dict[str, Any]:
        if value is None:
            return {}
        return await self._store._values.state(key, value, None, None, place)

    async def write_fork(self, key: Key, past: Past, session_id: str, place: str) -> bool:
        """Make a session of `past`, read as a whole; whether it was made."""
        new = (key[0], key[1], session_id)
        state = await self._sealed(new, await self.own_state(key, past, place))
        initial = None
        if past.initial_state is not None:
            initial = await self._sealed(new, await self._state(key, past.initial_state, place))
        changes: list[list[bytes | None]] = []
        for seq, delta, time_ in past.changes:
            sealed = await self._sealed(new, await self._state(key, delta, place))
            changes.append([seq.to_bytes(8, "big"), sealed, time_])
        events: list[list[bytes | None]] = []
        for seq, columns in past.events:
            assert columns[0] is not None, "an event has an id"
            opened = await opened_event(self._seal, key, columns[0].decode(), columns)
            events.append([seq.to_bytes(8, "big"), *await sealed_event(self._seal, new, opened)])
        types = ("bigint", *event_columns.TYPES.values())
        now = parameter(timestamptz(time.time_ns() // 1000))
        given: list[Any] = [key[0], key[1], key[2], parameter(past.create_time), session_id, now]
        given += [parameter(state), parameter(initial), past.point]
        given += [*arrays(("bigint", "jsonb", "timestamptz"), changes), *arrays(types, events)]
        sql = (await self._statements()).write_fork
        rows = await self._store._write(sql, given, repeat=Repeat.AFTER_FAILURE)
        return bool(rows[0][0])

    async def _statements(self) -> SealedTravelStatements:
        """The statements for the tables as they are: distributed, or of one server."""
        await self._store._made.ready()
        return self._store._sql.sealed_travel

    async def _sealed(self, key: Key, state: dict[str, Any]) -> bytes:
        """A session's own state, or a delta of it, as it is stored."""
        # All keys are the session's own, so none is taken for one of another scope.
        delta = await self._store._values.sealed_state(key, scoped(state))
        return delta.session or b"\x01{}"
