"""Builders of sessions and memories, and searches, that the tests of the memory part share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.adk.memory.memory_entry import MemoryEntry
from google.adk.sessions import Session
from google.genai import types

from contract.events import APP, USER, said

if TYPE_CHECKING:
    from google.adk.events import Event
    from google.adk.memory import BaseMemoryService

SCOPE = {"app_name": APP, "user_id": USER}


def session(*events: Event | str, app: str = APP, user: str = USER, session_id: str = "s") -> Session:
    """A session with these events; of a text, the user's message is made, a second after the one before."""
    made = [said(event, seconds=n) if isinstance(event, str) else event for n, event in enumerate(events)]
    return Session(id=session_id, app_name=app, user_id=user, events=made)


def entry(text: str, **fields: Any) -> MemoryEntry:
    """An explicit memory of a text."""
    return MemoryEntry(content=types.Content(role="user", parts=[types.Part(text=text)]), **fields)


async def found(
    service: BaseMemoryService, query: str, *, app: str = APP, user: str = USER
) -> list[MemoryEntry]:
    """The memories that a query finds, best first."""
    return (await service.search_memory(app_name=app, user_id=user, query=query)).memories


async def texts(service: BaseMemoryService, query: str, *, app: str = APP, user: str = USER) -> list[str]:
    """The texts of the memories that a query finds, best first."""
    return [text_of(memory) for memory in await found(service, query, app=app, user=user)]


def text_of(memory: MemoryEntry) -> str:
    """All text in a memory."""
    return " ".join(part.text for part in memory.content.parts or () if part.text)
