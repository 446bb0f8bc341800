"""ADK's session service on a store."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal
from weakref import WeakValueDictionary

from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.adk.sessions.base_session_service import (
    BaseSessionService,
    GetSessionConfig,
    ListSessionsResponse,
)
from google.adk.sessions.session import Session
from typing_extensions import Self, override

from adk_psqlpy.following.follower import Follower
from adk_psqlpy.sessions.arguments import require, require_fields
from adk_psqlpy.sessions.compacted import CompactedSessionConfig, read_compacted
from adk_psqlpy.sessions.listing import PLAIN, Filters, Listing, ProductLists
from adk_psqlpy.sessions.marker import marked, marker, session_of, show
from adk_psqlpy.sessions.outdated import append_merged, expected_version, place_of_repeated
from adk_psqlpy.sessions.search import FoundEvent, Window
from adk_psqlpy.sessions.stale_reads import ReplicaSessionConfig
from adk_psqlpy.sessions.store import PsqlpyADKStore
from adk_psqlpy.sessions.stored import Version
from adk_psqlpy.sessions.time_travel import TimeTravel
from adk_psqlpy.sessions.travel import Travel


class PsqlpySessionService(TimeTravel, ProductLists, BaseSessionService):
    """Sessions in PostgreSQL, as ADK's `BaseSessionService` defines them, with forks and earlier states.

    The tables must exist (`await store.create_tables()`). One service may be used by any number of tasks, in
    several event loops one after another. Two services, in one process or in several, may use one database:
    an append that was prepared on an outdated session raises `StaleSessionError` and writes nothing.

    Args:
        store: the tables to use.
        stale_policy: what happens to an append if others have appended since the session was loaded.
            `"raise"` is ADK's contract: `StaleSessionError` is raised, so that an answer to an outdated
            history is not stored. With `"merge"` the event is stored after theirs, and the object gets the
            events and the state that it had missed. That is for writers that do not depend on what they have
            read, such as several messages of one user at once.

    Every method raises `ValueError` for arguments that cannot be stored, before anything is sent, and
    `psqlpy.exceptions.Error` for errors of the connection and of the server. ADK's `StaleSessionError` and
    `SessionNotFoundError` are `ValueError`s, too: catch them first.
    """

    def __init__(self, store: PsqlpyADKStore, *, stale_policy: Literal["raise", "merge"] = "raise") -> None:
        if not isinstance(store, PsqlpyADKStore):
            raise ValueError(
                f"store must be a PsqlpyADKStore, not {type(store).__name__}: "
                "PsqlpySessionService(PsqlpyADKStore(config))"
            )
        if stale_policy not in ("raise", "merge"):
            raise ValueError(f"stale_policy must be 'raise' or 'merge', not {stale_policy!r}")
        self.store = store
        self.travel = Travel(store)
        self.listing = Listing(store)
        self.stale_policy = stale_policy
        # Appends to a session run one at a time: agents that run in parallel share one session object, and
        # each append needs the revision that the one before has put there.
        self._appending: WeakValueDictionary[tuple[int, str, str, str], asyncio.Lock] = WeakValueDictionary()

    @override
    async def create_session(
        self,
        *,
        app_name: str,
        user_id: str,
        state: dict[str, Any] | None = None,
        session_id: str | None = None,
    ) -> Session:
        """Create a session. White space around a given id is removed; if nothing is left, an id is made.

        Raises:
            AlreadyExistsError: the user has a session with this id in this app.
        """
        session_id = (_stripped(session_id) if session_id is not None else None) or str(uuid.uuid4())
        stored = await self.store.create_session(app_name, user_id, session_id, state)
        if stored is None:
            raise AlreadyExistsError(f"Session with id {session_id} already exists.")
        return session_of(stored)

    @override
    async def get_session(
        self,
        *,
        app_name: str,
        user_id: str,
        session_id: str,
        config: GetSessionConfig | None = None,
    ) -> Session | None:
        """Read a session with its events in the order of their appends; `None` where there is none.

        `config.num_recent_events` selects the newest n events (0: none), `config.after_timestamp` those at or
        after a time. With both, these are the newest n of the latter. A `CompactedSessionConfig` leaves out
        events that compactions cover. A `ReplicaSessionConfig` reads on the replica if that is recent enough.
        """
        require("config", config, GetSessionConfig, optional=True)
        if isinstance(config, CompactedSessionConfig):
            key = (app_name, user_id, _stripped(session_id))
            compacted = await read_compacted(self.store, key, config.overlap_size)
            return session_of(compacted) if compacted is not None else None
        stored = await self.store.get_session(
            app_name,
            user_id,
            _stripped(session_id),
            after_timestamp=config.after_timestamp if config else None,
            limit=config.num_recent_events if config else None,
            max_staleness_sec=config.max_staleness_sec if isinstance(config, ReplicaSessionConfig) else None,
        )
        return session_of(stored) if stored is not None else None

    @override
    async def list_sessions(
        self,
        *,
        app_name: str,
        user_id: str | None = None,
        limit: int | None = None,
        after: Session | None = None,
        state: Mapping[str, Any] | None = None,
        updated_from: float | None = None,
        updated_before: float | None = None,
        waiting: bool | None = None,
        newest_first: bool = False,
    ) -> ListSessionsResponse:
        """List sessions without events, least recently updated first.

        All arguments but app and user are beyond ADK's contract.

        Args:
            app_name: list sessions of this app.
            user_id: only sessions of this user.
            limit: the most sessions to list.
            after: the last session of a page, to get the page that follows. A session that is updated
            meanwhile moves to the end, so paging to the end gives every session at least once. With
            `newest_first` it moves to the beginning; sessions that are not updated are given exactly once.
            state: only sessions whose own state contains this (`@>`): `{"status": "open"}`.
            updated_from: only those last updated at or after a time (seconds since the Unix epoch).
            updated_before: only those last updated before a time.
            waiting: `True` for sessions with a call that waits for an answer (`list_paused`), `False` for the
                others.
            newest_first: list most recently updated first.

        Raises:
            ValueError: an argument is not of its type, or `state` has keys of `app:` or `user:`.
        """
        require("after", after, Session, optional=True)
        filters = Filters(state, updated_from, updated_before, waiting, newest_first)
        seen = None if after is None else (after.last_update_time, after.user_id, after.id)
        if filters == PLAIN:
            stored = await self.store.list_sessions(app_name, user_id, limit=limit, after=seen)
        else:
            stored = await self.listing.list_sessions(app_name, user_id, filters, limit=limit, after=seen)
        return ListSessionsResponse(sessions=[session_of(each) for each in stored])

    @override
    async def delete_session(self, *, app_name: str, user_id: str, session_id: str) -> None:
        """Delete a session and its events. Shared state stays. It is no error if there is no such session."""
        await self.store.delete_session(app_name, user_id, _stripped(session_id))

    @override
    async def get_user_state(self, *, app_name: str, user_id: str) -> dict[str, Any]:
        """The user's state, with keys without `user:`; empty if nothing was stored."""
        return await self.store.get_user_state(app_name, user_id)

    @override
    async def append_event(self, session: Session, event: Event) -> Event:
        """Append an event to the stored session and to the object, and apply its state delta to both.

        A partial event is returned unchanged and not stored. For the event of a rewind
        (`Runner.rewind_async`), the delta of the session's own state is computed anew: ADK's delta does not
        consider the state at creation, and changes without an event. `temp:` keys go only into the object's
        state. If the session already has an event that is equal in all fields, nothing is changed, so an
        append whose answer was lost can be repeated. If the store has a `before_append`, the event that it
        returns is stored, put into the object and returned. An event that it drops is returned unchanged and
        not stored.

        Raises:
            ValueError: a field of the session or event is of the wrong type, or too long; nothing was sent.
            SessionNotFoundError: the session is not stored (any more).
            StaleSessionError: somebody has appended since the object was loaded (with `stale_policy="merge"`:
                the session was deleted and made again). Nothing was written.
            AlreadyExistsError: the session has another event with this id.
            UnknownStateError: the event is that of a rewind, and the state that it goes back to is not known.
        """
        require("session", session, Session)
        require_fields(session)
        require("event", event, Event)
        if event.partial:
            return event
        self._apply_temp_state(session, event)
        event = self._trim_temp_delta_state(event)
        if not event.id:
            event.id = Event.new_id()
        stored = await self.store.prepared(event)
        if stored is None:
            return event
        event = stored
        async with self._turn(session):
            expected = await expected_version(self.store, session, merge=self.stale_policy == "merge")
            if event.actions.rewind_before_invocation_id:
                await self._complete_rewind(session, event, expected)
            revision = await self.store.append_event(
                session.app_name, session.user_id, session.id, event, expected=expected, is_prepared=True
            )
            if revision is None:
                if self.stale_policy == "merge":
                    return await append_merged(self.store, session, event, expected)
                revision = await place_of_repeated(self.store, session, event, expected)
                if revision <= expected.revision:
                    return event
            session.last_update_time = round(event.timestamp * 1e6) / 1e6
            session._storage_update_marker = marker(
                Version(revision, expected.create_time, session.last_update_time, event.id)
            )
            self._update_session_state(session, event)
            session.events.append(event)
            return event

    async def search_events(
        self,
        *,
        app_name: str,
        user_id: str | None = None,
        query: str,
        limit: int = 10,
        window: Window = None,
    ) -> list[FoundEvent]:
        """Find events by their text, best first.

        The query is read as in the memory service: one matching word is enough, "words in quotes" match only
        next to each other in this order, and a word after a minus excludes events. The text of events is
        searched, without thoughts. Events of deleted sessions are not found, and neither is text that was
        removed with SQL.

        Args:
            app_name: search conversations of this app.
            user_id: search those of this user; `None`: of all users.
            query: what to look for. A query without words finds nothing.
            limit: the most events to return, up to 1,000.
            window: search events of this time: a timedelta up to now, or `(since, until)` in seconds since
                the Unix epoch. `since` is included, `until` is not; `None` is no bound.

        Raises:
            psqlpy.exceptions.NotSupportedError: the tables were not made for it:
                `create_tables(event_search=True)`.
        """
        return await self.store.search_events(app_name, user_id, query=query, limit=limit, window=window)

    def follow(
        self, *, app_name: str, user_id: str, session_id: str, after: int | Session | Version | None = None
    ) -> Follower:
        """Follow a session: `async for event in service.follow(...)` yields events as anybody appends them.

        Events come in order, each exactly once, also through reconnects and failovers. Following ends when
        the session is deleted or the store is closed, and by `async with` or `aclose()`. `follower.seq` is
        the `seq` of the last event; use it to go on later. Events before that place that are edited or
        removed with SQL are not reported.

        Args:
            app_name: of the session.
            user_id: of the session.
            session_id: of the session.
            after: where to begin. A `seq` begins with the event after it; 0 begins with the first one. A
                session that this service returned begins after the events that it holds. `Follower.position`
                of an earlier follower goes on there, in exactly that session. `None` begins with events that
                are appended from now on, that is, from `async with` or the first `await`.

        Raises:
            ValueError: an identifier or `after` is not possible. For errors while iterating, see
                `Follower.__anext__`.
        """
        if isinstance(after, Session):
            seen = marked(after)
            if seen is None:
                raise ValueError(
                    "after must be a session that this service gave, and this one was made by hand: give one "
                    "that get_session returned"
                )
            after = seen
        return self.store.follow(app_name, user_id, _stripped(session_id), after)

    async def refresh(self, session: Session, *, config: GetSessionConfig | None = None) -> Session:
        """Bring a session object up to date in place, and return it.

        Afterwards the object is as `get_session` with this `config` would return it: events, state, time of
        the last update, and the marker by which appends notice that they are stale. The object, its list of
        events and its dict of state stay the same Python objects. `temp:` keys are kept, since they are
        stored nowhere. Changes that the caller made to the object or to its events are lost.

        It costs as much as `get_session`: with kept histories, only what is new. If an append to the object
        is under way, it waits for that.

        Raises:
            ValueError: an argument or a field of the session is of the wrong type; nothing was sent.
            SessionNotFoundError: the session is not stored (any more); the object is unchanged.
        """
        require("session", session, Session)
        require_fields(session)
        require("config", config, GetSessionConfig, optional=True)
        async with self._turn(session):
            stored = await self.store.get_session(
                session.app_name,
                session.user_id,
                session.id,
                after_timestamp=config.after_timestamp if config else None,
                limit=config.num_recent_events if config else None,
            )
            if stored is None:
                raise SessionNotFoundError(f"Session {session.id} not found.")
            session.events[:] = stored.events
            show(stored, session)
        return session

    def _turn(self, session: Session) -> asyncio.Lock:
        # A lock belongs to an event loop, and lives as long as somebody holds or awaits it.
        key = (id(asyncio.get_running_loop()), session.app_name, session.user_id, session.id)
        return self._appending.setdefault(key, asyncio.Lock())

    async def close(self) -> None:
        """Close the pool of connections; a later call opens it again."""
        await self.store.close()

    async def __aenter__(self) -> Self:
        """Give the service itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        await self.close()


def _stripped(session_id: str) -> str:
    require("session_id", session_id, str)
    return session_id.strip()
