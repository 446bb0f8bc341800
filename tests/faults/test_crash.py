"""The server dies under load: what it acknowledged is there afterwards, once, in order; no caller meets an
error, since the service tries again."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from google.adk.events.event import Event
from psqlpy.exceptions import Error

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from servers import Database, run_sql

from .crash import CrashServer, Standby
from .deadlines import within
from .ledger import Findings, Ledger, compare
from .quiet import backends, settled, whole
from .workload import APP, create_sessions, under_load, user_of, writers_of

Open = Callable[..., PsqlpySessionService]
Seen = Callable[[str, int, Findings], None]


@pytest.mark.parametrize(
    ("kills", "writers", "sessions"),
    [
        (2, 12, 12),
        pytest.param(25, 32, 32, marks=pytest.mark.torture),
        pytest.param(25, 24, 6, marks=pytest.mark.torture),
    ],
)
async def test_kill_9_of_the_server(
    crash_server: CrashServer,
    crash_database: Database,
    open_service: Open,
    ledger: Ledger,
    seen: Seen,
    kills: int,
    writers: int,
    sessions: int,
) -> None:
    """The postmaster and all its processes get SIGKILL under load, and the server starts again."""
    # A server that is up for half a second at a time may be missed for longer than by default.
    service = open_service(crash_database.dsn, 6, retry_sec=60)
    await service.store.create_tables()
    ids = await create_sessions(service, sessions)
    group = writers_of(service, ledger, ids, writers)

    async def kill_and_restart() -> None:
        for _ in range(kills):
            await asyncio.sleep(random.uniform(0.2, 0.8))  # load
            await asyncio.to_thread(crash_server.kill)
            await asyncio.sleep(random.uniform(0.0, 0.3))  # nobody listens
            await asyncio.to_thread(crash_server.restart)

    await under_load(group, kill_and_restart, bound=60 + 20 * kills)
    findings = await compare(service, Ledger.read(ledger.path), crash_database.dsn)
    seen(f"kill -9 of the server, {writers} writers, {sessions} sessions", kills, findings)
    await whole(service, crash_database)


@pytest.mark.parametrize("kills", [2, pytest.param(30, marks=pytest.mark.torture)])
async def test_kill_9_of_a_backend(
    crash_server: CrashServer,
    crash_database: Database,
    open_service: Open,
    ledger: Ledger,
    seen: Seen,
    kills: int,
) -> None:
    """One backend dies: PostgreSQL ends all the others, since shared memory may be damaged, and recovers."""
    # A server that is up for half a second at a time may be missed for longer than by default.
    service = open_service(crash_database.dsn, 6, retry_sec=60)
    await service.store.create_tables()
    ids = await create_sessions(service, 8)
    group = writers_of(service, ledger, ids, 16)
    killed = 0

    async def kill_some() -> None:
        nonlocal killed
        while killed < kills:
            await asyncio.sleep(random.uniform(0.2, 0.6))  # load
            try:
                victim = random.choice(await backends(crash_database))
                crash_server.kill_backend(victim["pid"])
            except (IndexError, ProcessLookupError, Error):  # none there, it has left, in recovery
                continue
            killed += 1

    await under_load(group, kill_some, bound=60 + 10 * kills)
    findings = await compare(service, Ledger.read(ledger.path), crash_database.dsn)
    seen("kill -9 of a backend, 16 writers, 8 sessions", kills, findings)
    await whole(service, crash_database)


@pytest.mark.parametrize("rounds", [30, pytest.param(1000, marks=pytest.mark.torture)])
async def test_terminated_backends(
    database: Database, open_service: Open, ledger: Ledger, seen: Seen, rounds: int
) -> None:
    """An administrator, or a failover's clean-up, ends connections at random."""
    service = open_service(database.dsn)
    await service.store.create_tables()
    ids = await create_sessions(service, 8)
    group = writers_of(service, ledger, ids, 16)
    terminated = 0

    async def terminate() -> None:
        nonlocal terminated
        while terminated < rounds:
            await asyncio.sleep(random.uniform(0.0, 0.05))  # load
            query = (
                "SELECT count(pg_terminate_backend(pid)) AS ended FROM (SELECT pid FROM pg_stat_activity"
                f" WHERE datname = '{database.name}' AND application_name = 'adk-psqlpy'"
                f" ORDER BY random() LIMIT {random.randint(1, 3)}) AS chosen"
            )
            ((row,),) = await asyncio.to_thread(run_sql, database.server.dsn, query)
            terminated += row["ended"]

    await under_load(group, terminate, bound=60 + rounds)
    findings = await compare(service, Ledger.read(ledger.path), database.dsn)
    seen("pg_terminate_backend, 16 writers, 8 sessions", terminated, findings)
    await whole(service, database)


