"""How soon a follower in another process sees an appended event, and what following costs those who append.

    python benches/follow.py                            # on the embedded server
    python benches/follow.py --dsn postgresql://...     # on yours: a database comes and goes
    python benches/follow.py --quick                    # a look: fewer events and rounds

Delay: a process of its own appends to a session after pauses of 0.05 to 3 s, and writes into each event when
it began to append. This process follows ten sessions, that one among them, and compares clocks; both are one
machine's. With and without `create_tables(notify=True)`.

Cost: ten sessions appended to one after another, and 32 writers of 32 sessions at once, in a process of
their own, while this one follows nothing, one session in ten, or all. Rounds of the variants are interleaved;
the figures are medians. What was followed is compared with what is stored before anything is reported.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import statistics
import sys
import time
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "benches")]
warnings.filterwarnings("ignore", message=".*EXPERIMENTAL.*")

from google.adk.events import Event  # noqa: E402
from google.genai import types  # noqa: E402

from adk_psqlpy import EmbeddedServer, PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService  # noqa: E402
from comparison.report import markdown, number  # noqa: E402
from comparison.services import temporary_database  # noqa: E402

APP, USER = "app", "user"
PAUSES = {"0.05 to 0.5 s": (0.05, 0.5), "0.5 to 3 s": (0.5, 3.0)}
WRITERS = 32


def event(text: str) -> Event:
    return Event(author="agent", content=types.Content(role="model", parts=[types.Part(text=text)]))


def key(session_id: str) -> dict[str, str]:
    return {"app_name": APP, "user_id": USER, "session_id": session_id}


@asynccontextmanager
async def service_at(dsn: str) -> AsyncIterator[PsqlpySessionService]:
    config = PsqlpyConfig({"dsn": dsn, "max_db_pool_size": 10})
    async with PsqlpySessionService(PsqlpyADKStore(config)) as service:
        await service.store.create_tables()
        yield service


# The process that appends: does what it is told through a pipe.


def appending_process(dsn: str, pipe: Connection) -> None:
    asyncio.run(_append(dsn, pipe))


async def _append(dsn: str, pipe: Connection) -> None:
    async with service_at(dsn) as service:
        while (task := await asyncio.to_thread(pipe.recv)) is not None:
            work: Callable[..., Any] = {"pauses": _pauses, "one": _one, "all": _all}[task[0]]
            pipe.send(await work(service, *task[1:]))


async def _load(service: PsqlpySessionService, session_id: str) -> Any:
    session = await service.get_session(**key(session_id))
    assert session is not None
    return session


async def _pauses(
    service: PsqlpySessionService, session_id: str, count: int, least: float, most: float
) -> list[str]:
    session, appended = await _load(service, session_id), []
    for _ in range(count):
        await asyncio.sleep(random.uniform(least, most))
        appended.append((await service.append_event(session, event(repr(time.time())))).id)
    return appended


async def _one(service: PsqlpySessionService, ids: list[str], count: int) -> float:
    """Median time of an append, in ms, one after another to sessions in turn."""
    sessions = [await _load(service, each) for each in ids]
    took = []
    for place in range(count):
        began = time.perf_counter()
        await service.append_event(sessions[place % len(sessions)], event("x" * 300))
        took.append(time.perf_counter() - began)
    return statistics.median(took) * 1000


async def _all(service: PsqlpySessionService, ids: list[str], seconds: float) -> float:
    """Events a second that 32 writers append, each to a session of its own."""
    sessions = [await _load(service, each) for each in ids]
    until = time.perf_counter() + seconds

    async def write(session: Any) -> int:
        count = 0
        while time.perf_counter() < until:
            await service.append_event(session, event("x" * 300))
            count += 1
        return count

    began = time.perf_counter()
    counts = await asyncio.gather(*map(write, sessions))
    return sum(counts) / (time.perf_counter() - began)


# The process that follows.


class Follows:
    """Followers of some sessions, until the block ends: what they gave, and when."""

    def __init__(self, service: PsqlpySessionService, ids: list[str]) -> None:
        self._service, self._ids = service, ids
        self.given: dict[str, list[tuple[float, Event]]] = {each: [] for each in ids}

    async def __aenter__(self) -> Follows:
        self._followers = [self._service.follow(**key(each)) for each in self._ids]
        for each in self._followers:
            await each.__aenter__()
        self._tasks = [
            asyncio.create_task(self._follow(*each)) for each in zip(self._ids, self._followers, strict=True)
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for each in self._tasks:
            each.cancel()
        await asyncio.wait(self._tasks) if self._tasks else None
        for each in self._followers:
            await each.aclose()

    async def _follow(self, session_id: str, follower: Any) -> None:
        async for given in follower:
            self.given[session_id].append((time.time(), given))

    async def complete(self, session_id: str, ids: list[str]) -> None:
        """Wait until it has given as many events, and compare them."""
        while len(self.given[session_id]) < len(ids):  # noqa: ASYNC110 - no event, but what the tasks gave
            await asyncio.sleep(0.05)
        assert [given.id for _, given in self.given[session_id]] == ids


async def run(dsn: str, quick: bool) -> None:
    count, rounds, appends, seconds = (10, 2, 50, 0.5) if quick else (60, 9, 300, 2.0)
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    async with service_at(dsn) as service:
        process = multiprocessing.get_context("spawn").Process(target=appending_process, args=(dsn, theirs))
        process.start()

        async def told(*task: object) -> Any:
            ours.send(task)
            return await asyncio.to_thread(ours.recv)

        delays, costs = [], []
        for notify in (False, True):
            await service.store.create_tables(notify=notify)
            ids = [f"{'notify' if notify else 'look'}-{n}" for n in range(WRITERS)]
            for each in ids:
                await service.create_session(**key(each))
            for name, pauses in PAUSES.items():
                async with Follows(service, ids[:10]) as follows:
                    appended = await told("pauses", ids[0], count, *pauses)
                    await follows.complete(ids[0], appended)
                seen = [
                    (at - float(given.content.parts[0].text)) * 1000 for at, given in follows.given[ids[0]]
                ]
                seen.sort()
                delays.append(
                    [
                        "yes" if notify else "no",
                        name,
                        *(number(each) for each in (statistics.median(seen), seen[int(len(seen) * 0.9)])),
                    ]
                )
        variants: dict[str, tuple[bool, int, int]] = {
            "nothing followed": (False, 0, 0),
            "one session in ten followed": (False, 1, 3),
            "all followed": (False, 10, WRITERS),
            "notify, nothing followed": (True, 0, 0),
            "notify, one session in ten followed": (True, 1, 3),
        }
        one: dict[str, list[float]] = {each: [] for each in variants}
        together: dict[str, list[float]] = {each: [] for each in variants}
        for _ in range(rounds):
            for name, (notify, few, many) in random.sample(list(variants.items()), len(variants)):
                await service.store.create_tables(notify=notify)
                ids = [f"{name}-{time.time()}-{n}" for n in range(WRITERS)]
                for each in ids:
                    await service.create_session(**key(each))
                async with Follows(service, ids[:few]) as follows:
                    one[name].append(await told("one", ids[:10], appends))
                async with Follows(service, ids[:many]) as follows:
                    together[name].append(await told("all", ids, seconds))
                    for each in ids[:many]:
                        stored = await service.get_session(**key(each))
                        assert stored is not None
                        since = stored.events[appends // 10 :] if each in ids[:10] else stored.events
                        await follows.complete(each, [given.id for given in since])
        base_one, base_all = one["nothing followed"], together["nothing followed"]
        for name in variants:
            # Of each round against the same round's: the machine's moods are shared.
            ratio = statistics.median(a / b for a, b in zip(one[name], base_one, strict=True))
            share = statistics.median(a / b for a, b in zip(together[name], base_all, strict=True))
            costs.append(
                [
                    name,
                    f"{statistics.median(one[name]):.2f}",
                    f"{ratio:.2f}",
                    f"{statistics.median(together[name]):,.0f}",
                    f"{share:.2f}",
                ]
            )
        ours.send(None)
        process.join()
    print("\nDelay from the beginning of the append to the follower of another process, ms:\n")
    print(markdown(["notify", "pauses between appends", "median", "90 % within"], delays))
    print("\nWhat it costs those who append:\n")
    print(markdown(["", "one append, ms", "ratio", "32 writers, events/s", "ratio"], costs))


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dsn")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    name = f"adk_psqlpy_follow_{os.getpid()}"
    if given.dsn:
        async with temporary_database(given.dsn, name) as dsn:
            await run(dsn, given.quick)
        return
    with EmbeddedServer(temporary=True) as server:
        async with temporary_database(server.dsn, name) as dsn:
            await run(dsn, given.quick)


if __name__ == "__main__":
    asyncio.run(main())
