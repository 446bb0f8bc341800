"""What row-level security costs: the same tables as their owner, who is not bound, and as an app's role.

    python benches/row_security.py                            # on the embedded server
    python benches/row_security.py --dsn postgresql://...     # on yours, as superuser
    python benches/row_security.py --rounds 5                 # a look

Both do the same by turns to sessions of their own, in one database that holds other users and another app.
What is read is compared before anything is timed. Medians, their ratio, and the same of the CPU time that
the server's processes took (from /proc, on this machine), which other programs disturb less.

Needs the dependency group `bench`: pip install --group bench
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "benches")]

from google.adk.memory.memory_entry import MemoryEntry  # noqa: E402
from google.genai import types  # noqa: E402

import make_shapes  # noqa: E402
from adk_psqlpy import (  # noqa: E402
    PsqlpyADKStore,
    PsqlpyConfig,
    PsqlpyMemoryService,
    PsqlpySessionService,
)
from adk_psqlpy.admin.access import grant_access  # noqa: E402
from adk_psqlpy.connections.dsn import parse_dsn, render_dsn  # noqa: E402
from comparison.report import markdown  # noqa: E402
from comparison.services import temporary_database  # noqa: E402

EVENTS = 1_000
APPENDS = 100
USERS = 200
SESSIONS = 10
MEMORIES = 1_000
USER: dict[str, Any] = {"app_name": "app", "user_id": "user"}


@dataclass(frozen=True)
class Side:
    """One of the two roles: its services."""

    name: str
    store: PsqlpyADKStore
    sessions: PsqlpySessionService
    memory: PsqlpyMemoryService


async def fill(owner: Side) -> None:
    """Sessions of many users in two apps, memories of one user, and the server's statistics of them."""
    async with owner.store.config.provide_connection() as connection:
        for app in ("app", "other"):
            await connection.execute(
                f"""INSERT INTO adk_sessions (app_name, user_id, id, state)
                SELECT '{app}', CASE u WHEN 1 THEN 'user' ELSE 'u' || u END, 's' || n, '{{"k": 1}}'
                FROM generate_series(1, {USERS}) AS u, generate_series(1, {SESSIONS}) AS n"""
            )
    for app in ("app", "other"):
        entries = [
            MemoryEntry(
                id=f"m{number}",
                content=types.Content(parts=[types.Part(text=f"word{number} common word{number % 50} text")]),
            )
            for number in range(MEMORIES)
        ]
        await owner.memory.add_memory(app_name=app, user_id="user", memories=entries)
    async with owner.store.config.provide_connection() as connection:
        await connection.execute("ANALYZE")


@dataclass(frozen=True)
class Took:
    """Milliseconds by side: on the clock, and of the server's CPU (none where it runs elsewhere)."""

    clock: dict[str, list[float]]
    cpu: dict[str, list[float]]


async def processes(side: Side) -> list[Path]:
    """Where Linux says for how long each server process of a role has run."""
    async with side.store.config.provide_connection() as connection:
        rows = await connection.fetch(
            "SELECT pid FROM pg_stat_activity WHERE usename = current_user AND datname = current_database()"
        )
    return [Path(f"/proc/{row['pid']}/schedstat") for row in rows.result()]


def cpu_ms(files: list[Path]) -> float:
    """Milliseconds that they have run; 0 where that is not told."""
    return sum(int(file.read_text().split()[0]) for file in files if file.exists()) / 1e6


async def timed(
    sides: list[Side], rounds: int, work: Callable[[Side], Awaitable[Any]], many: int = 1
) -> Took:
    """`work` by side, in turns; what it gives is the same for both."""
    results = [await work(side) for side in sides]
    assert results[0] == results[1], f"{results[0]!r} differs from {results[1]!r}"
    took = Took({side.name: [] for side in sides}, {side.name: [] for side in sides})
    files = {side.name: await processes(side) for side in sides}
    for number in range(rounds):
        for side in sides if number % 2 else sides[::-1]:
            gc.collect()
            before, begun = cpu_ms(files[side.name]), time.perf_counter()
            await work(side)
            took.clock[side.name].append((time.perf_counter() - begun) * 1e3 / many)
            took.cpu[side.name].append((cpu_ms(files[side.name]) - before) / many)
    return took


