"""Artifacts in PostgreSQL beside ADK's FileArtifactService, in turns on one machine.

    python benches/artifacts.py                          # on the embedded server
    python benches/artifacts.py --dsn postgresql://...   # on yours: a database is made, and dropped
    python benches/artifacts.py --quick                  # a look
    python benches/artifacts.py --full                   # 500 MB as well

Each round saves an artifact of new bytes, loads it, and deletes it, with each service in turn. What is loaded
is compared with what was saved before anything counts. Memory is that of a fresh process that does one thing.

ADK's service leaves its files to the operating system (no fsync); a commit of PostgreSQL is on the disk. The
last column, a file that is written and synced, is what the disk itself takes.

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
import tempfile
import time
import warnings
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "python")]

from google.adk.artifacts import BaseArtifactService, FileArtifactService  # noqa: E402
from google.genai import types  # noqa: E402

from comparison.memory import _peak, _resident  # noqa: E402
from comparison.report import markdown, number, summary  # noqa: E402

OURS, FILE, SYNCED = "psqlpy", "file", "synced"
LABELS = {OURS: "adk-psqlpy", FILE: "ADK file service", SYNCED: "file, synced"}
SIZES = {"1 KB": 1_000, "1 MB": 1_000_000, "100 MB": 100_000_000}
FULL = {"500 MB": 500_000_000}
KEY = {"app_name": "app", "user_id": "user", "session_id": "s"}


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dsn", help="a server whose role may create databases; else the embedded one")
    parser.add_argument("--rounds", type=int, help="rounds of each size (50, 30, 7; 3 with --quick)")
    parser.add_argument("--quick", action="store_true", help="3 rounds, up to 10 MB")
    parser.add_argument("--full", action="store_true", help="500 MB as well")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables")
    parser.add_argument("--child", nargs=4, metavar=("WHAT", "PEER", "WHERE", "SIZE"), help=argparse.SUPPRESS)
    return parser.parse_args()


def rounds_of(size: int) -> int:
    """How often a size is measured."""
    return next(rounds for limit, rounds in ((10**6, 50), (10**7, 30), (10**9, 7)) if size < limit)


def part(data: bytes) -> types.Part:
    """An artifact of these bytes."""
    return types.Part(inline_data=types.Blob(mime_type="application/octet-stream", data=data))


async def open_service(key: str, where: str) -> tuple[BaseArtifactService, Callable[[], Awaitable[None]]]:
    """A service, and what closes it. `where` is a DSN or a directory."""
    if key == FILE:

        async def nothing() -> None:
            """No file is held open."""

        return FileArtifactService(where), nothing
    from adk_psqlpy import PsqlpyConfig
    from adk_psqlpy.artifacts import PsqlpyArtifactService

    service = PsqlpyArtifactService(PsqlpyConfig(pool_config={"dsn": where, "max_db_pool_size": 10}))
    await service.create_tables()
    return service, service.close


def write_synced(path: Path, data: bytes) -> None:
    """What a disk takes."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


async def loaded(service: BaseArtifactService, name: str) -> bytes | None:
    """The bytes of an artifact."""
    found = await service.load_artifact(**KEY, filename=name)
    return found.inline_data.data if found is not None and found.inline_data is not None else None


async def timed(work: Awaitable[Any]) -> tuple[float, Any]:
    """Milliseconds, and the result."""
    begin = time.perf_counter()
    result = await work
    return (time.perf_counter() - begin) * 1000, result


async def one_round(
    services: dict[str, BaseArtifactService], directory: Path, size: int, turn: int
) -> dict[str, dict[str, float]]:
    """Save, save again, load and delete, once with each; who begins changes from round to round."""
    data = os.urandom(size)
    times: dict[str, dict[str, float]] = {name: {} for name in ("save", "save again", "load", "delete")}
    keys = list(services)
    for key in keys[turn % len(keys) :] + keys[: turn % len(keys)]:
        service = services[key]
        spent, first = await timed(service.save_artifact(**KEY, filename="a", artifact=part(data)))
        times["save"][key] = spent
        spent, second = await timed(service.save_artifact(**KEY, filename="a", artifact=part(data)))
        times["save again"][key] = spent
        assert (first, second) == (0, 1), f"{key}: versions {first} and {second}"
        spent, found = await timed(loaded(service, "a"))
        times["load"][key] = spent
        assert found == data, f"{key} gave other bytes back"
        del found
        spent, _ = await timed(service.delete_artifact(**KEY, filename="a"))
        times["delete"][key] = spent
        assert await loaded(service, "a") is None, f"{key}: deleted, and still there"
    times["save"][SYNCED], _ = await timed(asyncio.to_thread(write_synced, directory / "bare", data))
    times["load"][SYNCED], read = await timed(asyncio.to_thread((directory / "bare").read_bytes))
    assert read == data
    (directory / "bare").unlink()
    return times


