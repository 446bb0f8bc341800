"""One server, pgbouncer in front of it, and a Citus cluster, side by side in one run.

    python benches/scale.py --citus FOLDER --pooler PROGRAM     # a PostgreSQL that has Citus, and a pgbouncer
    python benches/scale.py --citus FOLDER --pooler PROGRAM --quick

Coordinator, two workers, the single server and the client share this machine, so the figures of the cluster
are those of three servers on these cores: its gain, more machines, is not in them. In every round each has a
turn, and the medians are printed. What was stored is read back and compared before anything is timed.

Needs the dependency groups `bench` and `test`.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "tests")]

from google.adk.events.event import Event  # noqa: E402
from google.adk.sessions.session import Session  # noqa: E402
from google.genai import types  # noqa: E402

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService  # noqa: E402
from clusters import CitusCluster, binaries_of  # noqa: E402
from poolers import Pooler  # noqa: E402
from servers import BinaryServer, Database, run_sql, wheel_binaries  # noqa: E402

APP = "app"
WRITERS = 32
TEXT = "What was said, and more of it. " * 10


def event() -> Event:
    """0.3 KB of text."""
    content = types.Content(role="model", parts=[types.Part(text=TEXT)])
    return Event(author="agent", invocation_id="i", content=content)


class Subject:
    """A service on one of them, with a session for each writer and some of known length."""

    def __init__(self, name: str, dsn: str, *, distributed: bool) -> None:
        self.name = name
        self._distributed = distributed
        config = PsqlpyConfig({"dsn": dsn, "max_db_pool_size": 10})
        self.service = PsqlpySessionService(PsqlpyADKStore(config))
        self.forgetful = PsqlpySessionService(PsqlpyADKStore(config, history_cache_bytes=0))
        self.sessions: list[Session] = []
        self.figures: dict[str, list[float]] = defaultdict(list)

    async def prepare(self, lengths: list[int]) -> None:
        """Make the sessions, and look whether what was stored is what is read."""
        await self.service.store.create_tables(distributed=self._distributed)
        for number in range(WRITERS):
            user = f"{self.name}-{number}"
            self.sessions.append(
                await self.service.create_session(app_name=APP, user_id=user, session_id="s")
            )
        for length in lengths:
            long = await self.service.create_session(app_name=APP, user_id=self.name, session_id=f"{length}")
            for _ in range(length):
                await self.service.append_event(long, event())
            for service in (self.service, self.forgetful):
                assert await self._read(service, length) == long
        await self.at_once(2)
        for session in self.sessions:
            found = await self.service.get_session(app_name=APP, user_id=session.user_id, session_id="s")
            assert found == session, "what was read is not what was stored"
        self.figures.clear()

    async def _read(self, service: PsqlpySessionService, length: int) -> Session | None:
        return await service.get_session(app_name=APP, user_id=self.name, session_id=f"{length}")

    async def round(self, lengths: list[int], each: int) -> None:
        """One turn."""
        for _ in range(each):
            one = event()
            begun = time.perf_counter()
            await self.service.append_event(self.sessions[0], one)
            self._took("append, ms", begun)
        for length in lengths:
            for service, how in ((self.service, "unchanged"), (self.forgetful, "read in full")):
                for _ in range(max(2, each // 4)):
                    begun = time.perf_counter()
                    found = await self._read(service, length)
                    self._took(f"get_session of {length}, {how}, ms", begun)
                    assert found is not None
                    assert len(found.events) == length
        await self.at_once(each)

    async def at_once(self, each: int) -> None:
        """All writers, `each` events each, made beforehand."""
        events = [[event() for _ in range(each)] for _ in self.sessions]

        async def write(number: int) -> None:
            for one in events[number]:
                await self.service.append_event(self.sessions[number], one)

        begun = time.perf_counter()
        await asyncio.gather(*map(write, range(len(self.sessions))))
        spent = time.perf_counter() - begun
        self.figures[f"{WRITERS} sessions at once, events/s"].append(len(self.sessions) * each / spent)

    def _took(self, figure: str, begun: float) -> None:
        self.figures[figure].append((time.perf_counter() - begun) * 1e3)


async def measure(subjects: list[Subject], rounds: int, lengths: list[int], each: int) -> None:
    """Prepare all, then let them take turns."""
    for subject in subjects:
        await subject.prepare(lengths)
    for _ in range(rounds):
        for subject in subjects:
            await subject.round(lengths, each)
    for subject in subjects:
        await subject.service.close()


def report(subjects: list[Subject]) -> str:
    """A table of medians, each beside its ratio to the first one's."""
    first = subjects[0]
    lines = [
        "| | " + " | ".join(each.name for each in subjects) + " |",
        "|---" * (len(subjects) + 1) + "|",
    ]
    for figure, values in first.figures.items():
        base = statistics.median(values)
        cells = [f"{base:,.4g}"]
        for subject in subjects[1:]:
            median = statistics.median(subject.figures[figure])
            cells.append(f"{median:,.4g} ({median / base:.2f})")
        lines.append(f"| {figure} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    """Start the servers, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--citus", type=Path, help="a PostgreSQL that has Citus")
    parser.add_argument("--pooler", type=Path, help="the program pgbouncer")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="3 rounds, and no long sessions")
    given = parser.parse_args()
    lengths, rounds, each = ([100], 3, 8) if given.quick else ([100, 1000], given.rounds, 20)
    with ExitStack() as stack:
        server = stack.enter_context(BinaryServer(wheel_binaries(), {"shared_buffers": "128MB"}))
        server.create_database("one")
        one = Database("one", server.database_dsn("one"), server)
        subjects = [Subject("one server", one.dsn, distributed=False)]
        if given.pooler is not None:
            server.create_database("pooled")
            pooler = stack.enter_context(Pooler(given.pooler, server))
            pooled = pooler.through(Database("pooled", server.database_dsn("pooled"), server))
            subjects.append(Subject("pgbouncer", pooled.dsn, distributed=False))
        if given.citus is not None:
            cluster = stack.enter_context(CitusCluster(binaries_of(given.citus)))
            cluster.create_database("bench")
            subjects.append(Subject("Citus, coordinator", cluster.database_dsn("bench"), distributed=True))
            worker = cluster.workers[0].database_dsn("bench")
            subjects.append(Subject("Citus, worker", worker, distributed=False))
        asyncio.run(measure(subjects, rounds, lengths, each))
        (version,) = run_sql(one.dsn, "SELECT current_setting('server_version') AS version")
    print(
        f"PostgreSQL {version[0]['version']}, {rounds} rounds, medians, in brackets the ratio to one server\n"
    )
    print(report(subjects))
    return 0


if __name__ == "__main__":
    sys.exit(main())
