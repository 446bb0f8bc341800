"""The statements of docs/retention.md run on distributed tables, and delete what they say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from google.adk.events.event import Event
from google.genai import types

from adk_psqlpy import (
    PsqlpyADKStore,
    PsqlpyArtifactService,
    PsqlpyConfig,
    PsqlpySessionService,
)
from adk_psqlpy.admin.distribution import distribute_tables
from servers import Database, run_sql

if TYPE_CHECKING:
    from google.adk.sessions.session import Session

PAGE = (Path(__file__).parents[2] / "docs" / "retention.md").read_text(encoding="utf-8")
STATEMENTS = [
    statement
    for snippet in re.findall(r"^```sql\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for statement in snippet.split(";\n")
    if statement.strip()
]
PART = types.Part.from_bytes(data=b"a", mime_type="text/plain")


async def test_retention(citus: Database) -> None:
    """Old sessions go in one portion, the young stay; then what a user left behind, and unused bytes."""
    async with PsqlpyConfig({"dsn": citus.dsn, "max_db_pool_size": 4}) as config:
        await distribute_tables(config)
        service = PsqlpySessionService(PsqlpyADKStore(config))
        await service.store.create_tables()
        artifacts = PsqlpyArtifactService(config)

        async def made(user: str, identity: str, at: float) -> Session:
            session = await service.create_session(app_name="shop", user_id=user, session_id=identity)
            event = Event(author="user", timestamp=at, content=types.Content(parts=[types.Part(text="hi")]))
            await service.append_event(session, event)
            await artifacts.save_artifact(
                app_name="shop", user_id=user, session_id=identity, filename="f", artifact=PART
            )
            return session

        for n in range(12):
            await made(f"u{n}", "old", 1_600_000_000.0 + n)
        young = await made("u1", "young", 4_000_000_000.0)
        (by_portion,) = [each for each in STATEMENTS if "LIMIT 500" in each]
        assert len(run_sql(citus.dsn, by_portion)[0]) == 12
        assert run_sql(citus.dsn, by_portion) == [[]]
        (orphans,) = [each for each in STATEMENTS if "NOT EXISTS" in each]
        assert len(run_sql(citus.dsn, orphans)[0]) == 12
        purged = await artifacts.purge()
        assert purged.contents == 11  # the twelfth user has the same bytes in the young session
        left = await service.list_sessions(app_name="shop")
        assert [each.id for each in left.sessions] == [young.id]
        # All others: a user is erased.
        for statement in STATEMENTS:
            if statement not in (by_portion, orphans):
                run_sql(citus.dsn, statement)
        assert (await service.list_sessions(app_name="shop")).sessions == []
        assert await artifacts.list_artifact_keys(app_name="shop", user_id="u1", session_id="young") == []


async def test_pages_of_an_app(citus: Database) -> None:
    """A list over all shards comes in pages that are complete and in order."""
    async with PsqlpyConfig({"dsn": citus.dsn, "max_db_pool_size": 4}) as config:
        service = PsqlpySessionService(PsqlpyADKStore(config))
        await service.store.create_tables(distributed=True)
        for n in range(25):
            await service.create_session(app_name="app", user_id=f"u{n}", session_id="s", state={"user:n": n})
        whole = (await service.list_sessions(app_name="app")).sessions
        assert len(whole) == 25
        paged: list[Session] = []
        while page := (
            await service.list_sessions(app_name="app", limit=7, after=paged[-1] if paged else None)
        ).sessions:
            assert len(page) <= 7
            paged += page
        assert paged == whole
        assert {each.user_id: each.state for each in paged} == {f"u{n}": {"user:n": n} for n in range(25)}
