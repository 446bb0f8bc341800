"""An ADK agent whose conversations go on in a second process.

The first process starts the server, lets two users talk to the agent of `cafe`, closes its service, and
hands over what it appended, as JSON on standard input. The second process reads the sessions from the
database, compares them with that, event by event, and carries on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

from google.adk.events.event import Event
from google.adk.runners import Runner
from google.adk.sessions.session import Session
from google.genai import types
from rich.console import Console
from rich.text import Text

from adk_psqlpy.config import PsqlpyConfig
from adk_psqlpy.connections.embedded import EmbeddedServer
from adk_psqlpy.demo.cafe import APP, agent
from adk_psqlpy.demo.display import compact, headline, show_durations, show_rows
from adk_psqlpy.demo.recorder import DifferenceError, Handover, Recorder
from adk_psqlpy.sessions.store import PsqlpyADKStore
from adk_psqlpy.sql import demo as sql

BEFORE = [
    ("alice", "Two espressos, please."),
    ("bob", "A tea."),
    ("alice", "And a croissant."),
]
AFTER = [
    ("alice", "What did I order?"),
    ("bob", "And three croissants, please."),
    ("alice", "One tea, too."),
]
# The answers to `What did I order?`. They come from the history alone, and that is in the database.
RECALLED = "So far: 2 espresso, 1 croissant."

_RESUME = [sys.executable, "-m", "adk_psqlpy.cli", "demo", "--resume"]


# --- the first process ---


def run(dsn: str | None = None, *, keep: bool = False) -> int:
    """Run both processes, clean up, and say how to look at what is left; give the exit code.

    Args:
        dsn: the server, where the demo makes a schema of its own; by default an embedded server in a
            temporary directory.
        keep: leave that schema, or that directory, in place.

    Raises:
        ValueError: the DSN is not possible.
        psqlpy.exceptions.Error: the server cannot be reached, or refuses what the demo needs.
    """
    with _quiet():
        return asyncio.run(_both(dsn, keep))


async def _both(dsn: str | None, keep: bool) -> int:
    screen = _console()
    async with _place(dsn, keep, screen) as (handover, hint):
        await first(handover, screen)
        # The pool is closed and the service is gone. The conversations now exist only in the tables.
        done = await asyncio.to_thread(
            subprocess.run, _RESUME, input=handover.model_dump_json(), text=True, check=False
        )
    if done.returncode == 0:
        screen.print(hint, highlight=False, soft_wrap=True, markup=False)
    return done.returncode


_KEPT_NOT: Final = "To look at it with adk-psqlpy show and stats --html, run it again with --keep."


def _how_to_look(where: str) -> str:
    """The last line: commands that work as they are, with the path by which this program was called."""
    program = "adk-psqlpy" if shutil.which("adk-psqlpy") else shlex.quote(sys.argv[0])
    if program.endswith("__main__.py"):
        program = f"{shlex.quote(sys.executable)} -m adk_psqlpy.cli"
    session = _session_id(BEFORE[0][0])
    return f"Look at it: {program} show {session} {where}, or {program} stats --html demo.html {where}"


@asynccontextmanager
async def _place(dsn: str | None, keep: bool, screen: Console) -> AsyncIterator[tuple[Handover, str]]:
    """Give the DSN to work on, and how to look at the data afterwards.

    It is a server in a temporary directory, or a schema in a given database.
    """
    async with AsyncExitStack() as stack:
        hint = _KEPT_NOT
        if dsn is None:
            server = EmbeddedServer(temporary=True)
            if keep:
                kept = Path(tempfile.mkdtemp(prefix="adk-psqlpy-demo-")) / "pg"
                server = EmbeddedServer(kept)
                hint = _how_to_look(f"--dsn psqlpy+embedded://{kept}")
            stack.push_async_callback(asyncio.to_thread, server.stop)
            start = time.perf_counter()
            await asyncio.to_thread(server.start)
            screen.print(
                f"PostgreSQL started in {time.perf_counter() - start:.1f} s, "
                f"with its data in {server.data_dir}",
                soft_wrap=True,
                highlight=False,
            )
            dsn, prefix = server.dsn, ""
        else:
            schema = f"adk_psqlpy_demo_{secrets.token_hex(4)}"
            prefix = f"{schema}."
            # Connect first: if the server cannot be reached, there is nothing to clean up.
            async with PsqlpyConfig({"dsn": dsn}) as config, config.provide_connection():
                at_the_end = "kept" if keep else "dropped at the end"
                screen.print(f"Tables in the schema {schema}, {at_the_end}", highlight=False)
            if keep:
                # The DSN is not shown: it may hold a password, and the user has it anyway.
                tables = f"--session-table {prefix}adk_sessions --events-table {prefix}adk_events"
                hint = f"{_how_to_look(tables)}, each with the same --dsn"
            else:
                stack.push_async_callback(_drop, dsn, schema)
        handover = Handover(
            dsn=dsn,
            session_table=f"{prefix}adk_sessions",
            events_table=f"{prefix}adk_events",
            pid=os.getpid(),
        )
        yield handover, hint


async def _drop(dsn: str, schema: str) -> None:
    async with PsqlpyConfig({"dsn": dsn}) as config, config.provide_connection() as connection:
        await connection.execute(sql.drop_schema(schema))


async def first(handover: Handover, screen: Console) -> None:
    """Make the tables, and let the users talk to the agent."""
    async with _service(handover) as service:
        await service.store.create_tables()
        for user in dict.fromkeys(user for user, _ in BEFORE):
            state = {"table": 3, "user:guest": user}
            await service.create_session(
                app_name=APP, user_id=user, session_id=_session_id(user), state=state
            )
        headline(screen, f"First process ({os.getpid()})")
        await _talk(service, BEFORE, screen)


# --- the second process ---


def resume(handed_over: str) -> int:
    """Take the sessions up again; give the exit code, which is 1 where anything differs.

    Raises:
        ValueError: the input is not what a first process hands over.
    """
    with _quiet():
        try:
            asyncio.run(second(Handover.model_validate_json(handed_over), _console()))
        except DifferenceError as error:
            sys.stderr.write(f"adk-psqlpy demo: {error}\n")
            return 1
    return 0


async def second(handover: Handover, screen: Console) -> None:
    """Compare the stored sessions with what was appended, carry on, compare again, and show the rows.

    Raises:
        DifferenceError: they are not the same.
    """
    async with _service(handover) as service:
        headline(screen, f"Second process ({os.getpid()}): same sessions, nothing kept but the database")
        before = await _compare(service, handover)
        screen.print(f"{before} events and the state of both users are read back as they were appended.\n")
        said = await _talk(service, AFTER, screen)
        if said[0] != RECALLED:
            raise DifferenceError(f"the agent answered {said[0]!r} from the history, not {RECALLED!r}")
        after = await _compare(service, handover)
        screen.print(f"\n{after} events by now, the {before} of the first process among them.")
        await show_rows(service, screen)
    show_durations(handover, screen)
    screen.print("The conversations survived the restart.", style="bold green")


async def _compare(service: Recorder, handover: Handover) -> int:
    """Read all sessions, with and without their events, and compare; give the number of events."""
    listed: list[Session] = []
    # Pages of one session, to have several pages.
    while page := (
        await service.list_sessions(app_name=APP, limit=1, after=listed[-1] if listed else None)
    ).sessions:
        listed += page
    expected = _states(handover)
    _same({each.id: each.state for each in listed}, expected, "the states of the listed sessions")
    events = 0
    for appended in handover.appended.values():
        session = await service.get_session(
            app_name=APP, user_id=appended.user_id, session_id=appended.session_id
        )
        if session is None:
            raise DifferenceError(f"there is no session {appended.session_id} any more")
        stored = [event.model_dump_json() for event in session.events]
        _same(stored, appended.events, f"the events of session {session.id}")
        if session.events != [Event.model_validate_json(text) for text in appended.events]:
            raise DifferenceError(f"the events of session {session.id} dump alike but are not equal")
        _same(session.state, expected[session.id], f"the state of session {session.id}")
        events += len(stored)
    async with service.store.config.provide_connection() as connection:
        temporary = await connection.fetch_val(sql.temporary_keys(service.store.tables))
    _same(temporary, 0, "the number of rows with a temp: key")
    return events


def _states(handover: Handover) -> dict[str, dict[str, Any]]:
    """The expected states, computed from the appended deltas alone, in the order of their times."""
    own: dict[str, dict[str, Any]] = {key: {"table": 3} for key in handover.appended}
    users = {each.user_id: {"user:guest": each.user_id} for each in handover.appended.values()}
    app: dict[str, Any] = {}
    events = [
        (Event.model_validate_json(text), each) for each in handover.appended.values() for text in each.events
    ]
    for event, each in sorted(events, key=lambda pair: pair[0].timestamp):
        for key, value in event.actions.state_delta.items():
            scopes: dict[str, dict[str, Any]] = {"app": app, "user": users[each.user_id]}
            scopes.get(key.partition(":")[0], own[each.session_id])[key] = value
    return {key: {**own[key], **users[each.user_id], **app} for key, each in handover.appended.items()}


def _same(found: object, expected: object, what: str) -> None:
    if found == expected:
        return
    if isinstance(found, list) and isinstance(expected, list):
        pairs = zip(found, expected, strict=False)
        place = next((place for place, (one, other) in enumerate(pairs) if one != other), None)
        if place is None:
            raise DifferenceError(f"{what}: {len(found)} are stored, {len(expected)} were appended")
        raise DifferenceError(
            f"{what}: number {place} is\n{found[place]}\nand was appended as\n{expected[place]}"
        )
    raise DifferenceError(f"{what}: {found} is stored, {expected} was expected")


# --- both ---


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide ADK's own warnings and log lines."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def _console() -> Console:
    return Console(highlight=False)


@asynccontextmanager
async def _service(handover: Handover) -> AsyncIterator[Recorder]:
    """Open the service of this process, and close it and its pool at the end."""
    config = PsqlpyConfig({"dsn": handover.dsn, "max_db_pool_size": 2})
    store = PsqlpyADKStore(config, handover.session_table, handover.events_table)
    service = Recorder(store, handover)
    async with service:
        yield service


def _session_id(user: str) -> str:
    return f"{user}-1"


async def _talk(service: Recorder, turns: list[tuple[str, str]], screen: Console) -> list[str]:
    """Let each user say something, show what happens, and return the agent's answers."""
    answers = []
    runner = Runner(app_name=APP, agent=agent(), session_service=service)
    for user, text in turns:
        screen.print(Text.assemble((f"{user:>6}  ", "bold cyan"), text))
        message = types.Content(role="user", parts=[types.Part(text=text)])
        answer = ""
        async for event in runner.run_async(user_id=user, session_id=_session_id(user), new_message=message):
            for part in (event.content.parts if event.content else None) or []:
                if part.text:
                    answer = part.text
                else:
                    screen.print(Text(f"        {_step(part)}", style="dim"))
        screen.print(Text.assemble((f"{APP:>6}  ", "bold green"), answer))
        answers.append(answer)
    await runner.close()
    return answers


def _step(part: types.Part) -> str:
    """What the agent did."""
    if part.function_call is not None:
        return f"{part.function_call.name}({compact(part.function_call.args)})"
    return f"= {compact(part.function_response.response if part.function_response else None)}"
