"""What an append costs the server, and what each set of indexes over `adk_sessions` makes of it.

    python benches/append_cost.py                            # on the embedded server
    python benches/append_cost.py --dsn postgresql://...     # on yours, as superuser: databases come and go
    python benches/append_cost.py --quick                    # a look: 5,000 sessions, 500 appends, 5 rounds

Each set has a database of its own with the same sessions: 50,000 of one app, a tenth of them one user's, the
others ten a user. Appends go one after another to 1,000 of the sessions, with and without a state delta,
just after a checkpoint (when each page goes to the WAL whole at its first change) and between
checkpoints; then 32 sessions at once. Then the queries: in every round each set has a turn. Every answer is
compared with that of the first set before anything is timed. Autovacuum is off; its work is a row of its own.

Needs the dependency group `bench`: pip install --group bench
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import time
import warnings
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "python")]

from google.adk.events import Event, EventActions  # noqa: E402
from google.genai import types  # noqa: E402

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig  # noqa: E402
from adk_psqlpy.sessions.stored import StoredSession, Version  # noqa: E402
from adk_psqlpy.sql import IndexSet  # noqa: E402
from comparison.report import markdown, number  # noqa: E402
from comparison.services import run_sql, temporary_database  # noqa: E402

APP, HEAVY, LIGHT = "app", "heavy", "light-7"
ACTIVE = 1_000  # sessions that are appended to
WRITERS = 32

# Of a set of the package, or of a variant: the set, and what is changed in it.
_GIN = "CREATE INDEX idx_adk_sessions_state ON adk_sessions USING gin (state) WHERE state != '{}'"
SETS: dict[str, tuple[IndexSet, list[str]]] = {
    "reading": ("reading", []),
    "appending": ("appending", []),
    "appending, GIN": ("appending", [_GIN]),
    "appending, BRIN": ("appending", ["CREATE INDEX ON adk_sessions USING brin (update_time)"]),
}


@dataclass
class Subject:
    """A set of indexes, in its database."""

    name: str
    dsn: str
    store: PsqlpyADKStore
    rows: dict[str, str] = field(default_factory=dict)


async def make(name: str, dsn: str, sessions: int) -> Subject:
    """The tables, their indexes, and the sessions: made a minute apart, updated in an order of their own."""
    config = PsqlpyConfig(pool_config={"dsn": dsn, "max_db_pool_size": 4})
    store = PsqlpyADKStore(config)
    index_set, changes = SETS[name]
    await store.create_tables(index_set=index_set)
    await run_sql(
        dsn,
        *changes,
        *(f"ALTER TABLE {table} SET (autovacuum_enabled = off)" for table in ("adk_sessions", "adk_events")),
        f"""INSERT INTO adk_sessions (app_name, user_id, id, state, create_time, update_time)
            SELECT '{APP}', CASE WHEN n % 10 = 0 THEN '{HEAVY}' ELSE 'light-' || n % {sessions // 10} END,
                   's' || n,
                   jsonb_build_object('status', CASE WHEN n % 500 = 0 THEN 'open' ELSE 'closed' END,
                                      'category', 'c' || n % 20, 'summary', repeat('what was said ', 5)),
                   at, at + hashint4(n) % 86400 * interval '1 s' + interval '1 day'
            FROM generate_series(1, {sessions}) AS n,
                LATERAL (SELECT timestamptz '2026-01-01' + n * interval '1 min' AS at)""",
        "VACUUM ANALYZE",
    )
    return Subject(name, dsn, store)


# Appends.


@dataclass
class Appender:
    """Appends to some of the sessions, in an order that is the same for every set."""

    store: PsqlpyADKStore
    keys: list[tuple[str, str]]
    versions: dict[tuple[str, str], Version]
    chance: random.Random
    at: float
    count: int = 0

    async def append(self, delta: dict[str, Any] | None, key: tuple[str, str] | None = None) -> float:
        """One event, to a session by chance if none is given; the time it took in ms."""
        key = key or self.chance.choice(self.keys)
        user, session_id = key
        self.count += 1
        self.at += 1
        event = Event(
            id=f"e{self.count}",
            author="agent",
            invocation_id=f"i{self.count}",
            timestamp=self.at,
            content=types.Content(
                role="model", parts=[types.Part(text="What was said, and more of it. " * 10)]
            ),
            actions=EventActions(state_delta=delta or {}),
        )
        held = self.versions[key]
        begun = time.perf_counter()
        revision = await self.store.append_event(APP, user, session_id, event, expected=held)
        spent = (time.perf_counter() - begun) * 1e3
        assert revision == held.revision + 1, "an append was refused"
        self.versions[key] = Version(revision, held.create_time)
        return spent

    async def at_once(self, writers: int, each: int) -> float:
        """Some sessions' events, each of these sessions' one after another; events a second."""

        async def write(key: tuple[str, str]) -> None:
            for _ in range(each):
                await self.append(None, key)

        begun = time.perf_counter()
        await asyncio.gather(*(write(key) for key in self.keys[:writers]))
        return writers * each / (time.perf_counter() - begun)


async def appender(subject: Subject, active: int) -> Appender:
    """Choose the sessions."""
    sessions = await subject.store.list_sessions(APP)
    chosen = random.Random(1).sample(sessions, active)
    versions = {(s.user_id, s.id): Version(s.revision, s.create_time) for s in chosen}
    return Appender(
        subject.store, list(versions), versions, random.Random(2), max(s.update_time for s in sessions)
    )


_SIZES = """SELECT pg_indexes_size('adk_sessions')::bigint AS indexes,
    pg_relation_size('adk_sessions')::bigint AS heap, pg_current_wal_insert_lsn()::text AS lsn"""
_WAL = "SELECT pg_wal_lsn_diff('{}', '{}')::bigint AS bytes"
_UPDATES = """SELECT n_tup_upd::bigint AS updates, n_tup_hot_upd::bigint AS hot
    FROM pg_stat_user_tables WHERE relname = 'adk_sessions'"""


async def updates(subject: Subject, expected: int) -> tuple[int, int]:
    """Updates of sessions so far, and how many were HOT."""
    deadline = time.monotonic() + 30
    while True:
        # A backend that is idle keeps what it counted for up to 10 s; the lane that appended is idle now.
        await subject.store._lanes.fetch("SELECT pg_stat_force_next_flush()::text", [])
        (row,) = await run_sql(subject.dsn, _UPDATES)
        if row["updates"] >= expected:
            return row["updates"], row["hot"]
        assert time.monotonic() < deadline, f"{row['updates']} updates counted, not {expected}"
        await asyncio.sleep(0.1)


async def measure_appends(
    subject: Subject, appending: Appender, appends: int, advance: Callable[[], None]
) -> None:
    """WAL, HOT updates, growth and time of appends, with and without a delta."""
    for kind, delta in (("", None), (", state delta", {"turn": 1, "status": "closed"})):
        seen, hot_seen = await updates(subject, appending.count)
        spent: list[float] = []
        await run_sql(subject.dsn, "CHECKPOINT")
        (begin,) = await run_sql(subject.dsn, _SIZES)
        lsn = begin["lsn"]
        for phase in ("after a checkpoint", "between checkpoints"):
            spent += [await appending.append(delta and delta | {"turn": turn}) for turn in range(appends)]
            (end,) = await run_sql(subject.dsn, _SIZES)
            (wal,) = await run_sql(subject.dsn, _WAL.format(end["lsn"], lsn))
            subject.rows[f"WAL bytes an append{kind}, {phase}"] = number(wal["bytes"] / appends)
            lsn = end["lsn"]
            advance()
        now, hot = await updates(subject, appending.count)
        assert now - seen == 2 * appends, "somebody else updates sessions"
        subject.rows[f"HOT updates of all{kind}"] = f"{(hot - hot_seen) / (now - seen):.0%}"
        subject.rows[f"growth of indexes{kind}, KB"] = number((end["indexes"] - begin["indexes"]) / 1e3)
        subject.rows[f"growth of the table{kind}, KB"] = number((end["heap"] - begin["heap"]) / 1e3)
        subject.rows[f"append{kind}, ms"] = number(statistics.median(spent))
    (row,) = await run_sql(subject.dsn, "SELECT count(*) AS n FROM adk_events")
    assert row["n"] == appending.count, "events are missing"


async def measure_at_once(appenders: dict[str, Appender], subjects: list[Subject], each: int) -> None:
    """Appends of many sessions, in groups: five rounds, the order turned by one in each."""
    rates: dict[str, list[float]] = {subject.name: [] for subject in subjects}
    for turn in range(5):
        for subject in subjects[turn % len(subjects) :] + subjects[: turn % len(subjects)]:
            rates[subject.name].append(await appenders[subject.name].at_once(WRITERS, each))
    for subject in subjects:
        subject.rows[f"{WRITERS} sessions at once, events/s"] = number(statistics.median(rates[subject.name]))


async def measure_vacuum(subject: Subject) -> None:
    """What autovacuum would have to do."""
    (begin,) = await run_sql(subject.dsn, _SIZES)
    begun = time.perf_counter()
    await run_sql(subject.dsn, "VACUUM adk_sessions")
    spent = (time.perf_counter() - begun) * 1e3
    (end,) = await run_sql(subject.dsn, _SIZES)
    (wal,) = await run_sql(subject.dsn, _WAL.format(end["lsn"], begin["lsn"]))
    subject.rows["VACUUM of what the appends left, ms"] = number(spent)
    subject.rows["VACUUM, KB of WAL"] = number(wal["bytes"] / 1e3)


# Queries.


Query = Callable[[Subject], Awaitable[Any]]


def _listed(sessions: list[StoredSession]) -> list[tuple[str, str, int]]:
    return [(s.user_id, s.id, s.revision) for s in sessions]


def listing(*user: str, limit: int | None = None, after: tuple[float, str, str] | None = None) -> Query:
    """`list_sessions` of the store."""

    async def run(subject: Subject) -> Any:
        return _listed(await subject.store.list_sessions(APP, *user, limit=limit, after=after))

    return run


def sql(statement: str) -> Query:
    """A user's own query, on a connection of the pool."""

    async def run(subject: Subject) -> Any:
        async with subject.store.config.provide_connection() as connection:
            return (await connection.fetch(statement)).result(as_tuple=True)

    return run


async def queries(standard: Subject) -> dict[str, Query]:
    """By what they are called in the table."""
    everything = await standard.store.list_sessions(APP)
    middle = everything[len(everything) // 2]
    of_heavy = [s for s in everything if s.user_id == HEAVY]
    of_heavy_middle = of_heavy[len(of_heavy) // 2]
    # A hundredth of the sessions is older than that.
    old = everything[len(everything) // 100].update_time
    return {
        f"list a user's {sum(s.user_id == LIGHT for s in everything)} sessions": listing(LIGHT),
        f"first 100 of a user's {len(of_heavy):,}": listing(HEAVY, limit=100),
        f"100 from the middle of a user's {len(of_heavy):,}": listing(
            HEAVY, limit=100, after=(of_heavy_middle.update_time, HEAVY, of_heavy_middle.id)
        ),
        f"first 100 of the app's {len(everything):,}": listing(limit=100),
        "100 from the middle of the app's": listing(
            limit=100, after=(middle.update_time, middle.user_id, middle.id)
        ),
        "ORDER BY update_time DESC LIMIT 10": sql(
            "SELECT user_id, id FROM adk_sessions ORDER BY update_time DESC LIMIT 10"
        ),
        "retention: find the oldest hundredth": sql(
            f"SELECT count(*) FROM adk_sessions WHERE update_time < to_timestamp({old})"
        ),
        "state @> ... AND state != '{}'": sql(
            """SELECT id FROM adk_sessions
               WHERE state @> '{"status": "open"}' AND state != '{}' ORDER BY id"""
        ),
    }


async def measure_queries(subjects: list[Subject], rounds: int, advance: Callable[[], None]) -> None:
    """Interleaved rounds, the order turned by one in each."""
    for title, query in (await queries(subjects[0])).items():
        expected = await query(subjects[0])
        samples: dict[str, list[float]] = {subject.name: [] for subject in subjects}
        for subject in subjects:
            for _ in range(6):  # the server may change to a generic plan at the sixth
                assert await query(subject) == expected, f"{subject.name}: {title} is wrong"
        for turn in range(rounds):
            for subject in subjects[turn % len(subjects) :] + subjects[: turn % len(subjects)]:
                begun = time.perf_counter()
                await query(subject)
                samples[subject.name].append((time.perf_counter() - begun) * 1e3)
        for subject in subjects:
            subject.rows[f"{title}, ms"] = number(statistics.median(samples[subject.name]))
        advance()


async def main(options: argparse.Namespace) -> int:
    """Make, append, query, show."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Table

    console = Console() if sys.stdout.isatty() else Console(width=160)
    sessions, appends, rounds = (5_000, 500, 5) if options.quick else (options.sessions, options.appends, 30)
    chosen = options.sets.split(",") if options.sets else list(SETS)
    async with AsyncExitStack() as stack:
        dsn = options.dsn
        if dsn is None:
            from adk_psqlpy import EmbeddedServer

            dsn = stack.enter_context(EmbeddedServer(temporary=True)).dsn
            # Checkpoints and autovacuum of their own accord would fall into somebody's turn.
            settings = "checkpoint_timeout = '1h'", "max_wal_size = '8GB'", "autovacuum = off"
            await run_sql(dsn, *(f"ALTER SYSTEM SET {each}" for each in settings), "SELECT pg_reload_conf()")
        columns = (
            TextColumn("{task.description:24}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        progress = stack.enter_context(Progress(*columns, console=console))
        task = progress.add_task("filling", total=len(chosen))
        subjects = []
        for place, name in enumerate(chosen):
            database = await stack.enter_async_context(
                temporary_database(dsn, f"adk_psqlpy_append_{os.getpid()}_{place}")
            )
            subject = await make(name, database, sessions)
            stack.push_async_callback(subject.store.close)
            subjects.append(subject)
            progress.advance(task)
        task = progress.add_task("appends", total=4 * len(chosen))
        appenders = {}
        for subject in subjects:
            appending = appenders[subject.name] = await appender(subject, min(ACTIVE, sessions // 5))
            await measure_appends(subject, appending, appends, lambda: progress.advance(task))
            await measure_vacuum(subject)
        await measure_at_once(appenders, subjects, appends // WRITERS)
        for subject in subjects:
            await run_sql(subject.dsn, "VACUUM ANALYZE adk_sessions")
        task = progress.add_task("queries", total=8)
        await measure_queries(subjects, rounds, lambda: progress.advance(task))
    header = [f"{sessions:,} sessions, {appends:,} appends of each kind", *chosen]
    rows = [[title, *(subject.rows[title] for subject in subjects)] for title in subjects[0].rows]
    table = Table(title_justify="left")
    for place, title in enumerate(header):
        table.add_column(title, justify="right" if place else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    if options.markdown:
        options.markdown.write_text(markdown(header, rows) + "\n", encoding="utf-8")
    if options.json:
        told = {subject.name: subject.rows for subject in subjects}
        options.json.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dsn", help="a server to make databases on, as superuser; else the embedded one")
    parser.add_argument("--sessions", type=int, default=50_000, help="how many there are (50,000)")
    parser.add_argument("--appends", type=int, default=3_000, help="how many of each kind (3,000)")
    parser.add_argument("--sets", help="only these, by commas")
    parser.add_argument("--quick", action="store_true", help="5,000 sessions, 500 appends, 5 rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table")
    return parser.parse_args()


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # ADK's, of its own affairs
    sys.exit(asyncio.run(main(arguments())))
