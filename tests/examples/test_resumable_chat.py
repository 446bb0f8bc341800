"""examples/resumable_chat.py as a program: a stream that is left and come back to, over its own HTTP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from servers import Database, free_port

ROOT = Path(__file__).parents[2]
LIMIT_SEC = 60
ANSWER = "You have asked 1 times, and the last time it was: Hello"


def messages(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    """The messages of a stream, field by field."""
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if line:
            fields[name] = value
        elif fields:
            yield fields
            fields = {}


def test_as_a_program(database: Database) -> None:
    port = free_port()
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "GOOGLE_"))}
    environment |= {"DATABASE_URL": database.dsn, "PYTHONPATH": str(ROOT / "python"), "PORT": str(port)}
    process = subprocess.Popen(
        [sys.executable, ROOT / "examples" / "resumable_chat.py"],
        env=environment | {"WORD_SEC": "0.05"},
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=LIMIT_SEC) as client:
            deadline = time.monotonic() + LIMIT_SEC
            while True:
                try:
                    page = client.get("/").text
                    break
                except httpx.ConnectError:
                    assert process.poll() is None, process.communicate()
                    assert time.monotonic() < deadline, "it never listened"
                    time.sleep(0.05)  # between two looks at the condition
            assert 'new EventSource(path + "/events")' in page
            path = "/users/ann/sessions/demo"
            with client.stream("GET", f"{path}/events") as stream:
                assert client.post(f"{path}/messages", json={"text": "Hello"}).status_code == 202
                place = next(each["id"] for each in messages(stream.iter_lines()) if "id" in each)
            with client.stream("GET", f"{path}/events", headers={"Last-Event-ID": place}) as stream:
                answer = next(each for each in messages(stream.iter_lines()) if "id" in each)
        assert json.loads(answer["data"])["content"]["parts"] == [{"text": ANSWER}]
        process.send_signal(signal.SIGINT)
        _, log = process.communicate(timeout=LIMIT_SEC)
    finally:
        process.kill()
    assert "Traceback" not in log, log
