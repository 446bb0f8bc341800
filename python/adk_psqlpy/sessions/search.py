"""Searching the text of conversations."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import Any, Final

from google.adk.events.event import Event
from psqlpy.exceptions import NotSupportedError

from adk_psqlpy import _native
from adk_psqlpy.connections import binary
from adk_psqlpy.connections.lanes import Decoders, Lanes, Row
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.memory.words import LONGEST_QUERY, terms, words
from adk_psqlpy.row_security import make_secured
from adk_psqlpy.seal.seal import Seal
from adk_psqlpy.sessions import arguments
from adk_psqlpy.sql import event_columns
from adk_psqlpy.sql.event_search import (
    PORTION_EVENTS,
    EventSearchStatements,
    create_event_search,
    drop_event_search,
)
from adk_psqlpy.sql.names import split
from adk_psqlpy.sql.row_security import of_sessions
from adk_psqlpy.sql.tables import Tables

Window = timedelta | tuple[float | None, float | None] | None
Progress = Callable[[int], None]
"""Called with the number of events that were looked at so far."""

_FOUND: Final[Decoders] = dict.fromkeys(event_columns.ARRAYS, binary.raw)
_SESSIONS: Final = ("varchar", "varchar", "varchar", "timestamptz", "bigint", "bigint")
_EVENTS: Final = ("varchar", "varchar", "varchar", "varchar", "bigint", "text", "text")
_ATTEMPTS: Final = 20
_PAUSE_SEC: Final = 0.02


@dataclass(frozen=True, slots=True)
class FoundEvent:
    """An event that a search has found, its place, and its score. A higher score is better."""

    user_id: str
    session_id: str
    seq: int
    score: float
    event: Event


class EventSearch:
    """Search over one store's events, if its tables were made for it."""

    def __init__(self, tables: Tables, key_length: int, lanes: Lanes, recorded: Callable[[], Any]) -> None:
        """`recorded` gives what `adk_metadata` says."""
        self._sql = EventSearchStatements(tables)
        self._key_length = key_length
        self._lanes = lanes
        self._recorded = recorded

    async def change(self, wanted: bool | str, recorded: dict[str, str], *, row_security: bool) -> None:
        """Make the index, with its language, or take it away; nothing where it is so already.

        `row_security` says whether its tables are secured also in a schema that is not.

        Raises:
            ValueError: there is no such language, or the index was made with another one.
        """
        there = recorded.get("event_search")
        if wanted is False:
            if there is not None:
                await self._lanes.batch(drop_event_search(self._sql.tables))
            return
        language = "simple" if wanted is True else wanted
        if there is not None:
            if wanted is not True and there != language:
                raise ValueError(
                    f"event_search was made with the language {there!r}, not {language!r}: "
                    "create_tables(event_search=False) removes it, so that it can be made anew"
                )
            return
        known = await self._lanes.fetch(
            self._sql.knows_language, [*split("event_search", language)], repeat=Repeat.READ
        )
        if not known[0][0]:
            raise ValueError(f"event_search {language!r} is not a text search configuration of this database")
        batch = create_event_search(self._sql.tables, self._key_length, language)
        await make_secured(self._lanes, batch, of_sessions(self._sql.tables), wanted=row_security)

    async def search(
        self, app_name: str, user_id: str | None, query: str, limit: int, window: Window
    ) -> list[FoundEvent]:
        """Index events that are not indexed yet, then find events. The arguments were checked before."""
        language = await self._language()
        wanted = terms(query[:LONGEST_QUERY])
        since, until = _bounds(window)
        if not wanted.any:
            return []
        await self._catch_up(language, app_name, user_id, None)
        parameters = [
            app_name,
            language,
            _texts(wanted.any),
            " | ".join(f"({term})" for term in wanted.none),
            limit,
            binary.parameter(since),
            binary.parameter(until),
            *([] if user_id is None else [user_id]),
        ]
        sql = self._sql.search(user=user_id is not None)
        ((users, sessions, seqs, scores, *columns),) = await self._lanes.fetch(
            sql, parameters, _FOUND, kind="read", repeat=Repeat.READ
        )
        if users is None:
            return []
        events = _native.decode_events(tuple(columns), place=f"events of app {app_name!r}")
        return [FoundEvent(*each) for each in zip(users, sessions, seqs, scores, events, strict=True)]

    async def index(self, app_name: str | None, progress: Progress | None) -> int:
        """Index all events that are not indexed yet, and return their number."""
        return await self._catch_up(await self._language(), app_name, None, progress)

    async def _language(self) -> str:
        recorded: dict[str, str] = await self._recorded()
        language = recorded.get("event_search")
        if language is None:
            raise NotSupportedError(
                "the tables are not made for a search in conversations: "
                "call `await store.create_tables(event_search=True)` once, with a role that may make tables"
            )
        return ".".join(f'"{part}"' for part in split("event_search", language) if part)

    async def _catch_up(
        self, language: str, app_name: str | None, user_id: str | None, progress: Progress | None
    ) -> int:
        """Index portion after portion. Others may do the same at once: each event is indexed once."""
        scope = [each for each in (app_name, user_id) if each is not None]
        sql = self._sql.portion(app=app_name is not None, user=user_id is not None)
        done = idle = 0
        while True:
            rows = await self._lanes.fetch(
                sql, scope, {"create_time": binary.raw}, kind="list", repeat=Repeat.READ
            )
            if not rows:
                return done
            await self._begin(rows)
            moved = await self._give_words(language, rows)
            done += sum(row[6] is not None for row in rows)
            if progress is not None:
                progress(done)
            idle = 0 if moved else idle + 1
            if idle >= _ATTEMPTS:
                return done  # somebody else has been indexing for long
            if idle:
                await asyncio.sleep(_PAUSE_SEC)

    async def _begin(self, rows: list[Row]) -> None:
        """Make the marks of sessions that have none."""
        keys = dict.fromkeys(tuple(row[:3]) for row in rows if row[5] is None)
        if keys:
            given = [[part.encode() for part in key] for key in keys]
            await self._lanes.fetch(
                self._sql.begin, list(binary.arrays(_SESSIONS[:3], given)), repeat=Repeat.AFTER_FAILURE
            )

    async def _give_words(self, language: str, rows: list[Row]) -> bool:
        """Store the words of a portion, and return whether a mark was moved."""
        sessions: list[list[bytes | None]] = []
        events: list[list[bytes | None]] = []
        began = time.monotonic()
        for session, group in groupby(
            sorted(rows, key=lambda row: (*row[:3], row[7] or 0)), key=lambda row: row[:6]
        ):
            app_name, user_id, session_id, created, revision, was = session
            key: list[bytes | None] = [each.encode() for each in (app_name, user_id, session_id)]
            told = [row[6:] for row in group if row[6] is not None]
            mark = told[-1][1] if len(told) == PORTION_EVENTS else revision
            sessions.append([*key, created, _bigint(was or 0), _bigint(mark)])
            for identity, seq, version, said in told:
                found = words(said or "").encode()
                events.append([*key, identity.encode(), _bigint(seq), version.encode(), found])
                if time.monotonic() - began > _PAUSE_SEC:
                    await asyncio.sleep(0)  # the texts are long: let other tasks run
                    began = time.monotonic()
        given = [*binary.arrays(_SESSIONS, sessions), *binary.arrays(_EVENTS, events)]
        # It has no effect a second time, so it may be repeated at any time.
        ((_, marks),) = await self._lanes.fetch(
            self._sql.give_words, [language, *given], repeat=Repeat.AFTER_FAILURE
        )
        return bool(marks)


