"""Failover as Patroni does it: leaders that are handed over, killed, and cut off.

The cluster is in synchronous mode, so what was acknowledged is on two nodes.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService

from .ledger import Entry, Findings, Ledger, compare
from .patroni import TTL_SEC, PatroniCluster, missing
from .workload import create_sessions, under_load, writers_of

Seen = Callable[[str, int, Findings], None]
Fault = Callable[[PatroniCluster], Awaitable[None]]

RETRY_SEC = 3 * TTL_SEC
"""What a caller has to set: a lease that runs out, an election, a promotion, on a busy machine."""


@pytest.fixture(autouse=True)
def _cluster_possible() -> None:
    reason = missing()
    if reason is not None:
        pytest.skip(reason)


def service_on(cluster: PatroniCluster) -> PsqlpySessionService:
    """A service that knows all three nodes and looks for the one that takes writes."""
    config = PsqlpyConfig(
        {
            "hosts": ["127.0.0.1" for _ in cluster.nodes],
            "ports": [node.port for node in cluster.nodes],
            "username": "postgres",
            "db_name": "postgres",
            "target_session_attrs": "read-write",
            "connect_timeout_sec": 5,
            "max_db_pool_size": 6,
            "retry_sec": RETRY_SEC,
        }
    )
    return PsqlpySessionService(PsqlpyADKStore(config))


async def switchover(cluster: PatroniCluster) -> None:
    """Hand the lead over in good order."""
    await cluster.switch_over()
    await cluster.settled()


async def power_cut(cluster: PatroniCluster) -> None:
    """Kill the leader and its Patroni. The lease runs out, another node is promoted, the old one returns."""
    old = await cluster.leader()
    await asyncio.to_thread(old.kill)
    await cluster.changes_leader(old)
    await asyncio.sleep(1)  # load on the new leader, which has lost its partner
    old.start()
    await cluster.settled()


async def partition(cluster: PatroniCluster) -> None:
    """Cut the leader off from etcd. It steps down by itself, another node leads, the old one follows it."""
    old = await cluster.leader()
    old.relay.cut()
    await cluster.changes_leader(old)
    await asyncio.sleep(1)  # load on the new leader
    old.relay.heal()
    await cluster.settled()


def longest_silence(entries: Sequence[Entry]) -> float:
    """Seconds between two acknowledgements that follow each other, whoever had them."""
    at = sorted(entry.acknowledged for entry in entries if entry.acknowledged is not None)
    return max(later - earlier for earlier, later in itertools.pairwise(at))


@pytest.mark.parametrize(
    ("writers", "faults"),
    [
        (8, [switchover, power_cut]),
        pytest.param(
            32,
            [switchover, power_cut, partition, switchover, power_cut, partition],
            marks=pytest.mark.torture,
        ),
    ],
)
async def test_changes_of_the_leader(
    binaries: Path, tmp_path: Path, seen: Seen, writers: int, faults: list[Fault]
) -> None:
    """No writer meets an error, and every acknowledged event is there: once, and in order."""
    async with PatroniCluster(binaries) as cluster:
        service = service_on(cluster)
        await service.store.create_tables()
        ids = await create_sessions(service, writers)
        paths = []
        for number, fault in enumerate(faults):
            ledger = Ledger(tmp_path / f"ledger{number}")
            paths.append(ledger.path)
            group = writers_of(service, ledger, ids, writers, bound=RETRY_SEC + 30)
            for writer in group:
                writer.name += f"r{number}"

            async def after_load(fault: Fault = fault) -> None:
                await asyncio.sleep(random.uniform(0.5, 1.5))  # load
                await fault(cluster)
                await asyncio.sleep(0.5)  # load

            await under_load(group, after_load, bound=RETRY_SEC + 200)
            ledger.close()
            entries = Ledger.read(*paths)
            findings = await compare(service, entries, (await cluster.leader()).dsn)
            silence = longest_silence([*Ledger.read(ledger.path).values()])
            name = fault.__name__.replace("_", " ")
            seen(f"Patroni: {name}, {writers} writers, {silence:.1f} s without a write", 1, findings)
        await service.close()
