"""The plain operations for going back in stored sessions."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from psqlpy.exceptions import NotSupportedError

from adk_psqlpy import _native
from adk_psqlpy.artifacts import PsqlpyArtifactService
from adk_psqlpy.connections.binary import parameter, raw, seconds, timestamptz
from adk_psqlpy.connections.lanes import Decoders, Row
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.sessions.arguments import micros
from adk_psqlpy.sessions.points import Point, check_point, point
from adk_psqlpy.sessions.sealed_travel import SealedTravel
from adk_psqlpy.sql.artifact_tables import ArtifactTables
from adk_psqlpy.sql.delegated_artifacts import DelegatedArtifactStatements
from adk_psqlpy.sql.delegated_travel import DelegatedTravelStatements
from adk_psqlpy.sql.distribution import locked
from adk_psqlpy.sql.travel import TravelStatements
from adk_psqlpy.telemetry import observed

if TYPE_CHECKING:
    from adk_psqlpy.sessions.store import PsqlpyADKStore

_TIMES: Decoders = dict.fromkeys(("create_time", "origin_create_time"), seconds)
_STATES: Decoders = _TIMES | dict.fromkeys(("state", "app_state", "user_state"), raw)

Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Fork:
    """Where a session was forked from.

    `session_id` is the fork, `origin_id` the session that it was made from. `origin_revision` is the origin's
    revision at the fork: the `seq` of the last event that the two have in common. `create_time` is the time
    of the fork in seconds since the Unix epoch. `origin_exists` says whether the origin still exists; a
    session that was made anew with its id does not count.
    """

    session_id: str
    origin_id: str
    origin_revision: int
    create_time: float
    origin_exists: bool


@dataclass(frozen=True, slots=True)
class EarlierState:
    """A session's state at a point.

    `state` has the session's own keys as they were, and those of app and user as they are now. `own` has only
    the session's own keys. `at` is the revision of the point, `revision` the session's present one.
    """

    at: int
    revision: int
    create_time: float
    own: dict[str, Any]
    state: dict[str, Any]


class Travel:
    """Earlier points of the sessions of one store.

    If a method gets a `create_time`, the session must have been created then. One that was made anew with the
    same id does not count.
    """

    def __init__(self, store: PsqlpyADKStore) -> None:
        """Use the tables and connections of `store`."""
        self._store = store
        self._sealed = None if store.seal is None else SealedTravel(store, store.seal)
        self._telemetry = store._telemetry
        self._collections = store._collections
        self._taking_along: set[ArtifactTables] = set()

    def point(
        self,
        at_event: Event | str | None = None,
        at_seq: int | None = None,
        before_invocation_id: str | None = None,
    ) -> Point:
        """Make a point of one of the arguments. Without any of them, the point is the session as it is.

        Raises:
            ValueError: more than one is given, or one is not of its type.
        """
        return point(at_event, at_seq, before_invocation_id, self._store.key_length)

    @observed("sessions")
    async def state_at(self, key: Key, at: Point, *, create_time: float | None = None) -> EarlierState:
        """Return the state at a point.

        Raises:
            SessionNotFoundError: there is no such session.
            NoSuchPointError: it has no such point.
            UnknownStateError: the state there is not known.
        """
        self._store._check_key(*key)
        if self._sealed is not None:
            return await self._sealed_state_at(self._sealed, key, at, create_time)
        sql = await self._statements()
        given = [*key, _time(create_time), *at.parameters]
        (row,), beside = await self._store._with_app_state(
            key[0], self._store._read(sql.state_at(kind=at.kind), given, _STATES)
        )
        revision, created, found, own, unknown, missing, app, user = row
        place = _place(key)
        _check(at, place, revision, found, unknown, missing)
        return EarlierState(
            at=found,
            revision=revision,
            create_time=created,
            own=_native.decode_state(own, place=place),
            state=_native.decode_state(own, app or beside, user, place=place),
        )

    @observed("sessions")
    async def fork(
        self,
        key: Key,
        at: Point,
        session_id: str,
        *,
        create_time: float | None = None,
        artifacts: PsqlpyArtifactService | None = None,
    ) -> None:
        """Make a session with this id, with the history up to a point and the state there.

        With `artifacts` (an artifact service on the same configuration), it also gets the versions of the
        session's artifacts from before the point. All of this is one statement.

        Raises:
            SessionNotFoundError: there is no such session to fork.
            NoSuchPointError: it has no such point.
            UnknownStateError: the state there is not known.
            AlreadyExistsError: there is a session of the new id, or artifacts of one.
            ValueError: `artifacts` is on another configuration.
            psqlpy.exceptions.NotSupportedError: the store seals, and `artifacts` are to go along.
        """
        store = self._store
        store._check_key(*key)
        store._check(session_id=session_id)
        if not session_id:
            raise ValueError("session_id must not be empty")
        if self._sealed is not None:
            await self._sealed_fork(self._sealed, key, at, session_id, create_time, artifacts)
            return
        parameters: list[Any] = [*key, _time(create_time), *at.parameters]
        parameters += [session_id, parameter(timestamptz(time.time_ns() // 1000))]
        statements = await self._statements()
        tables = None
        if artifacts is not None:
            tables = await _tables(artifacts, store)
            statements = await self._with_artifacts(statements, artifacts)
            parameters += [_uri(*key), _uri(key[0], key[1], session_id)]
        sql = statements.fork(kind=at.kind, artifacts=tables)
        (row,) = await store._write(sql, parameters, _TIMES, repeat=Repeat.AFTER_FAILURE)
        revision, _, found, unknown, missing, made = row
        _check(at, _place(key), revision, found, unknown, missing)
        if not made:
            raise AlreadyExistsError(
                f"Session with id {session_id} already exists, or artifacts of one that was deleted do."
            )

    async def _statements(self) -> TravelStatements:
        """The statements for the tables as they are: distributed, or of one server."""
        await self._store._made.ready()
        return self._store._sql.travel

    async def _with_artifacts(
        self, statements: TravelStatements, artifacts: PsqlpyArtifactService
    ) -> TravelStatements:
        """The statements for forks that take artifacts along. On a cluster, missing functions are made."""
        if not isinstance(statements, DelegatedTravelStatements):
            return statements
        if not isinstance(artifacts._made.sql, DelegatedArtifactStatements):
            return TravelStatements(self._store.tables)
        if artifacts.tables not in self._taking_along:
            await self._store._lanes.batch(locked(statements.functions(artifacts.tables)))
            self._taking_along.add(artifacts.tables)
        return statements

    async def _sealed_state_at(
        self, sealed: SealedTravel, key: Key, at: Point, create_time: float | None
    ) -> EarlierState:
        past = await sealed.past(key, at, _time(create_time), whole=False)
        place = _place(key)
        _check(at, place, past.revision, past.point, past.unknown, past.missing)
        assert past.create_time is not None, "there is such a session"
        own = await sealed.own_state(key, past, place)
        shared = await self._store._values.state(key, b"\x01{}", past.app, past.user, place)
        assert past.point is not None, "there is such a point"
        assert past.revision is not None, "there is such a session"
        return EarlierState(
            at=past.point,
            revision=past.revision,
            create_time=seconds(past.create_time),
            own=own,
            state=own | shared,
        )

    async def _sealed_fork(
        self,
        sealed: SealedTravel,
        key: Key,
        at: Point,
        session_id: str,
        create_time: float | None,
        artifacts: PsqlpyArtifactService | None,
    ) -> None:
        """Read, open, seal for the new session, and write in one statement."""
        if artifacts is not None:
            await _tables(artifacts, self._store)
            raise NotSupportedError(
                "a store with a seal forks no artifacts, because their sealed descriptions are bound to "
                "their session. Fork without artifacts=, and save in the fork those that are "
                "needed. Nothing was done"
            )
        past = await sealed.past(key, at, _time(create_time), whole=True)
        place = _place(key)
        _check(at, place, past.revision, past.point, past.unknown, past.missing)
        if not await sealed.write_fork(key, past, session_id, place):
            raise AlreadyExistsError(f"Session with id {session_id} already exists.")

    @observed("sessions")
    async def origin(self, key: Key) -> Fork | None:
        """Return where a session was forked from; `None` if it was not forked, or does not exist."""
        self._store._check_key(*key)
        rows = await self._store._read((await self._statements()).origin, list(key), _TIMES)
        return _fork(rows[0]) if rows else None

    @observed("sessions")
    async def forks(self, key: Key) -> list[Fork]:
        """List the sessions that were forked from the session with this id, oldest first."""
        self._store._check_key(*key)
        rows = await self._store._read((await self._statements()).forks, list(key), _TIMES)
        return [_fork(row) for row in rows]


def _check(at: Point, place: str, revision: int | None, *found: Any) -> None:
    if revision is None:
        raise SessionNotFoundError(
            f"{place} not found; if it was read before, it was deleted or made anew since then"
        )
    check_point(at, place, revision, *found)


async def _tables(artifacts: PsqlpyArtifactService, store: PsqlpyADKStore) -> ArtifactTables:
    """The tables of artifacts. Missing ones are made."""
    if not isinstance(artifacts, PsqlpyArtifactService) or artifacts.config is not store.config:
        raise ValueError(
            "artifacts must be a PsqlpyArtifactService on the PsqlpyConfig of the session store: a fork is "
            "one statement, so the tables of both must be in one database"
        )
    await artifacts._made.ready()
    return artifacts.tables


def _time(create_time: float | None) -> Any:
    return None if create_time is None else parameter(timestamptz(micros("create_time", create_time)))


def _uri(app_name: str, user_id: str, session_id: str) -> str:
    """The beginning of the URIs of a session's artifacts (`google.adk.artifacts.artifact_util`)."""
    return f"artifact://apps/{app_name}/users/{user_id}/sessions/{session_id}/artifacts/"


def _place(key: Key) -> str:
    app_name, user_id, session_id = key
    return f"session {session_id!r} of user {user_id!r} in app {app_name!r}"


def _fork(row: Row) -> Fork:
    session_id, origin_id, _, revision, create_time, origin_exists = row
    return Fork(session_id, origin_id, revision, create_time, origin_exists)
