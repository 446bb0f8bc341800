"""SQLSpec's ADK tables on PostgreSQL: one document for each event (0.69), or one column for each field
(0.30).
"""

from __future__ import annotations

import json
import pickle
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

from google.adk.events.event import Event
from google.genai import types
from psqlpy import Connection
from typing_extensions import Self, override

from adk_psqlpy.admin.migrate.records import (
    Counts,
    MemoryRecord,
    Problem,
    Record,
    SessionHead,
    SharedState,
)
from adk_psqlpy.admin.migrate.sources.base import (
    KEYS_ARE_SORTED,
    NAN_IS_NULL,
    PAGE_SESSIONS,
    PART_EVENTS,
    EventParts,
    Source,
    SourceError,
    explain,
    missing_columns,
    moment,
)
from adk_psqlpy.admin.migrate.unpickle import actions_of
from adk_psqlpy.config import PsqlpyConfig
from adk_psqlpy.connections import binary
from adk_psqlpy.connections.lanes import Decoders, Row
from adk_psqlpy.sql.carry import BEGIN_READ, COMMIT
from adk_psqlpy.sql.names import quoted
from adk_psqlpy.sql.sqlspec_source import COLUMNS_OF, OLD_COLUMNS, SqlspecStatements

DOCUMENTS: Final = ("adk_session", "adk_event")
COLUMNS: Final = ("adk_sessions", "adk_events")
"""SQLSpec's default names of the two tables, in its newer and in its older releases."""

_OF_COLUMNS: Final = (
    "this layout has no columns for newer fields, such as usage_metadata: SQLSpec dropped them",
    "sessions held all state: that of apps and users is carried apart, as the session updated last has it",
)
_OF_MEMORIES: Final = (
    "vectors of memories are not carried: they belong to one embedding model",
    "memories of the scope 'app' are carried to the user who added them, with the scope in custom_metadata",
)
_UNKNOWN_SESSION: Final = "__unknown_session_id__"  # of memories that were added explicitly
_SESSION: Final = ("id", "app_name", "user_id", "state", "create_time", "update_time")


def _json(value: bytes) -> Any:
    return json.loads(value[1:])


_DECODERS: Final[Decoders] = {
    **dict.fromkeys(
        (
            *("state", "event_data", "content", "grounding_metadata", "custom_metadata"),
            *("long_running_tool_ids_json", "content_json", "metadata_json"),
        ),
        # Not decoded by the driver: a value that cannot be decoded is then a problem of its row only.
        binary.raw,
    ),
    "actions": binary.raw,
    **dict.fromkeys(("timestamp", "create_time", "update_time"), binary.unix_micros),
}


async def columns_of(connection: Connection, table: str) -> set[str]:
    """The columns of a table; none if there is no such table."""
    result = await connection.fetch(COLUMNS_OF, [quoted(table)])
    return {name for (name,) in result.result(as_tuple=True)}


