"""How much happens and how much is stored: counts by app and day."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Final

from adk_psqlpy.admin.tables import require_tables
from adk_psqlpy.config import PsqlpyConfig
from adk_psqlpy.connections.lanes import Row, lanes_of
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.sql import Tables
from adk_psqlpy.sql.artifact_tables import ArtifactTables
from adk_psqlpy.sql.memory import MemoryTable
from adk_psqlpy.sql.stats import StatsStatements, sizes

DAYS: Final = 30
"""The default number of days."""


@dataclass(frozen=True, slots=True)
class DayStats:
    """One app on one day (UTC). `bytes` is roughly the space of its events in the table, without indexes."""

    app_name: str
    day: date
    sessions: int
    users: int
    events: int
    messages: int
    tool_calls: int
    errors: int
    bytes: int
    prompt_tokens: int
    cached_tokens: int
    candidates_tokens: int
    thoughts_tokens: int
    total_tokens: int


@dataclass(frozen=True, slots=True)
class AppStats:
    """One app: everything that is stored, and how much of it had events in the period."""

    app_name: str
    sessions: int
    users: int
    active_sessions: int
    active_users: int


@dataclass(frozen=True, slots=True)
class ToolStats:
    """One tool of one app. Times are seconds from call to answer; `None` if no call was answered."""

    app_name: str
    tool: str
    calls: int
    errors: int
    median_seconds: float | None
    p95_seconds: float | None


@dataclass(frozen=True, slots=True)
class ModelStats:
    """One model of one app; its name is empty if the events do not name it."""

    app_name: str
    model: str
    uses: int
    prompt_tokens: int
    candidates_tokens: int
    total_tokens: int


@dataclass(frozen=True, slots=True)
class ErrorStats:
    """One kind of error of one app: `source` is `event` or `tool`, `name` an error code or a tool."""

    app_name: str
    source: str
    name: str
    count: int
    newest: datetime


@dataclass(frozen=True, slots=True)
class TableStats:
    """One table: the planner's estimate of its rows (`None`: no estimate yet), and its bytes with indexes."""

    table: str
    rows: int | None
    bytes: int


@dataclass(frozen=True, slots=True)
class Stats:
    """The counts of `stats`, from `since` to just before `until`."""

    since: datetime
    until: datetime
    app_name: str | None
    apps: list[AppStats]
    days: list[DayStats]
    tools: list[ToolStats]
    models: list[ModelStats]
    errors: list[ErrorStats]
    tables: list[TableStats]


async def stats(
    config: PsqlpyConfig,
    session_table: str = "adk_sessions",
    events_table: str = "adk_events",
    *,
    memory_table: str = "adk_memories",
    artifact_table: str = "adk_artifacts",
    app_name: str | None = None,
    days: int = DAYS,
    now: datetime | None = None,
) -> Stats:
    """Count what happened in the last `days` days of UTC, today's included, in one app or in all.

    This reads the whole table of events several times. The views need not exist. For memories and artifacts
    it gives only the sizes of the tables, if they exist.

    Raises:
        ValueError: a table's name is not one, or `days` is not a number of days.
        psqlpy.exceptions.Error: the tables are missing, or the server could not be asked.
    """
    if isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= 36_500:
        raise ValueError(f"days must be an integer from 1 to 36,500, not {days!r}")
    tables, memories, artifacts = (
        Tables(session_table, events_table),
        MemoryTable(memory_table),
        ArtifactTables(artifact_table),
    )
    await require_tables(config, tables)
    moment = datetime.now(timezone.utc) if now is None else now.astimezone(timezone.utc)
    until = datetime(moment.year, moment.month, moment.day, tzinfo=timezone.utc) + timedelta(days=1)
    since = until - timedelta(days=days)
    statements, lanes = StatsStatements(tables), lanes_of(config)

    async def rows(statement: str) -> list[Row]:
        return await lanes.fetch(statement, [since, until, app_name], kind="list", repeat=Repeat.READ)

    named = [
        *(tables.sessions, tables.events, tables.app_states, tables.user_states, tables.state_log),
        memories.memories,
        *(artifacts.artifacts, artifacts.chunks),
    ]
    stored = await lanes.fetch(sizes(len(named)), named, kind="list", repeat=Repeat.READ)
    return Stats(
        since=since,
        until=until,
        app_name=app_name,
        apps=[AppStats(*row) for row in await rows(statements.apps)],
        days=[DayStats(*row) for row in await rows(statements.days)],
        tools=[ToolStats(*row) for row in await rows(statements.tools)],
        models=[ModelStats(*row) for row in await rows(statements.models)],
        errors=[ErrorStats(*row) for row in await rows(statements.errors)],
        tables=[
            TableStats(name.replace('"', ""), None if count < 0 else count, size)
            for name, count, size in stored
        ],
    )
