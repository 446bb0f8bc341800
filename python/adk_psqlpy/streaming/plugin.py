"""A plugin that keeps the text of partial events, which ADK does not store, until the final event has it."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from google.adk.agents.invocation_context import InvocationContext
from google.adk.events.event import Event
from google.adk.plugins.base_plugin import BasePlugin
from google.genai import types
from psqlpy.exceptions import Error

from adk_psqlpy.following.following import Key
from adk_psqlpy.sessions.service import PsqlpySessionService
from adk_psqlpy.streaming.partials import Partials, Stream, partials_of

logger = logging.getLogger("adk_psqlpy.streaming")

INTERVAL_SEC: Final = 0.1
"""Seconds between two writes of one text, however many pieces come meanwhile."""


class PartialTextPlugin(BasePlugin):
    """Keeps what agents stream in an unlogged table, so that every process can show it.

    A text is written at most every 0.1 s and in the background, so the model does not wait for it. If the
    database refuses it, that is logged, and the run goes on. Thoughts are not kept.

    Args:
        service: the runner's session service.
        name: the name of the plugin.
    """

    def __init__(self, service: PsqlpySessionService, name: str = "adk_psqlpy_partial_text") -> None:
        super().__init__(name=name)
        self.service = service
        self._partials = partials_of(service.store)
        self._texts: dict[tuple[Key, Stream], _Text] = {}

    async def before_run_callback(self, *, invocation_context: InvocationContext) -> types.Content | None:
        """Delete texts that an earlier run left when it died."""
        await self._clear(invocation_context)
        return None

    async def on_event_callback(self, *, invocation_context: InvocationContext, event: Event) -> Event | None:
        """Keep a piece of text, or the id of the event that has the whole text."""
        key, stream = _key(invocation_context), Stream(event.invocation_id, event.author, event.branch or "")
        if event.partial:
            if piece := _said(event):
                text = self._texts.setdefault((key, stream), _Text(self._partials, key, stream))
                text.add(piece)
        elif (key, stream) in self._texts:
            await self._texts.pop((key, stream)).finish(event.id)
        return None

    async def after_run_callback(self, *, invocation_context: InvocationContext) -> None:
        """Delete the texts that are left: no event has replaced them."""
        await self._end(invocation_context)

    async def on_run_error_callback(
        self,
        *,
        invocation_context: InvocationContext,
        error: Exception,  # noqa: ARG002 - ADK's signature
    ) -> None:
        """Take away what is left."""
        await self._end(invocation_context)

    async def _end(self, context: InvocationContext) -> None:
        mine = (_key(context), context.invocation_id)
        for key, stream in [each for each in self._texts if (each[0], each[1].invocation_id) == mine]:
            await self._texts.pop((key, stream)).stop()
        await self._clear(context)

    async def _clear(self, context: InvocationContext) -> None:
        try:
            await self._partials.clear(_key(context), context.invocation_id)
        except Error as error:
            logger.warning("streamed text was not cleared: %s", error)


@dataclass
class _Text:
    """One text that is being streamed, and the task that writes it."""

    partials: Partials
    key: Key
    stream: Stream
    text: str = ""
    written: str = ""
    task: asyncio.Task[None] | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, piece: str) -> None:
        self.text += piece
        if self.task is None:
            self.task = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        try:
            while self.written != self.text and not self.over.is_set():
                self.written = self.text
                await self.partials.put(self.key, self.stream, self.text)
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self.over.wait(), INTERVAL_SEC)
        except Error as error:
            logger.warning("streamed text was not kept: %s", error)
        finally:
            self.task = None

    async def stop(self) -> None:
        """Stop writing. A statement under way is waited for: it might run after the deletion."""
        self.over.set()
        if self.task is not None:
            await asyncio.wait({self.task})

    async def finish(self, event_id: str) -> None:
        """Stop writing: the event has the whole text."""
        await self.stop()
        try:
            await self.partials.finish(self.key, self.stream, event_id)
        except Error as error:
            logger.warning("streamed text was not taken away: %s", error)


def _key(context: InvocationContext) -> Key:
    session = context.session
    return session.app_name, session.user_id, session.id


def _said(event: Event) -> str:
    parts = (event.content.parts if event.content else None) or []
    return "".join(part.text for part in parts if part.text and not part.thought)