def refuse_search_of_sealed(seal: Seal | None, index: str | None = None) -> None:
    """Refuse a search where a store seals; `index` is the table of one that was made before.

    Raises:
        psqlpy.exceptions.NotSupportedError: there is a seal.
    """
    if seal is not None and index is not None:
        raise NotSupportedError(
            f"{index} holds the words of events in plain text, from before the store had a seal: "
            "create_tables(event_search=False) drops it, and begins to seal"
        )
    if seal is not None:
        raise NotSupportedError(
            "a store with a seal has no search over events: their words would be stored in plain text"
        )


def _bigint(value: int) -> bytes:
    return value.to_bytes(8, "big", signed=True)


def _texts(values: list[str]) -> Any:
    (array,) = binary.arrays(("text",), [[value.encode()] for value in values])
    return array


def _bounds(window: Window) -> tuple[bytes | None, bytes | None]:
    """The bounds of a window as timestamptz: the first moment, and the first one after it; `None` if it is
    open.

    Raises:
        ValueError: it is not a window.
    """
    if window is None:
        return None, None
    if isinstance(window, timedelta):
        if window <= timedelta(0):
            raise ValueError(f"window must be more than zero, not {window!r}")
        window = (time.time() - window.total_seconds(), None)
    if not isinstance(window, tuple) or len(window) != 2:
        raise ValueError(
            f"window must be a timedelta or (since, until) in seconds since the epoch, not {window!r}"
        )
    since, until = window
    bounds = [
        None if each is None else binary.timestamptz(arguments.micros(f"{name} of window", each))
        for name, each in (("since", since), ("until", until))
    ]
    return bounds[0], bounds[1]
