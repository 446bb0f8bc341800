"""resumable_sse over HTTP: views go away and come back, to this process or another; the run goes on."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from fastapi import Depends, HTTPException
from google.adk.agents import LlmAgent
from google.adk.apps import App
from google.adk.runners import Runner

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from adk_psqlpy.sessions.stored import Version
from adk_psqlpy.streaming import PartialTextPlugin, resumable_sse
from adk_psqlpy.streaming.router import place_of
from servers import Database, run_sql

from .support import KEY, PATH, Model, process, view

ANSWER = "One two three."
LEFT = "SELECT count(*)::int4 AS n FROM adk_partials"


async def test_what_is_typed_and_what_is_said(database: Database) -> None:
    """Pieces are shown as they come; the event takes their place, and never stands beside them."""
    async with process(database.dsn) as there, view(there) as seen:
        assert await there.say("Count!") == 202
        await seen.until(lambda: seen.said == ["Count!"])
        for count, typed in ((1, "One"), (2, "One two")):
            there.model.go(count)
            await seen.until(lambda typed=typed: seen.typing == [typed])
        assert seen.partial[0]["author"] == "echo"
        there.model.go(3)
        await seen.until(lambda: len(seen.said) == 2)
        assert seen.said == ["Count!", ANSWER]
        await seen.until(lambda: seen.typing == [])
        seq, _, created = (seen.last_event_id or "").partition("@")
        stored = await there.service.store.get_session(*KEY.values())
        assert stored is not None
        assert (int(seq), int(created)) == (stored.revision, round(stored.create_time * 1e6))
    assert run_sql(database.dsn, LEFT)[0][0]["n"] == 0


async def test_a_view_that_goes_away_ends_no_run(database: Database) -> None:
    """Nobody listens while the answer is written; whoever comes back gets what was missed, and the rest."""
    async with process(database.dsn) as there:
        async with view(there) as seen:
            assert await there.say("Count!") == 202
            there.model.go(1)
            await seen.until(lambda: seen.typing == ["One"])
            place = seen.last_event_id
        async with view(there, place) as again:
            await again.until(lambda: again.typing == ["One"])
            assert again.said == []
            place = again.last_event_id or place
        there.model.go(3)
        async with view(there, place) as last, view(there) as whole:
            await last.until(lambda: last.said == [ANSWER])
            await whole.until(lambda: whole.said == ["Count!", ANSWER])
            assert last.last_event_id == whole.last_event_id


async def test_another_process_shows_the_same(database: Database) -> None:
    """The browser comes back to another worker: texts, events and the end of the text are seen there."""
    async with process(database.dsn) as one, process(database.dsn) as other, view(other) as seen:
        assert await one.say("Count!") == 202
        await seen.until(lambda: seen.said == ["Count!"])
        one.model.go(2)
        await seen.until(lambda: seen.typing == ["One two"])
        one.model.go(3)
        await seen.until(lambda: seen.said == ["Count!", ANSWER] and seen.typing == [])


async def test_the_text_never_stands_beside_its_event(database: Database) -> None:
    """The one who looks sees the text until the event is stored, and from then on the event only."""
    async with process(database.dsn) as there, view(there) as seen:
        await there.say("Count!")
        there.model.go(2)
        await seen.until(lambda: seen.typing == ["One two"])
        there.model.go(3)
        while len(seen.said) < 2:
            assert seen.typing != [], "gone before the event was there"
            await seen._message()


async def test_a_run_that_fails(database: Database) -> None:
    """The view is told, without the error's text, and the next run begins afresh."""
    async with process(database.dsn) as there, view(there) as seen:
        there.model.fails = True
        await there.say("Count!")
        there.model.go(3)
        await seen.until(lambda: seen.typing == ["the answer ended early: RuntimeError"])
        there.model.fails = False
        assert await there.say("Again!") == 202
        await seen.until(lambda: seen.said == ["Count!", "Again!", ANSWER] and seen.typing == [])


async def test_one_message_at_a_time(database: Database) -> None:
    async with process(database.dsn) as there, view(there) as seen:
        assert await there.say("Count!") == 202
        assert await there.say("Again!") == 409
        there.model.go(3)
        await seen.until(lambda: len(seen.said) == 2)


