"""Session services of Google's ADK on PostgreSQL, side by side on one server.

    python benches/compare.py                                 # on the embedded server
    python benches/compare.py --dsn postgresql://...          # on yours: a database is made, and dropped
    python benches/compare.py --quick --only get_1000,append  # a look

adk-psqlpy beside google-adk's DatabaseSessionService (asyncpg), SQLSpec's services on psqlpy and asyncpg,
and, as the limit, the bare driver sending the same statements. In every round each has a turn. Answers are
compared before anything is timed: a wrong one of ours ends the run, a rival's is marked ✗.

Needs the dependency group `bench`: pip install --group bench
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import platform
import sys
import time
import warnings
from contextlib import AsyncExitStack
from functools import partial
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PACKAGES = ("psqlpy", "google-adk", "sqlspec", "asyncpg", "sqlalchemy", "pydantic", "orjson")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dsn", help="a server whose role may create databases; else the embedded one")
    parser.add_argument("--rounds", type=int, help="rounds of each operation (20; 3 with --quick)")
    parser.add_argument("--quick", action="store_true", help="few rounds, no memory beyond 1,000 events")
    parser.add_argument("--full", action="store_true", help="memory up to 100,000 events")
    parser.add_argument(
        "--only", default="", help="of the operations, memory, correctness, crate: these, by commas"
    )
    parser.add_argument("--without", default="", help="peers to leave out, by commas")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="draw them (.png, .svg)")
    parser.add_argument(
        "--write-docs",
        action="store_true",
        help="fill in performance.md and choosing.md in docs/, with .json and .png",
    )
    options = parser.parse_args()
    if options.write_docs and (options.only or options.without or options.quick):
        parser.error("--write-docs writes whole tables: not with --only, --without or --quick")
    return options


async def main(options: argparse.Namespace) -> int:
    """Run what was asked for."""
    from rich.console import Console

    from comparison import report, services

    console = Console()
    if not console.is_terminal:  # a file or a pipe: no need to break lines at 80
        console = Console(width=180)
    results: dict[str, Any] = {"about": {}, "operations": [], "skipped": {}}
    async with AsyncExitStack() as stack:
        dsn, where = options.dsn, "given"
        if dsn is None:
            from adk_psqlpy import EmbeddedServer

            dsn, where = stack.enter_context(EmbeddedServer(temporary=True)).dsn, "embedded, Unix socket"
        name = f"adk_psqlpy_bench_{os.getpid()}"
        database = await stack.enter_async_context(services.temporary_database(dsn, name))
        results["about"] = await _about(database, where)
        await _run(options, database, results, console)
    report.show(results, console)
    _write(options, results)
    return 0


async def _run(options: argparse.Namespace, database: str, results: dict[str, Any], console: Any) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from comparison import correctness, memory, operations, pgbench, services
    from comparison.report import summary

    only = {item for item in options.only.split(",") if item}
    chosen = [o for o in operations.OPERATIONS if not only or o.key in only]
    unknown = only - {o.key for o in operations.OPERATIONS} - {"memory", "correctness", "crate"}
    if unknown:
        names = ", ".join([o.key for o in operations.OPERATIONS] + ["memory", "correctness", "crate"])
        raise SystemExit(f"--only: there is no {', '.join(sorted(unknown))}; there are {names}")
    rounds = options.rounds or (3 if options.quick else 20)
    results["about"]["rounds"] = rounds
    weigh, question = (not only or part in only for part in ("memory", "correctness"))
    of_crate = not only or "crate" in only
    sizes = [10, 100, 1_000] if options.quick else [*memory.SIZES, *([memory.FULL] if options.full else [])]

    columns = (TextColumn("{task.description:40}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    async with AsyncExitStack() as stack:
        progress = stack.enter_context(Progress(*columns, console=console))
        opened = await _open(options, database, results, stack, progress)
        bare = services.Bare(opened[services.OURS])
        await bare.open()
        stack.push_async_callback(bare.close)
        generator = None
        if (program := pgbench.find()) is not None and any(o.key == "append_32" for o in chosen):
            generator = pgbench.Pgbench(program, opened[services.OURS], 1 if options.quick else 2)
            await generator.prepare()
        elif program is None:
            results["skipped"]["pgbench"] = "no pgbench: neither in the embedded server nor installed"
        context = operations.Context(opened, bare, generator)
        for operation in chosen:
            turns = min(rounds, 8) if operation.key in ("append_32", "list_10000") else rounds
            task = progress.add_task(operation.title, total=turns + 1)
            samples = await operations.measure(operation, context, turns, partial(progress.advance, task))
            results["operations"].append(
                {
                    "key": operation.key,
                    "title": operation.title.replace("`", ""),
                    "unit": operation.unit,
                    "peers": {key: summary(values) for key, values in samples.items()},
                    "wrong": {key: text for (o, key), text in context.wrong.items() if o == operation.key},
                }
            )
        if of_crate:
            from comparison import crate

            task = progress.add_task("decode and encode", total=crate.CASES)
            results["crate"] = crate.measure(min(rounds, 10), partial(progress.advance, task))
        if weigh:
            await _weigh(opened, database, sizes, results, progress)
        if question:
            task = progress.add_task("correctness", total=len(opened))
            answers: dict[str, Any] = {}
            for key in opened:
                answers[key] = {a.question: a.wrong for a in await correctness.ask(key, database)}
                progress.advance(task)
            wrong = [question for question, text in answers[services.OURS].items() if text]
            assert not wrong, f"ours is wrong: {answers[services.OURS]}"
            results["correctness"] = answers


async def _open(
    options: argparse.Namespace, database: str, results: dict[str, Any], stack: AsyncExitStack, progress: Any
) -> dict[str, Any]:
    """Open every service and give it its first session; one that cannot is left out, and why is said."""
    from comparison import services

    keys = [key for key in services.PEERS if key not in options.without.split(",")]
    task = progress.add_task("filling tables", total=len(keys))
    opened = {}
    for key in keys:
        try:
            peer, close = await services.open_peer(key, database)
            stack.push_async_callback(close)
            await services.make_base(peer)
        except Exception as error:
            if key == services.OURS:
                raise
            results["skipped"][key] = f"{type(error).__name__}: {error}"
        else:
            opened[key] = peer
        progress.advance(task)
    return opened


async def _weigh(
    opened: dict[str, Any], database: str, sizes: list[int], results: dict[str, Any], progress: Any
) -> None:
    from comparison import memory, services

    keys = [*opened, services.BARE]
    task = progress.add_task("memory", total=len(keys))
    alone_size = min(memory.PEAK, max(sizes))
    results["memory"] = {}
    for peer in opened.values():
        for size in {*sizes, alone_size}:
            found = await services.run_sql(
                database, f"SELECT 1 FROM {peer.peer.sessions} WHERE id = '{memory.session_of(size)}'"
            )
            if not found:
                await services.fill(peer, memory.session_of(size), size)
    for key in keys:
        (alone,) = await memory.measure(key, database, [alone_size])
        results["memory"][key] = {"alone": alone, "growth": await memory.measure(key, database, sizes)}
        progress.advance(task)


async def _about(database: str, where: str) -> dict[str, Any]:
    import adk_psqlpy
    from comparison import services

    settings = ("server_version", "fsync", "shared_buffers", "synchronous_commit")
    query = ", ".join(f"current_setting('{name}') AS {name}" for name in settings)
    (row,) = await services.run_sql(database, f"SELECT {query}")
    installed = {distribution.name.lower(): distribution.version for distribution in distributions()}
    versions = {"adk-psqlpy": adk_psqlpy.__version__}
    versions |= {package: installed[package] for package in PACKAGES if package in installed}
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "server": row.pop("server_version"),
        "where": where,
        **row,
        "versions": versions,
    }


def _write(options: argparse.Namespace, results: dict[str, Any]) -> None:
    from comparison import report

    files = [options.json, DOCS / "performance.json" if options.write_docs else None]
    for file in filter(None, files):
        file.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for file in filter(None, [options.chart, DOCS / "performance.png" if options.write_docs else None]):
        report.chart(results, file)
    if options.write_docs:
        report.write_docs(results, DOCS)


if __name__ == "__main__":
    # ADK and SQLAlchemy warn and log of their own affairs, into the middle of the progress bar.
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    sys.path[:0] = [str(ROOT / "python")]
    sys.exit(asyncio.run(main(arguments())))
