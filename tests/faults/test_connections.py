"""provide_connection: back in the pool and clean after any exit, in any event loop, and across forks."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

import psqlpy
import pytest
from psqlpy import Connection

from adk_psqlpy.config import PsqlpyConfig
from adk_psqlpy.connections import pool as pool_module
from servers import Database, run_sql

LIMIT_SEC = 10


class BlockError(Exception):
    """An error of the block."""


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Look at a condition until it holds."""
    deadline = time.monotonic() + LIMIT_SEC
    while not await condition():
        assert time.monotonic() < deadline, "the condition never held"
        await asyncio.sleep(0.01)


async def all_back(config: PsqlpyConfig) -> None:
    """Wait until the pool has every connection back, then look at each: no transaction, nothing set."""
    pool = await config.create_pool()

    async def back() -> bool:
        status = pool.status()
        return status.available == status.size and not config._cleaning

    await until(back)
    held = [await pool.connection() for _ in range(pool.status().size)]
    for connection in held:
        row = (
            await connection.fetch(
                "SELECT now() AS at, current_setting('search_path') AS path, current_user::text AS who,"
                " (SELECT count(*) FROM pg_locks"
                "  WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS locks,"
                " to_regclass('pg_temp.left_over') IS NULL AS no_temp,"
                " (SELECT count(*) FROM pg_listening_channels()) AS channels"
            )
        ).result()[0]
        at = row.pop("at")
        assert at != await connection.fetch_val("SELECT now()"), "a transaction is still open"
        assert row == {
            "path": '"$user", public',
            "who": "postgres",
            "locks": 0,
            "no_temp": True,
            "channels": 0,
        }
        connection.close()


async def running(database: Database, part: str) -> bool:
    """Whether the server is running a statement that contains `part`."""
    query = f"SELECT count(*) AS n FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%{part}%'"
    ((row,),) = await asyncio.to_thread(run_sql, database.server.dsn, query)
    return bool(row["n"] > 1)  # this query holds the text as well


async def begin(connection: Connection) -> None:
    await connection.execute_batch("BEGIN; CREATE TABLE never (a int)")


async def begin_only(connection: Connection) -> None:
    await connection.execute_batch("BEGIN")


async def transaction_object(connection: Connection) -> None:
    await connection.transaction().begin()


async def failed_transaction(connection: Connection) -> None:
    with pytest.raises(psqlpy.Error):
        await connection.execute_batch("BEGIN; SELECT 1/0")


async def settings(connection: Connection) -> None:
    await connection.execute_batch(
        "SET search_path = tenant; SELECT set_config('adk.tenant', 'a', false); LISTEN news;"
        "CREATE TEMP TABLE left_over (a int); SELECT pg_advisory_lock(7)"
    )


async def role(connection: Connection) -> None:
    await connection.execute_batch("SET ROLE pg_monitor")


async def nothing(connection: Connection) -> None:
    assert await connection.fetch_val("SELECT 1") == 1


LEFT_OVERS = [nothing, begin, begin_only, transaction_object, failed_transaction, settings, role]


@pytest.mark.parametrize("leave", LEFT_OVERS)
async def test_normal_exit(config: PsqlpyConfig, leave: Callable[[Connection], Awaitable[None]]) -> None:
    async with config.provide_connection() as connection:
        await leave(connection)
    status = (await config.create_pool()).status()
    assert (status.size, status.available) == (1, 1)
    await all_back(config)
    with pytest.raises(psqlpy.exceptions.ConnectionClosedError):
        await connection.fetch("SELECT 1")


@pytest.mark.parametrize("leave", LEFT_OVERS)
async def test_exit_by_exception(
    config: PsqlpyConfig, leave: Callable[[Connection], Awaitable[None]]
) -> None:
    with pytest.raises(BlockError) as caught:  # noqa: PT012 - the block is the case
        async with config.provide_connection() as connection:
            await leave(connection)
            raise BlockError
    assert caught.value.__context__ is None
    await all_back(config)


