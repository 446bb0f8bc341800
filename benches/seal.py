"""What sealing costs: the same store with and without it, on one server, in turns.

    python benches/seal.py                            # on the embedded server
    python benches/seal.py --dsn postgresql://...     # on yours, as superuser: databases come and go
    python benches/seal.py --rounds 5                 # a look

1,000 mixed events are appended to a session of each store, in portions of 100 by turns, then read by turns.
What is read is compared with what was appended before anything is timed. Medians, and their ratio.

Needs the dependency group `bench`: pip install --group bench
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "benches")]

import make_shapes  # noqa: E402
from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService, _native  # noqa: E402
from adk_psqlpy.seal import Seal  # noqa: E402
from comparison.report import markdown  # noqa: E402
from comparison.services import temporary_database  # noqa: E402

EVENTS = 1_000
PORTION = 100
KEY: dict[str, Any] = {"app_name": "app", "user_id": "user", "session_id": "s"}


class OneKey:
    """A key ring of one key."""

    async def key(self, key_id: str) -> bytes:  # noqa: ARG002 - as the protocol has it
        return bytes(range(32))

    async def current(self, app_name: str, user_id: str) -> str:  # noqa: ARG002
        return "bench"

    async def key_ids(self, app_name: str, user_id: str) -> list[str]:  # noqa: ARG002
        return ["bench"]


async def appended(services: dict[str, PsqlpySessionService]) -> dict[str, list[float]]:
    """Milliseconds an append, a value a portion."""
    events = [event.model_copy(update={"partial": None}) for event in make_shapes.mixed(EVENTS)]
    sessions = {name: await service.create_session(**KEY) for name, service in services.items()}
    took: dict[str, list[float]] = {name: [] for name in services}
    for start in range(0, EVENTS, PORTION):
        for name, service in services.items():
            copies = [event.model_copy(deep=True) for event in events[start : start + PORTION]]
            begun = time.perf_counter()
            for event in copies:
                await service.append_event(sessions[name], event)
            took[name].append((time.perf_counter() - begun) * 1e3 / PORTION)
    for name, service in services.items():
        read = await service.get_session(**KEY)
        assert read is not None, f"{name}: nothing was read"
        assert read.events == sessions[name].events, f"{name}: other events were read"
        assert read.state == sessions[name].state, f"{name}: another state was read"
    return took


async def read(services: dict[str, PsqlpySessionService], rounds: int) -> dict[str, list[float]]:
    """Milliseconds a read of all events."""
    took: dict[str, list[float]] = {name: [] for name in services}
    for number in range(rounds):
        for name, service in services.items() if number % 2 else reversed(services.items()):
            gc.collect()
            begun = time.perf_counter()
            found = await service.get_session(**KEY)
            took[name].append((time.perf_counter() - begun) * 1e3)
            assert found is not None
            assert len(found.events) == EVENTS
            del found
    return took


def crate(rounds: int) -> dict[str, dict[str, list[float]]]:
    """Microseconds an event, for encoding and decoding alone."""
    from cases import arrays

    events = make_shapes.mixed(EVENTS)
    keys = _native.Keys()
    keys.add("bench", bytes(range(32)))
    scope = (keys, "app", "user", "s")
    plain = [_native.encode_event(event, 128) for event in events]
    stored = arrays(events)
    # As jsonb prints a string that holds nothing to escape, so the arrays need no server.
    sealed = sealed_arrays([_native.seal_event(row, "bench", scope) for row in plain])
    assert _native.decode_events(sealed, place="here", seal=scope) == events
    took: dict[str, dict[str, list[float]]] = {"encode": {}, "decode": {}}
    work = {
        ("encode", "plain"): lambda: [_native.encode_event(event, 128) for event in events],
        ("encode", "sealed"): lambda: [
            _native.seal_event(_native.encode_event(event, 128), "bench", scope) for event in events
        ],
        ("decode", "plain"): lambda: _native.decode_events(stored, place="here"),
        ("decode", "sealed"): lambda: _native.decode_events(sealed, place="here", seal=scope),
    }
    for _ in range(rounds):
        for (what, name), call in work.items():
            gc.collect()
            begun = time.perf_counter()
            call()
            took[what].setdefault(name, []).append((time.perf_counter() - begun) * 1e6 / EVENTS)
    return took


def sealed_arrays(rows: list[list[bytes | None]]) -> tuple[Any, ...]:
    """The arrays of a read, for rows that are sealed."""
    import json

    oids = {"varchar": 1043, "timestamptz": 1184, "bytea": 17, "jsonb": 3802}
    own = _native.EVENT_COLUMNS[: _native.OWN_ARRAYS]
    columns = _native.encode_arrays([oids[kind] for _, kind in own], [row[: len(own)] for row in rows])
    rare: list[list[bytes | None]] = []
    for row in rows:
        found: dict[str, Any] = {}
        for (name, kind), value in list(zip(_native.EVENT_COLUMNS, row, strict=True))[len(own) :]:
            if value is not None:
                found[name] = (
                    json.loads(value[1:])
                    if kind == "jsonb"
                    else bool(value[0])
                    if kind == "boolean"
                    else value.decode()
                )
        rare.append([json.dumps(found, ensure_ascii=False).encode() if found else None])
    return (*columns, *_native.encode_arrays([25], rare))


async def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dsn")
    parser.add_argument("--rounds", type=int, default=30)
    given = parser.parse_args()
    took: dict[str, dict[str, list[float]]] = {
        f"{what}, µs an event": v for what, v in crate(given.rounds).items()
    }
    async with AsyncExitStack() as stack:
        services: dict[str, PsqlpySessionService] = {}
        server = given.dsn
        if server is None:
            from adk_psqlpy import EmbeddedServer

            embedded = await asyncio.to_thread(EmbeddedServer().start)
            stack.callback(embedded.stop)
            server = embedded.dsn
        for name, seal in (("plain", None), ("sealed", Seal(OneKey()))):
            dsn = await stack.enter_async_context(temporary_database(server, f"adk_seal_{name}"))
            config = await stack.enter_async_context(PsqlpyConfig({"dsn": dsn, "max_db_pool_size": 4}))
            store = PsqlpyADKStore(config, history_cache_bytes=0, seal=seal)
            await store.create_tables()
            services[name] = PsqlpySessionService(store)
        took["append, ms an event"] = await appended(services)
        took[f"read {EVENTS:,} events, ms"] = await read(services, given.rounds)
    rows = []
    for what, values in took.items():
        plain, sealed = (statistics.median(values[name]) for name in ("plain", "sealed"))
        rows.append([what, f"{plain:.2f}", f"{sealed:.2f}", f"{sealed / plain:.2f}"])
    print(markdown(["", "plain", "sealed", "ratio"], rows))


if __name__ == "__main__":
    asyncio.run(main())
