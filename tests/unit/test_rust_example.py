"""A service in Rust, `rust/examples/read_session.rs`, sees what the Python service wrote as Python does."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from google.adk.events import Event, EventActions
from google.genai import types
from pydantic import BaseModel

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from fidelity.compare import assert_same
from fidelity.proof import event_of
from fidelity.rows import ideal
from servers import run_sql

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from google.adk.sessions import Session

    from servers import Database

ROOT = Path(__file__).parents[2]
NAMES = {"app_name": "app", "user_id": "user", "session_id": "s"}
# The first build compiles the driver and its runtime.
BUILD_LIMIT_SEC = 900
# By alias, and sorted.
DUMPED_OTHERWISE = {"requested_auth_configs", "long_running_tool_ids"}
FLOATS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}

pytestmark = pytest.mark.filterwarnings("ignore:.* is not a valid .*:UserWarning")


@pytest.fixture(scope="module")
def read_session(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Any]]:
    """The example: what it prints for a session, line by line."""
    if shutil.which("cargo") is None:
        pytest.skip("cargo is not installed")
    environment = ROOT / ".make/cargo-env"
    if not environment.exists():
        scratch = tmp_path_factory.mktemp("cargo")
        environment = scratch / "cargo-env"
        made = subprocess.run(
            [sys.executable, ROOT / "tools/cargo_env.py", scratch],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode != 0:
            pytest.skip(made.stderr)
        environment.write_text(made.stdout)

    def run(*arguments: str) -> list[Any]:
        # In the directory of `make test-rust` without Python, which builds the same.
        cargo = "cargo run --quiet --no-default-features --features serde --target-dir target/bare"
        done = subprocess.run(
            [
                *("sh", "-c", f'. "$0" && exec {cargo} --example read_session -- "$@"', str(environment)),
                *arguments,
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=BUILD_LIMIT_SEC,
        )
        assert done.returncode == 0, done.stderr
        # JSON may hold line ends of Unicode's, which splitlines() would take for the end of a line.
        return [json.loads(line) for line in done.stdout.split("\n") if line]

    return run


@pytest.fixture
async def service(database: Database) -> AsyncIterator[PsqlpySessionService]:
    """A service on an empty database, with the session made."""
    async with PsqlpyConfig(pool_config={"dsn": database.dsn, "max_db_pool_size": 2}) as config:
        store = PsqlpyADKStore(config)
        await store.create_tables()
        service = PsqlpySessionService(store)
        await service.create_session(**NAMES)
        yield service
        await service.close()


async def session_of(service: PsqlpySessionService) -> Session:
    session = await service.get_session(**NAMES)
    assert session is not None
    return session


def meant(value: Any) -> Any:
    """What the example's JSON stands for: strings that Rust cannot hold are printed as they are stored."""
    if isinstance(value, dict):
        return {meant_text(key): meant(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [meant(inner) for inner in value]
    if isinstance(value, str):
        return FLOATS[value[1:]] if value[:1] == "\ufdd0" and value[1:] in FLOATS else meant_text(value)
    return value


def meant_text(text: str) -> str:
    return re.sub("\ufdd0(0000|fdd0|d[89a-f][0-9a-f]{2})", lambda escape: chr(int(escape[1], 16)), text)


def assert_reads_alike(printed: list[Any], events: list[Event]) -> None:
    """Assert that printed events are the dumps of these: values, types, orders, bits of floats."""
    assert len(printed) == len(events)
    for line, event in zip(printed, events, strict=True):
        assert_dumped(meant(line), event, event.id)


def assert_dumped(made: Any, value: Any, where: str) -> None:
    """Assert that `made` is the dump of `value`. Dicts have an order of their own; models do not."""
    if isinstance(value, BaseModel):
        dump = ideal(value)
        assert set(made) == set(dump), f"{where}: {made!r}, expected {dump!r}"
        for name, inner in dump.items():
            if name in DUMPED_OTHERWISE:
                assert_same(made[name], inner, f"{where}.{name}", order=False)
            else:
                assert_dumped(made[name], value.__dict__[name], f"{where}.{name}")
    elif isinstance(value, dict):
        assert list(made) == list(value), f"{where}: keys {list(made)!r}, expected {list(value)!r}"
        for name, inner in value.items():
            assert_dumped(made[name], inner, f"{where}.{name}")
    elif isinstance(value, list):
        assert len(made) == len(value), f"{where}: {made!r}, expected {value!r}"
        for index, inner in enumerate(value):
            assert_dumped(made[index], inner, f"{where}[{index}]")
    else:
        assert_same(made, ideal(value), where)


def hard_events() -> list[Event]:
    """Keys out of order, NaN, U+0000, a lone surrogate, cut texts, exact timestamps, huge numbers."""
    call = types.FunctionCall(
        id="c", name="weigh", args={"zebra": 1, "apple": {"yy": 1, "x": [float("nan"), -0.0]}}
    )
    return [
        Event(
            id="1",
            author="user",
            invocation_id="i",
            timestamp=1_700_000_000.123_456_7,
            content=types.UserContent("Grüße \0 \ufdd0 \ud83d 😀\u2028"),
        ),
        Event(
            id="2",
            author="agent",
            invocation_id="i",
            timestamp=1_700_000_001.0,
            branch="root." + "ü" * 400,
            error_code="E",
            error_message="\0long " * 500,
            content=types.Content(
                role="model",
                parts=[types.Part(text="One "), types.Part(text="two"), types.Part(function_call=call)],
            ),
            actions=EventActions(
                state_delta={"z": 1e16, "a": 2**100, "m": {"\0key": None, "b": float("-inf")}}
            ),
            custom_metadata={"b": 1, "a\ud83d": 0.1, "ccc": {"2": 1, "10": 2}},
            long_running_tool_ids={"c", "b"},
            partial=False,
            turn_complete=True,
        ),
    ]


async def test_it_prints_what_was_said_and_called(
    service: PsqlpySessionService, database: Database, read_session: Callable[..., list[Any]]
) -> None:
    """Id, author, time, text and function calls, an event a line; nothing for a session that is not there."""
    session = await session_of(service)
    for event in hard_events():
        await service.append_event(session, event)
    read = (await session_of(service)).events
    first, second = read_session(database.dsn, *NAMES.values())
    for line, event in zip((first, second), read, strict=True):
        assert (line["id"], line["author"]) == (event.id, event.author)
        assert line["timestamp"].hex() == event.timestamp.hex()
        parts = event.content.parts
        assert meant_text(line["text"]) == "".join(part.text for part in parts if part.text)
        calls = [ideal(part.function_call) for part in parts if part.function_call]
        assert_same(meant(line["function_calls"]), calls)
    assert second["text"] == "One two"
    assert read_session(database.dsn, "app", "user", "no such session") == []


async def test_it_reads_what_python_reads(
    service: PsqlpySessionService,
    database: Database,
    read_session: Callable[..., list[Any]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whole events, hard ones by hand and others over the whole model space; and after edits with SQL."""
    caplog.set_level("CRITICAL", logger="google_adk")  # its serializers log every lone surrogate
    session = await session_of(service)
    events = hard_events()
    for seed in range(150):
        event = event_of(seed)
        event.id, event.partial = f"g{seed}", None
        events.append(event)
    for event in events:
        await service.append_event(session, event)
    read = (await session_of(service)).events
    assert read[0].timestamp == events[0].timestamp
    assert read[1].branch == events[1].branch
    assert_reads_alike(read_session("--all", database.dsn, *NAMES.values()), read)

    run_sql(
        database.dsn,
        """UPDATE adk_events SET branch = 'edited', timestamp = timestamp + interval '1 s',
           custom_metadata = '{"aa": 1, "b": {"yy": 1, "x": 2}}', content = NULL WHERE id = '2'""",
        "UPDATE adk_events SET timestamp = timestamp + interval '1 s' WHERE id = '1'",
    )
    read = (await session_of(service)).events
    assert (read[1].branch, read[1].content) == ("edited", None)
    assert read[0].timestamp == 1_700_000_001.123_457
    assert_reads_alike(read_session("--all", database.dsn, *NAMES.values()), read)
