"""Memory services of Google's ADK side by side: searching many memories, and adding a long session.

    python benches/memory.py                            # on the embedded server
    python benches/memory.py --dsn postgresql://...     # on yours: a database is made, and dropped
    python benches/memory.py --quick                    # a look: 5,000 memories, 3 rounds

adk-psqlpy beside SQLSpec's memory services (psqlpy and asyncpg, full-text search on) and ADK's own on SQLite
(FTS5), all with English texts where they know of languages. In every round each has a turn. Answers are
looked at before anything is timed: a wrong one of ours ends the run, a rival's is marked ✗.

Needs the dependency group `bench`: pip install --group bench
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
APP, HEAVY, LIGHT, ADDING = "app", "heavy", "light-0", "adding"
SESSION = 1_000  # events
OURS = "adk_psqlpy"

COMMON = (
    *(
        "the",
        "of",
        "is",
        "to",
        "and",
        "a",
        "in",
        "that",
        "it",
        "for",
        "you",
        "was",
        "with",
        "on",
        "as",
        "my",
        "i",
    ),
    *(
        "have",
        "be",
        "this",
        "are",
        "what",
        "do",
        "not",
        "at",
        "from",
        "we",
        "can",
        "about",
        "will",
        "they",
        "if",
    ),
)
NEEDLE = "zanzibar"
QUERIES = {
    "a rare word": NEEDLE,
    "a sentence": f"What did I tell you about the {NEEDLE} trip that we have planned for this summer?",
    "a common word": "weather",
}


@dataclass
class Peer:
    """A service, and what was found wrong with it."""

    label: str
    service: Any
    wrong: dict[str, str] = field(default_factory=dict)


class Texts:
    """Sentences whose words are as unequally frequent as those of a language (Zipf)."""

    def __init__(self) -> None:
        self._random = random.Random(7)
        syllables = ["ba", "ce", "di", "fo", "gu", "ka", "le", "mi", "no", "pu", "ra", "se", "ti", "vo", "zu"]
        made = {"".join(self._random.choices(syllables, k=self._random.randint(2, 4))) for _ in range(20_000)}
        rare = sorted(made)
        self._random.shuffle(rare)
        words = [*COMMON, "weather", "dinner", "summer", "trip", "planned", *rare]
        self._words = words
        self._weights = [1 / (place + 1) for place in range(len(words))]

    def text(self) -> str:
        """Of 8 to 60 words."""
        chosen = self._random.choices(self._words, self._weights, k=self._random.randint(8, 60))
        return " ".join(chosen)


def events(texts: Texts, prefix: str, count: int) -> list[Any]:
    """Messages of a conversation, a second apart."""
    from google.adk.events import Event
    from google.genai import types

    return [
        Event(
            id=f"{prefix}-{n}",
            author=("user", "agent")[n % 2],
            invocation_id=f"i{n // 2}",
            timestamp=1_700_000_000.0 + n,
            content=types.Content(role=("user", "model")[n % 2], parts=[types.Part(text=texts.text())]),
        )
        for n in range(count)
    ]


def with_needle(given: list[Any]) -> list[Any]:
    """One event of them talks of what is looked for."""
    given[len(given) // 3].content.parts[0].text = f"We are going to {NEEDLE} in July, the trip is booked"
    return given


async def open_peers(
    database: str, directory: str, stack: AsyncExitStack, without: list[str]
) -> dict[str, Peer]:
    """Open every service; one that cannot be opened is left out, and why is said."""
    openers: dict[str, tuple[str, Callable[[], Awaitable[tuple[Any, Callable[[], Awaitable[None]]]]]]] = {
        OURS: ("adk-psqlpy", lambda: _ours(database)),
        "sqlspec_psqlpy": ("SQLSpec on psqlpy", lambda: _sqlspec_psqlpy(database)),
        "sqlspec_asyncpg": ("SQLSpec on asyncpg", lambda: _sqlspec_asyncpg(database)),
        "adk_sqlite": ("ADK on SQLite", lambda: _sqlite(directory)),
    }
    peers = {}
    for key, (label, opened) in openers.items():
        if key in without:
            continue
        try:
            service, close = await opened()
        except ImportError as error:
            print(f"{label} was not run: {error}")
            continue
        stack.push_async_callback(close)
        peers[key] = Peer(label, service)
    return peers


async def _ours(dsn: str) -> tuple[Any, Callable[[], Awaitable[None]]]:
    from adk_psqlpy import PsqlpyConfig
    from adk_psqlpy.memory import PsqlpyMemoryService

    service = PsqlpyMemoryService(PsqlpyConfig(pool_config={"dsn": dsn}), language="english")
    await service.create_tables()
    return service, service.close


async def _sqlspec_psqlpy(dsn: str) -> tuple[Any, Callable[[], Awaitable[None]]]:
    from sqlspec.adapters.psqlpy import PsqlpyConfig as Config
    from sqlspec.adapters.psqlpy.adk import PsqlpyADKMemoryStore as Store

    from adk_psqlpy.connections.dsn import parse_dsn, render_dsn

    pool: dict[str, Any] = {"dsn": render_dsn(parse_dsn(dsn)), "max_db_pool_size": 10}
    return await _sqlspec(Config(connection_config=pool, extension_config=_sqlspec_options("ssp")), Store)


async def _sqlspec_asyncpg(dsn: str) -> tuple[Any, Callable[[], Awaitable[None]]]:
    from sqlspec.adapters.asyncpg import AsyncpgConfig as Config
    from sqlspec.adapters.asyncpg.adk import AsyncpgADKMemoryStore as Store

    from adk_psqlpy.connections.dsn import parse_dsn

    at = parse_dsn(dsn)
    pool: dict[str, Any] = {
        "host": at.get("host", "localhost"),
        "port": int(at.get("port", "5432")),
        "user": at.get("user"),
        "password": at.get("password"),
        "database": at["dbname"],
        "max_size": 10,
    }
    return await _sqlspec(Config(connection_config=pool, extension_config=_sqlspec_options("ssa")), Store)


def _sqlspec_options(prefix: str) -> dict[str, Any]:
    return {"adk": {"memory_table": f"{prefix}_memory", "memory_use_fts": True, "memory_max_results": 10}}


async def _sqlspec(config: Any, store_class: Any) -> tuple[Any, Callable[[], Awaitable[None]]]:
    from sqlspec.extensions.adk.memory import SQLSpecMemoryService

    store = store_class(config)
    await store.create_tables()
    return SQLSpecMemoryService(store), config.close_pool


async def _sqlite(directory: str) -> tuple[Any, Callable[[], Awaitable[None]]]:
    from google.adk.memory import SqliteMemoryService

    service = SqliteMemoryService(Path(directory) / "memory.db", max_results=10)
    return service, service.close


async def found(peer: Peer, user: str, query: str) -> list[str]:
    """The texts that a search gives."""
    response = await peer.service.search_memory(app_name=APP, user_id=user, query=query)
    return [memory.content.parts[0].text for memory in response.memories]


async def look(peer: Peer, title: str, user: str, query: str) -> None:
    """See that the answer is right: the memory that is meant, first; or as many as are asked for."""
    texts = await found(peer, user, query)
    if NEEDLE not in query:
        peer.wrong |= {} if len(texts) == 10 else {title: f"{len(texts)} memories, not 10"}
    elif not texts:
        peer.wrong[title] = "nothing found"
    elif NEEDLE not in texts[0]:
        peer.wrong[title] = "another memory first"


@dataclass(frozen=True)
class Operation:
    """What is timed: `prepare` gives what one call needs, which is not timed."""

    title: str
    prepare: Callable[[int, str], Any]
    run: Callable[[Peer, Any], Awaitable[Any]]
    rounds: int


def operations(texts: Texts, rounds: int, total: int) -> list[Operation]:
    """The rows of the table."""
    from google.adk.sessions import Session

    rows = []
    for user, many in ((HEAVY, total // 2), (LIGHT, SESSION)):
        for kind, query in QUERIES.items():

            async def search(peer: Peer, query: str, user: str = user) -> Any:
                return await found(peer, user, query)

            title = f"search: {kind}, user with {many:,}"
            rows.append(Operation(title, lambda *_, query=query: query, search, rounds))

    sessions: dict[str, Any] = {}

    def fresh(number: int, key: str) -> Any:
        identity = f"{key}-{number}"
        sessions[key] = Session(
            id=identity, app_name=APP, user_id=ADDING, events=events(texts, identity, SESSION)
        )
        return sessions[key]

    def grown(number: int, key: str) -> Any:
        sessions[key].events += events(texts, f"{sessions[key].id}-more-{number}", 1)
        return sessions[key]

    async def add(peer: Peer, session: Any) -> None:
        await peer.service.add_session_to_memory(session)

    rows.append(Operation(f"add a session of {SESSION:,} events", fresh, add, max(3, rounds // 3)))
    rows.append(Operation("add it again with one event more", grown, add, max(3, rounds // 3)))
    return rows


async def measure(
    operation: Operation, peers: dict[str, Peer], advance: Callable[[], None]
) -> dict[str, list[float]]:
    """Interleaved rounds, the order turned by one in each; the first is not counted. In milliseconds."""
    samples: dict[str, list[float]] = {key: [] for key in peers}
    keys = list(peers)
    for number in range(operation.rounds + 1):
        for key in keys[number % len(keys) :] + keys[: number % len(keys)]:
            given = operation.prepare(number, key)
            begun = time.perf_counter()
            await operation.run(peers[key], given)
            if number:
                samples[key].append((time.perf_counter() - begun) * 1e3)
        advance()
    return samples


async def main(options: argparse.Namespace) -> int:
    """Fill, look, measure, show."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from comparison import services

    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    rounds, total = (3, 5_000) if options.quick else (options.rounds, options.memories)
    async with AsyncExitStack() as stack:
        dsn = options.dsn
        if dsn is None:
            from adk_psqlpy import EmbeddedServer

            dsn = stack.enter_context(EmbeddedServer(temporary=True)).dsn
        name = f"adk_psqlpy_memory_{os.getpid()}"
        database = await stack.enter_async_context(services.temporary_database(dsn, name))
        await services.run_sql(database, "CREATE EXTENSION vector")  # SQLSpec's tables need it
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        peers = await open_peers(database, directory, stack, options.without.split(","))
        columns = (
            TextColumn("{task.description:50}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        progress = stack.enter_context(Progress(*columns, console=console))
        texts = Texts()
        filled = await fill(peers, texts, total, progress)
        await services.run_sql(database, "VACUUM ANALYZE")
        results = []
        for operation in operations(texts, rounds, total):
            task = progress.add_task(operation.title, total=operation.rounds + 1)
            samples = await measure(operation, peers, lambda task=task: progress.advance(task))
            results.append(row(operation.title, samples, peers))
        await check_added(peers)
    report(results, filled, peers, console)
    if options.json:
        about = {
            "memories": total,
            "rounds": rounds,
            "cpus": os.cpu_count(),
            "date": time.strftime("%Y-%m-%d"),
        }
        told = {"about": about, "operations": results, "fill_seconds": filled}
        options.json.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


async def fill(peers: dict[str, Peer], texts: Texts, total: int, progress: Any) -> dict[str, float]:
    """Half of the memories are one user's, the others those of users with 1,000 each; then look."""
    users = [HEAVY] * (total // 2 // SESSION) + [f"light-{n}" for n in range(total // 2 // SESSION)]
    task = progress.add_task(f"filling with {total:,} memories", total=len(users) * len(peers))
    seconds = dict.fromkeys(peers, 0.0)
    for number, user in enumerate(users):
        given = events(texts, f"e{number}", SESSION)
        if user in (LIGHT, HEAVY) and user not in users[:number]:
            with_needle(given)
        for key, peer in peers.items():
            begun = time.perf_counter()
            await peer.service.add_events_to_memory(
                app_name=APP, user_id=user, events=given, session_id=f"s{number}"
            )
            seconds[key] += time.perf_counter() - begun
            progress.advance(task)
    for user, many in ((HEAVY, total // 2), (LIGHT, SESSION)):
        for kind, query in QUERIES.items():
            for peer in peers.values():
                await look(peer, f"search: {kind}, user with {many:,}", user, query)
    assert not peers[OURS].wrong, f"ours is wrong: {peers[OURS].wrong}"
    return seconds


async def check_added(peers: dict[str, Peer]) -> None:
    """What was added while it was timed is there."""
    for key, peer in peers.items():
        response = await peer.service.search_memory(app_name=APP, user_id=ADDING, query="weather")
        if len(response.memories) < 10:
            peer.wrong[f"add a session of {SESSION:,} events"] = "not found"
        assert key != OURS or not peer.wrong, f"ours is wrong: {peer.wrong}"


def row(title: str, samples: dict[str, list[float]], peers: dict[str, Peer]) -> dict[str, Any]:
    """An operation's medians and quartiles."""
    from comparison.report import summary

    return {
        "title": title,
        "unit": "ms",
        "peers": {key: summary(values) for key, values in samples.items()},
        "wrong": {key: peer.wrong[title] for key, peer in peers.items() if title in peer.wrong},
    }


def report(
    results: list[dict[str, Any]], filled: dict[str, float], peers: dict[str, Peer], console: Any
) -> None:
    """The table: median (quartiles) in milliseconds; ✗ a wrong answer, and which."""
    from rich.table import Table

    from comparison.report import number

    table = Table(title="milliseconds, median (quartiles)", title_justify="left")
    table.add_column("operation", overflow="fold")
    for peer in peers.values():
        table.add_column(peer.label, justify="right", overflow="fold")
    for result in results:
        cells = []
        for key in peers:
            found = result["peers"][key]
            cell = f"{number(found['median'])} ({number(found['q1'])}-{number(found['q3'])})"
            wrong = result["wrong"].get(key)
            cells.append(f"{cell} ✗ {wrong}" if wrong else cell)
        table.add_row(result["title"], *cells)
    table.add_row("filling, seconds", *(number(filled[key]) for key in peers))
    console.print(table)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dsn", help="a server whose role may create databases; else the embedded one")
    parser.add_argument("--memories", type=int, default=100_000, help="how many are searched (100,000)")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of each operation (15)")
    parser.add_argument("--quick", action="store_true", help="5,000 memories, 3 rounds")
    parser.add_argument("--without", default="", help="services to leave out, by commas: sqlspec_psqlpy, ...")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers")
    return parser.parse_args()


if __name__ == "__main__":
    # ADK and SQLSpec warn and log of their own affairs, into the middle of the progress bar.
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    sys.path[:0] = [str(ROOT / "python")]
    sys.exit(asyncio.run(main(arguments())))
