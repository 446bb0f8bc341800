"""pgbouncer in transaction mode before the coordinator: limits of statements, and forks with artifacts."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import psqlpy
import pytest
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.genai import types

from adk_psqlpy import PsqlpyADKStore, PsqlpyArtifactService, PsqlpyConfig, PsqlpySessionService
from adk_psqlpy.admin.distribution import distribute_tables
from adk_psqlpy.errors import OperationTimeoutError
from contract.events import said
from poolers import NOT_HERE, Pooler
from servers import Database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clusters import CitusCluster

LIMITS = [{}, {"write_timeout_sec": 20, "read_timeout_sec": 20, "list_timeout_sec": 20}]


@pytest.fixture
def pooled(request: pytest.FixtureRequest, cluster: CitusCluster, citus: Database) -> Iterator[Database]:
    """The test's database, through the pooler."""
    program = request.config.getoption("--pooler")
    if program is None:
        pytest.skip(NOT_HERE)
    with Pooler(Path(program), cluster.coordinator) as pooler:
        yield pooler.through(citus)


def config_of(database: Database, **settings: object) -> PsqlpyConfig:
    return PsqlpyConfig({"dsn": database.dsn, "max_db_pool_size": 4, **settings})


async def test_an_append_that_is_stopped(pooled: Database, citus: Database) -> None:
    """It is undone, its caller is told, and nobody else has the limit. Appends of others go on."""
    async with config_of(pooled, write_timeout_sec=0.5) as config, config_of(pooled) as other:
        await distribute_tables(other)
        service = PsqlpySessionService(PsqlpyADKStore(config))
        await service.store.create_tables()
        sessions = [
            await service.create_session(app_name="app", user_id=f"u{n}", session_id="s") for n in range(8)
        ]
        holder = await psqlpy.connect(dsn=citus.dsn)
        await holder.execute_batch("BEGIN; SELECT FROM adk_sessions WHERE user_id = 'u0' FOR UPDATE")
        events = [Event(author="user") for _ in sessions]
        appends = (service.append_event(*each) for each in zip(sessions, events, strict=True))
        stopped, *others = await asyncio.gather(*appends, return_exceptions=True)
        assert isinstance(stopped, OperationTimeoutError)
        assert others == events[1:]
        await holder.execute_batch("ROLLBACK")
        holder.close()
        assert await service.append_event(sessions[0], events[0]) is events[0]
        for session in sessions:
            key = {"app_name": "app", "user_id": session.user_id, "session_id": "s"}
            assert await service.get_session(**key) == session
        async with other.provide_connection() as connection:
            for _ in range(30):
                shown = await connection.fetch("SHOW statement_timeout")
                assert shown.result() == [{"statement_timeout": "0"}]


@pytest.mark.parametrize("limits", LIMITS, ids=["no limits", "limits"])
async def test_forks_take_artifacts_along(pooled: Database, limits: dict[str, float]) -> None:
    """Also where each statement has a limit, and so runs in a transaction of its own."""
    async with config_of(pooled, **limits) as config:
        await distribute_tables(config)
        service, artifacts = PsqlpySessionService(PsqlpyADKStore(config)), PsqlpyArtifactService(config)
        await service.store.create_tables()
        for user in ("u0", "u1", "u2"):
            key = {"app_name": "app", "user_id": user}
            session = await service.create_session(**key, session_id="s", state={"a": 0, "app:b": 1})
            for number in range(2):
                part = types.Part.from_bytes(data=b"%d" % number, mime_type="text/plain")
                version = await artifacts.save_artifact(**key, session_id="s", filename="f", artifact=part)
                actions = EventActions(artifact_delta={"f": version}, state_delta={"a": number})
                await service.append_event(session, said("", actions=actions))
            fork = await service.fork_session(session, at_seq=1, artifacts=artifacts)
            assert fork.state == {"a": 0, "app:b": 1}
            assert fork.events == session.events[:1]
            kept = {**key, "session_id": fork.id, "filename": "f"}
            assert await artifacts.list_versions(**kept) == [0]
            found = await artifacts.load_artifact(**kept)
            assert found is not None
            assert found.inline_data is not None
            assert found.inline_data.data == b"0"
            await artifacts.delete_artifact(**kept)
            assert await artifacts.list_versions(**kept) == []
