"""The end of the demo: showing the rows, as SQL reads them, and the times."""

from __future__ import annotations

import json
import statistics
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from adk_psqlpy.demo.recorder import Handover, Recorder
from adk_psqlpy.sql import demo as sql


def compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def headline(screen: Console, text: str) -> None:
    screen.print(f"\n{text}\n", style="bold")


def _grid(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim")
    for name in columns:
        table.add_column(name, overflow="fold", justify="right" if name in _NUMBERS else "left")
    return table


_NUMBERS = ("rows", "seq", "revision", "calls", "median ms", "slowest ms")


async def show_rows(service: Recorder, screen: Console) -> None:
    """Show counts, sessions, events and shared state, read with SQL on a connection of the pool."""
    tables = service.store.tables
    async with service.store.config.provide_connection() as connection:

        async def rows(statement: str, *parameters: object) -> list[dict[str, Any]]:
            return (await connection.fetch(statement, list(parameters))).result()

        counts = sorted(await rows(sql.counts(tables)), key=lambda row: int(row["place"]))
        sessions = await rows(sql.sessions(tables))
        shared = await rows(sql.shared_states(tables))
        events = await rows(sql.events(tables), "alice")

    grid = _grid("Rows", "table", "rows")
    for row in counts:
        grid.add_row(row["name"].replace('"', ""), str(row["rows"]))
    screen.print("", grid)

    grid = _grid("adk_sessions", "user_id", "id", "revision", "state", "update_time")
    for row in sessions:
        grid.add_row(row["user_id"], row["id"], str(row["revision"]), Text(row["state"]), row["updated"])
    screen.print("", grid)

    grid = _grid("adk_events, the newest of alice", "seq", "author", "content", "actions: state_delta")
    for row in reversed(events):
        delta = row["state_delta"]
        shown = Text("" if delta in (None, "{}") else delta)
        grid.add_row(str(row["seq"]), row["author"], Text(_part(row["part"])), shown)
    screen.print("", grid)

    grid = _grid("State by scope", "scope", "of", "state")
    for row in shared:
        grid.add_row(row["scope"], row["owner"], Text(row["state"]))
    for row in sessions:
        grid.add_row("session", row["id"], Text(row["state"]))
    grid.add_row("temp", "a turn", "never stored", style="dim")
    screen.print("", grid)


def _part(part: dict[str, Any]) -> str:
    """A part of a content in a few words."""
    call, response = part.get("function_call"), part.get("function_response")
    if call is not None:
        return f"{call['name']}({compact(call.get('args', {}))})"
    if response is not None:
        return f"{response['name']} = {compact(response.get('response'))}"
    return str(part.get("text", ""))


def show_durations(handover: Handover, screen: Console) -> None:
    """Show the times of both processes. The slowest operation had to open a connection first."""
    grid = _grid("Times of both processes", "operation", "calls", "median ms", "slowest ms")
    for operation, seconds in handover.durations.items():
        median, slowest = statistics.median(seconds) * 1000, max(seconds) * 1000
        grid.add_row(operation, str(len(seconds)), f"{median:.2f}", f"{slowest:.2f}")
    screen.print("", grid)
