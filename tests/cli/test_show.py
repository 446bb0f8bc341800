"""`adk-psqlpy show`: a conversation as a person reads it."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from typing import TYPE_CHECKING

import pytest
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.genai import types

from adk_psqlpy import PsqlpyArtifactService, PsqlpyConfig, PsqlpySessionService

from .support import LIMIT_SEC, agent_says, answer, call, changes, conversation, process, running, user_says

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable

pytestmark = pytest.mark.filterwarnings("ignore")


async def test_what_was_said_called_answered_and_changed(service: PsqlpySessionService, dsn: str) -> None:
    handover = EventActions(transfer_to_agent="cashier", artifact_delta={"bill.pdf": 0})
    events = [
        user_says("Two espressos,\nplease."),
        call("order", "1", item="espresso", quantity=2),
        answer("order", "1", total=4.4),
        agent_says("That makes 4.40.", actions=changes(total=4.4, user_visits=1)),
        Event(author="agent", error_code="429", error_message="too many"),
        Event(author="agent", actions=handover),
    ]
    for event in events:
        event.timestamp = 1_800_000_000.5  # one second: it is told once
    await conversation(service, *events, table=3)
    shown = await running("show", "s", "--dsn", dsn)
    assert shown.code == 0, shown.err
    assert shown.out.startswith("Session s of user user in app app: 6 events\n")
    clock = re.compile(r"^(\d\d:\d\d:\d\d)?  +((?:agent|user)(?= ))? *")
    lines = [clock.sub(r"\2: ", line).lstrip(": ") for line in shown.out.splitlines()]
    told = lines[lines.index("user: Two espressos,") :]
    assert [line for line in told if line] == [
        "user: Two espressos,",
        "please.",
        'agent: calls order(item="espresso", quantity=2)',
        'order gives {"total": 4.4}',
        "That makes 4.40.",
        "state: total = 4.4",
        "state: user:visits = 1",
        "error 429: too many",
        "file: saves bill.pdf, version 0",
        "hands over to cashier",
        "State",
        "table = 3",
        "total = 4.4",
        "user:visits = 1",
    ]
    assert "\x1b" not in shown.out


async def test_files_of_the_session(service: PsqlpySessionService, config: PsqlpyConfig, dsn: str) -> None:
    artifacts = PsqlpyArtifactService(config)
    await artifacts.create_tables()
    await conversation(service, user_says("see"))
    part = types.Part.from_bytes(data=b"12345", mime_type="text/csv")
    await artifacts.save_artifact(
        app_name="app", user_id="user", session_id="s", filename="menu.csv", artifact=part
    )
    shown = await running("show", "s", "--dsn", dsn)
    assert "\nFiles\n  menu.csv, version 0, text/csv, 5 bytes\n" in shown.out
    (file,) = (await running("show", "s", "--dsn", dsn, "--json")).json["files"]
    assert (file["filename"], file["version"], file["mime_type"], file["size"]) == (
        "menu.csv",
        0,
        "text/csv",
        5,
    )


async def test_long_values_are_cut_unless_all_is_wanted(service: PsqlpySessionService, dsn: str) -> None:
    await conversation(service, call("find", "1", text="y" * 5000), agent_says("z" * 5000))
    assert "y" * 400 not in (await running("show", "s", "--dsn", dsn)).out
    assert "z" * 5000 in (await running("show", "s", "--dsn", dsn)).out, "what was said is never cut"
    assert "y" * 5000 in (await running("show", "s", "--dsn", dsn, "--full")).out


async def test_control_characters_do_not_reach_a_terminal(service: PsqlpySessionService, dsn: str) -> None:
    await conversation(service, user_says("\x1b]0;owned\x07\x1b[2J \x9b31m\u202e"), name="\x1b[31mred")
    shown = await running("show", "s", "--dsn", dsn)
    assert shown.code == 0
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", shown.out)
    assert r"\x1b]0;owned" in shown.out


async def test_json_is_what_adk_reads(service: PsqlpySessionService, dsn: str) -> None:
    session = await conversation(
        service, user_says("a"), agent_says("b", actions=changes(n=1)), x=float("nan")
    )
    document = (await running("show", "s", "--dsn", dsn, "--json")).json
    assert (document["app_name"], document["user_id"], document["id"]) == ("app", "user", "s")
    assert _dumped(map(Event.model_validate, document["events"])) == _dumped(session.events)
    assert document["state"] == {"n": 1, "x": None}, "JSON has no NaN"


async def test_only_the_newest(service: PsqlpySessionService, dsn: str) -> None:
    await conversation(service, *(user_says(f"number {n}") for n in range(10)))
    shown = await running("show", "s", "--dsn", dsn, "--last", "2")
    assert "10 events, the newest 2 of them" in shown.out
    assert re.findall(r"number \d", shown.out) == ["number 8", "number 9"]


async def test_an_id_that_several_have(service: PsqlpySessionService, dsn: str) -> None:
    for user in ("alice", "bob"):
        await conversation(service, user_says(f"I am {user}"), key=("app", user, "s"))
    refused = await running("show", "s", "--dsn", dsn)
    assert refused.code == 2
    assert "app 'app' user 'alice'" in refused.err
    assert "app 'app' user 'bob'" in refused.err
    assert "I am bob" in (await running("show", "s", "--dsn", dsn, "--user", "bob")).out


async def test_no_such_session(service: PsqlpySessionService, dsn: str) -> None:
    missing = await running("show", "nope", "--dsn", dsn, "--app", "app")
    assert (missing.code, missing.err) == (1, "adk-psqlpy show: there is no session 'nope' of app 'app'\n")


async def test_without_a_session_the_newest_are_listed(service: PsqlpySessionService, dsn: str) -> None:
    assert (await running("show", "--dsn", dsn)).out == "There is no session.\n"
    for n in range(3):
        await conversation(service, user_says("x"), key=("app", "user", f"s-{n}"))
    listed = (await running("show", "--dsn", dsn, "--last", "2")).out.splitlines()
    assert [line.split()[:4] for line in listed[1:]] == [
        ["s-2", "app", "user", "1"],
        ["s-1", "app", "user", "1"],
    ]
    assert [each["id"] for each in (await running("show", "--dsn", dsn, "--json")).json] == [
        "s-2",
        "s-1",
        "s-0",
    ]


async def test_follow_shows_what_is_appended_until_ctrl_c(service: PsqlpySessionService, dsn: str) -> None:
    session = await conversation(service, user_says("before"))
    watching = process("show", "s", "--dsn", dsn, "--follow")
    try:
        lines = _lines(watching)
        await _until(lines, "before")
        await service.append_event(session, agent_says("while it is watched"))
        await _until(lines, "while it is watched")
        await service.append_event(session, agent_says("and on"))
        await _until(lines, "and on")
        watching.send_signal(signal.SIGINT)
        _, err = await asyncio.to_thread(watching.communicate, timeout=LIMIT_SEC)
    finally:
        watching.kill()
    assert watching.returncode == 130
    assert "Traceback" not in err


async def test_follow_as_json_lines_ends_with_the_session(service: PsqlpySessionService, dsn: str) -> None:
    session = await conversation(service, user_says("before"))
    watching = process("show", "s", "--dsn", dsn, "--follow", "--json")
    try:
        lines = _lines(watching)
        first = json.loads(await lines.get())
        await service.append_event(session, agent_says("after"))
        second = json.loads(await lines.get())
        await service.delete_session(app_name="app", user_id="user", session_id="s")
        _, err = await asyncio.to_thread(watching.communicate, timeout=LIMIT_SEC)
    finally:
        watching.kill()
    assert _dumped(map(Event.model_validate, (first, second))) == _dumped(session.events)
    assert (watching.returncode, err) == (0, "")


def _dumped(events: Iterable[Event]) -> list[str]:
    return [event.model_dump_json() for event in events]


def _lines(watched: subprocess.Popen[str]) -> asyncio.Queue[str]:
    """The lines of a process as they come."""
    loop, queue = asyncio.get_running_loop(), asyncio.Queue()

    def read() -> None:
        for line in watched.stdout:
            loop.call_soon_threadsafe(queue.put_nowait, line)

    loop.run_in_executor(None, read)
    return queue


async def _until(lines: asyncio.Queue[str], wanted: str) -> None:
    async def found() -> None:
        while wanted not in await lines.get():
            pass

    await asyncio.wait_for(found(), LIMIT_SEC)
