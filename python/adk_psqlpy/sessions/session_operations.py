"""The plain operations on sessions, one statement each."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event

from adk_psqlpy.checks import positive_seconds
from adk_psqlpy.connections.binary import parameter, timestamptz
from adk_psqlpy.connections.lanes import Row
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.sessions import arguments
from adk_psqlpy.sessions.decoders import LIST, SESSION
from adk_psqlpy.sessions.limits import check_state
from adk_psqlpy.sessions.operations import Operations
from adk_psqlpy.sessions.paging import Key, Pages
from adk_psqlpy.sessions.state import scoped
from adk_psqlpy.sessions.stored import StoredSession
from adk_psqlpy.sessions.values import place_of
from adk_psqlpy.telemetry import current, observed


class SessionOperations(Operations):
    """Creating, reading, listing, changing and deleting sessions."""

    @observed("sessions")
    async def create_session(
        self, app_name: str, user_id: str, session_id: str, state: Mapping[str, Any] | None = None
    ) -> StoredSession | None:
        """Store a new session; `None` if there is one with this id already. Nothing is changed then."""
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
        await self._made.ready()  # before the statement is chosen: distributed tables have other ones
        values = [*map(parameter, (own, delta.app, delta.user, timestamptz(micros)))]
        sql = self._sql.create_session if delta.app is None else self._sql.create_session_with_app
        creating = self._write(sql, [*key, *values], SESSION, repeat=Repeat.AFTER_FAILURE)
        beside = None
        if delta.app is None:
            rows, beside = await self._with_app_state(app_name, creating)
        else:
            rows = await creating
        now = micros / 1e6
        if not rows:
            # An earlier attempt, whose connection broke, may have been committed.
            found = await self.get_session(app_name, user_id, session_id, limit=0)
            return found if found and (found.revision, found.create_time) == (0, now) else None
        revision, app, user = rows[0]
        merged = await self._values.state(key, own, app or beside, user, place_of(*key))
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
        """Read a session with its events, oldest first; `None` if there is none.

        `after_timestamp` selects the events at or after a time (seconds since the Unix epoch, compared to the
        microsecond). `limit` selects the newest ones of those; 0 reads no event. With `max_staleness_sec` the
        replica may answer, if the configuration has one that is not further behind.
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
        key, place = (app_name, user_id, session_id), place_of(app_name, user_id, session_id)
        await self._made.ready()
        reading = self._found(key, which, parameters, max_staleness_sec)
        found, beside = await self._with_app_state(app_name, reading)
        if found is None:
            return None
        (_, create_time, update_time, revision, state, app, user), events = found
        self._state_sizes.look(key, state)
        if (operation := current()) is not None:
            operation.rows = len(events)
        merged = await self._values.state(key, state, app or beside, user, place)
        return StoredSession(
            app_name, user_id, session_id, merged, create_time, update_time, revision, events
        )

    async def _found(
        self, key: Key, which: str, parameters: list[Any], max_staleness_sec: float | None
    ) -> tuple[Row, list[Event]] | None:
        """The row of a session and its events, by the way that suits what is asked for."""
        place = place_of(*key)
        if max_staleness_sec is not None:
            read = partial(self._reads.fetch, staleness_sec=max_staleness_sec)
            pages = Pages(self._sql, read, read, SESSION, self._values.events)
            return await self._explained(pages.get(key, which, parameters, place))
        if which in ("all", "newest") and self._histories.max_bytes:
            return await self._kept_reads.get(key, place, *parameters)
        return await self._pages.get(key, which, parameters, place)

    async def get_since(
        self, app_name: str, user_id: str, session_id: str, revision: int
    ) -> StoredSession | None:
        """Read a session with the events appended after a revision; `None` if there is none."""
        self._check_key(app_name, user_id, session_id)
        return await self._get_session(
            app_name, user_id, session_id, "since", [arguments.count("revision", revision)]
        )

    async def get_until(
        self, app_name: str, user_id: str, session_id: str, revision: int
    ) -> StoredSession | None:
        """Read a session as it is now, but only with the events up to a revision; `None` if there is none."""
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
        """List sessions without their events, least recently updated first; ties by user, then by id.

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
        await self._made.ready()
        sql = self._sql.list_sessions(
            one_user=user_id is not None, after=after is not None, limited=limit is not None
        )
        listing = self._explained(self._reads.fetch(sql, parameters, LIST, kind="list"))
        (row,), app = await self._with_app_state(app_name, listing)
        return await self._values.sessions(app_name, row, app)

    @observed("sessions")
    async def update_session_state(
        self, app_name: str, user_id: str, session_id: str, delta: Mapping[str, Any]
    ) -> int:
        """Merge a delta into the state without an event; `app:` and `user:` keys go to their scopes.

        The session's own part of the delta is kept in `adk_state_log`, so that the state at an earlier point
        can be found. Returns the session's new revision. Whoever holds the session from before is then stale.

        Raises:
            SessionNotFoundError: there is no such session.
        """
        self._check_key(app_name, user_id, session_id)
        state = await self._values.sealed_state((app_name, user_id, session_id), scoped(delta, "delta"))
        check_state(state.session, state.app, state.user)
        parameters = [parameter(state.session), parameter(state.app), parameter(state.user)]
        await self._made.ready()
        of_app = state.app is not None
        rows = await self._write(
            self._sql.update_session_state_with_app if of_app else self._sql.update_session_state,
            [app_name, user_id, session_id, *parameters, parameter(timestamptz(time.time_ns() // 1000))],
            repeat=Repeat.NEVER,
        )
        if not rows:
            raise SessionNotFoundError(f"Session {session_id} not found.")
        return int(rows[0][0])

    @observed("sessions")
    async def delete_session(self, app_name: str, user_id: str, session_id: str) -> bool:
        """Delete a session and its events, and return whether it was there."""
        self._check_key(app_name, user_id, session_id)
        self._histories.discard((app_name, user_id, session_id))
        deleted = bool(
            await self._write(
                self._sql.delete_session, [app_name, user_id, session_id], repeat=Repeat.AFTER_FAILURE
            )
        )
        self.following.appended((app_name, user_id, session_id))
        return deleted

    async def get_events(
        self,
        app_name: str,
        user_id: str,
        session_id: str,
        *,
        after_timestamp: float | None = None,
        limit: int | None = None,
    ) -> list[Event]:
        """Read events of a session, oldest first, with the filters of `get_session`; none if there is no such
        session.
        """
        session = await self.get_session(
            app_name, user_id, session_id, after_timestamp=after_timestamp, limit=limit
        )
        return session.events if session is not None else []
