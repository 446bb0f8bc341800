"""Forks and earlier states where tables are distributed, and memories that are added there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.genai import types

from adk_psqlpy import (
    PsqlpyADKStore,
    PsqlpyArtifactService,
    PsqlpyConfig,
    PsqlpyMemoryService,
    PsqlpySessionService,
)
from adk_psqlpy.admin.distribution import distribute_tables
from contract.events import said
from servers import Database, run_sql

if TYPE_CHECKING:
    from clusters import CitusCluster

MEMORY_FUNCTIONS = r"""SELECT oid::regprocedure::text AS name FROM pg_proc
    WHERE proname ~ '^adk_(add|replace)_memories_[0-9a-f]{10}$'"""


async def test_forks_take_artifacts_along(cluster: CitusCluster, citus: Database) -> None:
    """For users on both workers, the versions up to the point, also as a role that owns nothing."""
    async with PsqlpyConfig({"dsn": citus.dsn, "max_db_pool_size": 2}) as config:
        await distribute_tables(config)
    run_sql(
        citus.dsn,
        "DROP ROLE IF EXISTS forker",
        "CREATE ROLE forker LOGIN",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO forker",
    )
    dsn = citus.dsn.replace("//postgres@", "//forker@")
    async with PsqlpyConfig({"dsn": dsn, "max_db_pool_size": 2}) as config:
        service = PsqlpySessionService(PsqlpyADKStore(config))
        await service.store.create_tables()
        artifacts = PsqlpyArtifactService(config)
        for user in [each for worker in cluster.users_on_each(citus, 1) for each in worker]:
            key = {"app_name": "app", "user_id": user}
            session = await service.create_session(**key, session_id="s", state={"a": 0})
            for number in range(3):
                part = types.Part.from_bytes(data=b"%d" % number, mime_type="text/plain")
                version = await artifacts.save_artifact(**key, session_id="s", filename="f", artifact=part)
                actions = EventActions(artifact_delta={"f": version}, state_delta={"a": number})
                await service.append_event(session, said("", actions=actions))
            fork = await service.fork_session(session, at_seq=2, artifacts=artifacts)
            assert fork.state == {"a": 1}
            assert fork.events == session.events[:2]
            assert await service.state_at(session, at_seq=1) == {"a": 0}
            kept = {**key, "session_id": fork.id, "filename": "f"}
            assert await artifacts.list_versions(**kept) == [0, 1]
            found = await artifacts.load_artifact(**kept)
            assert found is not None
            assert found.inline_data is not None
            assert found.inline_data.data == b"1"


async def test_added_memories_are_found(cluster: CitusCluster, citus: Database) -> None:
    """For users on both workers. Adding a session again changes nothing. A table that was distributed before
    there were these functions gets them."""
    async with PsqlpyConfig({"dsn": citus.dsn, "max_db_pool_size": 2}) as config:
        await distribute_tables(config)
        (made,) = run_sql(citus.dsn, MEMORY_FUNCTIONS)
        assert len(made) == 2
        run_sql(
            citus.dsn,
            "UPDATE adk_metadata SET value = 'old' WHERE key = 'adk_memories.functions'",
            *(f"DROP FUNCTION {each['name']}" for each in made),
        )
        memory = PsqlpyMemoryService(config)
        service = PsqlpySessionService(PsqlpyADKStore(config))
        await service.store.create_tables()
        for user in [each for worker in cluster.users_on_each(citus, 1) for each in worker]:
            session = await service.create_session(app_name="app", user_id=user, session_id="s")
            for text in ("a red house", "a blue boat"):
                content = types.Content(role="user", parts=[types.Part(text=text)])
                await service.append_event(session, Event(author="user", content=content))
            for _ in range(2):
                await memory.add_session_to_memory(session)
            found = await memory.search_memory(app_name="app", user_id=user, query="boat")
            texts = [each.content.parts[0].text for each in found.memories if each.content.parts]
            assert texts == ["a blue boat"]
