"""Runs that belong to the server, and go on when a browser goes away."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from typing import Final

from google.adk.agents.run_config import RunConfig
from google.adk.runners import Runner
from google.genai import types
from psqlpy.exceptions import Error

from adk_psqlpy.following.following import Key
from adk_psqlpy.streaming.partials import Partials, Stream

logger = logging.getLogger("adk_psqlpy.streaming")

FAILED: Final = Stream("", "", "")
"""The author under which the failure of a run is shown, until the next run begins."""


class Runs:
    """The runs under way in this process, one for each session."""

    def __init__(self, runner: Runner, partials: Partials, run_config: RunConfig) -> None:
        """`runner` runs the agent; failures are written to `partials`."""
        self._runner = runner
        self._partials = partials
        self._run_config = run_config
        self._tasks: dict[Key, asyncio.Task[None]] = {}

    def __contains__(self, key: Key) -> bool:
        """Whether a run of the session is under way."""
        return key in self._tasks

    def start(self, key: Key, message: types.Content) -> None:
        """Begin a run. The session must have none under way."""
        task = asyncio.get_running_loop().create_task(self._run(key, message))
        self._tasks[key] = task
        task.add_done_callback(lambda _: self._tasks.pop(key, None))

    async def _run(self, key: Key, message: types.Content) -> None:
        _, user_id, session_id = key
        try:
            await self._partials.clear(key, FAILED.invocation_id)
            run = self._runner.run_async(
                user_id=user_id, session_id=session_id, new_message=message, run_config=self._run_config
            )
            async with aclosing(run) as events:
                async for _ in events:
                    pass
        except Exception as error:
            logger.exception("the run of a session failed")
            await self._tell(key, type(error).__name__)
        except asyncio.CancelledError:
            await self._tell(key, "the server was stopped")
            raise

    async def _tell(self, key: Key, reason: str) -> None:
        try:
            # Only the name of the error: its text may quote what nobody should see.
            await self._partials.put(key, FAILED, "", f"the answer ended early: {reason}")
        except Error as error:
            logger.warning("the failure of a run was not stored: %s", error)

    async def drain(self, seconds: float) -> None:
        """Wait for the runs under way, then cancel those that are left."""
        if self._tasks:
            _, late = await asyncio.wait([*self._tasks.values()], timeout=seconds)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
