"""Roles side by side: no statement runs under the rights of its neighbour."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from google.adk.events import Event, EventActions
from google.genai import types
from psqlpy.exceptions import Error

from adk_psqlpy.admin.access import grant_access, revoke_access
from servers import run_sql

from .support import Services, make_all, services_at

if TYPE_CHECKING:
    from adk_psqlpy import PsqlpyConfig
    from secured import Roles
    from servers import Database

TASKS = 24
ROUNDS = 6

# Who ran the statement that wrote a row, as the server knows it.
WITNESS = [
    "ALTER TABLE adk_events ADD COLUMN writer name DEFAULT current_user",
    "ALTER TABLE adk_sessions ADD COLUMN writer name DEFAULT current_user",
]


def spoken(app: str) -> types.Content:
    """What is said."""
    return types.Content(role="user", parts=[types.Part(text=app)])


def said(number: int, app: str) -> Event:
    """An event that carries its app, and changes all states."""
    return Event(
        author="user",
        invocation_id=f"i{number}",
        content=spoken(app),
        actions=EventActions(state_delta={"own": app, f"user:{number}": app, "app:last": app}),
    )


async def converse(services: Services, app: str, number: int) -> None:
    """A conversation of one user, read back and looked for; all of it is of the app."""
    key: dict[str, Any] = {"app_name": app, "user_id": f"u{number % 5}", "session_id": f"s{number}"}
    session = await services.sessions.create_session(**key, state={"own": app})
    for turn in range(ROUNDS):
        await services.sessions.append_event(session, said(turn, app))
        read = await services.sessions.get_session(**key)
        assert read is not None
        assert [event.content for event in read.events] == [spoken(app)] * (turn + 1)
        assert {value for name, value in read.state.items() if name != "k"} == {app}
        listed = (await services.sessions.list_sessions(app_name=app)).sessions
        assert {each.app_name for each in listed} == {app}
        # What belongs to the others is not there, for whoever asks.
        for other in {"one", "two"} - {app}:
            assert (await services.sessions.list_sessions(app_name=other)).sessions == []
            assert await services.sessions.get_session(**(key | {"app_name": other})) is None


async def test_two_apps_with_a_pool_each(config: PsqlpyConfig, database: Database, roles: Roles) -> None:
    """Many tasks of two apps: each row was written by its app's role, and nobody read the other's."""
    async with services_at(database.dsn) as owner:
        await make_all(owner)
    run_sql(database.dsn, *WITNESS)
    one, two = roles.make("one"), roles.make("two")
    await grant_access(config, role=one, app_name="one")
    await grant_access(config, role=two, app_name="two")
    async with services_at(roles.dsn(one)) as first, services_at(roles.dsn(two)) as second:
        await asyncio.gather(
            *(
                converse(services, app, n)
                for n in range(TASKS)
                for services, app in ((first, "one"), (second, "two"))
            )
        )
        # They did share connections.
        assert first.config.lanes.held <= 4
    (rows,) = run_sql(
        database.dsn,
        """SELECT app_name::text AS app, writer::text, count(*) AS n FROM adk_events GROUP BY 1, 2
        UNION ALL SELECT app_name, writer, count(*) FROM adk_sessions GROUP BY 1, 2 ORDER BY 1, 3""",
    )
    assert [tuple(row.values()) for row in rows] == [
        ("one", one, TASKS),
        ("one", one, TASKS * ROUNDS),
        ("two", two, TASKS),
        ("two", two, TASKS * ROUNDS),
    ]


async def test_set_role_on_a_lent_connection(config: PsqlpyConfig, database: Database, roles: Roles) -> None:
    """One login that becomes either role on connections of its pool, and leaves them in every way there is.

    The package's own statements beside it never run as that role, and see nothing.
    """
    async with services_at(database.dsn) as owner:
        await make_all(owner)
        for app in ("one", "two"):
            await owner.sessions.create_session(app_name=app, user_id="u", session_id="s", state={"own": app})
    apps = {roles.make(app, "NOLOGIN"): app for app in ("one", "two")}
    for role, app in apps.items():
        await grant_access(config, role=role, app_name=app)
    login = roles.make("login", "LOGIN NOINHERIT")
    run_sql(
        database.dsn,
        *(f"GRANT {role} TO {login}" for role in apps),
        f"GRANT SELECT ON adk_sessions, adk_app_states, adk_user_states, adk_events, adk_metadata TO {login}",
    )
    leases = 0

    async def borrow(services: Services, number: int) -> None:
        nonlocal leases
        role, app = list(apps.items())[number % 2]
        async with services.config.provide_connection() as connection:
            await connection.execute(f"SET ROLE {role}")
            found = await connection.fetch("SELECT app_name FROM adk_sessions")
            assert [row["app_name"] for row in found.result()] == [app]
            leases += 1
            if number % 3 == 1:
                raise RuntimeError("the block is left by an error")
            if number % 3 == 2:  # or cancelled, with a statement under way
                await asyncio.wait_for(connection.fetch("SELECT pg_sleep(0.2)"), 0.01)

    async def look(services: Services) -> None:
        for _ in range(ROUNDS * 3):
            for app in apps.values():
                assert (await services.sessions.list_sessions(app_name=app)).sessions == []
                assert await services.sessions.get_session(app_name=app, user_id="u", session_id="s") is None
            ((who,),) = await services.config.lanes.fetch("SELECT current_user::text", [])
            assert who == login

    async with services_at(roles.dsn(login)) as services:
        *_, borrowed = await asyncio.gather(
            *(look(services) for _ in range(TASKS // 3)),
            asyncio.gather(*(borrow(services, n) for n in range(TASKS)), return_exceptions=True),
        )
    assert leases == TASKS
    assert {type(each) for each in borrowed} == {type(None), RuntimeError, asyncio.TimeoutError}


async def test_access_taken_back_while_it_is_used(
    config: PsqlpyConfig, database: Database, roles: Roles
) -> None:
    """Given and taken back again and again, beside tasks that read: a statement has all of it or nothing.

    Plans and histories that are kept show nothing later.
    """
    async with services_at(database.dsn) as owner:
        await make_all(owner)
        await owner.sessions.create_session(app_name="one", user_id="u", session_id="s")
    one, two = roles.make("one"), roles.make("two")
    await grant_access(config, role=two, app_name="two")
    seen = {"all": 0, "refused": 0, "otherwise": 0}
    done = asyncio.Event()

    async def use(services: Services) -> None:
        while not done.is_set():
            try:  # a loop that goes on
                found = await services.sessions.get_session(app_name="one", user_id="u", session_id="s")
            except Error as error:  # noqa: PERF203
                seen["refused" if "permission denied" in str(error) else "otherwise"] += 1
                await asyncio.sleep(0)
            else:
                assert found is not None
                seen["all"] += 1

    async with services_at(roles.dsn(one)) as services:
        await grant_access(config, role=one, app_name="one")
        users = [asyncio.ensure_future(use(services)) for _ in range(4)]
        for _ in range(5):
            await asyncio.gather(*(asyncio.sleep(0.05) for _ in range(2)))
            await revoke_access(config, role=one, app_name="one")
            with pytest.raises(Error, match="permission denied"):
                await services.store.get_app_state("one")
            await grant_access(config, role=one, app_name="one")
            await services.store.get_app_state("one")
        done.set()
        await asyncio.gather(*users)
    assert seen["all"] > 0
    assert seen["refused"] > 0
    assert seen["otherwise"] == 0
