"""Every await of these tests has a bound. Who passes it is shown: the tasks with their stacks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import pytest

Result = TypeVar("Result")


async def within(seconds: float, what: Awaitable[Result]) -> Result:
    """Await something that must end in time; fail with where all tasks are if it does not."""
    task = asyncio.ensure_future(what)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait({task}, timeout=seconds)
        raise
    if not done:
        report = tasks_report()
        task.cancel()
        task.add_done_callback(lambda late: late.cancelled() or late.exception())  # looked at: nobody warns
        pytest.fail(f"not done after {seconds} s; the tasks:\n{report}")
    return task.result()


async def until(condition: Callable[[], Awaitable[bool]], seconds: float, what: str) -> None:
    """Look at a condition until it holds; each look has the same bound."""
    deadline = time.monotonic() + seconds
    while not await within(seconds, condition()):
        assert time.monotonic() < deadline, f"{what}: never within {seconds} s"
        await asyncio.sleep(0.02)  # between two looks


def tasks_report() -> str:
    """A line for each of the other unfinished tasks of this loop: where it awaits, from the outside in."""
    return "\n".join(
        f"{task.get_name()}: {' > '.join(_chain(task.get_coro()))}"
        for task in asyncio.all_tasks() - {asyncio.current_task()}
    )


def _chain(awaited: object) -> Iterator[str]:
    """The coroutines that await each other, and the lines that they are at."""
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None)
        if frame is not None:
            yield f"{awaited.__qualname__}:{frame.f_lineno}"  # type: ignore[attr-defined]
        awaited = getattr(awaited, "cr_await", None)
