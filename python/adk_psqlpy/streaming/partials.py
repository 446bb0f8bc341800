"""The texts that agents are streaming, in a table that every process sees."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary

from adk_psqlpy import _native
from adk_psqlpy.connections import binary
from adk_psqlpy.connections.lanes import Lanes, lanes_of
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.following.following import Key
from adk_psqlpy.following.watcher import Watcher
from adk_psqlpy.row_security import make_secured
from adk_psqlpy.sessions.store import PsqlpyADKStore
from adk_psqlpy.sql.catalog import EXISTS
from adk_psqlpy.sql.partials import PartialStatements, create_partials, distribute_partials
from adk_psqlpy.sql.recorded import read_metadata
from adk_psqlpy.sql.row_security import of_sessions

STALE_SEC: Final = 3600.0
"""If a text has not grown for this long, the process that wrote it has died."""

# The first characters of a sealed text (rust/src/seal.rs).
_LEAD: Final = "\ufdd0seal1:"

_KNOWN: Final = ("varchar", "varchar", "varchar", "text")


@dataclass(frozen=True, slots=True)
class Stream:
    """Who streams a text: in an invocation, an agent streams one text at a time."""

    invocation_id: str
    author: str
    branch: str


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts that are being streamed in a session."""

    token: str
    """Changes whenever one of the texts does."""
    json: str
    """An array of objects with `invocation_id`, `author`, `branch`, `text` and `error` (null if there is
    none).
    """


