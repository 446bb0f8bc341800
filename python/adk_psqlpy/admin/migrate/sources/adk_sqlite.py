"""A file of ADK's `SqliteSessionService`. `adk web` keeps one in `.adk/session.db`."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from google.adk.events.event import Event
from typing_extensions import Self, override

from adk_psqlpy.admin.migrate.records import Counts, Problem, Record, SessionHead, SharedState
from adk_psqlpy.admin.migrate.sources.base import (
    NAN_IS_NULL,
    PAGE_SESSIONS,
    PART_EVENTS,
    EventParts,
    Source,
    SourceError,
    explain,
    missing_columns,
)
from adk_psqlpy.sql import sqlite_source as sql

TABLES: Final = {
    "sessions": ("app_name", "user_id", "id", "state", "create_time", "update_time"),
    "events": ("id", "app_name", "user_id", "session_id", "timestamp", "event_data"),
    "app_states": ("app_name", "state", "update_time"),
    "user_states": ("app_name", "user_id", "state", "update_time"),
}
Key = tuple[str, str, str]
_T = TypeVar("_T")


def tables_of(path: Path) -> dict[str, set[str]]:
    """The tables of an SQLite file with their columns.

    Raises:
        SourceError: it is no SQLite file, or cannot be read.
    """
    try:
        with sqlite3.connect(_uri(path), uri=True) as connection:
            names = [name for (name,) in connection.execute(sql.OBJECTS)]
            return {
                name: {column for (column,) in connection.execute(sql.COLUMNS, (name,))} for name in names
            }
    except sqlite3.Error as error:
        raise SourceError(f"{path} is no SQLite database that can be read: {error}") from error


def _uri(path: Path) -> str:
    return f"{path.resolve().as_uri()}?mode=ro"


class SqliteSource(Source):
    """Sessions of one SQLite file, read a page at a time, each page in one transaction."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._connection: sqlite3.Connection | None = None
        # All calls run in one thread. Otherwise the connection could be closed while a statement runs whose
        # await was cancelled, and that crashed the interpreter.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="adk-psqlpy-sqlite")
        self.description = f"ADK's SqliteSessionService, {path}"
        self.differences += [
            NAN_IS_NULL,
            "times of sessions were floating-point numbers, and are carried to the microsecond",
        ]

    @override
    async def __aenter__(self) -> Self:
        self._connection = await self._call(
            lambda: sqlite3.connect(_uri(self._path), uri=True, isolation_level=None)
        )
        return self

    async def _call(self, function: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    @override
    async def __aexit__(self, *_: object) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._call(connection.close)
        self._thread.shutdown(wait=False)

    @property
    def _open(self) -> sqlite3.Connection:
        assert self._connection is not None, "used outside of its context"
        return self._connection

    @override
    async def count(self) -> Counts:
        there = await asyncio.to_thread(tables_of, self._path)
        problems = [
            f"there is no table {table}"
            if table not in there
            else missing_columns(table, there[table], needed)
            for table, needed in TABLES.items()
        ]
        if any(problems):
            raise SourceError(
                f"{self._path} lacks some of ADK's tables or columns: {'; '.join(filter(None, problems))}"
            )
        counted = {table: await self._count(table) for table in TABLES}
        return Counts(counted["sessions"], counted["events"], counted["app_states"] + counted["user_states"])

    async def _count(self, table: str) -> int:
        return int((await self._all(sql.count(table), ()))[0][0])

    async def _all(self, statement: str, parameters: Sequence[Any]) -> list[Any]:
        return await self._call(lambda: self._open.execute(statement, parameters).fetchall())

    @override
    async def read(self) -> AsyncIterator[Record]:
        async for rows in self._rows(sql.APP_STATES, ()):
            for app, state, at in rows:
                yield _shared(app, None, state, at)
        async for rows in self._rows(sql.USER_STATES, ()):
            for app, user, state, at in rows:
                yield _shared(app, user, state, at)
        after: Key | None = ("", "", "")
        while after is not None:
            await self._all(sql.BEGIN, ())
            try:
                sessions = await self._all(sql.SESSIONS, (*after, PAGE_SESSIONS))
                last = sessions[-1][:3] if len(sessions) == PAGE_SESSIONS else None
                async for record in self._page(sessions, after, last):
                    yield record
                after = last
            finally:
                await self._all(sql.ROLLBACK, ())

    async def _page(
        self, sessions: Sequence[Sequence[Any]], after: Key, last: Key | None
    ) -> AsyncIterator[Record]:
        """Yield sessions, each followed by its events. An event without a session is a problem."""
        heads: Iterator[Sequence[Any]] = iter(sessions)
        known = {tuple(row[:3]) for row in sessions}
        current: Key | None = None
        parts = EventParts()
        events = self._rows(
            sql.LAST_EVENTS if last is None else sql.EVENTS, after if last is None else (*after, *last)
        )
        async for rows in events:
            for *owner, identity, data in rows:
                key = (owner[0], owner[1], owner[2])
                if key != current and key in known:
                    if (rest := parts.rest()) is not None:
                        yield rest
                    while current != key:
                        row = next(heads)
                        current = (row[0], row[1], row[2])
                        yield _head(row)
                event = _event(key, identity, data)
                if key != current:
                    yield Problem("event", *key, identity, "there is no session that it belongs to")
                elif (full := parts.add(event, len(data))) is not None:
                    yield full
        if (rest := parts.rest()) is not None:
            yield rest
        for row in heads:
            yield _head(row)

    async def _rows(self, statement: str, parameters: Sequence[Any]) -> AsyncIterator[list[Any]]:
        cursor = await self._call(lambda: self._open.execute(statement, parameters))
        while rows := await self._call(lambda: cursor.fetchmany(PART_EVENTS)):
            yield rows


def _micros(seconds: float) -> int:
    return round(seconds * 1e6)


def _state(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"its state is {type(value).__name__}, not a JSON object")
    return value


def _shared(app: str, user: str | None, state: str, at: float) -> Record:
    try:
        return SharedState(app, user, _state(state), _micros(at))
    except (TypeError, ValueError) as error:
        return Problem("state", app, user, None, None, explain(error))


def _head(row: Sequence[Any]) -> Record:
    app, user, identity, state, created, updated = row
    try:
        return SessionHead(app, user, identity, _state(state), _micros(created), _micros(updated))
    except (TypeError, ValueError) as error:
        return Problem("session", app, user, identity, None, explain(error))


def _event(key: Key, identity: str, data: str) -> Event | Problem:
    try:
        return Event.model_validate_json(data)
    except ValueError as error:
        return Problem("event", *key, identity, explain(error))
