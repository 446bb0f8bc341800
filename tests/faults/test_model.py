"""ADK's in-memory service as the model of ours: hypothesis drives both, and compares all that is stored
after each step.

Left out is what docs/design.md lists as the in-memory service's own: what it makes of a second writer (ours
refuses, and then the model is left alone), of clocks that go back (here they go on), and the order of keys.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from google.adk.errors import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.adk.sessions import BaseSessionService, InMemorySessionService, Session
from google.adk.sessions.base_session_service import GetSessionConfig
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from contract.events import at, varied
from servers import Database

from .deadlines import within

Result = TypeVar("Result")
Key = tuple[str, str]
"""User and id of a session."""
Stored = tuple[Key, int, Event]
"""An event, with the birth of its session."""

LIMIT_SEC = 10
USERS, IDS = ["ann", "bob"], ["s1", "s2", " s3\t"]
EVENTS = varied()
KINDS = sorted(EVENTS)
_apps = itertools.count(1)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
KEYS = ["k", "l", "user:k", "user:l", "app:k", "app:l", "temp:k", "user:", "a.b"]
other_keys = st.text(st.characters(exclude_characters=":"), max_size=5)
state_keys = st.sampled_from(KEYS) | other_keys
deltas = st.dictionaries(state_keys, values, max_size=4)
kinds_and_deltas = st.lists(st.tuples(st.sampled_from(KINDS), deltas), min_size=1, max_size=3)
users = st.sampled_from(USERS)
session_ids = st.sampled_from(IDS)
configs = st.none() | st.builds(
    GetSessionConfig,
    num_recent_events=st.none() | st.integers(0, 4),
    after_timestamp=st.none() | st.integers(-1, 12).map(lambda second: at(second + 0.5)),
)


@dataclass
class Handle:
    """A session object of each service, read at one moment: `born` and `version` say what it knows."""

    ours: Session
    model: Session
    born: int
    version: int

    @property
    def key(self) -> Key:
        return self.ours.user_id, self.ours.id


class Machine(RuleBasedStateMachine):
    """Two services, the same calls."""

    handles: Bundle[Handle] = Bundle("handles")
    stored_events: Bundle[Stored] = Bundle("stored_events")

    def __init__(self, ours: PsqlpySessionService, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.ours, self.loop = ours, loop
        self.model = InMemorySessionService()
        self.app = f"app-{next(_apps)}"
        self.births = itertools.count()
        self.seconds = itertools.count()
        self.known: dict[Key, list[int]] = {}
        """Of each session that is stored: its birth, and its version."""

    def run(self, what: Coroutine[Any, Any, Result]) -> Result:
        """Await something of ours."""
        return self.loop.run_until_complete(within(LIMIT_SEC, what))

    def both(
        self, call: Callable[[BaseSessionService], Coroutine[Any, Any, Result]]
    ) -> tuple[Result | type[Exception], Result | type[Exception]]:
        """The same call to both: results, or the classes of ADK's errors."""

        async def outcome(service: BaseSessionService) -> Result | type[Exception]:
            try:
                return await call(service)
            except (AlreadyExistsError, SessionNotFoundError) as error:
                return type(error)

        return self.run(outcome(self.ours)), self.run(outcome(self.model))

    def same(self, ours: Session, model: Session) -> None:
        """The same session, but for the time of one that no event has touched: each has its own clock."""
        assert (ours.app_name, ours.user_id, ours.id) == (model.app_name, model.user_id, model.id)
        assert ours.state == model.state
        assert ours.events == model.events
        if model.last_update_time >= at(0):
            assert ours.last_update_time == model.last_update_time

    def event(self, kind: str, delta: dict[str, Any], *, partial: bool = False) -> Event:
        """An event of its own id, a second later than the one before."""
        made = EVENTS[kind].model_copy(
            deep=True, update={"id": Event.new_id(), "timestamp": at(next(self.seconds))}
        )
        made.actions.state_delta = delta
        made.partial = True if partial else made.partial
        return made

    @rule(target=handles, user=users, session_id=session_ids, state=st.none() | deltas)
    def create(self, user: str, session_id: str, state: dict[str, Any] | None) -> Any:
        """Create, whether it is there or not."""
        ours, model = self.both(
            lambda service: service.create_session(
                app_name=self.app, user_id=user, session_id=session_id, state=state
            )
        )
        key = (user, session_id.strip())
        if key in self.known:
            assert ours is model is AlreadyExistsError
            return multiple()
        assert isinstance(ours, Session)
        assert isinstance(model, Session)
        self.same(ours, model)
        self.known[key] = [next(self.births), 0]
        return Handle(ours, model, *self.known[key])

    @rule(target=handles, user=users, session_id=session_ids)
    def load(self, user: str, session_id: str) -> Any:
        """Read a session to append to it later: by then it may be stale."""
        handle = self._load(user, session_id)
        return multiple() if handle is None else handle

    def _load(self, user: str, session_id: str) -> Handle | None:
        ours, model = self.both(
            lambda service: service.get_session(app_name=self.app, user_id=user, session_id=session_id)
        )
        if (user, session_id.strip()) not in self.known:
            assert ours is model is None
            return None
        assert isinstance(ours, Session)
        assert isinstance(model, Session)
        return Handle(ours, model, *self.known[user, session_id.strip()])

    @rule(target=stored_events, handle=handles, fresh=st.booleans(), events=kinds_and_deltas, config=configs)
    def append(
        self,
        handle: Handle,
        fresh: bool,
        events: list[tuple[str, dict[str, Any]]],
        config: GetSessionConfig | None,
    ) -> Any:
        """Append through an object that is current, stale, or of a session that is gone."""
        if fresh:
            handle = self._load(*handle.key) or handle
        stored = [each for kind, delta in events if (each := self._append(handle, kind, delta))]
        self._compare(*handle.key, config)
        return multiple(*stored)

    def _append(self, handle: Handle, kind: str, delta: dict[str, Any]) -> Stored | None:
        event = self.event(kind, delta)
        copy = event.model_copy(deep=True)
        now = self.known.get(handle.key)
        if now is None:
            for service, session in ((self.ours, handle.ours), (self.model, handle.model)):
                with pytest.raises(SessionNotFoundError):
                    self.run(service.append_event(session, event))
            return None
        if now != [handle.born, handle.version] and not event.partial:
            with pytest.raises(StaleSessionError):
                self.run(self.ours.append_event(handle.ours, event))
            return None
        given = self.run(self.ours.append_event(handle.ours, event))
        assert given == self.run(self.model.append_event(handle.model, copy))
        if event.partial:
            return None
        self.same(handle.ours, handle.model)
        now[1] += 1
        handle.version += 1
        return handle.key, handle.born, copy

    @rule(handle=handles, kind=st.sampled_from(KINDS), delta=deltas)
    def append_partial(self, handle: Handle, kind: str, delta: dict[str, Any]) -> None:
        """A part of an answer that is streamed is stored nowhere, whatever the object's state."""
        event = self.event(kind, delta, partial=True)
        copy = event.model_copy(deep=True)
        assert self.run(self.ours.append_event(handle.ours, event)) is event
        assert event == copy == self.run(self.model.append_event(handle.model, copy))

    @rule(stored=stored_events)
    def append_again(self, stored: Stored) -> None:
        """An event that is stored already, through an object that holds it."""
        (user, session_id), born, event = stored
        now = self.known.get((user, session_id))
        if now is None or now[0] != born:
            return
        again = event.model_copy(deep=True)
        for service in (self.ours, self.model):
            session = self.run(service.get_session(app_name=self.app, user_id=user, session_id=session_id))
            assert session is not None
            before = session.model_copy(deep=True)
            assert self.run(service.append_event(session, again)) == event
            assert session == before

    @rule(user=users, session_id=session_ids, config=configs)
    def get(self, user: str, session_id: str, config: GetSessionConfig | None) -> None:
        """Read with filters."""
        self._compare(user, session_id, config)

    @rule(user=st.none() | users)
    def list_sessions(self, user: str | None) -> None:
        """List those of one user, or of all."""
        ours = self.run(self.ours.list_sessions(app_name=self.app, user_id=user)).sessions
        model = self.run(self.model.list_sessions(app_name=self.app, user_id=user)).sessions
        assert len(ours) == len(model)
        for one, other in zip(ours, model, strict=True):
            assert one.events == []
            self.same(one, other)

    @precondition(lambda self: self.known)
    @rule(user=users, session_id=session_ids, handle=st.none() | consumes(handles))
    def delete(self, user: str, session_id: str, handle: Handle | None) -> None:
        """Delete, whether it is there or not; handles of it are left behind."""
        if handle is not None:
            user, session_id = handle.key
        self.both(
            lambda service: service.delete_session(app_name=self.app, user_id=user, session_id=session_id)
        )
        self.known.pop((user, session_id.strip()), None)

    @invariant()
    def all_is_the_same(self) -> None:
        """Every session and every user's state."""
        for user in USERS:
            assert self.run(self.ours.get_user_state(app_name=self.app, user_id=user)) == self.run(
                self.model.get_user_state(app_name=self.app, user_id=user)
            )
            for session_id in IDS:
                self._compare(user, session_id, None)

    def _compare(self, user: str, session_id: str, config: GetSessionConfig | None) -> None:
        ours, model = self.both(
            lambda service: service.get_session(
                app_name=self.app, user_id=user, session_id=session_id, config=config
            )
        )
        if (user, session_id.strip()) not in self.known:
            assert ours is model is None
            return
        assert isinstance(ours, Session)
        assert isinstance(model, Session)
        self.same(ours, model)


