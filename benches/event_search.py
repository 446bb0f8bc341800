"""What a search in conversations costs: those who append, the first search, and each search.

    python benches/event_search.py                            # on the embedded server
    python benches/event_search.py --dsn postgresql://...     # on yours: databases come and go
    python benches/event_search.py --quick                    # a look: 2,000 events

Two databases with the same events, one with `create_tables(event_search=True)`. Appends, one by one and
32 sessions at once, in rounds that take turns. Then the events that were there get their words
(`index_events`), and searches of one user and of the whole app are timed, after an append each, so that each
search also gives words to a new event. What is found is compared with what was said before anything is timed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import sys
import time
import warnings
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "benches")]
warnings.filterwarnings("ignore", message=".*EXPERIMENTAL.*")

from google.adk.events import Event  # noqa: E402
from google.adk.sessions import Session  # noqa: E402
from google.genai import types  # noqa: E402

from adk_psqlpy import EmbeddedServer, PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService  # noqa: E402
from comparison.report import markdown, number  # noqa: E402
from comparison.services import run_sql, temporary_database  # noqa: E402

APP, USERS = "app", 50
WRITERS = 32
chance = random.Random(7)
# Few common words and many rare ones, as in a language.
COMMON = [f"common{n}" for n in range(32)]
RARE = [f"rare{n}" for n in range(20_000)]


def text() -> str:
    return " ".join([*chance.choices(COMMON, k=25), *chance.choices(RARE, k=15)])


def event(said: str) -> Event:
    return Event(author="user", content=types.Content(role="user", parts=[types.Part(text=said)]))


async def fill(dsn: str, events: int) -> None:
    """Events by SQL, as if they had been there before the index."""
    common = f"'common' || (hashint4(n * 41 + w) & {len(COMMON) - 1})"
    rare = f"'rare' || abs(hashint4(n * 43 + w)) % {len(RARE)}"
    said = (
        f"(SELECT string_agg({common}, ' ') FROM generate_series(1, 25) AS w) || ' ' || "
        f"(SELECT string_agg({rare}, ' ') FROM generate_series(1, 15) AS w)"
    )
    content = (
        f"jsonb_build_object('role', 'user', 'parts', jsonb_build_array(jsonb_build_object('text', {said})))"
    )
    await run_sql(
        dsn,
        f"""INSERT INTO adk_sessions (app_name, user_id, id, revision)
            SELECT '{APP}', 'u' || n % {USERS}, 's' || n, 100
            FROM generate_series(0, {events // 100 - 1}) AS n""",
        f"""INSERT INTO adk_events (app_name, user_id, session_id, id, seq, author, content)
            SELECT '{APP}', 'u' || n / 100 % {USERS}, 's' || n / 100, 'e' || n, n % 100 + 1, 'user',
                {content}
            FROM generate_series(0, {events - 1}) AS n""",
        "VACUUM ANALYZE",
    )


async def one_by_one(service: PsqlpySessionService, sessions: list[Session], count: int) -> float:
    took = []
    for place in range(count):
        each = event(text())
        began = time.perf_counter()
        await service.append_event(sessions[place % len(sessions)], each)
        took.append(time.perf_counter() - began)
    return statistics.median(took) * 1000


async def together(service: PsqlpySessionService, sessions: list[Session], seconds: float) -> float:
    until = time.perf_counter() + seconds

    async def write(session: Session) -> int:
        count = 0
        while time.perf_counter() < until:
            await service.append_event(session, event(text()))
            count += 1
        return count

    began = time.perf_counter()
    return sum(await asyncio.gather(*map(write, sessions))) / (time.perf_counter() - began)


async def timed(
    call: Callable[[], Awaitable[object]], before: Callable[[], Awaitable[object]], rounds: int
) -> float:
    took = []
    for _ in range(rounds):
        await before()
        began = time.perf_counter()
        await call()
        took.append(time.perf_counter() - began)
    return statistics.median(took) * 1000


async def run(dsns: dict[str, str], events: int, rounds: int) -> None:
    async with AsyncExitStack() as stack:
        services: dict[str, PsqlpySessionService] = {}
        sessions: dict[str, list[Session]] = {}
        for name, dsn in dsns.items():
            store = PsqlpyADKStore(PsqlpyConfig({"dsn": dsn, "max_db_pool_size": 10}))
            services[name] = await stack.enter_async_context(PsqlpySessionService(store))
            await store.create_tables()
            await fill(dsn, events)
            await store.create_tables(event_search=name == "with the index")
            sessions[name] = [
                await services[name].create_session(app_name=APP, user_id=f"u{n}", session_id=f"w{n}")
                for n in range(WRITERS)
            ]
        alone: dict[str, list[float]] = {name: [] for name in dsns}
        many: dict[str, list[float]] = {name: [] for name in dsns}
        for _ in range(rounds):
            for name in chance.sample(list(dsns), len(dsns)):
                alone[name].append(await one_by_one(services[name], sessions[name], 100))
                many[name].append(await together(services[name], sessions[name], 1.0))
        rows = []
        for name in dsns:
            first = [
                statistics.median(a / b for a, b in zip(each[name], each["without"], strict=True))
                for each in (alone, many)
            ]
            rows.append(
                [
                    name,
                    number(statistics.median(alone[name])),
                    f"{first[0]:.2f}",
                    number(statistics.median(many[name])),
                    f"{first[1]:.2f}",
                ]
            )
        print(markdown(["", "one append, ms", "ratio", "32 writers, events/s", "ratio"], rows))
        service = services["with the index"]
        began = time.perf_counter()
        indexed = await service.store.index_events()
        took = time.perf_counter() - began
        print(f"\n{indexed:,} events given words in {took:.1f} s: {indexed / took:,.0f}/s\n")
        session = sessions["with the index"][0]
        probe = await service.append_event(session, event("needle and common1"))
        for user in ("u0", None):
            (hit,) = await service.search_events(app_name=APP, user_id=user, query="needle")
            assert hit.event == probe
        searches = {
            "a rare word": "rare77",
            "a common word": "common1",
            "a sentence": "common1 common2 common3 common4 common5 rare7 rare8 rare9",
        }

        async def append() -> None:
            await service.append_event(session, event(text()))

        table = []
        for name, query in searches.items():
            row = [name]
            for user in ("u0", None):

                async def search(user: str | None = user, query: str = query) -> object:
                    return await service.search_events(app_name=APP, user_id=user, query=query)

                row.append(number(await timed(search, append, 15)))
            table.append(row)
        print(markdown(["search after an append, ms", "one user's", f"all {indexed:,} events"], table))


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dsn")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    async with AsyncExitStack() as stack:
        dsn = given.dsn or stack.enter_context(EmbeddedServer(temporary=True)).dsn
        names = {"without": "without", "with the index": "with"}
        dsns = {
            name: await stack.enter_async_context(
                temporary_database(dsn, f"adk_psqlpy_search_{os.getpid()}_{suffix}")
            )
            for name, suffix in names.items()
        }
        await run(dsns, *((2_000, 2) if given.quick else (50_000, 9)))


if __name__ == "__main__":
    asyncio.run(main())
