"""Following through cut connections, a server that restarts, a failover, and one that loses commits."""

from __future__ import annotations

import asyncio
import itertools
import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from psqlpy.exceptions import Error

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from adk_psqlpy.errors import HistoryLostError
from adk_psqlpy.following import FollowSettings
from faults.crash import CrashServer, Standby, service_on
from faults.deadlines import within
from proxy import Cut, Proxy
from servers import Database, run_sql, wheel_binaries

from .support import KEY, append, said, soon, take, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.adk.sessions import Session


@pytest.fixture(scope="module")
def binaries(request: pytest.FixtureRequest) -> Path:
    """The programs of the servers to break."""
    chosen = request.config.getoption("--pg")
    return Path(chosen) if chosen is not None and Path(chosen).is_dir() else wheel_binaries()


@pytest.fixture
def crash_server(binaries: Path) -> Iterator[CrashServer]:
    with CrashServer(binaries) as server:
        yield server


async def test_connections_are_cut_at_any_moment(
    writer: PsqlpySessionService, session: Session, database: Database
) -> None:
    """Before, while and after the server has a request, and within its answer: none lost, none doubled."""
    async with Proxy(database.dsn) as proxy:
        config = proxy.config()
        reader = PsqlpySessionService(PsqlpyADKStore(config))
        kinds = itertools.cycle([None, None, None, None, *Cut])
        async with reader.follow(**KEY) as events:
            proxy.fate = lambda: next(kinds)
            for number in range(40):
                await append(writer, str(number))
                assert await take(events, 1) == [str(number)]
                if number % 10 == 9:
                    proxy.cut_all()
            proxy.fate = lambda: None
        assert len(proxy.cuts) == len(Cut)
        assert min(proxy.cuts.values()) >= 2
        await reader.close()
        proxy.cut_all()


async def test_the_server_dies_and_comes_back(crash_server: CrashServer) -> None:
    """The follower waits for it, for longer than statements are repeated."""
    writing, reading = service_on(crash_server), service_on(crash_server, retry_sec=0)
    await writing.store.create_tables()
    await writing.create_session(**KEY)
    async with reading.follow(**KEY) as events:
        for number in range(3):
            await append(writing, str(number))
            assert await take(events, 1) == [str(number)]
            waiting = asyncio.ensure_future(anext(events))
            await asyncio.to_thread(crash_server.kill)
            await asyncio.sleep(0.5)  # away for a while
            assert not waiting.done()
            await asyncio.to_thread(crash_server.restart)
            await append(writing, "again")
            assert said(await soon(waiting)) == "again"
    await writing.close()
    await reading.close()


async def test_patience_ends(crash_server: CrashServer) -> None:
    """With the driver's error; the follower goes on from where it is when it is asked again."""
    writing = service_on(crash_server)
    await writing.store.create_tables()
    await writing.create_session(**KEY)
    impatient = FollowSettings(patience_sec=0.5)
    config = PsqlpyConfig({"dsn": crash_server.dsn, "retry_sec": 0, "connect_timeout_sec": 2})
    reading = PsqlpySessionService(PsqlpyADKStore(config, follow_settings=impatient))
    async with reading.follow(**KEY) as events:
        await append(writing, "1")
        await asyncio.to_thread(crash_server.kill)
        with pytest.raises(Error):
            await soon(anext(events))
        await asyncio.to_thread(crash_server.restart)
        assert await take(events, 1) == ["1"]
    await writing.close()
    await reading.close()


async def test_a_failover_that_loses_nothing(binaries: Path) -> None:
    """A synchronous standby takes over under load: the follower gives what is stored, in order, each once."""
    with CrashServer(binaries) as primary, Standby(binaries, primary) as standby:
        writing, reading = service_on(primary, standby), service_on(primary, standby)
        await writing.store.create_tables()
        session = await writing.create_session(**KEY)
        taken: list[str] = []
        stop = asyncio.Event()

        async def follow() -> None:
            async for given in reading.follow(**KEY, after=0):
                taken.append(given.id)
                if said(given) == "last":
                    return

        async def write() -> None:
            for number in itertools.count():
                if stop.is_set():
                    break
                await append(writing, str(number))
            await append(writing, "last")

        tasks = [asyncio.ensure_future(follow()), asyncio.ensure_future(write())]
        await asyncio.sleep(random.uniform(0.3, 0.8))  # load
        await asyncio.to_thread(primary.kill)
        await asyncio.to_thread(standby.promote)
        await asyncio.sleep(0.5)  # load on the new primary
        stop.set()
        await within(60, asyncio.gather(*tasks))
        stored = await writing.get_session(**KEY)
        assert stored is not None
        assert taken == [each.id for each in stored.events]
        assert len(taken) > 10
        assert session.id == stored.id
        await writing.close()
        await reading.close()


async def test_a_failover_that_loses_commits(binaries: Path) -> None:
    """A standby that was behind takes over: what the follower has given is gone, and it says so."""
    with CrashServer(binaries) as primary, Standby(binaries, primary) as standby:
        writing, reading = service_on(primary, standby), service_on(primary, standby)
        await writing.store.create_tables()
        await writing.create_session(**KEY)
        events = reading.follow(**KEY, after=0)
        await append(writing, "kept")
        assert await take(events, 1) == ["kept"]
        # The standby stops to receive, and the primary no longer waits for it.
        run_sql(primary.dsn, "ALTER SYSTEM SET synchronous_standby_names = ''", "SELECT pg_reload_conf()")
        run_sql(standby.dsn, "ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")
        query = "SELECT count(*)::int4 AS n FROM pg_stat_wal_receiver"
        await until(lambda: run_sql(standby.dsn, query)[0][0]["n"] == 0)
        await append(writing, "lost")
        assert await take(events, 1) == ["lost"]
        await asyncio.to_thread(primary.kill)
        await asyncio.to_thread(standby.promote)
        with pytest.raises(HistoryLostError, match="lost commits"):
            await asyncio.wait_for(anext(events), 60)
        await writing.close()
        await reading.close()
