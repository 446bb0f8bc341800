"""Writing states of apps and users into the target. A state that exists is compared and not changed."""

from __future__ import annotations

import time
from typing import Any, Final

from adk_psqlpy import _native
from adk_psqlpy.admin.migrate.records import Problem, SharedState
from adk_psqlpy.admin.migrate.report import MigrationReport
from adk_psqlpy.checks import check_identifier
from adk_psqlpy.connections import binary
from adk_psqlpy.connections.lanes import Decoders, Lanes
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.sessions.limits import check_state
from adk_psqlpy.sessions.state import ScopedState
from adk_psqlpy.sessions.store import PsqlpyADKStore
from adk_psqlpy.sql.carry import CarryStatements

BATCH: Final = 200
_DECODERS: Final[Decoders] = {"state": binary.raw}


class StateWriter:
    """Collects states and writes them in batches; `finish` writes the rest."""

    def __init__(
        self, lanes: Lanes, store: PsqlpyADKStore, report: MigrationReport, *, write: bool, tables_there: bool
    ) -> None:
        self._lanes = lanes
        self._sql = CarryStatements(store.tables)
        self._key_length = store.key_length
        self._values = store._values
        self._report = report
        self._write = write
        self._tables_there = tables_there
        self._waiting: dict[tuple[str, str | None], tuple[SharedState, bytes]] = {}

    async def add(self, record: SharedState) -> None:
        """A state."""
        key = (record.app_name, record.user_id)
        if key in self._waiting or len(self._waiting) >= BATCH:
            await self.finish()
        try:
            self._waiting[key] = (record, self._checked(record))
        except ValueError as error:
            self.refuse(Problem("state", *key, None, None, str(error)))

    def refuse(self, problem: Problem) -> None:
        """Report a state that cannot be carried."""
        self._report.states.count("left_out")
        self._report.problem(problem)

    def _checked(self, record: SharedState) -> bytes:
        check_identifier("app_name", record.app_name, self._key_length, "PsqlpyADKStore")
        if record.user_id is not None:
            check_identifier("user_id", record.user_id, self._key_length, "PsqlpyADKStore")
        encoded = _native.encode_json(record.state)
        if encoded is None:
            raise ValueError("the state holds values that are not JSON")
        check_state(encoded)
        return encoded

    async def finish(self) -> None:
        """Write what was collected so far."""
        waiting, self._waiting = list(self._waiting.values()), {}
        for of_users in (False, True):
            part = [each for each in waiting if (each[0].user_id is not None) == of_users]
            if part:
                await self._store(part, of_users=of_users)

    async def _store(self, part: list[tuple[SharedState, bytes]], *, of_users: bool) -> None:
        keys = [
            [name.encode() for name in (record.app_name, record.user_id) if name is not None]
            for record, _ in part
        ]
        key_arrays = binary.arrays(("varchar",) * len(keys[0]), keys)  # type: ignore[arg-type]
        inserted: set[int] = set()
        if self._write:
            now = time.time_ns() // 1000
            values: list[list[bytes | None]] = [
                [
                    await self._sealed(record, encoded),
                    binary.timestamptz(now if record.update_micros is None else record.update_micros),
                ]
                for record, encoded in part
            ]
            parameters: list[Any] = [*key_arrays, *binary.arrays(("jsonb", "timestamptz"), values)]
            rows = await self._lanes.fetch(self._sql.insert_states(of_users=of_users), parameters)
            inserted = {place for (place,) in rows}
        there: dict[int, bytes] = {}
        if self._tables_there:
            there = dict(
                await self._lanes.fetch(
                    self._sql.states(of_users=of_users),
                    key_arrays,
                    _DECODERS,
                    kind="list",
                    repeat=Repeat.READ,
                )
            )
        for place, (record, encoded) in enumerate(part, start=1):
            await self._outcome(record, encoded, there.get(place), copied=place in inserted)

    async def _sealed(self, record: SharedState, encoded: bytes) -> bytes | None:
        if record.user_id is None:
            state = ScopedState(None, encoded, None)
            return (await self._values.sealed_state((record.app_name, "", ""), state)).app
        state = ScopedState(None, None, encoded)
        return (await self._values.sealed_state((record.app_name, record.user_id, ""), state)).user

    async def _outcome(
        self, record: SharedState, encoded: bytes, there: bytes | None, *, copied: bool
    ) -> None:
        tally = self._report.states
        if there is None and not self._write:
            tally.count("copied")
        elif there is not None and await self._plain(record, there) == encoded:
            tally.count("copied" if copied else "equal")
        else:
            tally.count("different")
            reason = "the target has another state, which was not changed"
            self._report.problem(Problem("state", record.app_name, record.user_id, None, None, reason))

    async def _plain(self, record: SharedState, there: bytes) -> bytes | None:
        """A stored state as it would be encoded."""
        place = f"state of app {record.app_name!r}, user {record.user_id!r}"
        decoded = await self._values.shared_state(record.app_name, record.user_id, there, place)
        return _native.encode_json(decoded)
