"""`before_append`: what it gives is stored, once an event."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from google.adk.events import Event, EventActions
from google.genai import types

from adk_psqlpy import PsqlpyADKStore, PsqlpySessionService
from adk_psqlpy.sessions.outdated import expected_version

if TYPE_CHECKING:
    from adk_psqlpy.config import PsqlpyConfig
    from adk_psqlpy.sessions.hook import BeforeAppend

KEY: dict[str, Any] = {"app_name": "app", "user_id": "user", "session_id": "s"}
CARD = "4111 1111 1111 1111"


def said(text: str, **fields: Any) -> Event:
    return Event(author="user", content=types.Content(role="user", parts=[types.Part(text=text)]), **fields)


async def mask(event: Event) -> Event | None:
    """Card numbers become stars; what is said off the record is not stored."""
    for part in event.content.parts or () if event.content else ():
        if part.text and "off the record" in part.text:
            return None
        if part.text:
            part.text = re.sub(r"\d{4}( \d{4}){3}", "****", part.text)
    return event


async def service_with(config: PsqlpyConfig, hook: BeforeAppend, **settings: Any) -> PsqlpySessionService:
    store = PsqlpyADKStore(config, before_append=hook)
    await store.create_tables()
    return PsqlpySessionService(store, **settings)


async def test_the_masked_event_is_stored(config: PsqlpyConfig) -> None:
    """The session gets it too, so that it holds what is stored; the caller's event stays as it was."""
    service = await service_with(config, mask)
    session = await service.create_session(**KEY)
    given = said(f"My card is {CARD}")
    appended = await service.append_event(session, given)
    assert given.content == said(f"My card is {CARD}").content
    assert appended.content == said("My card is ****").content
    assert session.events == [appended]
    read = await service.get_session(**KEY)
    assert read is not None
    assert read.events == [appended]


async def test_none_stores_nothing(config: PsqlpyConfig) -> None:
    """Neither event nor state delta; the event comes back, and the session goes on."""
    service = await service_with(config, mask)
    session = await service.create_session(**KEY)
    dropped = said("off the record", actions=EventActions(state_delta={"k": 1}))
    assert await service.append_event(session, dropped) is dropped
    assert session.events == []
    assert "k" not in session.state
    await service.append_event(session, said("on the record"))
    read = await service.get_session(**KEY)
    assert read is not None
    assert len(read.events) == 1
    assert read.state == {}


async def test_once_an_event(config: PsqlpyConfig) -> None:
    """Also where an append needs a second statement; and a repeated append is recognised."""
    seen: list[str] = []

    async def count(event: Event) -> Event | None:
        seen.append(event.id)
        return await mask(event)

    service = await service_with(config, count, stale_policy="merge")
    session = await service.create_session(**KEY)
    stale = await service.get_session(**KEY)
    assert stale is not None
    await service.append_event(session, said("one", id="e1"))
    await service.append_event(stale, said(f"two {CARD}", id="e2"))
    assert seen == ["e1", "e2"]
    await service.append_event(stale, said(f"two {CARD}", id="e2", timestamp=stale.events[-1].timestamp))
    read = await service.get_session(**KEY)
    assert read is not None
    assert [event.id for event in read.events] == ["e1", "e2"]


async def test_the_store_calls_it_too(config: PsqlpyConfig) -> None:
    """For those who use the store without the service."""
    service = await service_with(config, mask)
    session = await service.create_session(**KEY)
    expected = await expected_version(service.store, session, merge=False)
    assert await service.store.append_event(*KEY.values(), said("off the record"), expected=expected) is None
    assert await service.store.append_event(*KEY.values(), said(CARD), expected=expected) == 1
    (stored,) = await service.store.get_events(*KEY.values())
    assert stored.content == said("****").content


@pytest.mark.parametrize("name", ["id", "invocation_id", "timestamp"])
async def test_what_it_may_not_change(config: PsqlpyConfig, name: str) -> None:
    """Refused before anything is sent."""

    async def change(event: Event) -> Event:
        setattr(event, name, 1.0 if name == "timestamp" else "other")
        return event

    service = await service_with(config, change)
    session = await service.create_session(**KEY)
    with pytest.raises(ValueError, match=f"before_append changed {name} of event 'e'"):
        await service.append_event(session, said("x", id="e"))
    assert session.events == []


async def test_what_is_no_event(config: PsqlpyConfig) -> None:
    """A hook that forgets to return says None; another value is refused."""

    async def odd(event: Event) -> Event:
        return event.id  # type: ignore[return-value]

    service = await service_with(config, odd)
    session = await service.create_session(**KEY)
    with pytest.raises(ValueError, match="before_append must give an Event or None, not str"):
        await service.append_event(session, said("x"))
