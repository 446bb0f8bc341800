"""Memory of a process of its own that reads a session, and nothing else.

python -m comparison.memory PEER DSN COUNT [COUNT...]      # what `measure` runs
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

BENCHES = Path(__file__).parents[1]
SIZES, FULL = (10, 100, 1_000, 10_000), 100_000
PEAK = 5_000


def session_of(count: int) -> str:
    """The session that holds so many events."""
    return f"read-{count}"


async def measure(key: str, dsn: str, counts: list[int]) -> list[dict[str, int]]:
    """Read sessions of these sizes, smallest first, in one fresh process: bytes before, at the peak, held."""
    import adk_psqlpy

    path = [str(BENCHES), str(Path(adk_psqlpy.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", "-m", "comparison.memory", key, dsn, *map(str, counts)),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"memory of {key}: {errors.decode()[-2000:]}")
    measured: list[dict[str, int]] = json.loads(out.splitlines()[-1])
    return measured


async def _child(key: str, dsn: str, counts: list[int]) -> list[dict[str, int]]:
    from comparison.services import APP, BARE, OURS, USER, Bare, Opened, open_peer

    opened, close = await open_peer(OURS if key == BARE else key, dsn)

    def reader(peer: Opened, count: int) -> Callable[[], Any]:
        return lambda: peer.service.get_session(app_name=APP, user_id=USER, session_id=session_of(count))

    # Connections, statements and lazy imports are there before it is looked at.
    first = await reader(opened, 10)()
    assert len(first.events) == 10
    if key == BARE:
        bare = Bare(opened)
        await bare.open(1)
    measured = []
    for count in counts:
        if key == BARE:
            # The statement of the small read, for the other session.
            ((sql, parameters, decoders),) = await bare.record(reader(opened, 10))
            parameters = [session_of(count) if value == session_of(10) else value for value in parameters]
        gc.collect()
        before = _resident()
        if key == BARE:
            held: Any = await bare.replay((sql, parameters, decoders))
        else:
            held = await reader(opened, count)()
            assert len(held.events) == count, f"{len(held.events)} events instead of {count}"
        gc.collect()
        measured.append({"events": count, "before": before, "peak": _peak(), "held": _resident()})
        del held
    if key == BARE:
        await bare.close()
    await close()
    return measured


def _resident() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


def _peak() -> int:
    """Of this program since it began. Linux hands a parent's `ru_maxrss` on to what it starts; VmHWM not."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


if __name__ == "__main__":
    _, peer_key, database, *sizes = sys.argv
    print(json.dumps(asyncio.run(_child(peer_key, database, [int(size) for size in sizes]))))
