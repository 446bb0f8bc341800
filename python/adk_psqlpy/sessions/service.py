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
        stale_policy: what becomes of an append to a session that others have appended to since it was loaded.
            `"raise"`, ADK's contract: `StaleSessionError`, so that an answer to an outdated history is not
            stored. `"merge"`: the event is stored after theirs, and the object gets the events and the state
            that it had missed. For writers that do not depend on what they have read, such as several
            messages of one user at once.

    Every method raises `ValueError` for arguments that cannot be stored, before anything is sent, and
    `psqlpy.exceptions.Error` for what goes wrong between here and the server. ADK's `StaleSessionError` and
    `SessionNotFoundError` are `ValueError`s too: catch them first.
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
        # One append of a session at a time: agents that run in parallel share one session object, and each
        # append needs the revision that the one before it left there.
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
        """Create a session; white space around a given id is dropped, and an id is made where none is left.

        Raises:
            AlreadyExistsError: the user has a session of this id in this app.
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

        `config.num_recent_events` keeps the newest n (0: none), `config.after_timestamp` those at or after a
        time; with both, the newest n of the latter. A `CompactedSessionConfig` leaves out what compactions
        cover. A `ReplicaSessionConfig` reads on the replica, within a bound on how old that may be.
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
        """List sessions without events, the one updated longest ago first.

        Everything but app and user is beyond ADK's contract.

        Args:
            app_name: whose sessions.
            user_id: only this user's.
            limit: at most so many.
            after: the last session of one page gives the page that follows. A session that is updated
            meanwhile
                moves to the end, so paging to the end meets every session at least once; with `newest_first`
                it moves to the beginning, and no session that was not updated is missed or met twice.
            state: only sessions whose own state contains this, as `@>` says: `{"status": "open"}`.
            updated_from: only those last updated at or after a time (seconds since the Unix epoch).
            updated_before: only those last updated before a time.
            waiting: only those with a call that waits for an answer (`list_paused`), or only the others.
            newest_first: the other way round.

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
        """Delete a session and its events; no error where there is none. Shared state stays."""
        await self.store.delete_session(app_name, user_id, _stripped(session_id))

    @override
    async def get_user_state(self, *, app_name: str, user_id: str) -> dict[str, Any]:
        """The user's state, keys without `user:`; empty where nothing was stored."""
        return await self.store.get_user_state(app_name, user_id)

    @override
    async def append_event(self, session: Session, event: Event) -> Event:
        """Append an event to the stored session and to the object, and apply its state delta to both.

        A partial event is returned as it is. In the event of a rewind (`Runner.rewind_async`), the delta of
        the session's own state is made anew: ADK's knows nothing of the state that the session was created
        with, and of changes without an event. `temp:` keys reach the object's state only. An event that the
        session holds already, equal in all fields, is accepted once more and changes nothing: so an append
        whose answer was lost can be repeated. Where the store has a `before_append`, what it gives is stored,
        put into the object and returned; an event that it drops is returned as it is, and changes nothing.

        Raises:
            ValueError: a field of the session or event is of the wrong type, or too long; nothing was sent.
            SessionNotFoundError: the session is not stored (any more).
            StaleSessionError: somebody appended since the object was loaded (with `stale_policy="merge"`:
                the session was deleted and made again); nothing was written.
            AlreadyExistsError: the session holds another event of this id.
            UnknownStateError: the event is of a rewind, and the state that it goes back to is not known.
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
        """Find events by what was said in them, the best first.

        The query is read as that of the memory service: any of its words counts, "words in quotes" are found
        one behind the other only, and a word behind a minus excludes events. What is searched is the text of
        events, without thoughts. Events of deleted sessions, and text that SQL has edited, are not found.

        Args:
            app_name: whose conversations.
            user_id: of which user; `None`: of all.
            query: what is looked for; one without words finds nothing.
            limit: how many at most, up to 1,000.
            window: of which time: a timedelta, up to now, or `(since, until)` in seconds since the Unix
                epoch, the first included, `None` for no bound.

        Raises:
            psqlpy.exceptions.NotSupportedError: the tables were not made for it:
                `create_tables(event_search=True)`.
        """
        return await self.store.search_events(app_name, user_id, query=query, limit=limit, window=window)

    def follow(
        self, *, app_name: str, user_id: str, session_id: str, after: int | Session | Version | None = None
    ) -> Follower:
        """Follow a session: `async for event in service.follow(...)` gives events as anybody appends them.

        In order, none lost and none twice, through reconnects and failovers, until the session is deleted,
        the store is closed or the consumer has enough: `async with` or `aclose()` end it. `follower.seq` is
        the `seq` of the event given last, to go on from later. What is edited or removed with SQL behind
        that place is not told of.

        Args:
            app_name: of the session.
            user_id: of the session.
            session_id: of the session.
            after: where to begin. A `seq`: with the event after it; 0 with the first. A session that this
                service gave: after what it holds. `Follower.position` of an earlier follower: after that,
                of that very session. `None`: with what is appended from now on, that is from `async with` or
                the first `await`.

        Raises:
            ValueError: an identifier or `after` cannot be. While iterating: what `Follower.__anext__` says.
        """
        if isinstance(after, Session):
            seen = marked(after)
            if seen is None:
                raise ValueError("after must be a session that this service gave; this one was made by hand")
            after = seen
        return self.store.follow(app_name, user_id, _stripped(session_id), after)

    async def refresh(self, session: Session, *, config: GetSessionConfig | None = None) -> Session:
        """Bring a session object up to date in place, and give it back.

        Afterwards it is as `get_session` with this `config` would give it: events, state, time of the last
        update, and the marker by which appends tell whether they are stale. The object stays the same one, as
        do its list of events and its dict of state. Its `temp:` keys are kept, as they are stored nowhere.
        What the caller did to the object or to its events is gone: they are replaced.

        It costs what `get_session` costs: with kept histories, what is new. An append to the object that is
        under way ends first.

        Raises:
            ValueError: an argument or a field of the session is of the wrong type; nothing was sent.
            SessionNotFoundError: the session is not stored (any more); the object is as it was.
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
