"""Forks, earlier states and rewinds, as methods of the session service."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.adk.sessions.base_session_service import GetSessionConfig
from google.adk.sessions.session import Session
from google.adk.sessions.state import State

from adk_psqlpy.errors import NoSuchPointError
from adk_psqlpy.sessions.diff import SessionDiff, diff, same
from adk_psqlpy.sessions.marker import marked, marker, session_of
from adk_psqlpy.sessions.stored import Version
from adk_psqlpy.sessions.travel import Fork, Key, Travel

if TYPE_CHECKING:
    from adk_psqlpy.artifacts import PsqlpyArtifactService
    from adk_psqlpy.sessions.store import PsqlpyADKStore

_SHARED = (State.APP_PREFIX, State.USER_PREFIX, State.TEMP_PREFIX)


class TimeTravel:
    """The methods of `PsqlpySessionService` beyond ADK's contract for going back in sessions.

    Each method takes a `Session`. Only its key is read, and the `create_time` with which it was loaded,
    because a session that was made anew with the same id is another one. One of three arguments names the
    point:

    - `at_event`: an event or its id. The point is after it.
    - `at_seq`: a revision. 0 is the session as it was created.
    - `before_invocation_id`: the point is before the first event of this invocation, as in ADK's rewind.

    Without any of them, the point is the session as it is stored now.

    The state at a point is the state at creation, plus the deltas of events and of `update_session_state` up
    to there. Deltas are taken as they are stored, so an event that was edited with SQL counts as edited. (A
    value that is not JSON is in the form that the event holds: bytes are base64.) `app:` and `user:` keys do
    not belong to the history of one session, so they are shown as they are now.
    """

    store: PsqlpyADKStore
    travel: Travel

    async def fork_session(
        self,
        session: Session,
        *,
        at_event: Event | str | None = None,
        at_seq: int | None = None,
        before_invocation_id: str | None = None,
        session_id: str | None = None,
        artifacts: PsqlpyArtifactService | None = None,
        config: GetSessionConfig | None = None,
    ) -> Session:
        """Make a new session of the history up to a point, with the state as it was there, and read it.

        One statement in the server makes the whole fork or nothing. It sees the session at one moment, and
        waits for no append. Events keep their ids and their `seq`. The two sessions are independent: changes
        of one do not affect the other.

        With a seal the history goes through this process: one statement reads it, and one writes the fork,
        sealed for its new place. The history must fit into memory then.

        Args:
            session: the session to fork.
            at_event, at_seq, before_invocation_id: the point; see the class.
            session_id: the id of the fork; by default, one is made.
            artifacts: an artifact service on the same `PsqlpyConfig`. Its artifacts of the session are copied
                in the same statement, except for versions that were saved by events after the point. Bytes
                are not copied. References between artifacts of the session lead to the fork's artifacts.
            config: which events the returned object holds. With `GetSessionConfig(num_recent_events=0)` the
                history is not read back.

        Raises:
            SessionNotFoundError: the session is not stored, or was made anew since it was loaded.
            NoSuchPointError: the session has no such point.
            UnknownStateError: the state there is not known, because the state at creation is not known or
                changes since then are not recorded.
            AlreadyExistsError: there is a session with the fork's id, or (with `artifacts`) artifacts of such
                a session.
            ValueError: an argument is not of its type, more than one point is named, or `artifacts` is on
                another configuration. Nothing was sent.
            psqlpy.exceptions.NotSupportedError: the store seals, and `artifacts` are to go along.
        """
        key, create_time = _loaded(session)
        if config is not None and not isinstance(config, GetSessionConfig):
            raise ValueError(f"config must be a GetSessionConfig, not {type(config).__name__}")
        if session_id is not None and not isinstance(session_id, str):
            raise ValueError(f"session_id must be a str, not {type(session_id).__name__}")
        fork_id = (session_id or "").strip() or str(uuid.uuid4())
        at = self.travel.point(at_event, at_seq, before_invocation_id)
        await self.travel.fork(key, at, fork_id, create_time=create_time, artifacts=artifacts)
        stored = await self.store.get_session(
            key[0],
            key[1],
            fork_id,
            after_timestamp=config.after_timestamp if config else None,
            limit=config.num_recent_events if config else None,
        )
        if stored is None:
            raise SessionNotFoundError(f"Session {fork_id} was forked, and deleted before it could be read.")
        return session_of(stored)

    async def state_at(
        self,
        session: Session,
        *,
        at_event: Event | str | None = None,
        at_seq: int | None = None,
        before_invocation_id: str | None = None,
    ) -> dict[str, Any]:
        """Return the state at a point: the session's own keys as they were, and those of app and user as they
        are now.

        Raises:
            SessionNotFoundError: the session is not stored, or was made anew since it was loaded.
            NoSuchPointError: the session has no such point.
            UnknownStateError: the state there is not known.
        """
        key, create_time = _loaded(session)
        at = self.travel.point(at_event, at_seq, before_invocation_id)
        return (await self.travel.state_at(key, at, create_time=create_time)).state

    async def get_session_at(
        self,
        session: Session,
        *,
        at_event: Event | str | None = None,
        at_seq: int | None = None,
        before_invocation_id: str | None = None,
    ) -> Session:
        """Read the session as it was at a point: its events up to there, and its state.

        The object is for reading. An append to it raises `StaleSessionError`, unless nothing came after the
        point. To go on from there, make a fork.

        Raises:
            SessionNotFoundError: the session is not stored, or was made anew since it was loaded.
            NoSuchPointError: the session has no such point.
            UnknownStateError: the state there is not known.
        """
        key, create_time = _loaded(session)
        at = self.travel.point(at_event, at_seq, before_invocation_id)
        then = await self.travel.state_at(key, at, create_time=create_time)
        stored = await self.store.get_until(*key, then.at)
        if stored is None or stored.create_time != then.create_time:
            raise SessionNotFoundError(f"Session {session.id} was deleted while it was being read.")
        earlier = session_of(stored)
        earlier.state = then.state
        last = earlier.events[-1].timestamp if earlier.events else then.create_time
        earlier.last_update_time = round(last * 1e6) / 1e6
        seen = earlier.events[-1].id if earlier.events else None
        earlier._storage_update_marker = marker(Version(then.at, then.create_time, last_event_id=seen))
        return earlier

    async def get_origin(self, session: Session) -> Fork | None:
        """Return the session that this one was forked from, and the point; `None` if it was not forked."""
        key, _ = _loaded(session)
        return await self.travel.origin(key)

    async def list_forks(self, session: Session) -> list[Fork]:
        """List the direct forks of this session, oldest first. The session itself may be deleted."""
        key, _ = _loaded(session)
        return await self.travel.forks(key)

    @staticmethod
    def diff(a: Session, b: Session) -> SessionDiff:
        """Compare two sessions as they are in memory: their common beginning, their other events, and their
        state.
        """
        return diff(a, b)

    async def _complete_rewind(self, session: Session, event: Event, expected: Version) -> None:
        """Set the delta of a rewind's event, so that it restores the earlier state.

        ADK computes the delta from events alone. As in ADK, keys that came after the point are set to `None`,
        and shared state stays. If the invocation is not stored, ADK's delta stays as it is.
        """
        at = self.travel.point(before_invocation_id=event.actions.rewind_before_invocation_id)
        key = (session.app_name, session.user_id, session.id)
        try:
            then = await self.travel.state_at(key, at, create_time=expected.create_time)
        except (NoSuchPointError, SessionNotFoundError):
            return
        current = {name: value for name, value in session.state.items() if not name.startswith(_SHARED)}
        known = {name: value for name, value in then.own.items() if value is not None}
        given = event.actions.state_delta
        event.actions.state_delta = (
            {name: value for name, value in given.items() if name.startswith(_SHARED)}
            | {
                name: value
                for name, value in known.items()
                if name not in current or not same(current[name], value)
            }
            | {name: None for name in current if name not in known}
        )


def _loaded(session: Session) -> tuple[Key, float | None]:
    """The key and the create_time that an object carries."""
    if not isinstance(session, Session):
        raise ValueError(f"session must be a Session, not {type(session).__name__}")
    version = marked(session)
    return (session.app_name, session.user_id, session.id), version.create_time if version else None
