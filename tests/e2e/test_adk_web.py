"""`adk web` in a browser: what a user typed and uploaded is there after a reload and after a restart."""

from __future__ import annotations

import hashlib
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from adk_psqlpy.connections.embedded import EmbeddedServer
from servers import run_sql

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from .conftest import AdkWeb

pytestmark = pytest.mark.e2e

SCREENSHOT = Path(__file__).parents[2] / "docs" / "adk-web.png"
MENU = b"espresso,2.20\ntea,1.90\ncroissant,2.50\n"
WE_HAVE = "We have espresso for 2.20, tea for 1.90, croissant for 2.50."
ORDERED = "You ordered 2 espresso. That makes 4.40."


@pytest.fixture
def menu(tmp_path: Path) -> Path:
    """A file to upload."""
    path = tmp_path / "menu.csv"
    path.write_bytes(MENU)
    return path


def say(page: Page, text: str, *, upload: Path | None = None) -> None:
    """Type a message, with a file perhaps, and send it."""
    if upload is not None:
        page.locator("input[type=file]").set_input_files(upload)
        attached = page.get_by_text(upload.name, exact=True)
        expect(attached.or_(page.get_by_role("img", name="preview"))).to_be_visible()
    box = page.get_by_role("textbox", name="Type a message...")
    box.fill(text)
    box.press("Enter")


def said(page: Page) -> Locator:
    """The user's messages and the agent's, without tool calls."""
    return page.get_by_role("paragraph")


def order_from_the_menu(page: Page, menu: Path) -> None:
    """Two turns: a file and a message, each answered."""
    say(page, "Today's menu.", upload=menu)
    expect(said(page).last).to_have_text(WE_HAVE)
    say(page, "2 espressos, please.")
    expect(said(page).last).to_have_text(ORDERED)


def panel(page: Page, name: str) -> Locator:
    """One of the tabs beside the conversation, opened."""
    page.get_by_role("tab", name=name).click()
    return page.get_by_role("tabpanel", name=name)


def expect_state(page: Page, *entries: str) -> None:
    """The tab State shows these entries."""
    for entry in entries:
        expect(panel(page, "State")).to_contain_text(entry)


def download(page: Page) -> bytes:
    """The artifact in the tab Artifacts, as the browser saves it."""
    with page.expect_download() as started:
        panel(page, "Artifacts").get_by_role("button").filter(has_text="download").click()
    return started.value.path().read_bytes()


def row(adk_web: AdkWeb, query: str) -> dict[str, Any]:
    """The one row of a query, asked beside the running `adk web`."""
    with EmbeddedServer(adk_web.data_dir) as server:
        ((found,),) = run_sql(server.dsn, query)
        return found


def test_conversation_state_and_file_are_there_after_a_reload_and_a_restart(
    page: Page, adk_web: AdkWeb, menu: Path
) -> None:
    order_from_the_menu(page, menu)

    def expect_all() -> None:
        uploaded = f'Today\'s menu.[Uploaded Artifact: "{menu.name}"]'
        expect(said(page)).to_have_text([uploaded, WE_HAVE, "2 espressos, please.", ORDERED])
        expect(page.get_by_role("button", name="State: bill, user:ordered")).to_be_visible()
        expect_state(page, "bill: 4.4", "espresso: 2.2", "user:ordered: 2")
        assert download(page) == MENU

    page.reload()
    expect_all()
    adk_web.stop()
    assert not (adk_web.data_dir / "postmaster.pid").exists(), "PostgreSQL is left running"
    adk_web.start()
    page.reload()
    expect_all()

    # 2 messages, 2 calls, 2 responses, 2 answers, and the plugin's event about the file.
    session = row(
        adk_web,
        """SELECT (SELECT count(*) FROM adk_events) AS events,
            (SELECT state->>'bill' FROM adk_sessions) AS bill,
            (SELECT state->>'ordered' FROM adk_user_states) AS ordered""",
    )
    assert session == {"events": 9, "bill": "4.4", "ordered": "2"}
    artifact = row(adk_web, "SELECT filename, version, size, mime_type, hash FROM adk_artifacts")
    assert artifact == {
        "filename": menu.name,
        "version": 0,
        "size": len(MENU),
        "mime_type": "text/csv",
        "hash": hashlib.sha256(MENU).digest(),
    }


def test_another_session_remembers_what_was_ordered_before_a_restart(
    page: Page, adk_web: AdkWeb, menu: Path
) -> None:
    order_from_the_menu(page, menu)
    adk_web.stop()
    adk_web.start()
    page.get_by_role("button", name="New Session").click()
    say(page, "Good morning!", upload=menu)
    expect(said(page).last).to_have_text(WE_HAVE)
    say(page, "The same as last time, please.")
    expect(said(page).last).to_have_text(ORDERED)
    page.reload()
    expect(said(page).last).to_have_text(ORDERED)
    expect_state(page, "bill: 4.4", "user:ordered: 4")  # of this session, and of both

    # What was said and answered in each of them, once, though each turn adds the whole session.
    memories = row(
        adk_web, "SELECT count(*) AS entries, count(DISTINCT session_id) AS sessions FROM adk_memories"
    )
    assert memories == {"entries": 8, "sessions": 2}

    expect(page.get_by_text("croissant,2.50")).to_be_visible()  # the artifact, loaded on its own
    expect(page.locator(".mat-ripple-element")).to_have_count(0)  # left by a click
    page.screenshot(path=SCREENSHOT, animations="disabled")


def test_a_picture_is_there_after_the_server_was_killed(page: Page, adk_web: AdkWeb, tmp_path: Path) -> None:
    picture = tmp_path / "café.png"
    page.screenshot(path=picture)
    say(page, "For your wall.", upload=picture)
    expect(said(page).last).to_have_text(f"Thank you for {picture.name}.")
    adk_web.stop(signal.SIGKILL)
    adk_web.start()
    page.reload()
    shown = panel(page, "Artifacts").get_by_role("img")
    expect(shown).to_be_visible()
    assert shown.evaluate("async image => { await image.decode(); return image.naturalWidth; }") == 1280
    assert download(page) == picture.read_bytes()