async def test_a_server_that_stays_down(
    crash_server: CrashServer, crash_database: Database, open_service: Open
) -> None:
    """Calls end with an error that says how long they tried; once it is up, the same event is stored once."""
    service = open_service(crash_database.dsn, 4, retry_sec=1)
    await service.store.create_tables()
    (identity,) = await create_sessions(service, 1)
    key = {"app_name": APP, "user_id": user_of(identity), "session_id": identity}
    session = await service.get_session(**key)
    assert session is not None
    event = Event(author="agent")
    crash_server.kill()
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: service.append_event(session, event),
        lambda: service.get_session(**key),
        lambda: service.create_session(app_name=APP, user_id="u"),
    ]
    for call in calls:
        with pytest.raises(Error, match=r"cannot connect .*tried \d+ times; retry_sec of pool_config"):
            await within(10, call())
    await asyncio.to_thread(crash_server.restart)
    assert await within(10, service.append_event(session, event)) is event
    found = await service.get_session(**key)
    assert found == session
    assert len(session.events) == 1
    await whole(service, crash_database)


async def test_a_first_connection_waits_for_recovery(binaries: Path) -> None:
    """A service that starts while the server takes no connections yet waits for it: no error at all.

    The server is a standby that answers as one in recovery does, until it is promoted.
    """
    with CrashServer(binaries) as primary, Standby(binaries, primary) as standby:
        run_sql(primary.dsn, "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
        standby.halt()
        with (standby.data / "postgresql.conf").open("a") as file:
            file.write("hot_standby = off\n")
        standby.restart()
        with pytest.raises(Error, match=r"not accepting connections|starting up"):
            run_sql(standby.dsn, "SELECT 1")
        service = PsqlpySessionService(PsqlpyADKStore(PsqlpyConfig({"dsn": standby.dsn, "retry_sec": 30})))
        made = asyncio.ensure_future(service.store.create_tables())
        done, _ = await asyncio.wait({made}, timeout=0.5)
        assert not done
        await asyncio.to_thread(standby.promote)
        await within(30, made)
        assert (await service.create_session(app_name=APP, user_id="u", session_id="first")).id == "first"
        await whole(service, Database("postgres", standby.dsn, standby))


async def test_a_frozen_backend(
    crash_server: CrashServer, crash_database: Database, open_service: Open
) -> None:
    """A backend answers no more, and its connection stays: whoever waits for it needs a limit of their own;
    others go on, and so does the same event again."""
    service = open_service(crash_database.dsn, 4)
    await service.store.create_tables()
    ids = await create_sessions(service, 3)
    await service.close()
    sessions = [
        await service.get_session(app_name=APP, user_id=user_of(each), session_id=each) for each in ids
    ]
    (victim,) = await backends(crash_database)
    event = Event(author="agent")
    os.kill(victim["pid"], signal.SIGSTOP)
    try:
        assert sessions[0] is not None
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(service.append_event(sessions[0], event), 0.5)
        for session in sessions[1:]:
            assert session is not None
            await within(5, service.append_event(session, Event(author="agent")))
        assert await within(5, service.append_event(sessions[0], event)) is event
    finally:
        os.kill(victim["pid"], signal.SIGCONT)
    await settled(crash_database)
    for session in sessions:
        assert session is not None
        found = await service.get_session(app_name=APP, user_id=session.user_id, session_id=session.id)
        assert found == session
        assert len(session.events) == 1
    await whole(service, crash_database)
