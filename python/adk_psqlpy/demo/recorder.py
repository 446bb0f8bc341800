"""Recording what the demo appends, to hand it from the first process to the second."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from google.adk.events.event import Event
from google.adk.sessions.base_session_service import GetSessionConfig, ListSessionsResponse
from google.adk.sessions.session import Session
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import override

from adk_psqlpy.sessions.service import PsqlpySessionService
from adk_psqlpy.sessions.store import PsqlpyADKStore


class Appended(BaseModel):
    """The events that a process appended to one session, as JSON texts in order."""

    user_id: str
    session_id: str
    events: list[str] = Field(default_factory=list)


class Handover(BaseModel):
    """What the first process tells the second one. It goes through a pipe because it contains the DSN."""

    model_config = ConfigDict(hide_input_in_errors=True)

    dsn: str = Field(repr=False)
    session_table: str
    events_table: str
    pid: int
    appended: dict[str, Appended] = Field(default_factory=dict)
    durations: dict[str, list[float]] = Field(default_factory=dict)


class DifferenceError(Exception):
    """The second process read something else than the first one wrote."""


class Recorder(PsqlpySessionService):
    """The session service, which also records the time of each operation and a copy of each event."""

    def __init__(self, store: PsqlpyADKStore, handover: Handover) -> None:
        """Take down in `handover`."""
        super().__init__(store)
        self._handover = handover

    @contextmanager
    def _timed(self, operation: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._handover.durations.setdefault(operation, []).append(time.perf_counter() - start)

    @override
    async def create_session(
        self,
        *,
        app_name: str,
        user_id: str,
        state: dict[str, Any] | None = None,
        session_id: str | None = None,
    ) -> Session:
        """Create, timed."""
        with self._timed("create_session"):
            session = await super().create_session(
                app_name=app_name, user_id=user_id, state=state, session_id=session_id
            )
        self._handover.appended[session.id] = Appended(user_id=user_id, session_id=session.id)
        return session

    @override
    async def get_session(
        self, *, app_name: str, user_id: str, session_id: str, config: GetSessionConfig | None = None
    ) -> Session | None:
        """Read, timed."""
        with self._timed("get_session"):
            return await super().get_session(
                app_name=app_name, user_id=user_id, session_id=session_id, config=config
            )

    @override
    async def list_sessions(
        self,
        *,
        app_name: str,
        user_id: str | None = None,
        limit: int | None = None,
        after: Session | None = None,
        **filters: Any,
    ) -> ListSessionsResponse:
        """List, timed."""
        with self._timed("list_sessions"):
            return await super().list_sessions(
                app_name=app_name, user_id=user_id, limit=limit, after=after, **filters
            )

    @override
    async def append_event(self, session: Session, event: Event) -> Event:
        """Append the event, and record it as JSON and the time it took."""
        with self._timed("append_event"):
            appended = await super().append_event(session, event)
        if not appended.partial:
            self._handover.appended[session.id].events.append(appended.model_dump_json())
        return appended
