"""Tables of ADK's `DatabaseSessionService`, through SQLAlchemy: schema v1 (JSON), and v0 (pickled actions).

Rows become events in the way of ADK's own classes for the two schemas (google-adk 2.13,
`google/adk/sessions/schemas`), with two exceptions. Values are decoded row by row, so that the others can
still be read if one cannot. And pickles are read by `unpickle`.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timezone, tzinfo
from typing import TYPE_CHECKING, Any, Final

from google.adk.events.event import Event
from typing_extensions import Self, override

from adk_psqlpy.admin.migrate.records import Counts, Problem, Record, SessionHead, SharedState
from adk_psqlpy.admin.migrate.sources.base import (
    KEYS_ARE_SORTED,
    NAN_IS_NULL,
    PAGE_SESSIONS,
    PART_EVENTS,
    EventParts,
    Source,
    SourceError,
    explain,
    micros_of,
)
from adk_psqlpy.admin.migrate.unpickle import actions_of
from adk_psqlpy.sql import sqlite_source

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.engine import Connection, Row
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

Key = tuple[str, str, str]

_SESSIONS: Final = ("app_name", "user_id", "id", "state", "create_time", "update_time")
_EVENT_KEY: Final = ("app_name", "user_id", "session_id", "id", "timestamp")
_APP_STATES: Final = ("app_name", "state", "update_time")
_USER_STATES: Final = ("app_name", "user_id", "state", "update_time")
# Columns of v0 that early releases did not have.
_LATER: Final = (
    "branch",
    "grounding_metadata",
    "custom_metadata",
    "usage_metadata",
    "citation_metadata",
    "input_transcription",
    "output_transcription",
    "long_running_tool_ids_json",
    "partial",
    "turn_complete",
    "error_code",
    "error_message",
    "interrupted",
)
_JSON: Final = frozenset(
    {
        *("content", "grounding_metadata", "custom_metadata", "usage_metadata", "citation_metadata"),
        *("input_transcription", "output_transcription", "event_data", "state"),
    }
)


_OF_V0: Final = (
    "schema v0 has no columns for newer fields of events, such as model_version: they were not stored",
    "values in pickled state that are not JSON are carried as pydantic writes them",
    "ADK reads the schemes of pickled credentials as instances of another class; they are carried as pickled",
)


class DatabaseSource(Source):
    """Sessions of one database.

    Args:
        url: as `DatabaseSessionService` takes it, with the name of an asynchronous driver.
        naive_zone: the zone of times that have none. ADK writes UTC. Releases before 1.22 wrote the host's
            local time into tables of schema v0.

    Raises:
        ImportError: SQLAlchemy, or the driver of the URL, is not installed.
        SourceError: it is not a URL.
    """

    def __init__(self, url: str, *, naive_zone: tzinfo = timezone.utc) -> None:
        super().__init__()
        try:
            from sqlalchemy.engine import make_url
            from sqlalchemy.exc import ArgumentError, NoSuchModuleError
            from sqlalchemy.ext.asyncio import create_async_engine
        except ImportError as error:
            raise ImportError(
                "tables of ADK's DatabaseSessionService are read through SQLAlchemy, as ADK does: "
                "pip install 'google-adk[db]'"
            ) from error
        try:
            parsed = make_url(url)
            self._engine: AsyncEngine = create_async_engine(parsed, pool_size=1, max_overflow=0)
        except NoSuchModuleError as error:
            raise SourceError(
                f"the source URL has a driver that SQLAlchemy does not know: {error}"
            ) from error
        except ArgumentError:  # its message repeats the URL, and the password in it
            raise SourceError("the source is not a URL that SQLAlchemy accepts") from None
        except ModuleNotFoundError as error:
            raise ImportError(
                f"the driver of {parsed.render_as_string(hide_password=True)} is not installed: {error}"
            ) from error
        self._shown = parsed.set(query={}).render_as_string(hide_password=True)
        self._zone = naive_zone
        self._version = ""
        self._tables: dict[str, Table] = {}
        self._connection: AsyncConnection | None = None
        self.description = f"ADK's DatabaseSessionService, {self._shown}"

    @override
    async def __aenter__(self) -> Self:
        from sqlalchemy.exc import SQLAlchemyError

        try:
            self._connection = await self._engine.connect()
            if self._connection.dialect.name != "sqlite":
                # A page of sessions and their events are read as of one moment.
                await self._connection.execution_options(isolation_level="REPEATABLE READ")
            await self._connection.run_sync(self._look)
            await self._connection.rollback()
        except (SQLAlchemyError, OSError) as error:
            await self.__aexit__()
            raise SourceError(f"{self._shown} cannot be read: {explain(error)}") from error
        except SourceError:
            await self.__aexit__()
            raise
        return self

    @override
    async def __aexit__(self, *_: object) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
        await self._engine.dispose()

    def _look(self, connection: Connection) -> None:
        """Find the tables and their columns. Values are read as the driver gives them, except for times."""
        from google.adk.sessions.schemas.shared import PreciseTimestamp
        from sqlalchemy import Column, LargeBinary, MetaData, Table, inspect
        from sqlalchemy.types import NullType

        inspector = inspect(connection)
        there = {
            name: {column["name"] for column in inspector.get_columns(name)}
            for name in ("sessions", "events", "app_states", "user_states")
            if inspector.has_table(name)
        }
        if not there:
            raise SourceError(f"{self._shown} has no tables of ADK's DatabaseSessionService")
        events = there.get("events", set())
        self._version = "v1" if "event_data" in events else "v0"
        own = (
            ("event_data", "invocation_id")
            if self._version == "v1"
            else ("actions", "invocation_id", "author", "content")
        )
        needed = {
            "sessions": _SESSIONS,
            "events": (*_EVENT_KEY, *own),
            "app_states": _APP_STATES,
            "user_states": _USER_STATES,
        }
        lacking = [
            f"there is no table {name}"
            if name not in there
            else f"table {name} has no column {', '.join(c for c in columns if c not in there[name])}"
            for name, columns in needed.items()
            if name not in there or not there[name].issuperset(columns)
        ]
        if lacking:
            raise SourceError(
                f"{self._shown} lacks some of ADK's tables or columns (schema {self._version}): "
                f"{'; '.join(lacking)}"
            )
        if self._version == "v0":
            needed["events"] += tuple(name for name in _LATER if name in events)
        metadata = MetaData()

        def column(name: str) -> Column[Any]:
            if name.endswith("time") or name == "timestamp":
                return Column(name, PreciseTimestamp())
            if name == "actions":
                return Column(name, LargeBinary())
            return Column(name, NullType())

        self._tables = {
            name: Table(name, metadata, *map(column, columns)) for name, columns in needed.items()
        }
        self.description = f"ADK's DatabaseSessionService (schema {self._version}), {self._shown}"
        self.differences.append(NAN_IS_NULL)
        if connection.dialect.name == "postgresql":
            self.differences.append(KEYS_ARE_SORTED)
        if self._version == "v0":
            self.differences += _OF_V0

    @property
    def _open(self) -> AsyncConnection:
        assert self._connection is not None, "used outside of its context"
        return self._connection

    @override
    async def count(self) -> Counts:
        from sqlalchemy import func, select

        counted = {}
        for name, table in self._tables.items():
            counted[name] = (await self._open.execute(select(func.count()).select_from(table))).scalar_one()
        await self._open.rollback()
        return Counts(counted["sessions"], counted["events"], counted["app_states"] + counted["user_states"])

    @override
    async def read(self) -> AsyncIterator[Record]:
        async for row in self._stream(self._tables["app_states"].select()):
            yield self._shared(row, None)
        async for row in self._stream(self._tables["user_states"].select()):
            yield self._shared(row, row.user_id)
        await self._open.rollback()
        after: Key | None = None
        while True:
            if self._open.dialect.name == "sqlite":
                # The driver begins a transaction by itself only before it writes.
                await self._open.exec_driver_sql(sqlite_source.BEGIN)
            heads = await self._heads(after)
            last = heads[-1] if len(heads) == PAGE_SESSIONS else None
            async for record in self._page(heads, after, None if last is None else _key(last)):
                yield record
            await self._open.rollback()
            if last is None:
                return
            after = _key(last)

    async def _heads(self, after: Key | None) -> Sequence[Row[Any]]:
        from sqlalchemy import select, tuple_

        columns = self._tables["sessions"].c
        key = (columns.app_name, columns.user_id, columns.id)
        query = select(*columns).order_by(*key).limit(PAGE_SESSIONS)
        if after is not None:
            query = query.where(tuple_(*key) > tuple_(*after))
        return (await self._open.execute(query)).all()

    async def _page(
        self, rows: Sequence[Row[Any]], after: Key | None, last: Key | None
    ) -> AsyncIterator[Record]:
        """Yield sessions, each followed by its events. An event without a session is a problem."""
        from sqlalchemy import select, tuple_

        columns = self._tables["events"].c
        owner = (columns.app_name, columns.user_id, columns.session_id)
        query = select(*columns).order_by(*owner, columns.timestamp, columns.id)
        if after is not None:
            query = query.where(tuple_(*owner) > tuple_(*after))
        if last is not None:
            query = query.where(tuple_(*owner) <= tuple_(*last))
        heads = iter(rows)
        known = {_key(row) for row in rows}
        current: Key | None = None
        parts = EventParts()
        async for row in self._stream(query):
            key = (row.app_name, row.user_id, row.session_id)
            if key != current and key in known:
                if (rest := parts.rest()) is not None:
                    yield rest
                while current != key:
                    head = next(heads)
                    current = _key(head)
                    yield self._head(head)
            event, size = self._event(key, row)
            if key != current:
                yield Problem("event", *key, row.id, "there is no session that it belongs to")
            elif (full := parts.add(event, size)) is not None:
                yield full
        if (rest := parts.rest()) is not None:
            yield rest
        for head in heads:
            yield self._head(head)

    async def _stream(self, query: Any) -> AsyncIterator[Row[Any]]:
        result = await self._open.stream(query.execution_options(yield_per=PART_EVENTS))
        try:
            async for row in result:
                yield row
        finally:
            await result.close()

    def _micros(self, moment: datetime) -> int:
        return micros_of(moment, self._zone)

    def _shared(self, row: Row[Any], user_id: str | None) -> Record:
        try:
            return SharedState(row.app_name, user_id, _state(row.state), self._micros(row.update_time))
        except (TypeError, ValueError, AttributeError) as error:
            return Problem("state", row.app_name, user_id, None, None, explain(error))

    def _head(self, row: Row[Any]) -> Record:
        try:
            created, updated = self._micros(row.create_time), self._micros(row.update_time)
            return SessionHead(row.app_name, row.user_id, row.id, _state(row.state), created, updated)
        except (TypeError, ValueError, AttributeError) as error:
            return Problem("session", row.app_name, row.user_id, row.id, None, explain(error))

    def _event(self, key: Key, row: Row[Any]) -> tuple[Event | Problem, int]:
        values = dict(row._mapping)
        size = sum(len(value) for value in values.values() if isinstance(value, (str, bytes)))
        try:
            for name in _JSON.intersection(values):
                values[name] = _decoded(values[name])
            if values["timestamp"].tzinfo is None:
                values["timestamp"] = values["timestamp"].replace(tzinfo=self._zone)
            return (_v1_event if self._version == "v1" else _v0_event)(values), size
        except (pickle.UnpicklingError, TypeError, ValueError, AttributeError, RecursionError) as error:
            return Problem("event", *key, row.id, explain(error)), size


def _key(row: Row[Any]) -> Key:
    return row.app_name, row.user_id, row.id


def _decoded(value: Any) -> Any:
    """A JSON column's value: PostgreSQL's drivers give text or the value, others give text."""
    return json.loads(value) if isinstance(value, (str, bytes)) else value


def _state(value: Any) -> dict[str, Any]:
    decoded = _decoded(value)
    if not isinstance(decoded, dict):
        raise ValueError(f"its state is {type(decoded).__name__}, not a JSON object")
    return decoded


def _v1_event(values: dict[str, Any]) -> Event:
    from google.adk.sessions.schemas.v1 import StorageEvent

    return StorageEvent(**values).to_event()


def _v0_event(values: dict[str, Any]) -> Event:
    from google.adk.sessions.schemas.v0 import StorageEvent

    for name in ("actions", *_LATER):
        values.setdefault(name, None)
    pickled = values.pop("actions")
    event = StorageEvent(**values, actions=None).to_event()
    if pickled is not None:
        event.actions = actions_of(bytes(pickled))
    return event