class Partials:
    """The texts of the sessions of one store. The table is made on first use."""

    def __init__(self, store: PsqlpyADKStore) -> None:
        """Keep them beside the tables of `store`."""
        self._tables = store.tables
        self._key_length = store.key_length
        self._settings = store.following.settings
        self._seal = store.seal
        self._lanes: Lanes = lanes_of(store.config)
        self._sql = PartialStatements(store.tables)
        self._there = False
        self._watchers: WeakKeyDictionary[asyncio.AbstractEventLoop, Watcher[Key, str]] = WeakKeyDictionary()
        self._lanes.on_close(self._close)

    async def create_table(self) -> None:
        """Make the table if it is missing, distributed if the session tables are. They must exist.

        Raises:
            psqlpy.exceptions.Error: the server did not let it be made.
        """
        if self._there:
            return
        ((there,),) = await self._lanes.fetch(EXISTS, [self._tables.partials], repeat=Repeat.READ)
        tables = self._tables
        rows = await self._lanes.fetch(read_metadata(tables.metadata), [], repeat=Repeat.READ)
        self._sql = PartialStatements(tables, distributed="distributed" in dict(rows))
        if not there:
            made = create_partials(tables, self._key_length)
            if self._sql.distributed:
                # In one transaction: until it is distributed, no session in its foreign key is found.
                made += distribute_partials(tables)
            await make_secured(self._lanes, made, of_sessions(tables), wanted=False)
        self._there = True

    async def put(self, key: Key, stream: Stream, text: str, error: str | None = None) -> None:
        """Store the whole text so far; nothing is stored if there is no such session."""
        await self.create_table()
        # The clock's time, so that texts of a process and of its successor are in order.
        version = time.time_ns()
        # U+0000 and lone surrogates are dropped here. The event will have them; this text is shown only until
        # then.
        shown = text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
        now = binary.parameter(binary.timestamptz(version // 1000))
        place = [stream.invocation_id, stream.author, stream.branch]
        shown = await self._sealed(key, [*place, "text"], shown)
        error = None if error is None else await self._sealed(key, [*place, "error"], error)
        given = [*place, shown, error, version, now]
        await self._lanes.fetch(self._sql.put, [*key, *given])
        self._wake(key)

    async def finish(self, key: Key, stream: Stream, event_id: str) -> None:
        """Note which event will replace a text as soon as that event is stored."""
        given = [stream.invocation_id, stream.author, stream.branch, event_id]
        await self._lanes.fetch(self._sql.finish, [*key, *given], repeat=Repeat.AFTER_FAILURE)

    async def clear(self, key: Key, invocation_id: str) -> None:
        """Delete the texts of an invocation, and texts that a dead process has left."""
        await self.create_table()
        oldest = binary.timestamptz(round((time.time() - STALE_SEC) * 1e6))
        given = [invocation_id, binary.parameter(oldest)]
        await self._lanes.fetch(self._sql.clear, [*key, *given], repeat=Repeat.AFTER_FAILURE)
        self._wake(key)

    async def read(self, key: Key) -> Texts:
        """What is being streamed now."""
        await self.create_table()
        rows = await self._lanes.fetch(self._sql.read, [*key], kind="read", repeat=Repeat.READ)
        token, texts = rows[0]
        return Texts(token, await self._opened(key, texts) if _LEAD in texts else texts)

    async def _sealed(self, key: Key, place: list[str], text: str) -> str:
        """The text as it is stored, sealed if the store seals."""
        if (seal := self._seal) is None:
            return text
        key_id = await seal.current(key[0], key[1])
        sealed = _native.seal_value(text.encode(), seal.keys, key_id, sealed_place(key, place), form="text")
        return sealed.decode()

    async def _opened(self, key: Key, texts: str) -> str:
        """Open the texts in the array of `PartialStatements.read`."""
        keys = None if self._seal is None else self._seal.keys

        def opened() -> str:
            parsed = json.loads(texts)
            for each in parsed:
                place = [each["invocation_id"], each["author"], each["branch"]]
                for name in ("text", "error"):
                    if each[name] is not None:
                        told = f"text of {each['author']!r} in session {key[2]!r} of user {key[1]!r}, {name}"
                        bound = sealed_place(key, [*place, name])
                        value = _native.open_value(each[name].encode(), keys, bound, form="text", told=told)
                        each[name] = value.decode()
            return json.dumps(parsed, ensure_ascii=False)

        return opened() if self._seal is None else await self._seal.opening(opened)

    async def next(self, key: Key, known: Texts | None) -> Texts:
        """Wait until the streamed texts differ from the known ones (`None`: nothing is known), and return
        them.
        """
        watcher = self._watcher()
        watcher.enter(key)
        try:
            while True:
                changes = watcher.changes(key)
                found = await self.read(key)
                if known is None or found.token != known.token:
                    return found
                await watcher.wait(key, known.token, changes)
        finally:
            watcher.leave(key)

    def _watcher(self) -> Watcher[Key, str]:
        loop = asyncio.get_running_loop()
        found = self._watchers.get(loop)
        if found is None:
            found = Watcher(self._changed, self._settings.fastest_sec, self._settings.slowest_sec)
            self._watchers[loop] = found
        return found

    def _wake(self, key: Key) -> None:
        watcher = self._watchers.get(asyncio.get_running_loop())
        if watcher is not None:
            watcher.wake(key)

    def _close(self) -> None:
        watcher = self._watchers.get(asyncio.get_running_loop())
        if watcher is not None:
            watcher.close("the store was closed")

    async def _changed(self, known: Sequence[tuple[Key, str]]) -> list[Key]:
        values: list[list[Any]] = [[*(part.encode() for part in key), token.encode()] for key, token in known]
        given = list(binary.arrays(_KNOWN, values))
        rows = await self._lanes.fetch(self._sql.changed, given, kind="read", repeat=Repeat.READ)
        return [known[place - 1][0] for (place,) in rows]


def sealed_place(key: Key, rest: list[str]) -> tuple[str, str, str, list[bytes]]:
    """What a streamed text is bound to: invocation, author, branch, and `text` or `error`."""
    app_name, user_id, session_id = key
    return "streamed text", app_name, user_id, [part.encode() for part in (session_id, *rest)]


_partials: WeakKeyDictionary[PsqlpyADKStore, Partials] = WeakKeyDictionary()


def partials_of(store: PsqlpyADKStore) -> Partials:
    """Give the store's `Partials`. There is one for each store, so that a writer can wake those who wait in
    the same process.
    """
    found = _partials.get(store)
    if found is None:
        found = _partials[store] = Partials(store)
    return found
