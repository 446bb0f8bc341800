"""Statements of many tasks on few connections."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import psqlpy
import pytest

from adk_psqlpy import PsqlpyConfig
from adk_psqlpy.connections.lane_set import DEEP
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.errors import PoolTimeoutError
from servers import run_sql

from .support import WAITING, count, locker, soon, until

if TYPE_CHECKING:
    from psqlpy import Connection

    from servers import Database

LOCK = "SELECT 1 FROM pg_advisory_xact_lock(1)"
ONE = "SELECT 1"


async def one(config: PsqlpyConfig, repeat: Repeat = Repeat.READ) -> int:
    return int((await config.lanes.fetch(ONE, [], repeat=repeat))[0][0])


async def waiters(watcher: Connection, number: int) -> None:
    """Wait until so many backends wait for a lock."""

    async def reached() -> bool:
        return await count(watcher, WAITING) == number

    await until(reached)


async def test_one_task_needs_one_connection(config: PsqlpyConfig) -> None:
    """Statements that follow each other share a connection."""
    for _ in range(20):
        assert await one(config) == 1
    assert config.lanes.held == 1


async def test_many_tasks_share_few_connections(config: PsqlpyConfig) -> None:
    """A thousand tasks get their own answers, on at most as many connections as the pool has."""
    # Not so short that one connection has answered them all before the second is open.
    sql = "SELECT $1::int8 FROM pg_sleep(0.001)"
    answers = await asyncio.gather(
        *(config.lanes.fetch(sql, [number], repeat=Repeat.READ) for number in range(1000))
    )
    assert answers == [[(number,)] for number in range(1000)]
    assert 1 < config.lanes.held <= 4
    assert config.lanes.in_flight == 0


async def test_statements_that_meet_a_lane_just_opened(config: PsqlpyConfig) -> None:
    """They run after the task that opened it has ended, and before the loop calls back that it has."""
    lanes = config.lanes._of("write")
    opening = lanes._open_one()
    met = []

    async def meet() -> int:
        while not opening.done():  # noqa: ASYNC110 - a moment between two turns of the loop is meant
            await asyncio.sleep(0)
        met.append(lanes._opening is opening)
        return await one(config, Repeat.NEVER)

    assert await asyncio.gather(*(meet() for _ in range(3))) == [1, 1, 1]
    assert met[0], "none came in that moment"
    assert config.lanes.in_flight == 0


async def test_a_batch_gets_a_connection_though_lanes_hold_all(config: PsqlpyConfig) -> None:
    await asyncio.gather(
        *(config.lanes.fetch("SELECT 1 FROM pg_sleep(0.2)", [], repeat=Repeat.READ) for _ in range(40))
    )
    assert config.lanes.held == 4, "all of the pool"
    await asyncio.gather(*(soon(config.lanes.batch("SELECT 1; SELECT 2")) for _ in range(10)))
    assert await one(config) == 1


@pytest.mark.parametrize("repeat", list(Repeat))
async def test_a_slow_statement_holds_up_no_other(
    config: PsqlpyConfig, database: Database, repeat: Repeat
) -> None:
    """What was sent behind a statement that waits for a lock is answered on another connection."""
    async with locker(database.dsn, LOCK) as other:
        assert await one(config) == 1
        slow = asyncio.ensure_future(config.lanes.fetch(LOCK, []))
        behind = [asyncio.ensure_future(one(config, repeat)) for _ in range(2 * DEEP)]
        await soon(asyncio.gather(*behind))
        await waiters(other, 1)
        assert not slow.done()
    assert await soon(slow) == [(1,)]


async def test_what_comes_later_avoids_the_slow_connection(config: PsqlpyConfig, database: Database) -> None:
    """Also the third slow statement gets a connection without the first two."""
    async with locker(database.dsn, LOCK) as other:
        slow = []
        for waiting in range(1, 4):
            slow.append(asyncio.ensure_future(config.lanes.fetch(LOCK, [])))
            await waiters(other, waiting)
            assert await soon(one(config)) == 1
    assert await soon(asyncio.gather(*slow)) == [[(1,)]] * 3


async def test_a_cancelled_statement_keeps_its_place(config: PsqlpyConfig, database: Database) -> None:
    """The caller is gone at once; the lane counts the statement until the server has answered it."""
    async with locker(database.dsn, LOCK) as other:
        task = asyncio.ensure_future(config.lanes.fetch(LOCK, []))
        await waiters(other, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert config.lanes.in_flight == 1
        assert await soon(one(config)) == 1

    async def answered() -> bool:
        return config.lanes.in_flight == 0

    await until(answered)


async def test_a_broken_connection_is_replaced(config: PsqlpyConfig, database: Database) -> None:
    """A read whose backend is ended, before or while it runs, is repeated on another connection."""
    before = await config.lanes.fetch("SELECT pg_backend_pid()", [])
    run_sql(database.server.dsn, f"SELECT pg_terminate_backend({before[0][0]})")
    after = await soon(config.lanes.fetch("SELECT pg_backend_pid()", [], repeat=Repeat.READ))
    assert after != before
    async with locker(database.dsn, LOCK) as other:
        running = asyncio.ensure_future(config.lanes.fetch(LOCK, [], repeat=Repeat.READ))
        for _ in range(2):
            await waiters(other, 1)
            await count(
                other,
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE wait_event_type = 'Lock' AND datname = current_database()",
            )
    assert await soon(running) == [(1,)]


async def test_what_may_not_be_repeated_is_not(config: PsqlpyConfig) -> None:
    """Such a statement fails with its connection."""
    await config.lanes.fetch("CREATE TABLE runs (at int8)", [])
    ending = "WITH r AS (SELECT pg_terminate_backend(pg_backend_pid())) INSERT INTO runs SELECT 1 FROM r"
    with pytest.raises(psqlpy.Error):
        await config.lanes.fetch(ending, [], repeat=Repeat.NEVER)
    assert await one(config) == 1


async def test_an_error_of_the_statement_is_not_repeated(config: PsqlpyConfig) -> None:
    """The connection is sound, so the statement is at fault; it keeps its lane."""
    pid = await config.lanes.fetch("SELECT pg_backend_pid()", [])
    with pytest.raises(psqlpy.Error, match="division by zero"):
        await soon(config.lanes.fetch("SELECT 1 / 0", [], repeat=Repeat.READ))
    assert await config.lanes.fetch("SELECT pg_backend_pid()", []) == pid


async def test_lanes_leave_connections_to_others(database: Database) -> None:
    """With lanes on every connection of the pool, `provide_connection()` gets one all the same."""
    async with PsqlpyConfig({"dsn": database.dsn, "max_db_pool_size": 2}) as config:
        await asyncio.gather(*(one(config) for _ in range(100)))

        async def both() -> bool:
            return config.lanes.held == 2

        await until(both)
        async with config.provide_connection() as connection:
            assert await count(connection, ONE) == 1
            assert await one(config) == 1


TIMEOUTS = {"max_db_pool_size": 3, "read_timeout_sec": 20, "write_timeout_sec": 10}


async def test_timeouts_leave_connections_to_others(database: Database) -> None:
    """Each different timeout has connections of its own; idle, they are no reason to wait, for anybody."""
    async with PsqlpyConfig({"dsn": database.dsn, "acquire_timeout_sec": 5} | TIMEOUTS) as config:

        async def each_kind() -> None:
            for kind in ("read", "list", "write"):
                assert await config.lanes.fetch(ONE, [], kind=kind, repeat=Repeat.READ) == [(1,)]

        await each_kind()
        assert config.lanes.held == 3
        async with config.provide_connection() as first, config.provide_connection() as second:
            assert await count(first, ONE) == await count(second, ONE) == 1
            # One is left for all three.
            await each_kind()
            kinds = [each_kind() for _ in range(20)]
            await soon(asyncio.gather(*kinds))
        await each_kind()


async def test_timeouts_take_turns_on_one_connection(database: Database) -> None:
    """Users hold the others, and statements of one timeout wait for a lock; all are answered when it goes."""
    async with (
        PsqlpyConfig({"dsn": database.dsn, "acquire_timeout_sec": 20} | TIMEOUTS) as config,
        config.provide_connection(),
        config.provide_connection(),
    ):
        async with locker(database.dsn, LOCK) as other:
            running = asyncio.ensure_future(config.lanes.fetch(LOCK, []))
            await waiters(other, 1)
            writes = [asyncio.ensure_future(one(config, Repeat.NEVER)) for _ in range(5)]
            reads = [
                asyncio.ensure_future(config.lanes.fetch(ONE, [], kind=kind, repeat=Repeat.READ))
                for kind in ("read", "list") * 3
            ]
            await asyncio.wait(reads, timeout=0.5)
            assert not any(each.done() for each in (running, *writes, *reads))
        assert await soon(asyncio.gather(running, *writes, *reads)) == [[(1,)], *[1] * 5, *[[(1,)]] * 6]


async def test_an_exhausted_pool_says_what_to_set(database: Database) -> None:
    """Without a free connection the wait ends with the settings' names; it works again afterwards."""
    settings = {"dsn": database.dsn, "max_db_pool_size": 2, "acquire_timeout_sec": 0.1}
    async with PsqlpyConfig(settings) as config:
        async with config.provide_connection(), config.provide_connection():
            with pytest.raises(PoolTimeoutError, match=r"all 2 of the pool.*raise max_db_pool_size"):
                await one(config)
            with pytest.raises(PoolTimeoutError, match="acquire_timeout_sec"):
                async with config.provide_connection():
                    raise AssertionError("a third connection of two")
        assert await one(config) == 1