async def child(what: str, key: str, where: str, size: int) -> int:
    """Bytes at the peak above what the process held before, without the artifact's own."""
    service, close = await open_service(key, where)
    for warm in (1_000, 3_000_000):  # connections, statements and lazy imports are there
        await service.save_artifact(**KEY, filename="warm", artifact=part(os.urandom(warm)))
        assert len(await loaded(service, "warm") or b"") == warm
    if what == "save":
        artifact = part(os.urandom(size))
        before = _resident()
        await service.save_artifact(**KEY, filename="a", artifact=artifact)
        above = _peak() - before
    else:
        before = _resident()
        found = await loaded(service, "a")
        assert found is not None
        assert len(found) == size
        above = _peak() - before - size
    await close()
    return max(0, above)


async def weigh(key: str, where: str, size: int) -> dict[str, int]:
    """Peak memory of saving and of loading, each in a process of its own."""
    measured = {}
    for what in ("save", "load"):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "ignore", __file__, "--child", what, key, where, str(size)),
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"memory of {key} could not be measured")
        measured[what] = int(out.splitlines()[-1])
    return measured


async def main(options: argparse.Namespace) -> int:
    """Run what was asked for."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from comparison.services import run_sql, temporary_database

    console = Console() if sys.stdout.isatty() else Console(width=160)
    sizes = {"1 KB": 1_000, "1 MB": 1_000_000, "10 MB": 10_000_000} if options.quick else dict(SIZES)
    if options.full:
        sizes |= FULL
    results: dict[str, Any] = {"times": {}, "memory": {}}
    async with AsyncExitStack() as stack:
        dsn = options.dsn
        if dsn is None:
            from adk_psqlpy import EmbeddedServer

            dsn = stack.enter_context(EmbeddedServer(temporary=True)).dsn
        name = f"adk_psqlpy_bench_{os.getpid()}"
        database = await stack.enter_async_context(temporary_database(dsn, name))
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        results["about"] = await about(database, run_sql)
        columns = (
            TextColumn("{task.description:24}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        progress = stack.enter_context(Progress(*columns, console=console))
        services = {}
        for key, where in ((OURS, database), (FILE, str(directory / "file"))):
            services[key], close = await open_service(key, where)
            stack.push_async_callback(close)
        for title, size in sizes.items():
            rounds = options.rounds or (3 if options.quick else rounds_of(size))
            task = progress.add_task(title, total=rounds + 1)
            samples: dict[str, dict[str, list[float]]] = {}
            for turn in range(rounds + 1):
                times = await one_round(services, directory, size, turn)
                progress.advance(task)
                for operation, peers in times.items() if turn else ():  # the first round warms up
                    for key, spent in peers.items():
                        samples.setdefault(operation, {}).setdefault(key, []).append(spent)
            results["times"][title] = {
                operation: {key: summary(values) for key, values in peers.items()}
                for operation, peers in samples.items()
            }
        large = list(sizes.items())[1:]
        task = progress.add_task("memory", total=2 * len(large))
        for title, size in large:
            results["memory"][title] = {}
            for key, where in ((OURS, database), (FILE, str(directory / "file"))):
                results["memory"][title][key] = await weigh(key, where, size)
                await services[key].delete_artifact(**KEY, filename="a")
                progress.advance(task)
    show(results, options, console)
    return 0


async def about(database: str, run_sql: Any) -> dict[str, Any]:
    """Where this was measured."""
    settings = ("server_version", "fsync", "shared_buffers")
    query = ", ".join(f"current_setting('{name}') AS {name}" for name in settings)
    (row,) = await run_sql(database, f"SELECT {query}")
    packages = ("google-adk", "psqlpy")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        **row,
        "versions": {package: version(package) for package in packages},
    }


def tables(results: dict[str, Any]) -> dict[str, tuple[list[str], list[list[str]]]]:
    """Milliseconds, and bytes."""
    rows = [
        [
            f"{operation} {title}",
            *(
                f"{number(peers[key]['median'])} ({number(peers[key]['q1'])}-{number(peers[key]['q3'])})"
                if key in peers
                else ""
                for key in LABELS
            ),
        ]
        for title, operations in results["times"].items()
        for operation, peers in operations.items()
    ]
    times = (["ms, median (quartiles)", *LABELS.values()], rows)
    header = ["peak above the artifact itself", LABELS[OURS], LABELS[FILE]]
    rows = [
        [f"{what} {title}", *(f"{peers[key][what] / 1e6:.1f} MB" for key in (OURS, FILE))]
        for title, peers in results["memory"].items()
        for what in ("save", "load")
    ]
    return {"time": times, "memory": (header, rows)}


def show(results: dict[str, Any], options: argparse.Namespace, console: Any) -> None:
    """Print the tables, and write what was asked for."""
    from rich.table import Table

    for title, (header, rows) in tables(results).items():
        table = Table(title=title, title_justify="left")
        for index, column in enumerate(header):
            table.add_column(column, justify="left" if index == 0 else "right")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if options.markdown:
        text = "\n\n".join(markdown(header, rows) for header, rows in tables(results).values())
        options.markdown.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    chosen = arguments()
    if chosen.child:
        do, peer, place, length = chosen.child
        print(asyncio.run(child(do, peer, place, int(length))))
        sys.exit(0)
    sys.exit(asyncio.run(main(chosen)))