@pytest.mark.parametrize("leave", LEFT_OVERS)
async def test_exit_by_cancellation(
    config: PsqlpyConfig, leave: Callable[[Connection], Awaitable[None]]
) -> None:
    left = asyncio.Event()

    async def work() -> None:
        async with config.provide_connection() as connection:
            await leave(connection)
            left.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await left.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await all_back(config)


async def transact(config: PsqlpyConfig) -> None:
    async with (
        config.provide_connection() as connection,
        connection.transaction() as transaction,
    ):
        await transaction.execute("SET LOCAL search_path = tenant")
        await transaction.execute("SELECT set_config('adk.tenant', 'a', false)")


@pytest.mark.parametrize("steps", range(16))
async def test_cancelled_at_every_step_of_the_event_loop(config: PsqlpyConfig, steps: int) -> None:
    """On connection, begin, work, commit, clean-up, whichever `steps` turns of the loop hit."""
    async with config.provide_connection():
        pass  # so that a connection is there, and the turns are few
    task = asyncio.create_task(transact(config))
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    await all_back(config)


@pytest.mark.parametrize("delay_ms", [0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0])
async def test_cancelled_after_a_while(config: PsqlpyConfig, delay_ms: float) -> None:
    tasks = [asyncio.create_task(transact(config)) for _ in range(12)]
    await asyncio.wait(tasks, timeout=delay_ms / 1000)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await all_back(config)


async def test_cancellation_does_not_wait_for_a_running_statement(
    config: PsqlpyConfig, database: Database
) -> None:
    async def work() -> None:
        async with config.provide_connection() as connection:
            await connection.execute_batch("BEGIN")
            await connection.fetch("SELECT pg_sleep(2), 'slow one'")

    task = asyncio.create_task(work())
    await until(lambda: running(database, "slow one"))
    began = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < 1
    # The busy connection is not handed out meanwhile.
    async with config.provide_connection() as connection:
        assert await connection.fetch_val("SELECT 1") == 1
    assert time.monotonic() - began < 1
    await all_back(config)


async def test_cancelled_twice(config: PsqlpyConfig, database: Database) -> None:
    async def work() -> None:
        async with config.provide_connection() as connection:
            await connection.execute_batch("BEGIN")
            await connection.fetch("SELECT pg_sleep(1), 'slow two'")

    task = asyncio.create_task(work())
    await until(lambda: running(database, "slow two"))
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()  # during the clean-up
    with pytest.raises(asyncio.CancelledError):
        await task
    await all_back(config)


async def test_a_broken_connection_does_not_mask_the_error(config: PsqlpyConfig, database: Database) -> None:
    with pytest.raises(BlockError):  # noqa: PT012 - the block is the case
        async with config.provide_connection() as connection:
            pid = await connection.fetch_val("SELECT pg_backend_pid()")
            await asyncio.to_thread(run_sql, database.server.dsn, f"SELECT pg_terminate_backend({pid}, 5000)")
            raise BlockError
    async with config.provide_connection() as connection:
        assert await connection.fetch_val("SELECT pg_backend_pid()") != pid
    await all_back(config)


async def test_a_waiting_task_gets_the_next_free_connection(config: PsqlpyConfig) -> None:
    async def work() -> int:
        async with config.provide_connection() as connection:
            return int(await connection.fetch_val("SELECT pg_backend_pid()"))

    pids = await asyncio.gather(*(work() for _ in range(40)))
    assert len(set(pids)) <= 4
    await all_back(config)


async def test_cancelled_while_waiting_for_a_connection(config: PsqlpyConfig) -> None:
    pool = await config.create_pool()
    held = [await pool.connection() for _ in range(4)]

    async def work() -> None:
        async with config.provide_connection():
            raise AssertionError("none was free")

    task = asyncio.create_task(work())
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for connection in held:
        connection.close()
    await all_back(config)


async def test_one_use_of_a_lease(config: PsqlpyConfig) -> None:
    lease = config.provide_connection()
    async with lease:
        with pytest.raises(RuntimeError, match="call it again"):
            async with lease:
                pass
    await all_back(config)


