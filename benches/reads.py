"""What a read of a session costs whose history the process has read before.

    python benches/reads.py                          # on the embedded server
    python benches/reads.py --dsn postgresql://...   # on yours: a database is made, and dropped
    python benches/reads.py --quick                  # a look

| read | what it is |
|---|---|
| full | a store that keeps nothing (`history_cache_bytes=0`) |
| first | a store that keeps histories, and has not read this session |
| unchanged | it has read the session, and nothing has changed |
| held | the same, while the caller still has the session of the read before |
| one new | it has read the session, and another process has appended an event |

All are compared with a full read before they are timed, and run in turns. A call lets go of the session of
the call before and then reads, as the turns of a Runner do, so that freeing counts, as do the passes of the
collector. CPU is that of this process and that of the backends of this database (Linux, server on this
machine). Bytes are what the server sends, counted by a proxy in calls of their own, which are not timed.

Needs the dependency group `bench`: pip install --group bench
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "python")]

from google.adk.sessions.session import Session  # noqa: E402

import make_shapes  # noqa: E402
from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService  # noqa: E402
from adk_psqlpy.connections.dsn import parse_dsn, render_dsn  # noqa: E402
from comparison import services  # noqa: E402
from comparison.report import number, summary  # noqa: E402
from comparison.services import APP, OURS, USER, Opened, fill, run_sql  # noqa: E402

SIZES = (1_000, 5_000)
FULL, FIRST, UNCHANGED, HELD, ONE_NEW = "full", "first", "unchanged", "held", "one new"
CASES = (FULL, FIRST, UNCHANGED, HELD, ONE_NEW)
CALLS = 4  # of a case in a round

Read = Callable[[], Awaitable[Session | None]]


@dataclass
class Taken:
    """What the calls of one case took: milliseconds a call, bytes a call."""

    wall: list[float] = field(default_factory=list)
    client_cpu: list[float] = field(default_factory=list)
    server_cpu: list[float] = field(default_factory=list)
    received: int = 0

    def summary(self) -> dict[str, Any]:
        """Medians and quartiles; no server's CPU where it cannot be seen."""
        times = {"wall_ms": self.wall, "client_cpu_ms": self.client_cpu, "server_cpu_ms": self.server_cpu}
        return {name: summary(taken) for name, taken in times.items() if taken} | {"bytes": self.received}


class Readers:
    """The reads of one session, on one pool."""

    def __init__(self, config: PsqlpyConfig, session_id: str, size: int) -> None:
        self._config = config
        self._key = {"app_name": APP, "user_id": USER, "session_id": session_id}
        self._plain = PsqlpySessionService(PsqlpyADKStore(config, history_cache_bytes=0))
        self._kept = PsqlpySessionService(PsqlpyADKStore(config, history_cache_bytes=1 << 28))
        self._numbers = iter(range(size, 1 << 30))
        self._session_id = session_id

    async def before(self, case: str) -> Read:
        """What is to be timed, after what has to happen before it."""
        service = self._plain if case == FULL else self._kept
        if case == FIRST:
            service = PsqlpySessionService(PsqlpyADKStore(self._config))
        if case == ONE_NEW:
            await self._append()
        return lambda: service.get_session(**self._key)

    async def _append(self) -> None:
        session = await self._plain.get_session(**self._key)
        assert session is not None
        number = next(self._numbers)
        (event,) = make_shapes.mixed(1)
        event.id, event.timestamp = f"{self._session_id}-new-{number}", event.timestamp + number
        await self._plain.append_event(session, event)


async def measure(
    config: PsqlpyConfig, counted: PsqlpyConfig, proxy: Proxy, session_id: str, size: int, options: Any
) -> dict[str, Any]:
    """All cases of a session of this size."""
    readers, behind = Readers(config, session_id, size), Readers(counted, session_id, size)
    taken = {case: Taken() for case in CASES}
    for case in (*CASES, *CASES):  # twice: what is read again is recorded
        found, full = await (await readers.before(case))(), await (await readers.before(FULL))()
        assert found is not None
        assert found == full, f"{case} differs from a full read"
        assert len(found.events) >= size
        read = await behind.before(case)
        before = proxy.sent
        await read()
        taken[case].received = proxy.sent - before
    del found, full
    gc.collect()
    for round_ in range(options.rounds):
        for place in range(len(CASES)):
            case = CASES[(place + round_) % len(CASES)]
            session = await (
                await readers.before(UNCHANGED)
            )()  # the session to be replaced by the first call
            for _ in range(CALLS):
                read = await readers.before(case)
                pids = await _backends(config)
                server, client, start = _server_cpu(pids), time.process_time(), time.perf_counter()
                if case != HELD:
                    session = None
                session = await read()
                taken[case].wall.append((time.perf_counter() - start) * 1e3)
                taken[case].client_cpu.append((time.process_time() - client) * 1e3)
                if server is not None and (after := _server_cpu(pids)) is not None:
                    taken[case].server_cpu.append((after - server) / 1e6)
            del session
    return {"events": size, "cases": {case: taken[case].summary() for case in CASES}}


