"""The tables and the plain operations on them; ADK's service in `sessions` is built on these."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping
from functools import partial
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from psqlpy.exceptions import DatabaseError, Error, NotSupportedError

from adk_psqlpy import _native
from adk_psqlpy.checks import LONGEST_KEY, check_identifier, positive_seconds, whole
from adk_psqlpy.config import PsqlpyConfig
from adk_psqlpy.connections.binary import parameter, raw, seconds, timestamptz
from adk_psqlpy.connections.lanes import Decoders, Row, lanes_of
from adk_psqlpy.connections.replica import reads_of
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.connections.sources import Kind, LendsConnections
from adk_psqlpy.errors import OperationTimeoutError, PoolTimeoutError
from adk_psqlpy.following.follower import Follower
from adk_psqlpy.following.following import Following, FollowSettings
from adk_psqlpy.seal.seal import Seal, checked_seal
from adk_psqlpy.sessions import arguments
from adk_psqlpy.sessions.groups import Append, AppendGroups
from adk_psqlpy.sessions.histories import HISTORY_CACHE_BYTES, Histories
from adk_psqlpy.sessions.hook import BeforeAppend, prepared
from adk_psqlpy.sessions.kept_reads import KeptReads
from adk_psqlpy.sessions.limits import JSONB_BYTES, StateSizes, check_event, check_state
from adk_psqlpy.sessions.listing import Listing
from adk_psqlpy.sessions.nodes import Queues
from adk_psqlpy.sessions.paging import Pages
from adk_psqlpy.sessions.search import EventSearch, FoundEvent, Progress, Window
from adk_psqlpy.sessions.state import EMPTY, scoped
from adk_psqlpy.sessions.stored import AppendOutcome, StoredSession, Version
from adk_psqlpy.sessions.values import Values
from adk_psqlpy.sql import (
    INDEX_SETS,
    LOCK_SEC,
    READING,
    SCHEMA_VERSION,
    IndexSet,
    Statements,
    Tables,
    change_indexes,
    create_tables,
    made_with,
)
from adk_psqlpy.sql.delegated import DelegatedStatements
from adk_psqlpy.sql.distribution import distribute, drop_local_copies
from adk_psqlpy.sql.following import change_notify
from adk_psqlpy.sql.recorded import check_made_with, check_server, recorded_version
from adk_psqlpy.sql.views import Views
from adk_psqlpy.telemetry import Telemetry, current, observed

_EVENT_NAMES: Final = tuple(name for name, _ in _native.EVENT_COLUMNS)
_ARRAYS: Final = (*_EVENT_NAMES[: _native.OWN_ARRAYS], "rare")
_T = TypeVar("_T")
_SESSION: Final[Decoders] = {
    "state": raw,
    "app_state": raw,
    "user_state": raw,
    "create_time": seconds,
    "update_time": seconds,
    **dict.fromkeys(_ARRAYS, raw),
}
_LIST: Final[Decoders] = dict.fromkeys(
    (
        *("user_ids", "ids", "states", "create_times", "update_times", "revisions"),
        *("app_state", "state_user_ids", "user_states"),
    ),
    raw,
)


class PsqlpyADKStore:
    """Sessions, events and state of ADK agents in PostgreSQL tables.

    Args:
        config: where the server is: a `PsqlpyConfig`, or another package's with a `provide_connection()` that
            lends psqlpy connections, such as SQLSpec's. The latter's pool stays its owner's.
        session_table: the table of sessions, with its schema if it is not on the search path. The other
            tables take its prefix: `adk_app_states`, `adk_user_states`, `adk_state_log`, `adk_forks`,
            `adk_metadata`.
        events_table: the table of events.
        key_length: the longest app name, user, session or event id in characters, 1 to 1,024. The tables are
            made with it, so it is chosen before `create_tables`.
        group_appends: whether appends to several sessions that wait for the server travel in one statement.
            Each is told its own outcome all the same, and a lone append is sent as it is.
        history_cache_bytes: how much memory to spend on the events of sessions that were read, so that the
            next read brings only what is new. It is exact: the server compares all rows at each read. 0 or
            `None` turns it off.
        tables_on_first_use: whether the first operation calls `create_tables`, for callers that have no place
            to do it.
        follow_settings: how often followers look for new events, and how long they wait for a server that is
            away.
        seal: encrypts content, actions, metadata and state before they are sent (docs/security.md). Rows that
            were written without it are still read.
        before_append: a coroutine function that is called once with a copy of each event before it is
            stored, and gives the event to store in its place, masked for instance; `None` stores none. It
            must not change id, invocation id and timestamp.

    Every method raises `ValueError` for arguments that cannot be stored, before anything is sent, and
    `psqlpy.exceptions.Error` for what goes wrong between here and the server. Every method that reads raises
    `SealError` where a sealed value cannot be opened.
    """

    def __init__(
        self,
        config: LendsConnections,
        session_table: str = "adk_sessions",
        events_table: str = "adk_events",
        *,
        key_length: int = 128,
        group_appends: bool = True,
        history_cache_bytes: int | None = HISTORY_CACHE_BYTES,
        tables_on_first_use: bool = False,
        follow_settings: FollowSettings | None = None,
        seal: Seal | None = None,
        before_append: BeforeAppend | None = None,
    ) -> None:
        self.config = config
        self.tables = Tables(session_table, events_table)
        self.key_length = whole("key_length", key_length, LONGEST_KEY)
        self.group_appends = group_appends
        self._sql: Statements = Statements(self.tables)
        self._queues: WeakKeyDictionary[asyncio.AbstractEventLoop, Queues] = WeakKeyDictionary()
        self._lanes = lanes_of(config)
        self._reads = reads_of(config, self._lanes)
        self._telemetry = config.telemetry if isinstance(config, PsqlpyConfig) else Telemetry()
        tables = ("sessions", "events", "app_states", "user_states")
        self._collections = {each: getattr(self.tables, each).replace('"', "") for each in tables}
        self.seal = checked_seal(seal)
        self.before_append = before_append
        self._values = Values(seal)
        self._pages = self._pages_of(self._sql)
        # What is kept would be readable without its key, and for longer than the seal remembers that.
        kept_bytes = arguments.history_cache_bytes(history_cache_bytes)
        self._histories = Histories(0 if seal is not None else kept_bytes)
        self._kept_reads = KeptReads(
            self._sql, self._read, _SESSION, self._pages, self._histories, self._telemetry
        )
        self._state_sizes = StateSizes()
        self._tables_wanted = tables_on_first_use
        self._search = EventSearch(self.tables, self.key_length, self._lanes, self._recorded)
        self.following = Following(
            config,
            self._lanes,
            self.tables,
            self._read,
            follow_settings or FollowSettings(),
            self._values.events,
        )
        # One task makes them while the others of its event loop wait; other loops take turns in the server.
        self._making: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()

    # Tables.

    async def create_tables(
        self,
        *,
        index_set: IndexSet | None = None,
        notify: bool | None = None,
        event_search: bool | str | None = None,
        views: bool = False,
        distributed: bool = False,
        waiting_index: bool = False,
    ) -> None:
        """Make the tables and indexes, or bring them to the newest version. Safe to call from many processes.

        Args:
            distributed: whether to distribute the tables by `user_id` over the nodes of a Citus cluster.
                Tables that are distributed stay so, and every store that calls this finds out by itself.
                Filled tables are copied, and writes to them wait meanwhile.
            index_set: what the indexes over the session table are for. `"reading"`, which new tables have:
                pages of long lists, retention and `state @>` are fast, and each append writes to all of the
                indexes. `"appending"`: appends write to none, and these queries read and sort more, up to
                the whole table. `None` leaves the set as it is.
            notify: whether each write to a session notifies those who follow it, by a trigger, so that they
                need not look for it. Commits that notify wait for each other in PostgreSQL
                (docs/following.md has numbers). `None` leaves it as it is; new tables do not notify.
            event_search: whether `search_events` may be used: makes its tables, with this text search
                configuration (`True`: `simple`), or drops them. `None` leaves it as it is.
            views: make the SQL views over events too (`docs/views.md`), or bring them to this package's
                definitions.
            waiting_index: make the partial index by which `list_paused` and `list_sessions(waiting=...)` find
                long-running calls, if it is not there. Others read and write meanwhile. It holds the events
                with such calls only, so other appends do not write to it.

        Every process should ask for the same set, or for none. A change is one transaction. Writes of
        sessions wait until it is done, reads only while the old indexes are dropped; it gives up, and
        changes nothing, where other transactions hold the table for 5 s. Indexes of your own stay.

        Raises:
            psqlpy.exceptions.NotSupportedError: the server is older than PostgreSQL 15, or the tables were
                made by a newer version of this package; or `event_search` is wanted of distributed tables, or
                with a seal.
            psqlpy.exceptions.Error: the server did not let the tables be made, or the set be changed.
            ValueError: the tables were made with other names or another `key_length`.
        """
        if index_set is not None and index_set not in INDEX_SETS:
            known = " or ".join(repr(each) for each in INDEX_SETS)
            raise ValueError(f"index_set must be {known}, not {index_set!r}")
        ((number, metadata),) = await self._lanes.fetch(
            self._sql.version, [self.tables.metadata], repeat=Repeat.READ
        )
        check_server(number)
        recorded = await self._recorded() if metadata is not None else {}
        if recorded_version(recorded, SCHEMA_VERSION, self.tables.sessions) < SCHEMA_VERSION:
            await self._lanes.batch(create_tables(self.tables, self.key_length))
            recorded = await self._recorded()
        if index_set is not None and recorded.get("index_set", READING) != index_set:
            await self._change_indexes(index_set)
        if notify is not None and ("notify" in recorded) != notify:
            await self._lanes.batch(change_notify(self.tables, wanted=notify))
        if distributed or "distributed" in recorded:
            await self._distribute(recorded)
        if event_search is not None:
            if event_search:
                self._refuse_search_of_sealed()
            if event_search and (distributed or "distributed" in recorded):
                raise NotSupportedError("event_search is for one server, and these tables are distributed")
            await self._search.change(event_search, recorded)
        if views:
            await self._lanes.batch(Views(self.tables).create())
        if waiting_index:
            await Listing(self).create_index()
        self._tables_wanted = False

    async def _distribute(self, recorded: Mapping[str, str]) -> None:
        """Distribute what is not distributed yet, and write through functions from now on."""
        sql = DelegatedStatements(self.tables)
        if recorded.get("functions") != sql.version_of_functions:
            t = self.tables
            await self._lanes.batch(distribute(t.metadata, t.by_user, [t.app_states], sql.functions))
            await self._lanes.batch(drop_local_copies([*t.by_user, t.app_states, t.metadata]))
        self._sql = sql
        self._pages = self._pages_of(sql)
        # What is kept is compared by where rows lie on one server, and a shard may move to another.
        self._histories = Histories(0)
        self._queues.clear()

    def _pages_of(self, sql: Statements) -> Pages:
        return Pages(sql, self._read, partial(self._lanes.fetch, kind="read"), _SESSION, self._values.events)

    async def _ready(self) -> None:
        if not self._tables_wanted:
            return
        async with self._making.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
            if self._tables_wanted:
                await self.create_tables()

    async def _change_indexes(self, index_set: IndexSet) -> None:
        try:
            await self._lanes.batch(change_indexes(self.tables, index_set))
        except Error as error:
            raise type(error)(
                f"the indexes of {self.tables.sessions} were not changed to the set {index_set!r}: {error}. "
                f"That takes the owner of the table, and within {LOCK_SEC} s a moment when no other "
                "transaction holds it; create_tables() may be called again at any time"
            ) from error

    async def _recorded(self) -> dict[str, str]:
        """What `adk_metadata` says, after a look whether the tables are this store's."""
        recorded: dict[str, str] = dict(await self._lanes.fetch(self._sql.metadata, [], repeat=Repeat.READ))
        given = made_with(self.tables, self.key_length)
        check_made_with(recorded, given, self.tables.metadata, "a session_table with another prefix")
        return recorded

    # Sessions.

    @observed("sessions")
    async def create_session(
        self, app_name: str, user_id: str, session_id: str, state: Mapping[str, Any] | None = None
    ) -> StoredSession | None:
        """Store a new session; `None` where there is one with this id already (and nothing is changed)."""
        self._check_key(app_name, user_id, session_id)
        for name, value in (("app_name", app_name), ("user_id", user_id), ("session_id", session_id)):
            if not value:
                raise ValueError(f"{name} must not be empty")
        key = (app_name, user_id, session_id)
        delta = await self._values.sealed_state(key, scoped({} if state is None else state))
        own = delta.session or b"\x01{}"
        check_state(own, delta.app, delta.user)
        self._state_sizes.look(key, own)
        micros = time.time_ns() // 1000
        await self._ready()  # before the statement is chosen: distributed tables have their own
        rows = await self._write(
            self._sql.create_session,
            [
                app_name,
                user_id,
                session_id,
                parameter(own),
                parameter(delta.app),
                parameter(delta.user),
                parameter(timestamptz(micros)),
            ],
            _SESSION,
            repeat=Repeat.AFTER_FAILURE,
        )
        now = micros / 1e6
        if not rows:
            # An earlier attempt, whose connection broke, may have been committed.
            found = await self.get_session(app_name, user_id, session_id, limit=0)
            return found if found and (found.revision, found.create_time) == (0, now) else None
        revision, app, user = rows[0]
        merged = await self._values.state(key, own, app, user, _place(*key))
        return StoredSession(app_name, user_id, session_id, merged, now, now, revision)

    async def get_session(
        self,
        app_name: str,
        user_id: str,
        session_id: str,
        *,
        after_timestamp: float | None = None,
        limit: int | None = None,
        max_staleness_sec: float | None = None,
    ) -> StoredSession | None:
        """Read a session with its events, oldest first; `None` where there is none.

        `after_timestamp` keeps the events at or after a time (seconds since the Unix epoch, compared to the
        microsecond); `limit` keeps the newest ones of those; 0 reads no event at all. With
        `max_staleness_sec` the replica may answer, where the configuration has one that is not further
        behind.
        """
        self._check_key(app_name, user_id, session_id)
        which, parameters = arguments.which_events(after_timestamp, limit)
        if max_staleness_sec is not None:
            max_staleness_sec = positive_seconds("max_staleness_sec", max_staleness_sec)
        return await self._get_session(app_name, user_id, session_id, which, parameters, max_staleness_sec)

    @observed("events")
    async def _get_session(
        self,
        app_name: str,
        user_id: str,
        session_id: str,
        which: str,
        parameters: list[Any],
        max_staleness_sec: float | None = None,
    ) -> StoredSession | None:
        key, place = (app_name, user_id, session_id), _place(app_name, user_id, session_id)
        if max_staleness_sec is not None:
            await self._ready()
            read = partial(self._reads.fetch, staleness_sec=max_staleness_sec)
            pages = Pages(self._sql, read, read, _SESSION, self._values.events)
            found = await self._explained(pages.get(key, which, parameters, place))
        elif which == "all" and self._histories.max_bytes:
            found = await self._kept_reads.get(key, place)
        else:
            found = await self._pages.get(key, which, parameters, place)
        if found is None:
            return None
        (_, create_time, update_time, revision, state, app, user), events = found
        self._state_sizes.look(key, state)
        if (operation := current()) is not None:
            operation.rows = len(events)
        merged = await self._values.state(key, state, app, user, place)
        return StoredSession(
            app_name, user_id, session_id, merged, create_time, update_time, revision, events
        )

    async def get_since(
        self, app_name: str, user_id: str, session_id: str, revision: int
    ) -> StoredSession | None:
        """Read a session with the events appended after a revision; `None` where there is none."""
        self._check_key(app_name, user_id, session_id)
        return await self._get_session(
            app_name, user_id, session_id, "since", [arguments.count("revision", revision)]
        )

    async def get_until(
        self, app_name: str, user_id: str, session_id: str, revision: int
    ) -> StoredSession | None:
        """Read a session as it is, with the events up to a revision; `None` where there is none."""
        self._check_key(app_name, user_id, session_id)
        return await self._get_session(
            app_name, user_id, session_id, "until", [arguments.count("revision", revision)]
        )

    @observed("sessions")
    async def list_sessions(
        self,
        app_name: str,
        user_id: str | None = None,
        *,
        limit: int | None = None,
        after: tuple[float, str, str] | None = None,
    ) -> list[StoredSession]:
        """List sessions without their events, the one updated longest ago first; ties by user, then by id.

        `limit` is the size of a page; `after` is the `(update_time, user_id, id)` of the last session of the
        page before. `user_id=None` lists the sessions of all users.
        """
        self._check(app_name=app_name)
        parameters: list[Any] = [app_name]
        if user_id is not None:
            self._check(user_id=user_id)
            parameters.append(user_id)
        if after is not None:
            if not isinstance(after, tuple) or len(after) != 3:
                raise ValueError(f"after must be (update_time, user_id, id) of a session, not {after!r}")
            at, after_user, after_id = after
            self._check(**{"the user_id in after": after_user, "the id in after": after_id})
            parameters += [
                parameter(timestamptz(arguments.micros("the update_time in after", at))),
                after_user,
                after_id,
            ]
        if limit is not None:
            parameters.append(arguments.count("limit", limit))
        sql = self._sql.list_sessions(
            one_user=user_id is not None, after=after is not None, limited=limit is not None
        )
        await self._ready()
        (row,) = await self._explained(self._reads.fetch(sql, parameters, _LIST, kind="list"))
        listed = await self._values.sessions(app_name, row, f"sessions of app {app_name!r}")
        return [
            StoredSession(app_name, user, identity, state, create_time, update_time, revision)
            for user, identity, state, create_time, update_time, revision in listed
        ]

    @observed("sessions")
    async def update_session_state(
        self, app_name: str, user_id: str, session_id: str, delta: Mapping[str, Any]
    ) -> int:
        """Merge a delta into the state without an event; `app:` and `user:` keys go to their scopes.

        The session's own part of the delta is kept in `adk_state_log`, so that the state at any earlier point
        can be told.
        Gives the session's new revision, so whoever holds the session from before is stale.

        Raises:
            SessionNotFoundError: there is no such session.
        """
        self._check_key(app_name, user_id, session_id)
        state = await self._values.sealed_state((app_name, user_id, session_id), scoped(delta, "delta"))
        check_state(state.session, state.app, state.user)
        parameters = [parameter(state.session), parameter(state.app), parameter(state.user)]
        rows = await self._write(
            self._sql.update_session_state,
            [app_name, user_id, session_id, *parameters, parameter(timestamptz(time.time_ns() // 1000))],
            repeat=Repeat.NEVER,
        )
        if not rows:
            raise SessionNotFoundError(f"Session {session_id} not found.")
        return int(rows[0][0])

    @observed("sessions")
    async def delete_session(self, app_name: str, user_id: str, session_id: str) -> bool:
        """Delete a session and its events; whether it was there."""
        self._check_key(app_name, user_id, session_id)
        self._histories.discard((app_name, user_id, session_id))
        deleted = bool(
            await self._write(
                self._sql.delete_session, [app_name, user_id, session_id], repeat=Repeat.AFTER_FAILURE
            )
        )
        self.following.appended((app_name, user_id, session_id))
        return deleted

    # Events.

    @observed("events")
    async def append_event(
        self,
        app_name: str,
        user_id: str,
        session_id: str,
        event: Event,
        *,
        expected: Version,
        merge: bool = False,
        is_prepared: bool = False,
    ) -> int | None:
        """Append an event and merge its state delta, if the session is still as expected.

        With `merge`, also if others have appended since to the history that `expected` names.

        Gives the new revision, which is the event's `seq`; `None` where nothing was written because the
        session is gone, has moved on, or holds the event already: `append_outcome` tells which. `temp:` keys
        of the delta are not stored in any state. `is_prepared` says that the event comes from `prepared`;
        otherwise it goes through `before_append` here, and `None` is also given where that stores none.
        """
        self._check_key(app_name, user_id, session_id)
        arguments.check_append(event, expected)
        if not is_prepared:
            stored = await self.prepared(event)
            if stored is None:
                return None
            event = stored
        key = (app_name, user_id, session_id)
        columns = _native.encode_event(event, self.key_length)
        delta = scoped(event.actions.state_delta) if event.actions.state_delta else EMPTY
        if self.seal is not None:
            columns = await self._values.sealed_event(key, columns)
            delta = await self._values.sealed_state(key, delta)
        seen = arguments.seen(expected, self._check)
        append = Append(key, expected.revision, [*seen, delta.session, *columns])
        if append.size > JSONB_BYTES:
            check_event(event.id, columns, (delta.session, delta.app, delta.user))
        self._state_sizes.look(append.key, delta.session)
        shared = [parameter(scope) for scope in (delta.app, delta.user) if scope is not None]
        if self.group_appends and not shared and not merge:
            await self._ready()
            if (groups := self._groups(user_id)) is not None:
                revision = await self._explained(groups.append(append))
                if revision is not None:
                    self.following.appended(append.key)
                if (operation := current()) is not None:
                    operation.group_size = append.group_size
                    operation.rows = int(revision is not None)
                return revision
        sql = self._sql.append_event(app=delta.app is not None, user=delta.user is not None, merge=merge)
        rows = await self._write(sql, [*append.parameters(), *shared], repeat=Repeat.GUARDED)
        if rows:
            self.following.appended(append.key)
        return int(rows[0][0]) if rows else None

    async def prepared(self, event: Event) -> Event | None:
        """The event that `before_append` stores in the place of this one; `None` where it stores none.

        Raises:
            ValueError: it gave no event, or changed id, invocation id or timestamp.
        """
        return await prepared(self.before_append, event)

    def _groups(self, user_id: str) -> AppendGroups | None:
        """The queue for a user's appends in the event loop that runs; `None` to send an append by itself."""
        loop = asyncio.get_running_loop()
        found = self._queues.get(loop)
        if found is None:
            found = self._queues[loop] = Queues(self._lanes, self._sql, self._telemetry)
        return found.of(user_id)

    @observed("events")
    async def append_outcome(
        self, app_name: str, user_id: str, session_id: str, event_id: str
    ) -> AppendOutcome | None:
        """Tell how a session and an event of it are stored; `None` where there is no such session."""
        self._check_key(app_name, user_id, session_id)
        self._check(event_id=event_id)
        rows = await self._read(self._sql.append_outcome, [app_name, user_id, session_id, event_id], _SESSION)
        if not rows:
            return None
        revision, create_time, seq = rows[0]
        return AppendOutcome(Version(revision, create_time), seq)

    async def get_events(
        self,
        app_name: str,
        user_id: str,
        session_id: str,
        *,
        after_timestamp: float | None = None,
        limit: int | None = None,
    ) -> list[Event]:
        """Read events of a session, oldest first; filters as in `get_session`; none for no such session."""
        session = await self.get_session(
            app_name, user_id, session_id, after_timestamp=after_timestamp, limit=limit
        )
        return session.events if session is not None else []

    @observed("events")
    async def get_event(self, app_name: str, user_id: str, session_id: str, event_id: str) -> Event | None:
        """Read one event; `None` where the session does not hold it."""
        self._check_key(app_name, user_id, session_id)
        self._check(event_id=event_id)
        rows = await self._read(
            self._sql.get_session(events="one"), [app_name, user_id, session_id, event_id], _SESSION
        )
        if not rows:
            return None
        key = (app_name, user_id, session_id)
        events = await self._values.events(key, [rows[0][7:]], _place(*key))
        return events[0] if events else None

    @observed("events")
    async def last_event(
        self, app_name: str, user_id: str, session_id: str
    ) -> tuple[Version, float, str | None] | None:
        """Version, time of the last update, and id of the newest event; `None` for no such session."""
        self._check_key(app_name, user_id, session_id)
        rows = await self._read(self._sql.last_event, [app_name, user_id, session_id], _SESSION)
        if not rows:
            return None
        revision, create_time, update_time, event_id = rows[0]
        return Version(revision, create_time), update_time, event_id

    @observed("events")
    async def search_events(
        self,
        app_name: str,
        user_id: str | None = None,
        *,
        query: str,
        limit: int = 10,
        window: Window = None,
    ) -> list[FoundEvent]:
        """Find events by what was said, as `PsqlpySessionService.search_events` does."""
        self._check(app_name=app_name, **({} if user_id is None else {"user_id": user_id}))
        if not isinstance(query, str):
            raise ValueError(f"query must be a str, not {type(query).__name__}")
        self._refuse_search_of_sealed()
        await self._ready()
        return await self._search.search(app_name, user_id, query, whole("limit", limit, 1_000), window)

    @observed("events")
    async def index_events(self, app_name: str | None = None, *, progress: Progress | None = None) -> int:
        """Give words to the events of an app, or of all, that `search_events` does not know yet.

        A search does so by itself for what it searches; doing it beforehand, or from time to time, saves it
        the wait. Many may do it at once, and it may be stopped at any time: what is done stays done.
        `progress` is called after each portion with how many events were looked at. Gives their number.

        Raises:
            psqlpy.exceptions.NotSupportedError: the tables were not made for it, or the store seals.
        """
        if app_name is not None:
            self._check(app_name=app_name)
        self._refuse_search_of_sealed()
        await self._ready()
        return await self._search.index(app_name, progress)

    def _refuse_search_of_sealed(self) -> None:
        if self.seal is not None:
            raise NotSupportedError(
                "a store with a seal has no search over events: their words would stand beside them in plain "
                "text"
            )

    def follow(
        self, app_name: str, user_id: str, session_id: str, after: int | Version | None = None
    ) -> Follower:
        """Follow a session as `PsqlpySessionService.follow` does."""
        self._check_key(app_name, user_id, session_id)
        if isinstance(after, Version):
            arguments.micros("after.create_time", after.create_time)
        if after is not None:
            arguments.count("after", after.revision if isinstance(after, Version) else after)
        return self.following.follow((app_name, user_id, session_id), after)

    # Shared state.

    @observed("app_states")
    async def get_app_state(self, app_name: str) -> dict[str, Any]:
        """The app's state, keys without their `app:` prefix; empty where nothing was stored."""
        self._check(app_name=app_name)
        rows = await self._read(self._sql.app_state, [app_name], _SESSION)
        place = f"app {app_name!r}"
        return await self._values.shared_state(app_name, None, rows[0][0], place) if rows else {}

    @observed("user_states")
    async def get_user_state(self, app_name: str, user_id: str) -> dict[str, Any]:
        """The user's state, keys without their `user:` prefix; empty where nothing was stored."""
        self._check(app_name=app_name, user_id=user_id)
        rows = await self._read(self._sql.user_state, [app_name, user_id], _SESSION)
        place = f"user {user_id!r} of app {app_name!r}"
        return await self._values.shared_state(app_name, user_id, rows[0][0], place) if rows else {}

    # Beneath.

    async def close(self) -> None:
        """Close the configuration's pool; to another package's, only give its connections back."""
        if isinstance(self.config, PsqlpyConfig):
            await self.config.close_pool()
        else:
            self._lanes.close()

    async def _read(
        self, sql: str, parameters: list[Any], decoders: Decoders | None = None, *, kind: Kind = "read"
    ) -> list[Row]:
        return await self._fetch(sql, parameters, decoders, kind, Repeat.READ)

    async def _write(
        self, sql: str, parameters: list[Any], decoders: Decoders | None = None, *, repeat: Repeat
    ) -> list[Row]:
        return await self._fetch(sql, parameters, decoders, "write", repeat)

    async def _fetch(
        self, sql: str, parameters: list[Any], decoders: Decoders | None, kind: Kind, repeat: Repeat
    ) -> list[Row]:
        await self._ready()
        return await self._explained(self._lanes.fetch(sql, parameters, decoders, kind=kind, repeat=repeat))

    async def _explained(self, statement: Awaitable[_T]) -> _T:
        """Say so where a statement failed because the tables are missing."""
        try:
            return await statement
        except (OperationTimeoutError, PoolTimeoutError):
            raise
        except Error as error:
            # The driver tells causes apart by translatable text only, so the likely one is looked up.
            if not await self._tables_present():
                raise DatabaseError(
                    f"there is no table {self.tables.sessions} on the search path of this connection: "
                    "call `await store.create_tables()` first, or check session_table and the database"
                ) from error
            raise

    async def _tables_present(self) -> bool:
        try:
            rows = await self._lanes.fetch(self._sql.tables_present, [self.tables.sessions], kind="read")
        except Error:
            # The server cannot be asked; whatever failed before says more.
            return True
        return bool(rows[0][0])

    def _check_key(self, app_name: str, user_id: str, session_id: str) -> None:
        self._check(app_name=app_name, user_id=user_id, session_id=session_id)

    def _check(self, **identifiers: str) -> None:
        for name, value in identifiers.items():
            check_identifier(name, value, self.key_length, "PsqlpyADKStore")


def _place(app_name: str, user_id: str, session_id: str) -> str:
    return f"session {session_id!r} of user {user_id!r} in app {app_name!r}"
