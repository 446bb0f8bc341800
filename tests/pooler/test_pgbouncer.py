"""Behind pgbouncer in transaction mode: time limits that hold for one's own statements, and its death."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import psqlpy
import pytest
from google.adk.events.event import Event

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from adk_psqlpy.admin.doctor import examine
from adk_psqlpy.admin.features import services_that_run, try_features
from adk_psqlpy.errors import OperationTimeoutError
from faults.deadlines import within
from poolers import Pooler
from servers import BinaryServer, Database, run_sql

LIMITS = "read_timeout_sec, list_timeout_sec and write_timeout_sec"
KEY = {"app_name": "app", "user_id": "user", "session_id": "s"}


def config_of(database: Database, **settings: Any) -> PsqlpyConfig:
    return PsqlpyConfig({"dsn": database.dsn, "max_db_pool_size": 6, **settings})


async def test_it_is_recognised(direct: Database, pooled: Database) -> None:
    """Its answer to the first message of the protocol differs from PostgreSQL's."""
    assert not await config_of(direct).behind_pooler()
    assert await config_of(pooled).behind_pooler()


async def test_the_doctor_sees_it(
    request: pytest.FixtureRequest, plain_server: BinaryServer, direct: Database, pooled: Database
) -> None:
    """And whether prepared statements work through it, and time limits."""
    async with config_of(direct) as config:
        await PsqlpyADKStore(config).create_tables()

    async def found(database: Database) -> tuple[str, str, str | None]:
        async with config_of(database) as config:
            report = await examine(config)
        (finding,) = [each for each in report.findings if each.check == "pooler"]
        return finding.status, finding.text, finding.advice

    assert await found(direct) == (
        "ok",
        "none in transaction mode: a connection keeps its server process",
        None,
    )
    assert await found(pooled) == (
        "note",
        "a pooler in transaction mode, and prepared statements work through it",
        f"{LIMITS} work: each statement then takes three round trips",
    )
    program = Path(request.config.getoption("--pooler"))
    with Pooler(program, plain_server, ignored="adk_psqlpy.probe") as unknown:
        status, _, advice = await found(unknown.through(direct))
    assert (status, advice) == (
        "note",
        f"it is not recognised as pgbouncer, so leave out {LIMITS}, which would reach other clients: "
        "set statement_timeout of the role",
    )
    with Pooler(program, plain_server, prepared_statements=0) as losing:
        status, text, _ = await found(losing.through(direct))
    assert (status, text) == ("todo", "a pooler in transaction mode that loses prepared statements")


async def test_nobody_answers(pooler: Pooler, pooled: Database) -> None:
    """As long as nobody answers, what works with a pooler is taken; once it does, the answer counts."""
    config = config_of(pooled)
    pooler.kill()
    assert await config.behind_pooler()
    pooler.start()
    assert await config.behind_pooler()


async def test_limits_hold_for_ones_own_statements(direct: Database, pooled: Database) -> None:
    """A write that waits for a lock is stopped and undone. Another client's statement on the same connections
    of the pooler has no limit, whenever it comes."""
    async with (
        config_of(pooled, write_timeout_sec=0.3, read_timeout_sec=0.5) as limited,
        config_of(pooled) as other,
    ):
        service = PsqlpySessionService(PsqlpyADKStore(limited))
        await service.store.create_tables()
        session = await service.create_session(**KEY)
        holder = await psqlpy.connect(dsn=direct.dsn)
        await holder.execute_batch("BEGIN; SELECT FROM adk_sessions FOR UPDATE")
        event = Event(author="user")
        with pytest.raises(OperationTimeoutError, match="write_timeout_sec"):
            await within(20, service.append_event(session, event))
        await holder.execute_batch("ROLLBACK")
        assert await service.append_event(session, event) is event
        assert await service.get_session(**KEY) == session

        async def limits() -> set[str]:
            found = set()
            for _ in range(30):
                async with other.provide_connection() as connection:
                    result = await connection.fetch("SHOW statement_timeout")
                found.add(str(result.result()[0]["statement_timeout"]))
            return found

        found, *_ = await asyncio.gather(
            limits(), *(service.get_session(**KEY) for _ in range(60)), return_exceptions=False
        )
        assert found == {"0"}
        async with other.provide_connection() as connection:
            await connection.fetch("SELECT 1 AS n FROM pg_sleep(0.8)")
        holder.close()


