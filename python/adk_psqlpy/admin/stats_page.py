"""The page of `adk-psqlpy stats --html`: one file, no script, nothing from the network, light and dark."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta
from html import escape
from importlib.resources import files
from typing import Final

from adk_psqlpy.admin.charts import FULL, HALF, Layer, bars, compact, size, spark
from adk_psqlpy.admin.stats import DayStats, Stats

_COLORS: Final = 7  # as many as the style sheet has for names; the next colour is for all others
_ROWS: Final = 10
# With this policy, neither the page nor anything in it can make a browser fetch or run something.
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"


def stats_page(stats: Stats) -> str:
    """The page, as HTML text."""
    days = [stats.since.date() + timedelta(days=n) for n in range((stats.until - stats.since).days)]
    what = f"app {stats.app_name}" if stats.app_name is not None else "all apps"
    span = f"{days[0]:%d %B %Y}" if len(days) == 1 else f"{days[0]:%d %B} to {days[-1]:%d %B %Y}"
    style = (files("adk_psqlpy.admin") / "templates" / "stats.css").read_text(encoding="utf-8")
    nothing = '<section class="wide">No event in this time.</section>'
    panels = "".join(_panels(stats, days)) if stats.days else nothing
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>Agents, {escape(span)}</title>
<style>
{style}</style>
</head>
<body>
<main>
<header><h1>What the agents did</h1><p>{escape(what)}, {escape(span)} (UTC)</p></header>
<div class="cards">{"".join(_cards(stats, days))}</div>
<div class="panels">{panels}{_tables(stats)}</div>
<footer>Counted by adk-psqlpy from the stored events. Bytes are of the events as they are stored, without
indexes; the sizes of tables are with indexes.</footer>
</main>
</body>
</html>
"""


def _by_day(days: Sequence[date], rows: Iterable[DayStats], value: Callable[[DayStats], int]) -> list[int]:
    found = dict.fromkeys(days, 0)
    for row in rows:
        found[row.day] = found.get(row.day, 0) + value(row)
    return [found[day] for day in days]


def _cards(stats: Stats, days: Sequence[date]) -> Iterable[str]:
    def card(label: str, value: str, more: str, values: Sequence[int], kind: str = "") -> str:
        return (
            f'<div class="card{kind}"><span class="label">{label}</span><span class="value">{value}</span>'
            f'<span class="more">{more}</span>{spark(values)}</div>'
        )

    def daily(value: Callable[[DayStats], int]) -> list[int]:
        return _by_day(days, stats.days, value)

    events, tokens = daily(lambda row: row.events), daily(lambda row: row.total_tokens)
    calls, errors = daily(lambda row: row.tool_calls), daily(lambda row: row.errors)
    stored, active = sum(app.sessions for app in stats.apps), sum(app.active_sessions for app in stats.apps)
    users = sum(app.active_users for app in stats.apps)
    yield card(
        "Active sessions",
        f"{active:,}",
        f"of {stored:,} stored, {users:,} users",
        daily(lambda row: row.sessions),
    )
    messages = sum(row.messages for row in stats.days)
    yield card("Events", compact(sum(events)), f"{messages:,} messages", events)
    prompt = sum(row.prompt_tokens for row in stats.days)
    cached = sum(row.cached_tokens for row in stats.days)
    share = f"prompts {cached / prompt:.0%} cached" if prompt else ""
    yield card("Tokens", compact(sum(tokens)), share, tokens)
    failed = sum(tool.errors for tool in stats.tools)
    yield card("Tool calls", compact(sum(calls)), f"{failed:,} ended in an error", calls)
    rate = f"{sum(errors) / sum(events):.1%} of events" if sum(events) else ""
    yield card("Errors", compact(sum(errors)), rate, errors, " bad" if sum(errors) else "")
    yield card(
        "Events stored",
        size(sum(row.bytes for row in stats.days)),
        "in this time",
        daily(lambda row: row.bytes),
    )


def _panels(stats: Stats, days: Sequence[date]) -> Iterable[str]:
    yield _chart("Events by app", days, _of_apps(stats, days, lambda row: row.events), wide=True)
    tokens = [
        Layer(
            "prompt", 0, _by_day(days, stats.days, lambda row: max(0, row.prompt_tokens - row.cached_tokens))
        ),
        Layer("prompt, cached", 4, _by_day(days, stats.days, lambda row: row.cached_tokens)),
        Layer("answers", 1, _by_day(days, stats.days, lambda row: row.candidates_tokens)),
        Layer("thoughts", 5, _by_day(days, stats.days, lambda row: row.thoughts_tokens)),
    ]
    yield _chart("Tokens", days, [layer for layer in tokens if any(layer.values)])
    yield _chart(
        "Active sessions by app", days, _of_apps(stats, days, lambda row: row.sessions), summed=False
    )
    yield _chart("Tool calls by app", days, _of_apps(stats, days, lambda row: row.tool_calls))
    yield _chart("Errors", days, [Layer("errors", "bad", _by_day(days, stats.days, lambda row: row.errors))])