def test_three_event_loops_one_after_another(database: Database) -> None:
    config = PsqlpyConfig({"dsn": database.dsn, "max_db_pool_size": 2})

    async def use() -> int:
        async with config.provide_connection() as connection:
            return int(await connection.fetch_val("SELECT pg_backend_pid()"))

    assert len({asyncio.run(use()) for _ in range(3)}) == 1
    asyncio.run(config.close_pool())
    asyncio.run(config.close_pool())
    assert asyncio.run(use()) > 0  # a new pool
    asyncio.run(config.close_pool())


@pytest.mark.parametrize("slow", [False, True])
def test_a_loop_that_ends_within_a_block_leaves_nothing_open(database: Database, slow: bool) -> None:
    config = PsqlpyConfig({"dsn": database.dsn, "max_db_pool_size": 2})

    async def work(ready: asyncio.Event) -> None:
        async with config.provide_connection() as connection:
            await connection.execute_batch("BEGIN; SET search_path = tenant")
            ready.set()
            await connection.fetch(f"SELECT pg_sleep({1.0 if slow else 0.0})")
            await asyncio.Event().wait()

    tasks = []

    async def main() -> None:
        ready = asyncio.Event()
        tasks.append(asyncio.create_task(work(ready)))
        await ready.wait()

    asyncio.run(main())  # cancels the work at its end
    asyncio.run(all_back(config))
    asyncio.run(config.close_pool())


@pytest.mark.parametrize("before_first_step", [True, False])
def test_a_loop_that_ends_within_a_clean_up_leaves_nothing_open(
    database: Database, before_first_step: bool
) -> None:
    config = PsqlpyConfig({"dsn": database.dsn, "max_db_pool_size": 2})

    async def main() -> None:
        lease = config.provide_connection()
        connection = await lease.__aenter__()
        await connection.execute_batch("BEGIN; SET search_path = tenant")
        leaving = asyncio.create_task(lease.__aexit__(None, None, None))
        await asyncio.sleep(0)
        (cleaning,) = config._cleaning
        if not before_first_step:
            await asyncio.sleep(0)
        cleaning.cancel()
        await leaving

    asyncio.run(main())
    asyncio.run(all_back(config))
    asyncio.run(config.close_pool())


async def test_nothing_is_written_to_the_servers_log_by_a_clean_exit() -> None:
    from adk_psqlpy.connections.embedded import EmbeddedServer

    with EmbeddedServer(temporary=True) as server:
        async with PsqlpyConfig({"dsn": server.dsn}) as config:
            log = server.data_dir / "log"
            for leave in (nothing, begin_only):
                size = log.stat().st_size
                async with config.provide_connection() as connection:
                    await leave(connection)
                written = log.read_text()[size:]
                assert ("WARNING" in written) is (leave is begin_only)


FORK = """
import asyncio, os, sys
from adk_psqlpy.config import PsqlpyConfig
config = PsqlpyConfig({"dsn": sys.argv[1], "max_db_pool_size": 2})
async def use():
    async with config.provide_connection() as connection:
        return await connection.fetch_val("SELECT 1")
if sys.argv[2] == "used":
    assert asyncio.run(use()) == 1
pid = os.fork()
if pid == 0:
    try:
        print("child", asyncio.run(asyncio.wait_for(use(), 10)))
        asyncio.run(config.close_pool())
    except RuntimeError as error:
        print("child", type(error).__name__, error)
    sys.stdout.flush()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
print("parent", asyncio.run(use()))
"""


@pytest.mark.parametrize(
    ("when", "child"),
    [("unused", "child 1"), ("used", "child RuntimeError this process was forked after psqlpy")],
)
def test_fork(database: Database, when: str, child: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, database.dsn, when],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    lines = done.stdout.splitlines()
    assert lines[0].startswith(child)
    assert lines[1] == "parent 1"


def test_the_parents_pool_is_not_used_after_a_fork(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same without a fork: the process that made the pool is another one."""
    config = PsqlpyConfig({"dsn": database.dsn, "max_db_pool_size": 2})
    parents = asyncio.run(config.create_pool())
    config._pid = os.getpid() - 1
    assert asyncio.run(config.create_pool()) is not parents
    assert pool_module._foreign.pop() is parents
    asyncio.run(config.close_pool())
    parents.close()
