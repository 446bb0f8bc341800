"""A primary dies and its standby is promoted: what was acknowledged is there."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from google.adk.errors import StaleSessionError
from google.adk.events.event import Event
from psqlpy.exceptions import Error

from servers import Database, run_sql

from .crash import CrashServer, Standby, service_on
from .deadlines import until, within
from .ledger import Findings, Ledger, compare
from .quiet import whole
from .workload import APP, create_sessions, under_load, user_of, writers_of

Seen = Callable[[str, int, Findings], None]


@pytest.mark.parametrize(
    ("writers", "seconds"), [(12, 1.0), pytest.param(32, 20.0, marks=pytest.mark.torture)]
)
async def test_promotion(binaries: Path, ledger: Ledger, seen: Seen, writers: int, seconds: float) -> None:
    """The primary is killed under load, the standby promoted a moment later; writers go on there."""
    with CrashServer(binaries) as primary, Standby(binaries, primary) as standby:
        service = service_on(primary, standby)
        await service.store.create_tables()
        ids = await create_sessions(service, writers)

        async def fail_over() -> None:
            await asyncio.sleep(random.uniform(0.5, 1.0) * seconds)  # load
            await asyncio.to_thread(primary.kill)
            await asyncio.sleep(random.uniform(0.0, 0.5))  # a standby alone, read-only
            await asyncio.to_thread(standby.promote)
            await asyncio.sleep(seconds)  # load on the new primary

        await under_load(writers_of(service, ledger, ids, writers), fail_over, bound=60 + 3 * seconds)
        findings = await compare(service, Ledger.read(ledger.path), standby.dsn)
        seen(f"primary killed, standby promoted, {writers} writers", 1, findings)
        await whole(service, Database("postgres", standby.dsn, standby))


@pytest.mark.torture
@pytest.mark.parametrize("rounds", [8])
async def test_promotions_in_a_row(binaries: Path, ledger: Ledger, seen: Seen, rounds: int) -> None:
    """Again and again: each promoted standby gets one of its own, and dies."""
    with ExitStack() as stack:
        servers = [stack.enter_context(CrashServer(binaries))]
        service = service_on(*servers)
        await service.store.create_tables()
        ids = await create_sessions(service, 6)
        for number in range(rounds):
            servers.append(await asyncio.to_thread(stack.enter_context, Standby(binaries, servers[-1])))
            await service.close()
            service = service_on(*servers[-2:])
            group = writers_of(service, ledger, ids, 6)
            for writer in group:
                writer.name += f"r{number}"

            async def fail_over() -> None:
                await asyncio.sleep(random.uniform(0.2, 0.6))  # load
                await asyncio.to_thread(servers[-2].kill)
                await asyncio.to_thread(servers[-1].promote)

            await under_load(group, fail_over, bound=60)
        findings = await compare(service, Ledger.read(ledger.path), servers[-1].dsn)
        seen("primary killed, standby promoted, one after another", rounds, findings)
        await whole(service, Database("postgres", servers[-1].dsn, servers[-1]))


async def test_a_standby_refuses_appends(binaries: Path) -> None:
    """A service that is led to a standby reads there, and its appends fail within a bound, by name."""
    with CrashServer(binaries) as primary, Standby(binaries, primary) as standby:
        writing, reading = service_on(primary), service_on(standby, target_session_attrs="any", retry_sec=1)
        await writing.store.create_tables()
        (identity,) = await create_sessions(writing, 1)
        key = {"app_name": APP, "user_id": user_of(identity), "session_id": identity}

        async def replayed() -> bool:
            return (await reading.get_session(**key)) is not None

        await until(replayed, 10, "the session on the standby")
        session = await reading.get_session(**key)
        assert session is not None
        event = Event(author="agent")
        with pytest.raises(Error, match="read-only"):
            await within(20, reading.append_event(session, event))
        assert await within(10, writing.append_event(session, event)) is event
        await reading.close()
        await writing.close()


async def test_a_demoted_primary(binaries: Path) -> None:
    """The connections that a service holds stay on a server that has become read-only: it leaves them for
    the one that accepts writes."""
    with CrashServer(binaries) as old, Standby(binaries, old) as new:
        service = service_on(old, new)
        await service.store.create_tables()
        (identity,) = await create_sessions(service, 1)
        session = await service.get_session(app_name=APP, user_id=user_of(identity), session_id=identity)
        assert session is not None
        await service.append_event(session, Event(author="user"))
        # What a tool does when it fences the old primary; connections that are open stay.
        run_sql(
            old.dsn,
            "ALTER SYSTEM SET synchronous_standby_names = ''",
            "ALTER SYSTEM SET default_transaction_read_only = on",
            "SELECT pg_reload_conf()",
        )
        await asyncio.to_thread(new.promote)
        await within(40, service.append_event(session, Event(author="agent")))
        found = await service.get_session(app_name=APP, user_id=user_of(identity), session_id=identity)
        assert found == session
        await service.close()


async def test_the_same_revision_of_another_history(binaries: Path) -> None:
    """An asynchronous failover loses an append; another writer brings the session to the same revision. The
    object of the lost append is refused, and stays refused."""
    with CrashServer(binaries) as primary, Standby(binaries, primary) as standby:
        service = service_on(primary, standby)
        await service.store.create_tables()
        (identity,) = await create_sessions(service, 1)
        key = {"app_name": APP, "user_id": user_of(identity), "session_id": identity}
        mine, theirs = await service.get_session(**key), await service.get_session(**key)
        assert mine is not None
        assert theirs is not None
        # What an asynchronous standby has not received when the primary dies.
        run_sql(primary.dsn, "ALTER SYSTEM SET synchronous_standby_names = ''", "SELECT pg_reload_conf()")
        run_sql(standby.dsn, "ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")

        async def cut() -> bool:
            streaming = "SELECT count(*) AS n FROM pg_stat_replication"
            return bool((await asyncio.to_thread(run_sql, primary.dsn, streaming))[0][0]["n"] == 0)

        await until(cut, 10, "the end of replication")
        moment = time.time()
        await service.append_event(mine, Event(author="user", id="lost", timestamp=moment))
        await asyncio.to_thread(primary.kill)
        await asyncio.to_thread(standby.promote)
        await within(40, service.append_event(theirs, Event(author="user", id="theirs", timestamp=moment)))
        for _ in range(2):
            with pytest.raises(StaleSessionError):
                await service.append_event(mine, Event(author="agent"))
        found = await service.get_session(**key)
        assert found == theirs
        assert found is not None
        assert found.events[-1].id == "theirs"
        await service.close()
