"""Writers that append for as long as they are told, and note in a ledger what they were told."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from google.adk.errors import StaleSessionError
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.adk.sessions import Session
from google.adk.sessions.base_session_service import GetSessionConfig
from google.genai import types
from psqlpy.exceptions import Error

from adk_psqlpy import PsqlpySessionService

from .deadlines import within
from .ledger import Ledger

APP = "app"
Result = TypeVar("Result")


def user_of(session_id: str) -> str:
    """The user of a session: two sessions a user, so that they share `user:` state."""
    return f"user-{int(session_id.rpartition('-')[2]) // 2}"


@dataclass
class Writer:
    """One task that appends to sessions in turn, each event with deltas of all scopes.

    Its sessions may be other writers' as well: it reads anew when it is told that its object is stale, and
    appends the same event again.

    Attributes:
        bound: seconds that a call of the service may take.
        repeats: whether it repeats a call that ended in an `Error`; else the service's retry has to do.
        errors: the driver's errors that the caller met.
        appended: how many appends returned.
        stale: how often the session had moved on.
        slowest: seconds of the slowest append.
    """

    service: PsqlpySessionService
    ledger: Ledger
    name: str
    session_ids: Sequence[str]
    bound: float = 90.0
    repeats: bool = False
    user: Callable[[str], str] = user_of
    errors: list[Error] = field(default_factory=list)
    appended: int = 0
    stale: int = 0
    slowest: float = 0.0

    async def run(self, go_on: Callable[[], bool], at_least: int = 1) -> None:
        """Append until `go_on` says no, but `at_least` so many times."""
        held = {each: await self.load(each) for each in self.session_ids}
        for number in itertools.count(1):
            if number > at_least and not go_on():
                break
            session_id = self.session_ids[number % len(self.session_ids)]
            event = self.event(number, session_id)
            began = time.monotonic()
            self.ledger.begun(held[session_id], event)
            held[session_id] = await self.append(held[session_id], event)
            self.ledger.acknowledged(event)
            self.appended += 1
            self.slowest = max(self.slowest, time.monotonic() - began)
            if number % 7 == 0:
                await self._see(event, held[session_id])

    def event(self, number: int, session_id: str) -> Event:
        """The event, with keys that this writer alone writes and keys that all race for."""
        token = f"{self.name}/{session_id}/{number}"
        # Every third writes shared state as well: such an append never travels in a group.
        scopes = ("", "user:", "app:") if number % 3 == 1 else ("",)
        delta: dict[str, Any] = {"temp:gone": token}
        for scope in scopes:
            delta |= {f"{scope}{self.name}.{session_id}": number, f"{scope}last": token}
        return Event(
            author="agent",
            invocation_id=f"i-{number}",
            content=types.Content(role="model", parts=[types.Part(text=token)]),
            actions=EventActions(state_delta=delta),
        )

    async def append(self, session: Session, event: Event) -> Session:
        """Append, whatever others do; the object that the session is at afterwards."""
        while True:
            try:
                await self._insist(lambda session=session: self.service.append_event(session, event))
            except StaleSessionError:  # noqa: PERF203 - read anew, once more
                self.stale += 1
                session = await self.load(session.id)
            else:
                return session

    async def load(self, session_id: str) -> Session:
        """The session as it is stored; it must exist."""
        found = await self._insist(
            lambda: self.service.get_session(
                app_name=APP, user_id=self.user(session_id), session_id=session_id
            )
        )
        assert found is not None, f"session {session_id} is gone"
        return found

    async def _see(self, event: Event, session: Session) -> None:
        """What was acknowledged is there for whoever asks next."""
        recent = await self._insist(
            lambda: self.service.get_session(
                app_name=APP,
                user_id=session.user_id,
                session_id=session.id,
                config=GetSessionConfig(after_timestamp=event.timestamp),
            )
        )
        assert recent is not None
        assert event.id in [each.id for each in recent.events], f"{event.id} was acknowledged, is not read"

    async def _insist(self, call: Callable[[], Awaitable[Result]]) -> Result:
        while True:
            try:
                return await within(self.bound, call())
            except Error as error:
                self.errors.append(error)
                if not self.repeats:
                    raise
            await asyncio.sleep(random.uniform(0.01, 0.1))  # a caller's backoff


async def create_sessions(
    service: PsqlpySessionService, count: int, user: Callable[[str], str] = user_of
) -> list[str]:
    """Make `count` sessions; their ids."""
    ids = [f"s-{number}" for number in range(count)]
    for each in ids:
        await service.create_session(app_name=APP, user_id=user(each), session_id=each)
    return ids


def writers_of(
    service: PsqlpySessionService, ledger: Ledger, ids: Sequence[str], count: int, **settings: float | bool
) -> list[Writer]:
    """`count` writers, each with sessions of its own; where there are more writers, they share."""
    shares = [ids[number::count] or [ids[number % len(ids)]] for number in range(count)]
    return [
        Writer(service, ledger, f"w{number}", share, **settings)  # type: ignore[arg-type]
        for number, share in enumerate(shares)
    ]


async def under_load(
    writers: Sequence[Writer], fault: Callable[[], Awaitable[None]], *, bound: float, at_least: int = 5
) -> None:
    """Let the writers append while `fault` does its work, and some more after it has ended."""
    broken = asyncio.ensure_future(fault())
    tasks = [asyncio.ensure_future(each.run(lambda: not broken.done(), at_least)) for each in writers]
    everything = asyncio.gather(broken, *tasks)
    try:
        await within(bound, everything)
    finally:
        for task in (broken, *tasks):
            task.cancel()
        await asyncio.wait({broken, *tasks})
