"""Fixtures of the search in conversations: a service whose tables have the index, and conversations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from google.adk.events.event import Event
from google.genai import types

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Say = Callable[..., Awaitable[list[Event]]]


@pytest.fixture
async def service(config: PsqlpyConfig) -> AsyncIterator[PsqlpySessionService]:
    """A service on tables with the index."""
    store = PsqlpyADKStore(config)
    await store.create_tables(event_search=True)
    return PsqlpySessionService(store)


@pytest.fixture
def say(service: PsqlpySessionService) -> Say:
    """Appends what was said to a session, which is made if it is not there."""

    async def said(
        *texts: str, user: str = "ann", session: str = "s", app: str = "app", at: float = 0
    ) -> list[Event]:
        key = {"app_name": app, "user_id": user, "session_id": session}
        found = await service.get_session(**key) or await service.create_session(**key)
        events = []
        for number, text in enumerate(texts):
            event = Event(
                author="user",
                timestamp=at or 1_700_000_000 + len(found.events) + number,
                content=types.Content(role="user", parts=[types.Part(text=text)]),
            )
            events.append(await service.append_event(found, event))
        return events

    return said