def _of_apps(stats: Stats, days: Sequence[date], value: Callable[[DayStats], int]) -> list[Layer]:
    """One layer for each app, most events first, and one for all other apps.

    An app has the same colour in all charts.
    """
    events: dict[str, int] = {}
    for row in stats.days:
        events[row.app_name] = events.get(row.app_name, 0) + row.events
    names = sorted(events, key=lambda name: (-events[name], name))
    layers = [
        Layer(name, place, _by_day(days, (row for row in stats.days if row.app_name == name), value))
        for place, name in enumerate(names[:_COLORS])
    ]
    others = set(names[_COLORS:])
    if others:
        rest = _by_day(days, (row for row in stats.days if row.app_name in others), value)
        layers.append(Layer(f"{len(others)} others", _COLORS, rest))
    return [layer for layer in layers if any(layer.values)]


def _chart(
    title: str, days: Sequence[date], layers: list[Layer], *, wide: bool = False, summed: bool = True
) -> str:
    colors = [layer.color if layer.color == "bad" else f"c{layer.color}" for layer in layers]
    legend = "".join(
        f'<li style="--own: var(--{color})">{escape(layer.name)}</li>'
        for color, layer in zip(colors, layers, strict=True)
    )
    # A session that is active on two days counts once.
    total = compact(sum(sum(layer.values) for layer in layers)) if summed else ""
    drawn = (
        bars(title, days, layers, wide=FULL if wide else HALF)
        if layers
        else '<p class="note">None in this time.</p>'
    )
    return (
        f'<section class="{"wide" if wide else ""}"><div class="head">'
        f'<h2>{title} <span class="note">{total}</span></h2>'
        f'<ul class="legend">{legend}</ul></div>{drawn}</section>'
    )


def _tables(stats: Stats) -> str:
    many = len(stats.apps) > 1 and stats.app_name is None

    def app(name: str) -> list[str]:
        return [escape(name)] if many else []

    heads = ["app"] if many else []
    parts = []
    if stats.tools:
        most = max(tool.calls for tool in stats.tools)
        parts.append(
            _table(
                "Tools",
                [*heads, "tool", "", "calls", "errors", "median", "95th percentile"],
                [
                    [
                        *app(tool.app_name),
                        escape(tool.tool or "(no name)"),
                        _track(tool.calls - tool.errors, tool.errors, most),
                        f"{tool.calls:,}",
                        f'<span class="bad-text">{tool.errors:,}</span>' if tool.errors else "0",
                        _seconds(tool.median_seconds),
                        _seconds(tool.p95_seconds),
                    ]
                    for tool in stats.tools
                ],
                "wide",
            )
        )
    if stats.models:
        most = max(model.total_tokens for model in stats.models)
        parts.append(
            _table(
                "Models",
                [*heads, "model", "", "uses", "tokens"],
                [
                    [
                        *app(model.app_name),
                        escape(model.model or "(not said)"),
                        _track(model.total_tokens, 0, most),
                        f"{model.uses:,}",
                        compact(model.total_tokens),
                    ]
                    for model in stats.models
                ],
            )
        )
    if stats.errors:
        most = max(error.count for error in stats.errors)
        parts.append(
            _table(
                "Kinds of errors",
                [*heads, "error", "", "times", "newest"],
                [
                    [
                        *app(error.app_name),
                        escape(error.name or error.source),
                        _track(0, error.count, most),
                        f"{error.count:,}",
                        f"{error.newest:%d %b}",
                    ]
                    for error in stats.errors
                ],
            )
        )
    if stats.apps:
        most = max(app.sessions for app in stats.apps)
        parts.append(
            _table(
                "Apps",
                ["app", "", "sessions", "active", "users", "active"],
                [
                    [
                        escape(each.app_name),
                        _track(each.sessions, 0, most),
                        *(
                            f"{n:,}"
                            for n in (each.sessions, each.active_sessions, each.users, each.active_users)
                        ),
                    ]
                    for each in sorted(stats.apps, key=lambda each: -each.sessions)
                ],
            )
        )
    if stats.tables:
        most = max(table.bytes for table in stats.tables)
        parts.append(
            _table(
                "Tables on disk",
                ["table", "", "rows, about", "size"],
                [
                    [
                        escape(table.table),
                        _track(table.bytes, 0, most),
                        "" if table.rows is None else compact(table.rows),
                        size(table.bytes),
                    ]
                    for table in stats.tables
                ],
            )
        )
    return "".join(parts)


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "") -> str:
    """A table with a bar in the column without a name, and numbers to the right of it."""
    bar = heads.index("")
    kinds = ["bar" if n == bar else "n" if n > bar else "" for n in range(len(heads))]
    head = "".join(f'<th class="{k}">{name}</th>' for k, name in zip(kinds, heads, strict=True))
    body = "".join(
        "<tr>" + "".join(f'<td class="{k}">{cell}</td>' for k, cell in zip(kinds, row, strict=True)) + "</tr>"
        for row in rows[:_ROWS]
    )
    more = f'<p class="note">and {len(rows) - _ROWS:,} more</p>' if len(rows) > _ROWS else ""
    return (
        f'<section class="{kind}"><div class="head"><h2>{title}</h2></div><div class="scroll"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{more}</section>"
    )


def _track(good: int, bad: int, most: int) -> str:
    """A bar whose length is its share of the largest value. The bad part is red."""
    return (
        f'<div class="track"><i style="width: {100 * good / max(1, most):.1f}%"></i>'
        f'<i class="bad" style="width: {100 * bad / max(1, most):.1f}%"></i></div>'
    )


def _seconds(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:,.1f} s"
