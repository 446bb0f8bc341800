"""What the tests of the command share: running it, and making conversations."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.genai import types

from adk_psqlpy.cli import main

if TYPE_CHECKING:
    from google.adk.sessions.session import Session

    from adk_psqlpy import PsqlpySessionService

LIMIT_SEC = 60
CTRL_C = "\x03"
TARGETS = (
    "DATABASE_URL",
    "PGHOST",
    "PGPORT",
    "PGUSER",
    "PGPASSWORD",
    "PGDATABASE",
    "NO_COLOR",
    "FORCE_COLOR",
)
TODAY = time.time()


@dataclass(frozen=True)
class Outcome:
    """What a run of the command gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The output, which is one JSON document."""
        return json.loads(self.out)


def run(*arguments: str) -> Outcome:
    """Run the command in this process, in an event loop of its own; neither output is a terminal."""
    out, err = io.StringIO(), io.StringIO()

    def call() -> int:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            return main(list(arguments))

    # A thread of its own: here a loop may be running.
    with ThreadPoolExecutor(1) as thread:
        code = thread.submit(call).result()
    return Outcome(code, out.getvalue(), err.getvalue())


async def running(*arguments: str) -> Outcome:
    """The same, while this event loop goes on."""
    return await asyncio.to_thread(run, *arguments)


def process(
    *arguments: str, environment: dict[str, str] | None = None, **options: Any
) -> subprocess.Popen[str]:
    """Start the command as a process of its own."""
    surroundings = {name: value for name, value in os.environ.items() if name not in TARGETS}
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        [sys.executable, "-m", "adk_psqlpy.cli", *arguments],
        env=surroundings | {"COLUMNS": "100"} | (environment or {}),
        text=True,
        **{"preexec_fn": _ctrl_c_works, **streams, **options},
    )


def user_says(text: str, **fields: Any) -> Event:
    """An event of the user."""
    return Event(author="user", content=types.UserContent(text), **fields)


def agent_says(text: str, **fields: Any) -> Event:
    """An event of the agent."""
    return Event(author="agent", content=types.ModelContent(text), **fields)


def call(tool: str, identity: str | None, **arguments: Any) -> Event:
    """A call of a tool."""
    part = types.Part(function_call=types.FunctionCall(id=identity, name=tool, args=arguments))
    return Event(author="agent", content=types.ModelContent([part]))


def answer(tool: str, identity: str | None, **response: Any) -> Event:
    """The answer of a tool."""
    part = types.Part(function_response=types.FunctionResponse(id=identity, name=tool, response=response))
    return Event(author="agent", content=types.UserContent([part]))


def used(prompt: int, candidates: int, **further: int) -> types.GenerateContentResponseUsageMetadata:
    """What a model says about tokens."""
    return types.GenerateContentResponseUsageMetadata(
        prompt_token_count=prompt, candidates_token_count=candidates, **further
    )


async def conversation(
    service: PsqlpySessionService,
    *events: Event,
    key: tuple[str, str, str] = ("app", "user", "s"),
    **state: Any,
) -> Session:
    """A session with these events."""
    app, user, identity = key
    session = await service.create_session(app_name=app, user_id=user, session_id=identity, state=state)
    for event in events:
        await service.append_event(session, event)
    return session


def changes(**delta: Any) -> EventActions:
    """Actions that change state; `app_`, `user_` and `temp_` begin keys of those scopes."""
    scopes = ("app_", "user_", "temp_")
    return EventActions(
        state_delta={
            f"{name.partition('_')[0]}:{name.partition('_')[2]}" if name.startswith(scopes) else name: value
            for name, value in delta.items()
        }
    )


def on_a_terminal(
    answer: str | None, *arguments: str, environment: dict[str, str] | None = None
) -> tuple[int, str]:
    """Run the command on a terminal of 100 columns, type `answer` at its question; give code and screen."""
    import fcntl
    import pty
    import select
    import struct
    import termios

    def begin() -> None:
        _ctrl_c_works()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    streams = {"stdin": slave, "stdout": slave, "stderr": slave}
    started = process(
        *arguments,
        environment={"TERM": "xterm", **(environment or {})},
        **streams,
        start_new_session=True,
        preexec_fn=begin,
    )
    os.close(slave)
    shown, deadline, typed = b"", time.monotonic() + LIMIT_SEC, False
    try:
        while time.monotonic() < deadline:
            readable, _, _ = select.select([master], [], [], 1)
            if readable:
                try:
                    shown += os.read(master, 65536)
                except OSError:  # the other side is closed
                    break
            # Ctrl-C is pressed again where nothing happens: Python loses one that comes just before it reads.
            if (
                answer is not None
                and b"[y/N]: " in shown
                and (not typed or (answer == CTRL_C and not readable))
            ):
                os.write(master, answer.encode() if answer == CTRL_C else f"{answer}\n".encode())
                typed = True
        return started.wait(LIMIT_SEC), shown.decode()
    finally:
        started.kill()
        os.close(master)


def _ctrl_c_works() -> None:
    """What a shell starts in the background ignores it, and so do all of its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
