"""What going back in a session costs: forks, earlier states, and earlier sessions, beside a plain read.

    python benches/time_travel.py                            # on the embedded server
    python benches/time_travel.py --dsn postgresql://...     # on yours: a database comes and goes
    python benches/time_travel.py --rounds 10

A session of 100, 1,000 and 5,000 mixed events. Every answer is compared with what a full read and a replay in
Python give, before anything is timed. In every round each operation has a turn. `fork` is the statement
that makes the fork (the returned object holds no events); `fork and read` reads its history back.

Needs the dependency group `bench`: pip install --group bench
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "python")]

from google.adk.sessions import Session  # noqa: E402
from google.adk.sessions.base_session_service import GetSessionConfig  # noqa: E402

import make_shapes  # noqa: E402
from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService  # noqa: E402
from comparison.report import number  # noqa: E402
from comparison.services import run_sql, temporary_database  # noqa: E402

APP, USER = "app", "user"
SIZES = (100, 1_000, 5_000)
GOAL = ("fork", 1_000, 10.0)  # milliseconds
NO_EVENTS = GetSessionConfig(num_recent_events=0)

Operation = Callable[[], Awaitable[Any]]


async def filled(service: PsqlpySessionService, size: int) -> Session:
    """A session of mixed events; every third changes state."""
    session = await service.create_session(
        app_name=APP, user_id=USER, session_id=str(size), state={"tier": "gold"}
    )
    for place, event in enumerate(make_shapes.mixed(size)):
        event.id, event.partial = f"e{place}", None
        if place % 3 == 0:
            event.actions.state_delta = {"turn": place, f"k{place % 20}": {"n": place}}
        await service.append_event(session, event)
    return session


def replayed(session: Session, count: int) -> dict[str, Any]:
    """The state after so many events."""
    state: dict[str, Any] = {"tier": "gold"}
    for event in session.events[:count]:
        state |= {
            key: value
            for key, value in event.actions.state_delta.items()
            if not key.startswith(("app:", "user:", "temp:"))
        }
    return state


async def operations(service: PsqlpySessionService, session: Session) -> dict[str, Operation]:
    """What is timed, each looked at first."""
    half = len(session.events) // 2
    key = {"app_name": APP, "user_id": USER}

    async def drop(fork: Session) -> None:
        await service.delete_session(**key, session_id=fork.id)

    async def own(state: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in state.items() if not name.startswith(("app:", "user:"))}

    whole = await service.get_session(**key, session_id=session.id)
    assert whole is not None
    assert await own(await service.state_at(session, at_seq=half)) == replayed(whole, half)
    then = await service.get_session_at(session, at_seq=half)
    assert then.events == whole.events[:half]
    for count, arguments in ((len(whole.events), {}), (half, {"at_seq": half})):
        fork = await service.fork_session(session, **arguments)
        assert fork.events == whole.events[:count]
        assert await own(fork.state) == replayed(whole, count)
        await drop(fork)
    return {
        "get_session": lambda: service.get_session(**key, session_id=session.id),
        "fork": lambda: service.fork_session(session, config=NO_EVENTS),
        "fork half way": lambda: service.fork_session(session, at_seq=half, config=NO_EVENTS),
        "fork and read": lambda: service.fork_session(session),
        "state_at half way": lambda: service.state_at(session, at_seq=half),
        "get_session_at half way": lambda: service.get_session_at(session, at_seq=half),
    }


async def main(options: argparse.Namespace) -> int:
    """Fill, look, time, show."""
    from rich.console import Console
    from rich.table import Table

    results: dict[str, dict[str, float]] = {}
    async with AsyncExitStack() as stack:
        dsn = options.dsn
        if dsn is None:
            from adk_psqlpy import EmbeddedServer

            dsn = stack.enter_context(EmbeddedServer(temporary=True)).dsn
        database = await stack.enter_async_context(
            temporary_database(dsn, f"adk_psqlpy_travel_{os.getpid()}")
        )
        config = PsqlpyConfig(pool_config={"dsn": database, "max_db_pool_size": 2})
        store = PsqlpyADKStore(config)
        stack.push_async_callback(store.close)
        await store.create_tables()
        service = PsqlpySessionService(store)
        for size in SIZES:
            timed = await operations(service, await filled(service, size))
            await run_sql(database, "VACUUM ANALYZE")
            samples: dict[str, list[float]] = {name: [] for name in timed}
            for _ in range(options.rounds):
                for name, operation in timed.items():
                    started = time.perf_counter()
                    made = await operation()
                    samples[name].append((time.perf_counter() - started) * 1e3)
                    if name.startswith("fork"):
                        await service.delete_session(app_name=APP, user_id=USER, session_id=made.id)
            for name, taken in samples.items():
                results.setdefault(name, {})[str(size)] = statistics.median(taken)
    table = Table(title=f"median ms of {options.rounds} rounds", title_justify="left")
    table.add_column("operation")
    for size in SIZES:
        table.add_column(f"{size:,} events", justify="right")
    for name, row in results.items():
        table.add_row(name, *(number(row[str(size)]) for size in SIZES))
    Console(width=100).print(table)
    name, size, most = GOAL
    met = results[name][str(size)] <= most
    print(f"goal: {name} of {size:,} events in {most:g} ms: {'met' if met else 'missed'}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dsn", help="a server to make a database on; else the embedded one")
    parser.add_argument("--rounds", type=int, default=30, help="how often each is timed (30)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers")
    return parser.parse_args()


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # ADK's, of its own affairs
    sys.exit(asyncio.run(main(arguments())))
