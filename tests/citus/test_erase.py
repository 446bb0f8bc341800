"""A user is erased from distributed tables."""

from __future__ import annotations

import pytest
from google.adk.auth.auth_credential import AuthCredential, AuthCredentialTypes
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
from adk_psqlpy.admin.erase import erase_user, find_user
from adk_psqlpy.credentials import PsqlpyCredentialService
from keys import fresh_seal
from servers import Database, run_sql

PART = types.Part.from_bytes(data=b"bytes", mime_type="text/plain")


@pytest.mark.parametrize("credentials", [False, True], ids=["distributed tables", "and a table that is not"])
async def test_erase_user(citus: Database, credentials: bool) -> None:
    """Every row of him goes, and none of others, also of the same user in another app."""
    async with PsqlpyConfig({"dsn": citus.dsn, "max_db_pool_size": 4}) as config:
        await distribute_tables(config)
        service = PsqlpySessionService(PsqlpyADKStore(config))
        await service.store.create_tables()
        memory, artifacts = PsqlpyMemoryService(config), PsqlpyArtifactService(config)
        secrets = PsqlpyCredentialService(config, fresh_seal()) if credentials else None

        async def filled(app: str, user: str) -> None:
            session = await service.create_session(
                app_name=app, user_id=user, session_id="s", state={"user:u": 1}
            )
            content = types.Content(role="user", parts=[types.Part(text="hello")])
            event = Event(author="user", content=content, actions=EventActions(state_delta={"k": 1}))
            await service.append_event(session, event)
            await service.store.update_session_state(app, user, "s", {"l": 1})
            await memory.add_session_to_memory(session)
            await artifacts.save_artifact(
                app_name=app, user_id=user, session_id="s", filename="f", artifact=PART
            )
            if secrets is not None:
                await secrets.save(app, user, "tool", AuthCredential(auth_type=AuthCredentialTypes.API_KEY))

        for app, user in (("app", "ann"), ("app", "bob"), ("other", "ann"), ("app", "u7")):
            await filled(app, user)
        kept = {
            key: await find_user(config, *key) for key in (("app", "bob"), ("other", "ann"), ("app", "u7"))
        }
        erased = await erase_user(config, "app", "ann")
        assert erased.left == {}
        there = {table: count for table, count in erased.rows.items() if count}
        tables = ["sessions", "events", "state_log", "user_states", "memories", "artifacts", "artifact_names"]
        tables += ["artifact_blobs", "artifact_contents", "artifact_chunks", *(["credentials"] * credentials)]
        assert there == {f"adk_{name}": 1 for name in tables}
        assert {key: await find_user(config, *key) for key in kept} == kept
        (rows,) = run_sql(
            citus.dsn, "SELECT DISTINCT user_id FROM adk_events WHERE app_name = 'app' ORDER BY 1"
        )
        assert [row["user_id"] for row in rows] == ["bob", "u7"]