async def measure(sides: list[Side], rounds: int) -> dict[str, Took]:
    """All of it, by what is done."""
    events = [event.model_copy(update={"partial": None}) for event in make_shapes.mixed(EVENTS)]
    keys = {side.name: f"long-{side.name}" for side in sides}
    for side in sides:
        session = await side.sessions.create_session(**USER, session_id=keys[side.name])
        for event in events:
            await side.sessions.append_event(session, event.model_copy(deep=True))
    numbers = iter(range(1_000_000))

    async def append(side: Side) -> None:
        session = await side.sessions.create_session(**USER, session_id=f"{side.name}-{next(numbers)}")
        for event in events[:APPENDS]:
            await side.sessions.append_event(session, event.model_copy(deep=True))

    async def append_many(side: Side) -> None:
        made = [
            await side.sessions.create_session(**USER, session_id=f"{side.name}-{next(numbers)}")
            for _ in range(16)
        ]
        for event in events[:10]:
            await asyncio.gather(
                *(side.sessions.append_event(each, event.model_copy(deep=True)) for each in made)
            )

    async def get(side: Side) -> Any:
        found = await side.sessions.get_session(**USER, session_id=keys[side.name])
        assert found is not None
        return found.events

    async def empty(side: Side) -> Any:
        return await side.sessions.get_session(app_name="app", user_id="u7", session_id="s3")

    async def of_user(side: Side) -> Any:
        found = await side.sessions.list_sessions(app_name="app", user_id="u7")
        assert len(found.sessions) == SESSIONS
        return found.sessions

    async def of_app(side: Side) -> Any:
        return (await side.sessions.list_sessions(app_name="app")).sessions[:10]

    async def search(side: Side) -> Any:
        found = await side.memory.search_memory(**USER, query="word7 common")
        assert found.memories
        return [memory.id for memory in found.memories]

    async def state(side: Side) -> Any:
        async with side.store.config.provide_connection() as connection:
            rows = await connection.fetch(
                """SELECT id FROM adk_sessions
                WHERE app_name = 'app' AND state @> '{"k": 2}' AND state != '{}'"""
            )
        return rows.result()

    return {
        "read a session without events": await timed(sides, rounds * 5, empty),
        "read 1,000 events": await timed(sides, rounds, get),
        "list a user's 10 sessions": await timed(sides, rounds * 5, of_user),
        f"list the app's {USERS * SESSIONS:,} sessions": await timed(sides, rounds, of_app),
        f"search {MEMORIES:,} memories of a user": await timed(sides, rounds, search),
        "`state @>` by SQL, none found": await timed(sides, rounds, state),
        "append an event": await timed(sides, rounds, append, APPENDS),
        "append an event, 16 sessions at once": await timed(sides, rounds, append_many, 160),
    }


async def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dsn")
    parser.add_argument("--rounds", type=int, default=30)
    given = parser.parse_args()
    async with AsyncExitStack() as stack:
        server = given.dsn
        if server is None:
            from adk_psqlpy import EmbeddedServer

            embedded = await asyncio.to_thread(EmbeddedServer(temporary=True).start)
            stack.callback(embedded.stop)
            server = embedded.dsn
        dsn = await stack.enter_async_context(temporary_database(server, "adk_row_security"))
        role = f"adk_bench_{os.getpid()}"
        owner = await stack.enter_async_context(PsqlpyConfig({"dsn": dsn, "max_db_pool_size": 4}))
        sides = [_side("owner", owner)]
        await sides[0].store.create_tables(row_security=True)
        await sides[0].memory.create_tables(row_security=True)
        async with owner.provide_connection() as connection:
            await connection.execute(f"CREATE ROLE {role} LOGIN")
        await grant_access(owner, role=role, app_name="app")
        bound = await stack.enter_async_context(
            PsqlpyConfig({"dsn": render_dsn(parse_dsn(dsn) | {"user": role}), "max_db_pool_size": 4})
        )
        sides.append(_side("role of the app", bound))
        await fill(sides[0])
        took = await measure(sides, given.rounds)
        async with owner.provide_connection() as connection:
            await connection.execute_batch(f"DROP OWNED BY {role}; DROP ROLE {role}")
    rows = []
    for what, values in took.items():
        free, held = (statistics.median(values.clock[side.name]) for side in sides)
        free_cpu, held_cpu = (statistics.median(values.cpu[side.name]) for side in sides)
        ratio = f"{held_cpu / free_cpu:.2f}" if free_cpu else "?"
        rows.append(
            [
                what,
                f"{free:.2f}",
                f"{held:.2f}",
                f"{held / free:.2f}",
                f"{free_cpu:.2f}",
                f"{held_cpu:.2f}",
                ratio,
            ]
        )
    heads = ["ms", "owner", "role of the app", "ratio", "CPU, owner", "CPU, role of the app", "ratio"]
    print(markdown(heads, rows))


def _side(name: str, config: PsqlpyConfig) -> Side:
    store = PsqlpyADKStore(config, history_cache_bytes=0)
    return Side(name, store, PsqlpySessionService(store), PsqlpyMemoryService(config))


if __name__ == "__main__":
    asyncio.run(main())