class SqlspecSource(Source):
    """Sessions of SQLSpec's tables, and memories if there are any.

    SQLSpec has no artifacts in PostgreSQL (0.69): its artifact tables are for other databases.

    Args:
        dsn: where they are.
        session_table: the name that SQLSpec was given; `None` for its default.
        events_table: likewise.
    """

    def __init__(self, dsn: str, session_table: str | None = None, events_table: str | None = None) -> None:
        super().__init__()
        self._config = PsqlpyConfig({"dsn": dsn, "max_db_pool_size": 2})
        self._names = (session_table, events_table)
        self._stack = AsyncExitStack()
        self._connection: Connection | None = None
        self._sql: SqlspecStatements | None = None
        self._documents = self._states = self._memories = self._scopes = False
        self.description = "SQLSpec's ADK tables"

    @override
    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._config)
        try:
            self._connection = await self._stack.enter_async_context(self._config.provide_connection())
            await self._look(self._connection)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    @override
    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _look(self, connection: Connection) -> None:
        for defaults in (DOCUMENTS, COLUMNS):
            sessions, events = (given or name for given, name in zip(self._names, defaults, strict=True))
            session_columns = await columns_of(connection, sessions)
            event_columns = await columns_of(connection, events)
            if session_columns or event_columns:
                break
        if not session_columns or not event_columns:
            absent = sessions if not session_columns else events
            raise SourceError(f"the source lacks some of SQLSpec's ADK tables: there is no table {absent}")
        self._documents = "event_data" in event_columns
        own = ("event_data", "invocation_id") if self._documents else OLD_COLUMNS
        lacking = missing_columns(sessions, session_columns, _SESSION) or missing_columns(
            events, event_columns, ("id", "session_id", "timestamp", *own)
        )
        if lacking:
            raise SourceError(f"the source lacks some columns of SQLSpec's ADK tables: {lacking}")
        self._sql = SqlspecStatements(sessions, events, "adk_app_state", "adk_user_state", "adk_memory")
        if self._documents:
            self._states = bool(await columns_of(connection, "adk_app_state")) and bool(
                await columns_of(connection, "adk_user_state")
            )
        memory_columns = await columns_of(connection, "adk_memory")
        self._memories, self._scopes = "content_json" in memory_columns, "scope" in memory_columns
        layout = "one document an event" if self._documents else "a column a field"
        self.description = f"SQLSpec's ADK tables {sessions} and {events} ({layout})"
        self.differences += [NAN_IS_NULL, KEYS_ARE_SORTED]
        if not self._documents:
            self.differences += _OF_COLUMNS
        if self._memories:
            self.differences += _OF_MEMORIES

    @property
    def _statements(self) -> SqlspecStatements:
        assert self._sql is not None, "used outside of its context"
        return self._sql

    @override
    async def count(self) -> Counts:
        sql = self._statements
        ((sessions, events, states, memories),) = await self._fetch(
            sql.count(states=self._states, memories=self._memories), []
        )
        if not self._documents:
            for of_users in (False, True):
                states += len(await self._fetch(sql.shared_states(of_users=of_users), []))
                ((others,),) = await self._fetch(sql.outvoted(of_users=of_users), [])
                if others:
                    prefix = "user:" if of_users else "app:"
                    self.differences.append(
                        f"{others:,} values of {prefix} keys in sessions differ from the one that is carried"
                    )
        return Counts(sessions, events, states, memories)

    async def _fetch(self, statement: str, parameters: Sequence[Any]) -> list[Row]:
        assert self._connection is not None, "used outside of its context"
        result = await self._connection.fetch(statement, list(parameters))
        rows: list[Row] = result.result(as_tuple=True, custom_decoders=_DECODERS)
        return rows

    async def _stream(self, statement: str, parameters: Sequence[Any]) -> AsyncIterator[Row]:
        """Yield rows in batches, within one transaction."""
        assert self._connection is not None, "used outside of its context"
        await self._connection.execute(BEGIN_READ)
        cursor = self._connection.cursor(statement, list(parameters))
        await cursor.start()
        while rows := (await cursor.fetchmany(PART_EVENTS)).result(as_tuple=True, custom_decoders=_DECODERS):
            for row in rows:
                yield row
        cursor.close()
        await self._connection.execute(COMMIT)

    @override
    async def read(self) -> AsyncIterator[Record]:
        sql = self._statements
        if self._states:
            for app, state, micros in await self._fetch(sql.app_states, []):
                yield _shared(app, None, state, micros)
            async for app, user, state, micros in self._stream(sql.user_states, []):
                yield _shared(app, user, state, micros)
        if not self._documents:
            for of_users in (False, True):
                async for app, user, state, micros in self._stream(sql.shared_states(of_users=of_users), []):
                    yield _shared(app, user, state, micros)
        after = ""
        while rows := await self._fetch(sql.sessions, [after, PAGE_SESSIONS]):
            async for record in self._page(rows):
                yield record
            after = rows[-1][0]
        if self._memories:
            async for row in self._stream(sql.memories(scoped=self._scopes), []):
                yield _memory(row)

    async def _page(self, sessions: list[Row]) -> AsyncIterator[Record]:
        (ids,) = binary.arrays(("text",), [[row[0].encode()] for row in sessions])
        done = 0
        parts = EventParts()
        async for place, identity, micros, *rest in self._stream(
            self._statements.events(documents=self._documents), [ids]
        ):
            if place != done:
                if (left := parts.rest()) is not None:
                    yield left
                while done < place:
                    yield self._head(sessions[done])
                    done += 1
            row = sessions[place - 1]
            event, size = self._event((row[1], row[2], row[0]), identity, micros, rest)
            if (full := parts.add(event, size)) is not None:
                yield full
        if (left := parts.rest()) is not None:
            yield left
        for row in sessions[done:]:
            yield self._head(row)

    def _head(self, row: Row) -> Record:
        identity, app, user, state, created, updated = row
        try:
            own = _state(state)
        except ValueError as error:
            return Problem("session", app, user, identity, None, explain(error))
        if not self._documents:
            own = {name: value for name, value in own.items() if not name.startswith(("app:", "user:"))}
        return SessionHead(app, user, identity, own, created, updated)

    def _event(
        self, key: tuple[str, str, str], identity: str, micros: int, row: Sequence[Any]
    ) -> tuple[Event | Problem, int]:
        size = sum(len(value) for value in row if isinstance(value, (bytes, str)))
        try:
            if self._documents:
                data, invocation = row
                return _document(identity, invocation, micros, _json(data)), size
            return _of_columns(identity, micros, dict(zip(OLD_COLUMNS, row, strict=True))), size
        except (pickle.UnpicklingError, TypeError, ValueError, AttributeError, RecursionError) as error:
            return Problem("event", *key, identity, explain(error)), size