async def _backends(config: PsqlpyConfig) -> list[int]:
    async with config.provide_connection() as connection:
        found = await connection.fetch("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
        return [row["pid"] for row in found.result()]


def _server_cpu(pids: list[int]) -> int | None:
    """Nanoseconds on a CPU of all these processes; `None` where it cannot be told."""
    files = [Path(f"/proc/{pid}/schedstat") for pid in pids]
    try:
        return sum(int(file.read_text().split()[0]) for file in files)
    except OSError:
        return None


class Proxy:
    """Counts what the server sends."""

    def __init__(self, dsn: str) -> None:
        self._server = parse_dsn(dsn)
        self.sent = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """Listen for the length of the block: the DSN to use."""
        with tempfile.TemporaryDirectory(prefix="adk-reads-") as directory:
            path = f"{directory}/.s.PGSQL.5432"
            server = await asyncio.start_unix_server(self._serve, path)
            yield render_dsn(self._server | {"host": directory, "port": "5432"})
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = self._server.get("host", "localhost"), self._server.get("port", "5432")
        if host.startswith("/"):
            there = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        else:
            there = await asyncio.open_connection(host, int(port))
        await asyncio.gather(self._pass(reader, there[1], 0), self._pass(there[0], writer, 1))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, counts: int) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                self.sent += counts * len(data)
                writer.write(data)
                await writer.drain()
        writer.close()


async def main(options: argparse.Namespace) -> int:
    """Run what was asked for."""
    results: dict[str, Any] = {"rounds": options.rounds, "calls": CALLS, "sizes": []}
    async with AsyncExitStack() as stack:
        dsn = options.dsn
        if dsn is None:
            from adk_psqlpy import EmbeddedServer

            dsn = stack.enter_context(EmbeddedServer(temporary=True)).dsn
        name = f"adk_psqlpy_reads_{os.getpid()}"
        database = await stack.enter_async_context(services.temporary_database(dsn, name))
        opened, close = await services.open_peer(OURS, database)
        stack.push_async_callback(close)
        await services.make_base(opened)
        proxy = Proxy(database)
        behind = await stack.enter_async_context(proxy.listening())
        pool = {"max_db_pool_size": 2}
        config = await stack.enter_async_context(PsqlpyConfig(pool_config={"dsn": database, **pool}))
        counted = await stack.enter_async_context(PsqlpyConfig(pool_config={"dsn": behind, **pool}))
        for size in SIZES:
            await _fill(opened, size)
            results["sizes"].append(await measure(config, counted, proxy, f"reads_{size}", size, options))
            _show(results["sizes"][-1])
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0


async def _fill(opened: Opened, size: int) -> None:
    await fill(opened, f"reads_{size}", size)
    await run_sql(opened.dsn, "VACUUM ANALYZE")


def _show(measured: dict[str, Any]) -> None:
    full = measured["cases"][FULL]
    columns = [name for name in ("wall_ms", "client_cpu_ms", "server_cpu_ms") if name in full]
    print(f"\n{measured['events']:,} events, median, and share of a full read")
    print(f"  {'':10}" + "".join(f"{name:>22}" for name in (*columns, "bytes")))
    for case, of in measured["cases"].items():
        cells = [(of[name]["median"], full[name]["median"]) for name in columns]
        cells.append((of["bytes"], full["bytes"]))
        row = "".join(f"{number(value):>13} {100 * value / base:6.1f} %" for value, base in cells)
        print(f"  {case:10}{row}")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dsn", help="a server whose role may create databases; else the embedded one")
    parser.add_argument("--rounds", type=int, help="rounds of each case (12; 2 with --quick)")
    parser.add_argument("--quick", action="store_true", help="2 rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers")
    options = parser.parse_args()
    options.rounds = options.rounds or (2 if options.quick else 12)
    return options


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    sys.exit(asyncio.run(main(arguments())))
