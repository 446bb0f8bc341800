"""The plain operations on events, one statement each."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext

from google.adk.events.event import Event
from psqlpy.exceptions import BaseConnectionPoolError, Error

from adk_psqlpy import _native
from adk_psqlpy.checks import whole
from adk_psqlpy.connections.binary import parameter
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.following.follower import Follower
from adk_psqlpy.sessions import arguments
from adk_psqlpy.sessions.decoders import SESSION
from adk_psqlpy.sessions.groups import Append
from adk_psqlpy.sessions.hook import prepared
from adk_psqlpy.sessions.limits import JSONB_BYTES, check_event
from adk_psqlpy.sessions.nodes import Queues
from adk_psqlpy.sessions.operations import Operations
from adk_psqlpy.sessions.search import FoundEvent, Progress, Window, refuse_search_of_sealed
from adk_psqlpy.sessions.state import EMPTY, scoped
from adk_psqlpy.sessions.stored import AppendOutcome, Version
from adk_psqlpy.sessions.values import place_of
from adk_psqlpy.telemetry import current, observed


class EventOperations(Operations):
    """Appending, reading, searching and following events."""

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

        With `merge`, it is also appended if others have appended to the history that `expected` names.

        Returns the new revision, which is the event's `seq`. Returns `None` if nothing was written, because
        the session is gone, has another revision, or has the event already; `append_outcome` tells which.
        `temp:` keys of the delta are not stored in any state. `is_prepared` says that the event comes from
        `prepared`. Otherwise `before_append` is called here, and the result is also `None` if that drops the
        event.
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
        await self._made.ready()
        # A sealed row is not what is kept, and an event that is merged has others before it.
        origin = self._histories.origin(key) if self.seal is None and not merge else None
        append = Append(key, expected.revision, [*seen, delta.session, *columns], origin)
        if append.size > JSONB_BYTES:
            check_event(event.id, columns, (delta.session, delta.app, delta.user))
        self._state_sizes.look(append.key, delta.session)
        shared = [parameter(scope) for scope in (delta.app, delta.user) if scope is not None]
        queues = self._queues_here()
        groups = queues.of(user_id) if self.group_appends and not shared and not merge else None
        try:
            if groups is not None:
                revision = await self._explained(groups.append(append))
                if (operation := current()) is not None:
                    operation.group_size = append.group_size
                    operation.rows = int(revision is not None)
            else:
                sql = self._sql.append_event(
                    app=delta.app is not None,
                    user=delta.user is not None,
                    merge=merge,
                    versions=origin is not None,
                )
                parameters = [*append.parameters(), *shared, *(origin or ())]
                # All that write an app's state wait for one row.
                async with queues.lock_waits if delta.app is not None else nullcontext():
                    revision = append.stored(await self._write(sql, parameters, repeat=Repeat.GUARDED))
        except (TimeoutError, BaseConnectionPoolError):
            raise
        except Error:
            # Of a table that has become a view, say, there are no versions to ask for.
            if origin is not None:
                self._histories.discard(key)
            raise
        if revision is not None:
            self.following.appended(key)
            if origin is not None and append.version is not None:
                self._histories.extend(key, origin, revision, append.version, tuple(columns))
        return revision

    async def prepared(self, event: Event) -> Event | None:
        """Return the event that `before_append` puts in place of this one; `None` if it drops the event.

        Raises:
            ValueError: it returned something else, or changed id, invocation id or timestamp.
        """
        return await prepared(self.before_append, event)

    def _queues_here(self) -> Queues:
        """The queues of appends in the running event loop."""
        loop = asyncio.get_running_loop()
        found = self._queues.get(loop)
        if found is None:
            found = self._queues[loop] = Queues(self._lanes, self._sql, self._telemetry)
        return found

    @observed("events")
    async def append_outcome(
        self, app_name: str, user_id: str, session_id: str, event_id: str
    ) -> AppendOutcome | None:
        """Tell the stored version of a session, and an event's place in it; `None` if there is no such
        session.
        """
        self._check_key(app_name, user_id, session_id)
        self._check(event_id=event_id)
        rows = await self._read(self._sql.append_outcome, [app_name, user_id, session_id, event_id], SESSION)
        if not rows:
            return None
        revision, create_time, seq = rows[0]
        return AppendOutcome(Version(revision, create_time), seq)

    @observed("events")
    async def get_event(self, app_name: str, user_id: str, session_id: str, event_id: str) -> Event | None:
        """Read one event; `None` if the session does not have it."""
        self._check_key(app_name, user_id, session_id)
        self._check(event_id=event_id)
        await self._made.ready()
        rows = await self._read(
            self._sql.get_session(events="one"), [app_name, user_id, session_id, event_id], SESSION
        )
        if not rows:
            return None
        key = (app_name, user_id, session_id)
        events = await self._values.events(key, [rows[0][7:]], place_of(*key))
        return events[0] if events else None

    @observed("events")
    async def last_event(
        self, app_name: str, user_id: str, session_id: str
    ) -> tuple[Version, float, str | None] | None:
        """Version, time of the last update, and id of the newest event; `None` for no such session."""
        self._check_key(app_name, user_id, session_id)
        rows = await self._read(self._sql.last_event, [app_name, user_id, session_id], SESSION)
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
        """Find events by their text, as `PsqlpySessionService.search_events` does."""
        self._check(app_name=app_name, **({} if user_id is None else {"user_id": user_id}))
        if not isinstance(query, str):
            raise ValueError(f"query must be a str, not {type(query).__name__}")
        refuse_search_of_sealed(self.seal)
        await self._made.ready()
        return await self._made.search.search(app_name, user_id, query, whole("limit", limit, 1_000), window)

    @observed("events")
    async def index_events(self, app_name: str | None = None, *, progress: Progress | None = None) -> int:
        """Index those events of an app, or of all apps, that `search_events` does not know yet.

        A search first indexes the events that it searches. Indexing beforehand or from time to time makes
        searches faster. Many may do it at once. It may be stopped at any time; what is done stays done.
        `progress` is called after each portion with the number of events so far. Returns their number.

        Raises:
            psqlpy.exceptions.NotSupportedError: the tables were not made for it, or the store seals.
        """
        if app_name is not None:
            self._check(app_name=app_name)
        refuse_search_of_sealed(self.seal)
        await self._made.ready()
        return await self._made.search.index(app_name, progress)

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
