"""Writing sessions into the target, each as a whole or not at all, and reading each one back."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final

from psqlpy import Connection

from adk_psqlpy import _native
from adk_psqlpy.admin.migrate import copying
from adk_psqlpy.admin.migrate.records import Fork, Problem, SessionEvents, SessionHead, StateChange
from adk_psqlpy.admin.migrate.report import MigrationReport, Outcome
from adk_psqlpy.admin.migrate.stored import Key, SessionDigest, StoredHead, StoredSessions, key_arrays
from adk_psqlpy.checks import check_identifier
from adk_psqlpy.config import PsqlpyConfig
from adk_psqlpy.connections import binary
from adk_psqlpy.sessions.limits import JSONB_BYTES, check_event, check_state
from adk_psqlpy.sessions.state import ScopedState
from adk_psqlpy.sessions.store import PsqlpyADKStore
from adk_psqlpy.sql.carry import BEGIN, COMMIT, EVENT_COLUMNS, CarryStatements
from adk_psqlpy.sql.names import split

FLUSH_BYTES: Final = 4 << 20
"""How many bytes of events are buffered before they are sent."""

COMMIT_BYTES: Final = 16 << 20
"""After this many bytes of events, a transaction ends with the session at hand."""

COMMIT_EVENTS: Final = 5_000
COMMIT_SESSIONS: Final = 1_000
"""The most sessions in a transaction. If the process is killed, these are lost, and are read again."""


class _Place(Enum):
    """Where a session is."""

    BUFFERED = auto()
    INSERTED = auto()
    THERE_BEFORE = auto()
    LEFT_OUT = auto()


@dataclass(slots=True)
class _Session:
    """A session that is being carried."""

    head: SessionHead
    state: bytes
    create_micros: int
    update_micros: int
    place: _Place = _Place.BUFFERED
    digest: SessionDigest = field(default_factory=SessionDigest)
    rows: list[bytes] = field(default_factory=list)
    changes: list[StateChange] = field(default_factory=list)
    bad_events: int = 0
    inserted_revision: int = 0

    @property
    def revision(self) -> int:
        """The number of writes to it so far."""
        return self.digest.events if self.head.revision is None else self.head.revision


class SessionWriter:
    """Writes sessions and their events into the target's tables, as they come.

    A transaction holds many small sessions or one large one, so nobody ever sees a session with only a part
    of its events. A session that exists is compared and never written to.

    Args:
        config: the target.
        store: the target's tables.
        report: where outcomes are counted.
        write: `False` for a dry run.
        keep_rest: whether a session is carried without those of its events that cannot be carried.
    """

    def __init__(
        self,
        config: PsqlpyConfig,
        store: PsqlpyADKStore,
        report: MigrationReport,
        *,
        write: bool = True,
        keep_rest: bool = False,
        tables_there: bool = True,
    ) -> None:
        self._config = config
        self._key_length = store.key_length
        self._sql = CarryStatements(store.tables)
        self._events_schema, self._events_table = split("events_table", store.tables.events_table)
        self._stored = StoredSessions(config.lanes, store.tables, store.seal)
        self._values = store._values
        self._report = report
        self._write = write
        self._keep_rest = keep_rest
        self._tables_there = tables_there
        self._sessions: dict[Key, _Session] = {}
        self._current: _Session | None = None
        self._skipping = False
        self._buffered = self._events = self._bytes = 0
        self.events_taken = 0
        self._stack = AsyncExitStack()
        self._connection: Connection | None = None

    # What comes.

    async def begin(self, head: SessionHead) -> None:
        """Begin a session. If the sessions before are enough for a transaction, they are written and read
        back.
        """
        self._current, self._skipping = None, False
        full = (
            self._events >= COMMIT_EVENTS
            or self._bytes >= COMMIT_BYTES
            or len(self._sessions) >= COMMIT_SESSIONS
        )
        # The source has the session twice: the second one is compared with the first.
        if full or head.key in self._sessions:
            await self.commit()
        try:
            state = self._checked(head)
        except ValueError as error:
            await self.refuse(Problem("session", *head.key, None, str(error)))
            return
        update = _first_known(head.update_micros, head.create_micros)
        create = _first_known(head.create_micros, update)
        self._current = self._sessions[head.key] = _Session(head, state, create, update)

    async def refuse(self, problem: Problem) -> None:
        """Note a session that the source could not read; its events come all the same."""
        self._current, self._skipping = None, True
        self._report.sessions.count("left_out")
        self._report.problem(problem)

    def _checked(self, head: SessionHead) -> bytes:
        """The session's state, after checking whether the session can be stored."""
        for name, value in (("app_name", head.app_name), ("user_id", head.user_id), ("session_id", head.id)):
            check_identifier(name, value, self._key_length, "PsqlpyADKStore")
            if not value:
                raise ValueError(f"{name} is empty")
        state = _native.encode_json(head.state)
        if state is None:
            raise ValueError("its state holds values that are not JSON")
        check_state(state)
        return state

    async def add(self, part: SessionEvents) -> None:
        """Take events of the session that was begun last."""
        events = part.events
        self.events_taken += len(events) + len(part.problems)
        for problem in part.problems:
            self._bad(problem)
        session = self._current
        if session is None:
            if self._skipping:
                self._report.events.count("left_out", len(events))
            return
        for change in part.changes:
            session.digest.add_change(change)
        if session.place in (_Place.BUFFERED, _Place.INSERTED):
            session.changes += part.changes
        key = copying.fields([part.encode() for part in session.head.key])
        for number, event in enumerate(events):
            try:
                columns = _native.encode_event(event, self._key_length)
                size = sum(len(value) for value in columns if value is not None)
                if size > JSONB_BYTES:
                    check_event(event.id, columns, ())
            except ValueError as error:
                self._bad(Problem("event", *session.head.key, event.id, str(error)))
                continue
            fields = copying.fields(columns)
            # Of what was said: sealed, it is other bytes each time.
            session.digest.add(fields)
            self._events += 1
            self._bytes += size
            if session.place in (_Place.BUFFERED, _Place.INSERTED) and self._write:
                seq = session.digest.events if part.seqs is None else part.seqs[number]
                sealed = await self._values.sealed_event(session.head.key, columns)
                fields = copying.fields(sealed)
                session.rows.append(key + copying.fields([seq.to_bytes(8, "big")]) + fields)
                self._buffered += len(fields)
        if self._buffered >= FLUSH_BYTES:
            await self._flush()

    def _bad(self, problem: Problem) -> None:
        self._report.problem(problem)
        session = self._current
        if session is not None and (
            session.head.key == (problem.app_name, problem.user_id, problem.session_id)
        ):
            session.bad_events += 1
        else:
            self._report.events.count("left_out")

    # What is written.

    async def _flush(self) -> None:
        """Send the buffered events, within the transaction."""
        for session in self._sessions.values():
            if session.bad_events and not self._keep_rest and session.place is not _Place.THERE_BEFORE:
                await self._leave_out(session)
        if not self._write:
            return
        new = [each for each in self._sessions.values() if each.place is _Place.BUFFERED]
        if new:
            await self._insert(new)
        rows = [row for each in self._sessions.values() for row in each.rows]
        await self._insert_changes()
        for session in self._sessions.values():
            session.rows, session.changes = [], []
        self._buffered = 0
        if rows:
            connection = await self._transaction()
            await connection.binary_copy_to_table(
                copying.rows(len(EVENT_COLUMNS), rows),
                self._events_table,
                columns=[f'"{name}"' for name in EVENT_COLUMNS],
                schema_name=self._events_schema,
            )

    async def _insert(self, new: list[_Session]) -> None:
        types = ("jsonb", "timestamptz", "timestamptz", "bigint", "jsonb")
        values: list[list[bytes | None]] = [
            [
                await self._sealed(session.head.key, session.state),
                binary.timestamptz(session.create_micros),
                binary.timestamptz(session.update_micros),
                session.revision.to_bytes(8, "big"),
                None
                if session.head.initial_state is None
                else await self._sealed(session.head.key, _native.encode_json(session.head.initial_state)),
            ]
            for session in new
        ]
        parameters = [*key_arrays([each.head.key for each in new]), *binary.arrays(types, values)]
        connection = await self._transaction()
        result = await connection.fetch(self._sql.insert_sessions, parameters)
        inserted = {place for (place,) in result.result(as_tuple=True)}
        for place, session in enumerate(new, start=1):
            if place in inserted:
                session.place, session.inserted_revision = _Place.INSERTED, session.revision
                if session.head.fork is not None:
                    await connection.execute(
                        self._sql.insert_fork, _fork_parameters(session.head.fork, session)
                    )
            else:
                session.place, session.rows, session.changes = _Place.THERE_BEFORE, [], []

    async def _sealed(self, key: Key, state: bytes | None) -> bytes | None:
        """A session's own state, or a delta of it, as it is stored."""
        return (await self._values.sealed_state(key, ScopedState(state, None, None))).session

    async def _insert_changes(self) -> None:
        changes = [(each.head.key, change) for each in self._sessions.values() for change in each.changes]
        if not changes:
            return
        values: list[list[bytes | None]] = [
            [
                change.revision.to_bytes(8, "big"),
                await self._sealed(key, _native.encode_json(change.delta)),
                binary.timestamptz(change.create_micros),
            ]
            for key, change in changes
        ]
        arrays = binary.arrays(("bigint", "jsonb", "timestamptz"), values)
        connection = await self._transaction()
        await connection.execute(
            self._sql.insert_changes, [*key_arrays([key for key, _ in changes]), *arrays]
        )

    async def _leave_out(self, session: _Session) -> None:
        if session.place is _Place.INSERTED:
            connection = await self._transaction()
            await connection.execute(self._sql.withdraw_session, list(session.head.key))
        session.place, session.rows, session.changes = _Place.LEFT_OUT, [], []

    async def _transaction(self) -> Connection:
        if self._connection is None:
            self._connection = await self._stack.enter_async_context(self._config.provide_connection())
            await self._connection.execute(BEGIN)
        return self._connection

    async def commit(self) -> None:
        """End the transaction, and read back what it wrote. A session that was left out is counted."""
        await self._flush()
        if self._connection is not None:
            for session in self._sessions.values():
                # The number of a long session's events was not known when it was inserted.
                if session.place is _Place.INSERTED and session.revision != session.inserted_revision:
                    await self._connection.execute(
                        self._sql.set_revision, [*session.head.key, session.revision]
                    )
            await self._connection.execute(COMMIT)
            await self.close()
        await self._compare([each for each in self._sessions.values() if each.place is not _Place.LEFT_OUT])
        for session in self._sessions.values():
            if session.place is _Place.LEFT_OUT:
                self._count(session, "left_out")
        self._sessions, self._current = {}, None
        self._buffered = self._events = self._bytes = 0

    async def close(self) -> None:
        """Give the connection back; what was not committed is rolled back."""
        self._connection = None
        await self._stack.aclose()

    # What is read back.

    async def _compare(self, sessions: list[_Session]) -> None:
        if not sessions:
            return
        there = await self._stored.heads([each.head.key for each in sessions]) if self._tables_there else {}
        digests = {key: SessionDigest() for key in there}
        async for head, part in self._stored.events(list(there.values())):
            digests[head.key].add_stored(part, self._key_length)
        for session in sessions:
            stored = there.get(session.head.key)
            found = None if stored is None else _difference(session, stored, digests[stored.key])
            self._outcome(session, stored, found)

    def _outcome(self, session: _Session, head: StoredHead | None, difference: str | None) -> None:
        if head is None and not self._write:
            self._count(session, "copied")
        elif head is None:
            self._count(session, "left_out")
            self._tell(session, "it was deleted from the target while it was being carried")
        elif difference is None:
            self._report.verified += 1
            self._count(session, "copied" if session.place is _Place.INSERTED else "equal")
        elif session.place is _Place.INSERTED:
            self._count(session, "different")
            self._tell(
                session,
                f"after reading it back from the target, it is not what the source gave: {difference}",
            )
        else:
            self._count(session, "different")
            self._tell(
                session, f"the target has another session with this id, which was not changed: {difference}"
            )

    def _count(self, session: _Session, outcome: Outcome) -> None:
        self._report.sessions.count(outcome)
        self._report.events.count(outcome, session.digest.events)
        self._report.events.count("left_out", session.bad_events)

    def _tell(self, session: _Session, reason: str) -> None:
        self._report.problem(Problem("session", *session.head.key, None, reason))


