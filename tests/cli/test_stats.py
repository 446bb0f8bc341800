"""`adk-psqlpy stats`: what is counted, and the page."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
from google.adk.events.event import Event

from adk_psqlpy import PsqlpyConfig, PsqlpyMemoryService, PsqlpySessionService
from adk_psqlpy.admin.charts import bars, compact, size
from adk_psqlpy.admin.stats import stats
from adk_psqlpy.admin.stats_page import stats_page

from .support import agent_says, answer, call, conversation, running, used, user_says

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore")
NOON = datetime.now(timezone.utc).replace(hour=12, minute=0, second=0, microsecond=0)


def at(days_ago: int, second: int = 0) -> float:
    return (NOON - timedelta(days=days_ago) + timedelta(seconds=second)).timestamp()


@pytest.fixture
async def counted(service: PsqlpySessionService, config: PsqlpyConfig) -> PsqlpyConfig:
    """Two apps on three days, one of them long ago."""
    await PsqlpyMemoryService(config).create_tables()
    await conversation(
        service,
        user_says("old", timestamp=at(40)),
        user_says("hello", timestamp=at(1)),
        agent_says("hi", timestamp=at(1, 1), usage_metadata=used(10, 5, cached_content_token_count=4)),
        Event(**dict(call("find", "1")) | {"timestamp": at(1, 2)}),
        Event(**dict(answer("find", "1", error="none")) | {"timestamp": at(1, 4)}),
        user_says("today", timestamp=at(0)),
        key=("cafe", "alice", "1"),
    )
    await conversation(
        service,
        Event(author="agent", error_code="429", timestamp=at(0, 5)),
        key=("<desk>", "bob", "1"),
    )
    return config


async def test_by_app_and_day(counted: PsqlpyConfig) -> None:
    found = await stats(counted)
    days = [
        (day.app_name, day.day, day.sessions, day.users, day.events, day.messages, day.tool_calls, day.errors)
        for day in found.days
    ]
    yesterday, today = (NOON - timedelta(days=1)).date(), NOON.date()
    assert days == [
        ("cafe", yesterday, 1, 1, 4, 2, 1, 1),
        ("<desk>", today, 1, 1, 1, 0, 0, 1),
        ("cafe", today, 1, 1, 1, 1, 0, 0),
    ]
    first = found.days[0]
    assert (first.prompt_tokens, first.cached_tokens, first.candidates_tokens, first.total_tokens) == (
        10,
        4,
        5,
        15,
    )
    assert first.bytes > 400
    assert [(app.app_name, app.sessions, app.active_users) for app in found.apps] == [
        ("<desk>", 1, 1),
        ("cafe", 1, 1),
    ]
    ((tool),) = found.tools
    assert (tool.tool, tool.calls, tool.errors, tool.median_seconds) == ("find", 1, 1, 2.0)
    assert {(error.source, error.name, error.count) for error in found.errors} == {
        ("tool", "find", 1),
        ("event", "429", 1),
    }
    sizes = {table.table: table.bytes for table in found.tables}
    assert sizes["adk_events"] > 0
    assert "adk_memories" in sizes
    assert "adk_artifacts" not in sizes, "there is no such table"


async def test_one_app_and_further_back(counted: PsqlpyConfig) -> None:
    found = await stats(counted, app_name="cafe", days=50)
    assert {day.app_name for day in found.days} == {"cafe"}
    assert sum(day.events for day in found.days) == 6
    for days in (0, -1, True, 1.5, 40_000):
        with pytest.raises(ValueError, match="days must be an integer"):
            await stats(counted, days=days)


async def test_text_and_json(counted: PsqlpyConfig, dsn: str) -> None:
    printed = await running("stats", "--dsn", dsn)
    assert printed.code == 0, printed.err
    assert re.search(r"^cafe +1 +1 +5 +3 +15 +1 +1 +[\d,]+$", printed.out, re.MULTILINE)
    assert re.search(rf"^{NOON:%Y-%m-%d} +<desk> +1 +1 +1 ", printed.out, re.MULTILINE)
    document = (await running("stats", "--dsn", dsn, "--json", "--app", "cafe")).json
    assert [day["events"] for day in document["days"]] == [4, 1]
    assert document["since"] == (NOON - timedelta(days=29)).replace(hour=0).isoformat()


class Loaded(HTMLParser):
    """What a page would fetch, run or link to, and whether its tags are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name for name, _ in attrs}
        if tag in ("script", "link", "img", "iframe") or named & {"src", "href", "onload", "onclick"}:
            self.fetched.append(tag)
        if tag not in ("meta", "rect", "line", "circle", "polygon", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "rect", "line", "circle", "polygon", "polyline"):
            raise AssertionError(tag)


async def test_the_page_is_whole_by_itself(counted: PsqlpyConfig, dsn: str, tmp_path: Path) -> None:
    target = tmp_path / "stats.html"
    done = await running("stats", "--dsn", dsn, "--html", str(target))
    assert (done.code, done.out) == (0, f"wrote {target}: open it in a browser\n")
    page = target.read_text()
    loaded = Loaded()
    loaded.feed(page)
    assert (loaded.open, loaded.fetched) == ([], [])
    assert "&lt;desk&gt;" in page
    assert "<desk>" not in page
    assert not re.search(r"https?://|url\(|@import", page)
    assert "prefers-color-scheme: dark" in page


async def test_the_page_of_nothing(service: PsqlpySessionService, config: PsqlpyConfig) -> None:
    page = stats_page(await stats(config))
    assert "No event in this time." in page
    assert "nan" not in page


def test_a_file_that_cannot_be_written(counted: PsqlpyConfig, dsn: str, tmp_path: Path) -> None:
    from .support import run

    failed = run("stats", "--dsn", dsn, "--html", str(tmp_path / "no" / "where.html"))
    assert failed.code == 1
    assert "No such file or directory" in failed.err


def test_labels() -> None:
    assert [compact(n) for n in (0, 950, 12_345, 2_000_000, 4.5e9)] == ["0", "950", "12.3k", "2M", "4.5G"]
    assert [size(n) for n in (0, 1023, 1536, 5 * 2**30)] == ["0 B", "1023 B", "1.5 KiB", "5 GiB"]


def test_a_chart_without_values() -> None:
    assert bars("x", [NOON.date()], []).startswith("<svg")
