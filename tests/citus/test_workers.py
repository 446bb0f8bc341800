"""Workers that die, and shards that move, while sessions are appended to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from google.adk.events.event import Event
from psqlpy.exceptions import Error

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from faults.deadlines import until, within
from servers import Database, run_sql

if TYPE_CHECKING:
    from google.adk.sessions.session import Session

    from clusters import CitusCluster

EACH = 4


class Writers:
    """One a session; each counts what was acknowledged, and goes on after an error."""

    def __init__(self, service: PsqlpySessionService, sessions: list[Session]) -> None:
        self.service = service
        self.acknowledged: dict[str, list[str]] = {each.user_id: [] for each in sessions}
        self.errors: dict[str, list[Exception]] = {each.user_id: [] for each in sessions}
        self._tasks = [asyncio.create_task(self._write(each)) for each in sessions]
        self._ending = False

    def event(self) -> Event:
        """The next one."""
        return Event(author="user")

    async def _write(self, session: Session) -> None:
        while not self._ending:
            event = self.event()
            while True:
                try:
                    await self.service.append_event(session, event)
                except Error as error:  # noqa: PERF203 - the loop tries again on purpose
                    self.errors[session.user_id].append(error)
                    if self._ending:
                        return
                    await asyncio.sleep(0.02)  # the node is down: no busy loop
                else:
                    self.acknowledged[session.user_id].append(event.id)
                    break

    def count(self, users: list[str]) -> int:
        return min(len(self.acknowledged[each]) for each in users)

    async def more(self, users: list[str], number: int) -> None:
        """Wait until each of these users has had so many more appends acknowledged."""
        goal = {each: len(self.acknowledged[each]) + number for each in users}

        async def there() -> bool:
            return all(len(self.acknowledged[each]) >= goal[each] for each in users)

        await until(there, 60, f"{number} more appends of {users}")

    async def end(self) -> None:
        self._ending = True
        await within(60, asyncio.gather(*self._tasks))

    async def check(self) -> None:
        """What was acknowledged is there, once, in order."""
        for user, ids in self.acknowledged.items():
            found = await self.service.get_session(app_name="app", user_id=user, session_id="s")
            assert found is not None
            stored = [event.id for event in found.events]
            assert len(stored) == len(set(stored))
            assert [each for each in stored if each in set(ids)] == ids


async def writers(citus: Database, users: list[str]) -> Writers:
    config = PsqlpyConfig({"dsn": citus.dsn, "max_db_pool_size": 6, "retry_sec": 1})
    service = PsqlpySessionService(PsqlpyADKStore(config))
    await service.store.create_tables(distributed=True)
    sessions = [await service.create_session(app_name="app", user_id=each, session_id="s") for each in users]
    return Writers(service, sessions)


async def test_a_worker_is_killed(cluster: CitusCluster, citus: Database) -> None:
    """Users of the other worker go on, without an error. Users of the killed one get errors, and go on when
    it is back, with everything that was acknowledged."""
    async with PsqlpyConfig({"dsn": citus.dsn, "max_db_pool_size": 2}) as config:
        await PsqlpyADKStore(config).create_tables(distributed=True)
    killed, others = cluster.users_on_each(citus, EACH)
    running = await writers(citus, killed + others)
    await running.more(killed + others, 20)
    await asyncio.to_thread(cluster.workers[0].kill)
    await running.more(others, 50)
    assert all(running.errors[each] for each in killed)
    await asyncio.to_thread(cluster.workers[0].restart)
    await running.more(killed + others, 20)
    await running.end()
    await running.check()
    assert [running.errors[each] for each in others] == [[] for _ in others]
    told = {str(error) for each in killed for error in running.errors[each]}
    assert all("127.0.0.1" in each or "connection" in each for each in told), told
    await running.service.close()


@pytest.mark.parametrize("mode", ["block_writes", "force_logical"])
async def test_shards_move(cluster: CitusCluster, citus: Database, mode: str) -> None:
    """All shards of a worker are moved to the other while their users are appended to: nothing is lost, and
    nobody gets an error that a second try does not mend."""
    async with PsqlpyConfig({"dsn": citus.dsn, "max_db_pool_size": 2}) as config:
        await PsqlpyADKStore(config).create_tables(distributed=True)
    moved, others = cluster.users_on_each(citus, EACH)
    running = await writers(citus, moved + others)
    await running.more(moved + others, 20)
    source, target = cluster.workers
    (shards,) = run_sql(
        citus.dsn,
        "SELECT DISTINCT ON (s.shardminvalue) s.shardid::text AS id FROM pg_dist_shard AS s "
        "JOIN pg_dist_placement AS p USING (shardid) JOIN pg_dist_node AS n USING (groupid) "
        f"WHERE n.nodeport = {source.port} AND s.logicalrelid = 'adk_sessions'::regclass",
    )
    for shard in shards:
        move = (
            f"SELECT 1 AS done FROM citus_move_shard_placement({shard['id']}, '127.0.0.1', {source.port}, "
            f"'127.0.0.1', {target.port}, '{mode}')"
        )
        await asyncio.to_thread(run_sql, citus.dsn, move)
    assert cluster.worker_of(citus, moved[0]) is target
    await running.more(moved + others, 20)
    await running.end()
    await running.check()
    await running.service.close()