def compared(
    dsn: str, kind: type[PsqlpySessionService], examples: int, steps: int, *, shrink: bool = True
) -> None:
    """Run the machine with a service of this class; a failing sequence is shrunk and printed as a program."""
    phases = [phase for phase in Phase if shrink or phase not in (Phase.shrink, Phase.explain)]
    loop = asyncio.new_event_loop()
    config = PsqlpyConfig({"dsn": dsn, "max_db_pool_size": 4})
    try:
        store = PsqlpyADKStore(config)
        loop.run_until_complete(store.create_tables())
        service = kind(store)
        run_state_machine_as_test(
            lambda: Machine(service, loop),
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                database=None,
                phases=phases,
                report_multiple_bugs=False,
            ),
        )
    finally:
        loop.run_until_complete(config.close_pool())
        loop.close()


@pytest.mark.parametrize(("examples", "steps"), [(15, 25), pytest.param(1000, 50, marks=pytest.mark.torture)])
def test_against_the_in_memory_service(database: Database, examples: int, steps: int) -> None:
    compared(database.dsn, PsqlpySessionService, examples, steps)


class OldestEvents(PsqlpySessionService):
    """Reads the oldest events where the newest are asked for."""

    async def get_session(
        self, *, app_name: str, user_id: str, session_id: str, config: GetSessionConfig | None = None
    ) -> Session | None:
        found = await super().get_session(app_name=app_name, user_id=user_id, session_id=session_id)
        if found is not None and config is not None and config.num_recent_events is not None:
            found.events = found.events[: config.num_recent_events]
        return found


class ForgetfulUserState(PsqlpySessionService):
    """Stores an event without the user's part of its delta."""

    async def append_event(self, session: Session, event: Event) -> Event:
        kept = {k: v for k, v in event.actions.state_delta.items() if not k.startswith("user:")}
        event.actions.state_delta = kept
        return await super().append_event(session, event)


class NeverStale(PsqlpySessionService):
    """Appends whatever others wrote meanwhile."""

    async def append_event(self, session: Session, event: Event) -> Event:
        session._storage_update_marker = None
        session.last_update_time = at(1e6)
        return await super().append_event(session, event)


@pytest.mark.parametrize("wrong", [OldestEvents, ForgetfulUserState, NeverStale])
def test_a_wrong_service_is_found(database: Database, wrong: type[PsqlpySessionService]) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        compared(database.dsn, wrong, 100, 25, shrink=False)
