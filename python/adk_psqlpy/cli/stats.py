"""`adk-psqlpy stats`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adk_psqlpy.cli.options import Target, examples, json_option, server_options
from adk_psqlpy.cli.output import table, write, write_json

if TYPE_CHECKING:
    from adk_psqlpy.admin.stats import Stats


@click.command(
    epilog=examples(
        "adk-psqlpy stats --dsn postgresql://me@localhost/agents",
        "adk-psqlpy stats --app cafe --days 7",
        "adk-psqlpy stats --html stats.html",
        "adk-psqlpy stats --json | jq '.days[] | {day, total_tokens}'",
    )
)
@click.option("--app", metavar="APP", help="Only this app.")
@click.option(
    "--days", type=click.IntRange(1, 36_500), default=30, show_default=True, help="How far to look back."
)
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a page with charts.",
)
@server_options("session_table", "events_table", "memory_table", "artifact_table")
@json_option
def command(target: Target, app: str | None, days: int, html: Path | None, as_json: bool) -> None:
    """Count sessions, events, tokens, tool calls, errors and bytes, by app and day.

    Days are days of UTC; today is included. --html writes one file that needs no network. With it, nothing
    but the JSON of --json is printed. All events are read, which takes a while on a big table.
    """
    import asyncio

    from adk_psqlpy.admin.stats import stats

    async def run() -> Stats:
        async with target.config() as config:
            return await stats(
                config,
                target.table("session_table"),
                target.table("events_table"),
                memory_table=target.table("memory_table"),
                artifact_table=target.table("artifact_table"),
                app_name=app,
                days=days,
            )

    counted = asyncio.run(run())
    if html is not None:
        from adk_psqlpy.admin.stats_page import stats_page

        html.write_text(stats_page(counted), encoding="utf-8")
    if as_json:
        write_json(_document(counted))
    elif html is not None:
        write(f"wrote {html}: open it in a browser")
    else:
        _print(counted)


def _document(stats: Stats) -> dict[str, Any]:
    document = asdict(stats)
    for row in (document, *document["errors"]):
        for name, value in row.items():
            if isinstance(value, datetime):
                row[name] = value.isoformat()
    return document


def _print(stats: Stats) -> None:
    last = stats.until - timedelta(days=1)
    write(f"{stats.since:%Y-%m-%d} to {last:%Y-%m-%d} (UTC)\n")
    heads = ("sessions", "users", "events", "messages", "tokens", "tool calls", "errors", "bytes")
    rows = []
    for app in stats.apps:
        own = [day for day in stats.days if day.app_name == app.app_name]
        sums = (
            sum(getattr(day, name) for day in own)
            for name in ("events", "messages", "total_tokens", "tool_calls", "errors", "bytes")
        )
        rows.append((app.app_name, app.active_sessions, app.active_users, *sums))
    table(("app", *heads), rows, title="By app, what was active")
    write()
    table(
        ("day", "app", *heads),
        [
            (
                day.day,
                day.app_name,
                day.sessions,
                day.users,
                day.events,
                day.messages,
                day.total_tokens,
                day.tool_calls,
                day.errors,
                day.bytes,
            )
            for day in stats.days
        ],
        title="By day",
    )
    if stats.tools:
        write()
        table(
            ("app", "tool", "calls", "errors", "median s", "95% s"),
            [
                (
                    tool.app_name,
                    tool.tool,
                    tool.calls,
                    tool.errors,
                    _short(tool.median_seconds),
                    _short(tool.p95_seconds),
                )
                for tool in stats.tools
            ],
            title="By tool",
        )
    write()
    table(
        ("table", "rows, about", "bytes with indexes"),
        [(each.table, each.rows, each.bytes) for each in stats.tables],
        title="On disk",
    )


def _short(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds:.3f}"
