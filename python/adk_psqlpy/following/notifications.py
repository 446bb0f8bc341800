"""Listening to PostgreSQL's notifications, if the tables have the trigger. They wake a watcher and carry no
data.

What to know about the Listener of psqlpy 0.13 (tried):

- It has a connection of its own, beside the pool. Each message holds that connection open.
- `listen()`, its background task, ends without an error when the connection breaks. Iterating raises one.
- Any other message of the server, such as a warning, ends the iteration with an error as well.
- A connection that dies silently is not noticed. The watcher goes on looking, so events come late, but they
  come.
- It does not connect again.
- The name of the channel goes into LISTEN unquoted, so it has to be a plain lower-case name.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from psqlpy import Listener
from psqlpy.exceptions import Error

from adk_psqlpy.config import PsqlpyConfig

logger = logging.getLogger("adk_psqlpy.following")

_PAUSE_SEC: Final = 1.0
"""Seconds between two attempts to listen. Until then the watcher looks by itself."""


class Notified(Protocol):
    """Who is told."""

    def listening(self, channel_works: bool) -> None:
        """Tell whether notifications are coming."""
        ...

    def notified(self, payload: str) -> None:
        """A notification has come."""
        ...


class Notifications:
    """Listens in one event loop as long as something is watched there."""

    def __init__(
        self,
        config: PsqlpyConfig,
        channel: Callable[[], Awaitable[str | None]],
        listener: Notified,
    ) -> None:
        """Begin to listen to `channel()`, if there is one, and tell `listener`."""
        self._config = config
        self._channel = channel
        self._listener = listener
        self._task = asyncio.get_running_loop().create_task(self._run())

    def stop(self) -> None:
        """End listening, and close the connection."""
        self._task.cancel()

    async def _run(self) -> None:
        while True:
            try:
                channel = await self._channel()
                if channel is None:
                    return
                await self._listen(channel)
            except Error as error:
                logger.debug("listening for notifications ended, and will be tried again: %s", error)
            await asyncio.sleep(_PAUSE_SEC)

    async def _listen(self, channel: str) -> None:
        pool = await self._config.create_pool()
        listener: Listener = pool.listener()
        await listener.add_callback(channel, _ignored)
        await listener.startup()
        try:
            # The first call of the queue sends LISTEN. Events that were appended before are found by looking.
            async for message in listener:
                payload = message.payload
                del message  # a message holds the connection
                self._listener.listening(True)
                self._listener.notified(payload)
        finally:
            self._listener.listening(False)
            await listener.shutdown()


async def _ignored(*_: object) -> None:
    """Do nothing. A channel is listened to only if it has a callback; messages are taken by iterating."""
