"""The resumable chat in a browser: two tabs on one conversation, one is closed and opened again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from playwright.sync_api import expect, sync_playwright

from servers import START_LIMIT_SEC, Database, free_port

from .conftest import CHROMIUM, WINDOW

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import BrowserContext, Page

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
SCREENSHOT = ROOT / "docs" / "resumable-chat.png"
ANSWER = "You have asked 1 times, and the last time it was: the sea is wide"


@pytest.fixture
def address(database: Database, tmp_path: Path) -> Iterator[str]:
    """The example, served; a word of its answer takes half a second."""
    port = free_port()
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "python"), "HOME": str(tmp_path)}
    environment |= {"DATABASE_URL": database.dsn, "PORT": str(port), "WORD_SEC": "0.5"}
    with (tmp_path / "log").open("wb") as log:
        program = [sys.executable, str(ROOT / "examples" / "resumable_chat.py")]
        process = subprocess.Popen(program, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + START_LIMIT_SEC
            while not _answers(port):
                assert process.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < deadline, "it never answered"
                time.sleep(0.1)  # between two looks
            yield f"http://127.0.0.1:{port}/"
            process.terminate()
            process.wait(START_LIMIT_SEC)
        finally:
            process.kill()
            process.wait()
    assert "Traceback" not in (tmp_path / "log").read_text(), (tmp_path / "log").read_text()


def _answers(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/", timeout=1):
            return True
    except (URLError, TimeoutError, ConnectionError):
        return False


@pytest.fixture
def context() -> Iterator[BrowserContext]:
    """An empty Chromium."""
    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM)
        with chromium.new_context(viewport=WINDOW, locale="en-GB") as opened:
            yield opened
        chromium.close()


def tab(context: BrowserContext, address: str) -> Page:
    page = context.new_page()
    page.goto(address)
    return page


def test_two_tabs_one_closed_in_the_middle_and_opened_again(context: BrowserContext, address: str) -> None:
    first, second = tab(context, address), tab(context, address)
    first.get_by_placeholder("Say something").fill("the sea is wide")
    first.get_by_role("button", name="Send").click()
    for page in (first, second):
        expect(page.locator("#events p.user")).to_have_text("the sea is wide")
        expect(page.locator("#partial p")).to_contain_text("You have asked")
    first.close()
    # The run belongs to the server: the second tab goes on, and the first one finds what it has missed.
    expect(second.locator("#partial p")).to_contain_text("1 times, and")
    again = tab(context, address)
    expect(again.locator("#events p")).to_have_text(["the sea is wide"])
    expect(again.locator("#partial p")).to_contain_text("You have asked 1 times, and")
    again.screenshot(path=SCREENSHOT)
    for page in (again, second):
        expect(page.locator("#events p")).to_have_text(["the sea is wide", ANSWER])
        expect(page.locator("#partial p")).to_have_count(0)
    # Offline for a while: EventSource comes back by itself, with the id of what it has seen.
    context.set_offline(True)
    context.set_offline(False)
    second.get_by_placeholder("Say something").fill("and deep")
    second.get_by_role("button", name="Send").click()
    for page in (again, second):
        expect(page.locator("#events p.user")).to_have_text(["the sea is wide", "and deep"])
        expect(page.locator("#events p.echo")).to_have_text(
            [ANSWER, ANSWER.replace("1 times", "2 times").replace("the sea is wide", "and deep")]
        )