async def test_the_session_is_deleted_or_made_again(database: Database) -> None:
    async with process(database.dsn) as there:
        await there.say("Count!")
        there.model.go(3)
        async with view(there) as seen:
            await seen.until(lambda: len(seen.said) == 2)
            await there.service.delete_session(**KEY)
            await seen.until(lambda: seen.ended == "deleted")
        for path in ("/events", "/messages"):
            method = "GET" if path == "/events" else "POST"
            gone = await there.client.request(method, f"{PATH}{path}", json={"text": "?"})
            assert gone.status_code == 404
        await there.service.create_session(**KEY)
        async with view(there, seen.last_event_id) as again:
            await again.until(lambda: again.ended == "made again")
        async with view(there, "5") as ahead:
            await ahead.until(lambda: ahead.ended == "history lost")


async def test_the_end_of_the_application(database: Database) -> None:
    """A run that is under way is waited for, then cancelled, and those who look later are told."""
    async with process(database.dsn, drain_sec=0.1) as there, view(there) as seen:
        await there.say("Count!")
        there.model.go(1)
        await seen.until(lambda: seen.typing == ["One"])
    async with process(database.dsn) as later, view(later) as seen:
        await seen.until(lambda: "the answer ended early: the server was stopped" in seen.typing)
        assert seen.said == ["Count!"]


async def test_quiet_streams_are_kept_open(database: Database) -> None:
    async with process(database.dsn, heartbeat_sec=0.05) as there, view(there) as seen:
        await seen.until(lambda: seen.comments >= 3)


async def test_dependencies_say_who_may_see_what(database: Database) -> None:
    def only_bob(user_id: str) -> None:
        if user_id != "bob":
            raise HTTPException(403)

    async with process(database.dsn, dependencies=[Depends(only_bob)]) as there:
        assert await there.say("Count!") == 403
        assert (await there.client.get(f"{PATH}/events")).status_code == 403
        assert await there.say("Count!", "/users/bob/sessions/s") == 404


async def test_bad_requests(database: Database) -> None:
    async with process(database.dsn) as there:

        async def status(path: str, **headers: str) -> int:
            response: httpx.Response = await there.client.get(path, headers=headers)
            return response.status_code

        for place in ("x", "-1", "1@", "1@x", "9" * 19):
            assert await status(f"{PATH}/events", **{"Last-Event-ID": place}) == 422
        assert await status(f"{PATH}/events?after=-1") == 422
        assert await status(f"/users/{'a' * 129}/sessions/s/events") == 422
        assert await there.say("Count!", f"/users/{'a' * 129}/sessions/s") == 422
        assert await there.say("") == 422


def test_places() -> None:
    assert place_of("7") == 7
    assert place_of("7@1700000000123456") == Version(7, 1700000000.123456)


async def test_what_a_router_needs(config: PsqlpyConfig) -> None:
    service, other = (PsqlpySessionService(PsqlpyADKStore(config)) for _ in range(2))
    agent = LlmAgent(name="echo", model=Model(model="script"))

    def runner(plugin: PartialTextPlugin | None) -> Runner:
        plugins = [] if plugin is None else [plugin]
        return Runner(app=App(name="app", root_agent=agent, plugins=plugins), session_service=service)

    with pytest.raises(ValueError, match="runner must have this service"):
        resumable_sse(other, runner(PartialTextPlugin(other)))
    for plugin in (None, PartialTextPlugin(other)):
        with pytest.raises(ValueError, match="runner needs the plugin"):
            resumable_sse(service, runner(plugin))


async def test_texts_live_in_an_unlogged_table_by_user(database: Database) -> None:
    """Made on demand, and gone with their session."""
    async with process(database.dsn) as there, view(there) as seen:
        await there.say("Count!")
        there.model.go(1)
        await seen.until(lambda: seen.typing == ["One"])
        query = """SELECT relpersistence::text AS kind, (SELECT string_agg(attname, ' ' ORDER BY place)
                FROM unnest(i.indkey) WITH ORDINALITY AS k (number, place)
                JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = k.number) AS key
            FROM pg_class AS c JOIN pg_index AS i ON i.indrelid = c.oid AND i.indisprimary
            WHERE c.oid = 'adk_partials'::regclass"""
        assert run_sql(database.dsn, query)[0] == [
            {"kind": "u", "key": "app_name user_id session_id invocation_id author branch"}
        ]
        await there.service.delete_session(**KEY)
        await asyncio.gather(seen.until(lambda: seen.ended == "deleted"))
        assert run_sql(database.dsn, LEFT)[0][0]["n"] == 0
        there.model.go(3)


def test_fastapi_is_imported_when_it_is_used() -> None:
    import subprocess
    import sys

    code = "import sys, adk_psqlpy.streaming; print('fastapi' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
