"""The page of `adk-psqlpy stats --html` in a browser: light and dark, wide and narrow, without a network."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from google.adk.events.event import Event
from google.genai import types
from playwright.sync_api import expect, sync_playwright

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from adk_psqlpy.cli import main

from .conftest import CHROMIUM

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from servers import Database

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore")]

SCREENSHOT = Path(__file__).parents[2] / "docs" / "stats.png"
APPS = {"support_desk": 60, "travel_planner": 40, "cafe": 20}
TOOLS = {
    "support_desk": ("find_order", "refund", "ask_a_person"),
    "travel_planner": ("search_flights", "book_hotel"),
    "cafe": ("order", "bill"),
}


async def converse(dsn: str) -> None:
    """A month of three agents, the same at every run but for the dates."""
    chance, now = random.Random(7), time.time()
    async with PsqlpyConfig({"dsn": dsn}) as config:
        store = PsqlpyADKStore(config)
        await store.create_tables()
        service = PsqlpySessionService(store)
        for app, count in APPS.items():
            for number in range(count):
                session = await service.create_session(
                    app_name=app, user_id=f"user {chance.randrange(18)}", session_id=f"{app} {number}"
                )
                at = now - 86_400 * 29 * chance.random() ** 1.4
                for turn in range(chance.randint(1, 5)):
                    for event in events_of_a_turn(app, turn, chance):
                        at += chance.random() * 3
                        event.timestamp = min(at, now)
                        event.invocation_id = f"turn {turn}"
                        await service.append_event(session, event)


def events_of_a_turn(app: str, turn: int, chance: random.Random) -> Iterator[Event]:
    tool = chance.choice(TOOLS[app])
    call = types.FunctionCall(id=f"call {turn}", name=tool, args={"number": chance.randrange(999)})
    failed = chance.random() < 0.07
    answer = types.FunctionResponse(
        id=call.id, name=tool, response={"error": "no answer"} if failed else {"status": "ok"}
    )

    def used() -> types.GenerateContentResponseUsageMetadata:
        prompt = chance.randint(300, 4000)
        return types.GenerateContentResponseUsageMetadata(
            prompt_token_count=prompt,
            cached_content_token_count=prompt // 3,
            candidates_token_count=chance.randint(50, 700),
            thoughts_token_count=chance.randint(0, 500),
        )

    model = chance.choice(("gemini-3-pro", "gemini-3-flash"))
    yield Event(author="user", content=types.UserContent("Hello"))
    yield Event(
        author=app,
        content=types.ModelContent([types.Part(function_call=call)]),
        usage_metadata=used(),
        model_version=model,
    )
    yield Event(author=app, content=types.UserContent([types.Part(function_response=answer)]))
    if chance.random() < 0.04:
        yield Event(
            author=app, error_code=chance.choice(("MAX_TOKENS", "429")), error_message="The model is busy."
        )
    else:
        yield Event(
            author=app, content=types.ModelContent("Done."), usage_metadata=used(), model_version=model
        )


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser of the page's own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def written(database: Database, tmp_path: Path) -> Path:
    """The page, as the command writes it."""
    target = tmp_path / "stats.html"
    # A thread of its own: Playwright has an event loop in this one.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(converse(database.dsn))).result()
        arguments = ["stats", "--dsn", database.dsn, "--html", str(target)]
        assert thread.submit(main, arguments).result() == 0
    return target


def test_the_page(written: Path, chromium: Browser) -> None:
    asked: list[str] = []
    said: list[str] = []
    with chromium.new_context(viewport={"width": 1280, "height": 1000}, locale="en-GB") as context:
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.goto(written.as_uri())
        expect(page.get_by_role("heading", name="What the agents did")).to_be_visible()
        assert asked == [written.as_uri()], "nothing comes from a network"
        assert said == []
        for title in ("Events by app", "Tokens", "Active sessions by app", "Tool calls by app", "Errors"):
            chart = page.get_by_role("img", name=title, exact=True)
            expect(chart).to_be_visible()
            assert chart.locator("rect:not(.hit):not(.tip-box)").count() > 10, title
        expect(page.get_by_role("table")).to_have_count(5)
        page.screenshot(path=SCREENSHOT)
        what_a_day_says(page)
        for width in (1280, 700, 380):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{width} wide"


def what_a_day_says(page: Page) -> None:
    """The numbers of a day show while the pointer is over it, inside of the chart, at both of its ends."""
    chart = page.get_by_role("img", name="Events by app")
    days = chart.locator(".day")
    assert days.count() == 30
    expect(chart.locator(".tip:visible")).to_have_count(0)
    frame = chart.bounding_box()
    for place in (0, 15, 29):
        days.nth(place).locator(".hit").hover()
        tip = chart.locator(".tip:visible")
        expect(tip).to_have_count(1)
        box = tip.locator(".tip-box").bounding_box()
        assert frame["x"] <= box["x"]
        assert box["x"] + box["width"] <= frame["x"] + frame["width"] + 1
    expect(tip).to_contain_text("all")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(scheme: str, written: Path, chromium: Browser) -> None:
    """Contrast of 4.5 and more (WCAG 2.2, 1.4.3) for text and for what is said in a lower voice."""
    with chromium.new_context(color_scheme=scheme) as context:
        page = context.new_page()
        page.goto(written.as_uri())
        for ink in ("--text", "--dim"):
            for ground in ("--page", "--card"):
                assert contrast(page, ink, ground) >= 4.5, (ink, ground)


def contrast(page: Page, ink: str, ground: str) -> float:
    """The ratio of two colours of the style sheet."""

    def luminance(name: str) -> float:
        value = page.evaluate(f"getComputedStyle(document.documentElement).getPropertyValue('{name}').trim()")
        parts = [int(value[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(ink), luminance(ground)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
