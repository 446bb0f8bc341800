"""Every table and view, after every operation of the services, as seen by roles that it does not concern."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from google.adk.auth.auth_credential import AuthCredential, AuthCredentialTypes, OAuth2Auth
from google.adk.events import Event, EventActions
from google.adk.memory.memory_entry import MemoryEntry
from google.genai import types
from psqlpy.exceptions import Error

from adk_psqlpy.admin.access import grant_access
from adk_psqlpy.streaming.partials import Partials, Stream
from servers import run_sql

from .support import UNCONCERNED, Services, make_all, relations, seen_by, services_at

if TYPE_CHECKING:
    from adk_psqlpy import PsqlpyConfig
    from secured import Roles
    from servers import Database

USER: dict[str, Any] = {"app_name": "shop", "user_id": "ada"}
KEY: dict[str, Any] = {**USER, "session_id": "s"}
# What users of an app share, and a role of one of them reads.
SHARED = {"adk_app_states"}


def said(number: int) -> Event:
    """An event that leaves a row in every view."""
    parts = [
        types.Part(text=f"words {number}"),
        types.Part(function_call=types.FunctionCall(id=f"c{number}", name="tool", args={})),
    ]
    return Event(
        author="agent",
        invocation_id="i",
        content=types.ModelContent(parts),
        usage_metadata=types.GenerateContentResponseUsageMetadata(total_token_count=7),
        error_code="CODE",
        actions=EventActions(state_delta={"own": number, "user:own": number, "app:own": number}),
    )


async def test_after_every_operation(config: PsqlpyConfig, database: Database, roles: Roles) -> None:
    """A role of another app sees no row, one of another user those that the app shares, whatever was done."""
    async with services_at(database.dsn) as owner:
        await make_all(owner)
    shop, other, bob = (roles.make(name) for name in ("shop", "other", "bob"))
    await grant_access(config, role=shop, app_name="shop")
    await grant_access(config, role=other, app_name="other")
    await grant_access(config, role=bob, app_name="shop", user_id="bob")
    names = relations(database.dsn)
    everything: set[str] = set()
    looked = 0

    def look(operation: str) -> None:
        nonlocal looked
        looked += 1
        everything.update(seen_by(database.dsn, names))
        strangers = seen_by(roles.dsn(other), names)
        assert set(strangers) - UNCONCERNED == {"adk_access", "adk_audit"}, operation
        assert strangers["adk_access"] == strangers["adk_audit"] == -1, operation
        neighbours = seen_by(roles.dsn(bob), names)
        assert set(neighbours) - UNCONCERNED - SHARED == {"adk_access", "adk_audit"}, operation
        assert (neighbours["adk_access"], neighbours["adk_audit"]) == (1, -1), operation

    look("nothing")
    async with services_at(roles.dsn(shop)) as services:
        await use_all(services, look)
    # The test itself would notice a row.
    assert everything == set(names)
    assert looked == 20
    refused(database.dsn, roles.dsn(other), roles.dsn(bob))


async def use_all(services: Services, look: Any) -> None:
    """Every operation that writes, as the role of the app."""
    sessions, memory, artifacts = services.sessions, services.memory, services.artifacts
    session = await sessions.create_session(**KEY, state={"k": 1, "user:k": 1, "app:k": 1})
    look("create_session")
    stale = await sessions.get_session(**KEY)
    assert stale is not None
    for number in range(3):
        await sessions.append_event(session, said(number))
        look("append_event")
    await sessions.append_event(stale, said(7))
    look("append_event, merged")
    await services.store.update_session_state("shop", "ada", "s", {"k": 2, "user:k": 2, "app:k": 2})
    look("update_session_state")
    read = await sessions.get_session(**KEY)
    assert read is not None
    await sessions.fork_session(read, session_id="fork", at_seq=2)
    look("fork_session")
    assert [found.seq for found in await services.store.search_events("shop", "ada", query="words 2")]
    look("search_events")
    assert len(read.events) == 4
    assert len((await sessions.list_sessions(app_name="shop")).sessions) == 2

    partials = Partials(services.store)
    await partials.put(("shop", "ada", "s"), Stream("invocation", "agent", ""), "so far")
    look("a streamed text")

    await memory.add_session_to_memory(read)
    look("add_session_to_memory")
    await memory.add_memory(
        **USER, memories=[MemoryEntry(content=types.Content(parts=[types.Part(text="remembered")]))]
    )
    look("add_memory")
    found = await memory.search_memory(**USER, query="remembered words")
    assert len(found.memories) == 5
    await memory.delete_memory(**USER, memory_id=found.memories[0].id)
    look("delete_memory")

    for number, data in enumerate((b"small", b"large" * 200_000)):
        await artifacts.save_artifact(
            **KEY, filename=f"f{number}", artifact=types.Part.from_bytes(data=data, mime_type="x/y")
        )
        look("save_artifact")
    assert await artifacts.load_artifact(**KEY, filename="f1") is not None
    await artifacts.delete_artifact(**KEY, filename="f0")
    look("delete_artifact")
    await artifacts.purge(timedelta(0))
    look("purge")

    oauth2 = OAuth2Auth(access_token="t")
    credential = AuthCredential(auth_type=AuthCredentialTypes.OAUTH2, oauth2=oauth2)
    await services.credentials.save("shop", "ada", "key", credential)
    look("save_credential")
    assert await services.keys.key(await services.keys.current("shop", "ada"))
    look("a user's key")
    await sessions.delete_session(app_name="shop", user_id="ada", session_id="fork")
    look("delete_session")


def refused(owner: str, other: str, bob: str) -> None:
    """Nor can they write: what is there stays, and no row of the app comes in."""
    before = contents(owner)
    (rows,) = run_sql(
        owner, "SELECT DISTINCT tablename::text AS t FROM pg_policies WHERE policyname LIKE 'adk_app%'"
    )
    tables = [row["t"] for row in rows]
    assert len(tables) == 17
    for role in (other, bob):
        run_sql(role, *(f"UPDATE {table} SET app_name = app_name" for table in tables))
        run_sql(role, *(f"DELETE FROM {table}" for table in tables))
        for statement in (
            "INSERT INTO adk_sessions (app_name, user_id, id) VALUES ('shop', 'ada', 'new')",
            "INSERT INTO adk_app_states (app_name, state) VALUES ('shop2', '{}')",
            "INSERT INTO adk_app_states (app_name, state) VALUES ('shop', '{}') "
            "ON CONFLICT (app_name) DO UPDATE SET state = excluded.state",
            "INSERT INTO adk_access SELECT oid, 'shop' FROM pg_roles WHERE rolname = current_user",
            "UPDATE adk_access SET app_name = 'shop', user_id = 'ada'",
            "DELETE FROM adk_access",
            "UPDATE adk_metadata SET value = value",
            "TRUNCATE adk_events",
            "ALTER TABLE adk_sessions DISABLE ROW LEVEL SECURITY",
            "DROP POLICY adk_user ON adk_sessions",
            "CREATE VIEW adk_all AS SELECT * FROM adk_sessions",
            "CREATE TABLE adk_more ()",
            "COPY adk_sessions (app_name, user_id, id) FROM STDIN",
        ):
            with pytest.raises(
                Error, match=r"policy|permission denied|must be owner|COPY FROM not supported"
            ):
                run_sql(role, statement)
    for role in (other, bob):
        (_, (row,)) = run_sql(
            role, "SET row_security = on", "SELECT count(*) AS n FROM adk_events WHERE app_name = 'shop'"
        )
        assert row["n"] == 0
        # Switched off it is an error, and no way around.
        with pytest.raises(Error, match="row-level security"):
            run_sql(role, "SET row_security = off", "SELECT count(*) FROM adk_events")
    assert contents(owner) == before


def contents(dsn: str) -> list[Any]:
    """Every row of every table of the package."""
    names = [name for name in relations(dsn) if name not in ("adk_messages", "adk_errors")]
    statements = [
        f'SELECT jsonb_agg(to_jsonb(t) ORDER BY to_jsonb(t))::text AS r FROM "{name}" AS t' for name in names
    ]
    return run_sql(dsn, *statements)


async def test_a_role_of_one_user(config: PsqlpyConfig, database: Database, roles: Roles) -> None:
    """It does all that a service does for its user, reads what the app shares, and does not write that."""
    async with services_at(database.dsn) as owner:
        await make_all(owner)
        await owner.sessions.create_session(
            app_name="shop", user_id="bob", session_id="b", state={"app:k": 1}
        )
    ada = roles.make("ada")
    await grant_access(config, role=ada, app_name="shop", user_id="ada")
    async with services_at(roles.dsn(ada)) as services:
        session = await services.sessions.create_session(**KEY, state={"user:k": 1})
        assert session.state == {"app:k": 1, "user:k": 1}
        await services.sessions.append_event(session, Event(author="user", invocation_id="i"))
        assert len((await services.sessions.list_sessions(app_name="shop")).sessions) == 1
        with pytest.raises(Error, match="row-level security policy"):
            await services.sessions.append_event(session, said(1))
        with pytest.raises(Error, match="row-level security policy"):
            await services.sessions.create_session(app_name="shop", user_id="bob", session_id="mine")
        assert await services.sessions.get_session(app_name="shop", user_id="bob", session_id="b") is None
        await services.memory.add_session_to_memory(session)
        await services.artifacts.save_artifact(**KEY, filename="f", artifact=types.Part(text="text"))
        assert await services.artifacts.list_artifact_keys(**KEY) == ["f"]


async def test_the_package_has_no_table_without_policies(
    config: PsqlpyConfig, database: Database, roles: Roles
) -> None:
    """A table that a later version adds is noticed here."""
    async with services_at(database.dsn) as owner:
        await make_all(owner)
    (rows,) = run_sql(
        database.dsn,
        """SELECT c.relname::text AS name FROM pg_class AS c
        WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace AND NOT c.relrowsecurity""",
    )
    # Nobody but its owner reads the audit.
    assert {row["name"] for row in rows} == UNCONCERNED | {"adk_audit"}