def _difference(session: _Session, head: StoredHead, digest: SessionDigest) -> str | None:
    """What differs between a session and the stored one; `None` if they are equal."""
    differing: list[str] = []
    if head.events != session.digest.events:
        differing.append(f"{head.events:,} events where the source has {session.digest.events:,}")
    elif digest.value != session.digest.value:
        differing.append("other events")
    if _native.encode_json(head.state) != session.state:
        differing.append("another state")
    if session.digest.changes_value != digest.changes_value and session.head.revision is not None:
        differing.append("other changes of state")
    if session.head.revision is not None and head.revision != session.head.revision:
        differing.append(f"revision {head.revision:,} where the source has {session.head.revision:,}")
    if session.head.initial_state is not None and not same_json(
        head.initial_state, session.head.initial_state
    ):
        differing.append("another initial state")
    if session.head.create_micros is not None and head.create_micros != session.create_micros:
        differing.append("another create time")
    if session.head.update_micros is not None and head.update_micros != session.update_micros:
        differing.append("another update time")
    return ", ".join(differing) or None


def _fork_parameters(fork: Fork, session: _Session) -> list[Any]:
    return [
        *session.head.key,
        fork.origin_id,
        binary.parameter(binary.timestamptz(fork.origin_create_micros)),
        fork.origin_revision,
        binary.parameter(binary.timestamptz(fork.create_micros)),
    ]


def _first_known(*micros: int | None) -> int:
    known = next((value for value in micros if value is not None), None)
    return time.time_ns() // 1000 if known is None else known


def same_json(one: Any, other: Any) -> bool:
    """Whether two JSON values are stored in the same way; the order of keys does not count."""
    return _native.encode_json(one) == _native.encode_json(other)
