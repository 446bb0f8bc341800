"""PostgreSQL's notifications, where the tables have the trigger for it: a wake-up, never data.

What psqlpy 0.13's Listener does, as far as it matters here (tried):

- It has a connection of its own, beside the pool. Each message holds that connection open.
- `listen()`, its background task, ends without a word when the connection breaks. Iterating raises instead.
- Any other message of the server, such as a warning, ends the iteration with an error as well.
- A connection that is gone without a trace is not noticed. The watcher goes on looking, so events come
  late, but they come.
- It does not connect again.
- The name of the channel goes into LISTEN as it is: it has to be lower case and plain.
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
"""Between two attempts to listen. Until then the watcher looks by itself."""


class Notified(Protocol):
    """Who is told."""

    def listening(self, channel_works: bool) -> None:
        """A notification has come, so others will; or none will any more."""
        ...

    def notified(self, payload: str) -> None:
        """A notification has come."""
        ...


class Notifications:
    """Listens, in one event loop, for as long as something is watched there."""

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
        """End, and the connection with it."""
        self._task.cancel()

    async def _run(self) -> None:
        while True:
            try:
                channel = await self._channel()
                if channel is None:
                    return
                await self._listen(channel)
            except Error as error:
                logger.debug("notifications of sessions ended, to be listened to again: %s", error)
            await asyncio.sleep(_PAUSE_SEC)

    async def _listen(self, channel: str) -> None:
        pool = await self._config.create_pool()
        listener: Listener = pool.listener()
        await listener.add_callback(channel, _ignored)
        await listener.startup()
        try:
            # The first look at the queue sends LISTEN; what was appended before is found by looking.
            async for message in listener:
                payload = message.payload
                del message  # it holds the connection
                self._listener.listening(True)
                self._listener.notified(payload)
        finally:
            self._listener.listening(False)
            await listener.shutdown()


async def _ignored(*_: object) -> None:
    """A channel is listened to only if it has a callback; messages are taken by iterating."""
