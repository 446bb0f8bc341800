"""Writers that cancel their calls."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from google.adk.events.event import Event
from google.adk.sessions import Session

from .workload import APP, Writer, user_of

LIMIT_SEC = 10


@dataclass
class ImpatientWriter(Writer):
    """Cancels its calls after a while, most of them, and then repeats or abandons them.

    Attributes:
        cancelled: how many calls were still under way when they were cancelled.
    """

    cancelled: int = 0

    async def append(self, session: Session, event: Event) -> Session:
        """Append an event, in several attempts."""
        patience = random.choice([0.0, 0.0003, 0.001, 0.003])
        while True:
            task = asyncio.ensure_future(super().append(session, event))
            if await self.cancelled_after(task, patience):
                patience = patience * 2 + 0.0002
                continue
            return task.result()

    async def distract(self) -> None:
        """Begin a call of another kind, and cancel it."""
        one = random.choice(self.session_ids)
        calls: list[Coroutine[Any, Any, Any]] = [
            self.service.get_session(app_name=APP, user_id=user_of(one), session_id=one),
            self.service.list_sessions(app_name=APP),
            self.service.get_user_state(app_name=APP, user_id=user_of(one)),
            self.service.create_session(app_name="other", user_id="u", state={"user:k": 1, "app:k": 1}),
        ]
        chosen = calls.pop(random.randrange(len(calls)))
        for call in calls:
            call.close()
        await self.cancelled_after(asyncio.ensure_future(chosen), random.expovariate(1000))

    async def cancelled_after(self, task: asyncio.Task[Any], patience: float) -> bool:
        """Cancel a call after some turns of the loop and so many seconds; whether it was still under way."""
        for _ in range(random.randrange(8)):
            await asyncio.sleep(0)
        await asyncio.wait({task}, timeout=patience)
        if task.done():
            return False
        task.cancel()
        # A cancelled call ends at once, whatever the server does meanwhile. The bound is far off, since the
        # garbage collector may stop the loop for more than a second on a busy machine.
        done, _ = await asyncio.wait({task}, timeout=LIMIT_SEC)
        assert done, f"a cancelled call went on for {LIMIT_SEC} s"
        if not task.cancelled():  # it ended in the same turn
            return False
        self.cancelled += 1
        return True
