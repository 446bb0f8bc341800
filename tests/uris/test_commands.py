"""`adk api_server`, `adk web` and `adk run` with URIs, as processes: what they keep, and how they end."""

from __future__ import annotations

import base64
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adk_psqlpy.service_registry import UriSessionService
from servers import Database, run_sql

from .commands import Commands, Serving, three

LIMIT_SEC = 10
MENU = b"espresso,2.20\ntea,1.90\n"
SESSIONS = "/apps/cafe/users/u/sessions"
SAID = [
    "We have espresso for 2.20, tea for 1.90.",
    "You ordered 2 espresso. That makes 4.40.",
]


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    return Commands(tmp_path)


@pytest.fixture(params=["psqlpy", "psqlpy+embedded"])
def any_uri(request: pytest.FixtureRequest) -> Iterator[str]:
    """A URI of each scheme."""
    if request.param == "psqlpy":
        yield request.getfixturevalue("uri")
    else:
        yield f"psqlpy+embedded://{request.getfixturevalue('data_dir')}?max_db_pool_size=4"


def say(serving: Serving, session_id: str, text: str, upload: bytes | None = None) -> str:
    """One turn; the agent's last words."""
    parts: list[dict[str, Any]] = [{"text": text}]
    if upload is not None:
        data = base64.b64encode(upload).decode()
        parts.append({"inlineData": {"displayName": "menu.csv", "mimeType": "text/csv", "data": data}})
    message = {"role": "user", "parts": parts}
    turn = {"appName": "cafe", "userId": "u", "sessionId": session_id, "newMessage": message}
    answer = serving.http.post("/run", json=turn)
    assert answer.status_code == 200, serving.log
    return str(answer.json()[-1]["content"]["parts"][0]["text"])


def kept(serving: Serving, session_id: str) -> tuple[Any, Any, bytes]:
    """The session's events and state, and the file."""
    session = serving.http.get(f"{SESSIONS}/{session_id}").json()
    file = serving.http.get(f"{SESSIONS}/{session_id}/artifacts/menu.csv").json()
    return session["events"], session["state"], base64.urlsafe_b64decode(file["inlineData"]["data"])


def connections(database: Database) -> int:
    query = f"SELECT count(*)::int4 AS n FROM pg_stat_activity WHERE application_name = '{database.name}'"
    ((row,),) = run_sql(database.server.dsn, query)
    return int(row["n"])


def test_a_conversation_goes_on_after_a_restart(commands: Commands, any_uri: str) -> None:
    commands.init()
    with commands.serve("api_server", *three(any_uri)) as serving:
        assert serving.http.post(SESSIONS, json={"sessionId": "s1"}).status_code == 200
        assert say(serving, "s1", "Today's menu.", MENU) == SAID[0]
        assert say(serving, "s1", "2 espressos, please.") == SAID[1]
        before = kept(serving, "s1")
    assert "Traceback" not in serving.log
    assert len(before[0]) == 9  # 2 messages, 2 calls, 2 responses, 2 answers, 1 about the file
    assert before[1]["bill"] == 4.4
    assert before[1]["user:ordered"] == 2
    assert before[2] == MENU

    with commands.serve("api_server", *three(any_uri)) as serving:
        assert kept(serving, "s1") == before
        assert say(serving, "s1", "1 tea") == "You ordered 1 tea. That makes 6.30."
        # The memory of one session in another one.
        assert serving.http.post(SESSIONS, json={"sessionId": "s2"}).status_code == 200
        assert say(serving, "s2", "Today's menu.", MENU) == SAID[0]
        assert say(serving, "s2", "The same as last time.") == "You ordered 1 tea. That makes 1.90."


def test_three_services_of_a_process_share_a_pool(commands: Commands, uri: str, database: Database) -> None:
    commands.init()
    with commands.serve("api_server", *three(uri)) as serving:
        assert connections(database) == 0, "nothing asked for them yet"
        serving.http.post(SESSIONS, json={"sessionId": "s"})
        say(serving, "s", "Today's menu.", MENU)
        assert 1 <= connections(database) <= 4
    # The process dies of the signal, as it would without this package, and its connections with it.
    assert serving.exit_code == -signal.SIGTERM
    deadline = time.monotonic() + LIMIT_SEC
    while connections(database):
        assert time.monotonic() < deadline, "connections are left open"
        time.sleep(0.01)  # between two looks


@pytest.mark.parametrize(
    ("end", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 143), (signal.SIGINT, 1)]
)
def test_the_embedded_server_ends_with_the_process(
    end: signal.Signals, exit_code: int, commands: Commands, data_dir: Path
) -> None:
    commands.init()
    with commands.serve("web", *three(f"psqlpy+embedded://{data_dir}"), end=end) as serving:
        assert not data_dir.exists(), "nothing asked for it yet"
        assert serving.http.post(SESSIONS, json={"sessionId": "s"}).status_code == 200
        assert (data_dir / "postmaster.pid").exists()
    assert not (data_dir / "postmaster.pid").exists()
    assert serving.exit_code == exit_code
    assert "Traceback" not in serving.log


async def test_adk_run_keeps_its_conversation(commands: Commands, any_uri: str) -> None:
    """It looks for services.py in the agent's own folder."""
    commands.init("cafe")
    agent = str(commands.agents / "cafe")
    talked = commands.run("run", *three(any_uri), agent, given="hello\nexit\n")
    asked = [commands.run("run", *three(any_uri), "--session_id=s", agent, text) for text in ("one", "two")]
    for done in (talked, *asked):
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        assert "[cafe]: Tell me how many of what" in done.stdout

    service = UriSessionService(any_uri)
    session = await service.get_session(app_name="cafe", user_id="test_user", session_id="s")
    assert session is not None
    parts = [part for event in session.events if event.content for part in event.content.parts or []]
    assert [part.text for part in parts][::2] == ["one", "two"]
    sessions = (await service.list_sessions(app_name="cafe", user_id="test_user")).sessions
    assert len(sessions) == 2
    await service.close()


def test_a_wrong_uri_is_one_line(commands: Commands) -> None:
    """That of the sessions too, which ADK lets through as a traceback if it is a plain ValueError."""
    commands.init()
    commands.init("cafe")
    wrong = "--session_service_uri=psqlpy://u:hush-hush@h/d?max_pool_size=5"
    served = commands.run("api_server", wrong, str(commands.agents))
    ran = commands.run("run", wrong, str(commands.agents / "cafe"), "hello")
    for done in (served, ran):
        assert done.returncode == 1
        assert "Error: psqlpy URI: unknown option 'max_pool_size'; did you mean" in done.stderr
        assert "Traceback" not in done.stderr
        assert "hush" not in done.stdout + done.stderr