async def test_many_at_once(pooled: Database) -> None:
    """With limits, statements have their connections to themselves, and all are answered."""
    async with config_of(pooled, write_timeout_sec=5, read_timeout_sec=4, list_timeout_sec=3) as config:
        service = PsqlpySessionService(PsqlpyADKStore(config))
        await service.store.create_tables()
        sessions = [
            await service.create_session(app_name="app", user_id=f"u{n}", session_id="s") for n in range(24)
        ]

        async def use(number: int) -> None:
            session = sessions[number]
            for _ in range(10):
                await service.append_event(session, Event(author="user"))
            found = await service.get_session(app_name="app", user_id=f"u{number}", session_id="s")
            assert found == session
            listed = await service.list_sessions(app_name="app", user_id=f"u{number}")
            assert [each.id for each in listed.sessions] == ["s"]

        await within(60, asyncio.gather(*map(use, range(24))))
        (rows,) = run_sql(pooled.dsn, "SELECT count(*) AS n FROM adk_events")
        assert rows[0]["n"] == 240


@pytest.mark.parametrize("limits", [{}, {"write_timeout_sec": 10}], ids=["no limits", "limits"])
async def test_it_is_killed_in_the_middle(pooler: Pooler, pooled: Database, limits: dict[str, float]) -> None:
    """Appends go on when it is back. What was acknowledged is there, once, in order."""
    async with config_of(pooled, **limits) as config:
        service = PsqlpySessionService(PsqlpyADKStore(config))
        await service.store.create_tables()
        sessions = [
            await service.create_session(app_name="app", user_id=f"u{n}", session_id="s") for n in range(8)
        ]
        ending, times = asyncio.Event(), 3

        async def write(number: int) -> list[str]:
            ids = []
            while not ending.is_set():
                ids.append((await service.append_event(sessions[number], Event(author="user"))).id)
            return ids

        writers = [asyncio.create_task(write(n)) for n in range(8)]
        for _ in range(times):
            before = [len(each.events) for each in sessions]
            await asyncio.to_thread(pooler.kill)
            await asyncio.to_thread(pooler.start)
            while any(len(each.events) < n + 10 for each, n in zip(sessions, before, strict=True)):
                assert not any(each.done() for each in writers), [e.exception() for e in writers if e.done()]
                await asyncio.sleep(0.02)  # between two looks
        ending.set()
        acknowledged = await within(60, asyncio.gather(*writers))
        for number, ids in enumerate(acknowledged):
            found = await service.get_session(app_name="app", user_id=f"u{number}", session_id="s")
            assert found is not None
            assert [each.id for each in found.events] == ids


async def test_what_works_behind_it(
    request: pytest.FixtureRequest, plain_server: BinaryServer, direct: Database, pooled: Database
) -> None:
    """`doctor --features` tells a pooler that keeps prepared statements from one that does not."""
    async with config_of(pooled) as config:
        features = await try_features(config)
        assert services_that_run(features) == {"sessions": True, "memory": True, "artifacts": True}
        assert [each.name for each in features if each.problem] == ["settings of a session"]
    program = Path(request.config.getoption("--pooler"))
    with Pooler(program, plain_server, prepared_statements=0) as forgetful:
        async with config_of(forgetful.through(direct)) as config:
            features = await try_features(config)
        assert services_that_run(features) == {"sessions": False, "memory": False, "artifacts": False}
        (problem,) = [each.problem for each in features if each.name.startswith("prepared statements")]
        assert problem is not None
        assert "prepared statement" in problem