def _state(raw: bytes) -> dict[str, Any]:
    value = _json(raw)
    if not isinstance(value, dict):
        raise ValueError(f"its state is {type(value).__name__}, not a JSON object")
    return value


def _shared(app: str, user: str | None, raw: bytes, micros: int) -> Record:
    prefix = "app:" if user is None else "user:"
    try:
        state = {name.removeprefix(prefix): value for name, value in _state(raw).items()}
    except ValueError as error:
        return Problem("state", app, user, None, None, explain(error))
    return SharedState(app, user, state, micros)


def _document(identity: str, invocation: str | None, micros: int, data: dict[str, Any]) -> Event:
    """Make an event as SQLSpec does (0.69, `converters.record_to_event`)."""
    if data.get("actions") is None:
        data.pop("actions", None)
    data.setdefault("id", identity)
    data.setdefault("invocation_id", invocation)
    data.setdefault("timestamp", micros / 1e6)
    return Event.model_validate(data)


def _of_columns(identity: str, micros: int, row: dict[str, Any]) -> Event:
    """Make an event as SQLSpec did (0.30, `converters.record_to_event`), except for the unpickling."""
    pickled = row.pop("actions")
    tools = row.pop("long_running_tool_ids_json")
    for name in ("content", "grounding_metadata", "custom_metadata"):
        row[name] = None if row[name] is None else _json(row[name])
    content, grounding = row.pop("content"), row.pop("grounding_metadata")
    if tools is not None:
        # A JSONB column in SQLSpec, text in tables that copied the layout; SQLSpec itself wrote a JSON
        # string.
        tools = json.loads(tools) if isinstance(tools, str) else json.loads(tools.lstrip(b"\x01"))
        tools = json.loads(tools) if isinstance(tools, str) else tools
    fields = {name: value for name, value in row.items() if value is not None}
    return Event(
        id=identity,
        timestamp=micros / 1e6,
        content=types.Content.model_validate(content) if content else None,
        grounding_metadata=types.GroundingMetadata.model_validate(grounding) if grounding else None,
        long_running_tool_ids=set(tools) if tools else None,
        **fields | ({} if pickled is None else {"actions": actions_of(pickled)}),
    )


def _memory(row: Row) -> Record:
    identity, session_id, app, user, event_id, author, micros, content, metadata, scope = row
    explicit = session_id == _UNKNOWN_SESSION
    try:
        custom = {} if metadata is None else _json(metadata) or {}
        if scope == "app":
            custom.setdefault("scope", scope)
        return MemoryRecord(
            app,
            user,
            "" if explicit else session_id,
            identity if explicit else event_id,
            author,
            micros,
            _shown(micros) if explicit else None,
            types.Content.model_validate(_json(content)),
            custom,
        )
    except (TypeError, ValueError, AttributeError) as error:
        return Problem("memory", app, user, session_id, identity, explain(error))


def _shown(micros: int) -> str:
    """The time of an explicit memory as SQLSpec shows it."""
    return moment(micros).isoformat()
