"""What the tests of following share: events that say which they are, and waits with a bound."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from google.adk.events.event import Event
from google.genai import types

from adk_psqlpy import PsqlpySessionService
from adk_psqlpy.following import Follower
from adk_psqlpy.following.following import Key
from adk_psqlpy.following.watcher import Watcher
from adk_psqlpy.sessions.stored import Version

KEY = {"app_name": "app", "user_id": "user", "session_id": "s"}
LIMIT_SEC = 20
Result = TypeVar("Result")


def event(text: str) -> Event:
    return Event(author="user", content=types.Content(role="user", parts=[types.Part(text=text)]))


def said(given: Event) -> str:
    assert given.content is not None
    assert given.content.parts
    return given.content.parts[0].text or ""


async def append(service: PsqlpySessionService, *texts: str, session_id: str = "s") -> list[Event]:
    """Append events, each on the newest state of the session."""
    session = await service.get_session(**KEY | {"session_id": session_id})
    assert session is not None
    return [await service.append_event(session, event(text)) for text in texts]


async def soon(awaitable: Awaitable[Result]) -> Result:
    """Await what must come; fail where it does not."""
    return await asyncio.wait_for(awaitable, LIMIT_SEC)


async def take(follower: Follower, count: int) -> list[str]:
    """What the next events say."""
    return [said(await soon(anext(follower))) for _ in range(count)]


async def nothing_more(follower: Follower) -> None:
    """It has given all that is stored."""
    assert await soon(follower.next_now()) is None


def watcher_of(service: PsqlpySessionService) -> Watcher[Key, Version]:
    """What waits for the followers of this event loop."""
    return service.store.following._loops[asyncio.get_running_loop()].watcher


async def until(condition: Callable[[], bool]) -> None:
    """Look at a condition until it holds."""
    deadline = time.monotonic() + LIMIT_SEC
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        await asyncio.sleep(0.01)  # between two looks