def test_several_event_loops(database: Database) -> None:
    """One configuration serves one loop after another; the connections of a closed loop come back."""
    config = PsqlpyConfig({"dsn": database.dsn, "max_db_pool_size": 2})

    async def use(last: bool) -> None:
        assert await asyncio.gather(*(one(config) for _ in range(50))) == [1] * 50
        assert config.lanes.held <= 2
        if last:
            await config.close_pool()

    for number in range(4):
        asyncio.run(use(last=number == 3))
    assert config.lanes.held == 0


async def test_closing_with_statements_in_flight(config: PsqlpyConfig, database: Database) -> None:
    """They are answered; the next statement opens the pool anew."""
    async with locker(database.dsn, LOCK) as other:
        slow = asyncio.ensure_future(config.lanes.fetch(LOCK, []))
        await waiters(other, 1)
        await config.close_pool()
    assert await soon(slow) == [(1,)]
    assert await soon(one(config)) == 1


async def test_a_statement_timeout_of_a_class(database: Database) -> None:
    """Only statements of the class are stopped; the error is PostgreSQL's and a TimeoutError."""
    settings = {"dsn": database.dsn, "max_db_pool_size": 3, "read_timeout_sec": 0.05}
    async with PsqlpyConfig(settings) as config, locker(database.dsn, LOCK):
        with pytest.raises(TimeoutError, match=r"read after 0\.05 s \(read_timeout_sec") as raised:
            await soon(config.lanes.fetch(LOCK, [], kind="read", repeat=Repeat.READ))
        assert isinstance(raised.value, psqlpy.exceptions.DatabaseError)
        shown = "SELECT current_setting('statement_timeout')"
        assert await config.lanes.fetch(shown, [], kind="read") == [("50ms",)]
        assert await config.lanes.fetch(shown, [], kind="write") == [("0",)]


async def test_a_timeout_does_not_leak_to_others(database: Database) -> None:
    """A connection that goes back to the pool has no timeout any more."""
    settings = {"dsn": database.dsn, "max_db_pool_size": 2, "read_timeout_sec": 5}
    async with PsqlpyConfig(settings) as config:
        assert await one(config) == 1
        await config.lanes.fetch(ONE, [], kind="read")
        config.lanes.close()
        async with config.provide_connection() as first, config.provide_connection() as second:
            for connection in (first, second):
                assert await count(connection, "SELECT current_setting('statement_timeout')::int") == 0
