"""Reading sessions that are too large for one answer of PostgreSQL, which is limited to 1 GB."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from operator import itemgetter
from typing import Any, Final

from google.adk.events.event import Event
from psqlpy.exceptions import BaseConnectionPoolError, DatabaseError, Error

from adk_psqlpy.connections.lanes import Decoders, Row
from adk_psqlpy.sql import Statements
from adk_psqlpy.sql.paging import PagingStatements

Key = tuple[str, str, str]
Read = Callable[[str, list[Any], Decoders], Awaitable[list[Row]]]
Decode = Callable[[Key, list[Row], str], Awaitable[list[Event]]]

PAGE_BYTES: Final = 64 << 20
"""How much one statement brings, plus up to one event."""

LARGE_BYTES: Final = 256 << 20
"""A session that was this large is read in pages from then on, which takes less memory on both sides."""

_ATTEMPTS: Final = 3
HEAD: Final = 7
"""Columns of `Statements.get_session` before the arrays."""

_REMEMBERED: Final = 1_000


class Pages:
    """Reads a session in one statement if that works, else page by page.

    The result is the session at one revision, as from a single statement. Events are only added, at higher
    revisions, or deleted with their session. So the session's row is read first, then its events up to that
    revision. If a page lacks events, or comes from a session that was made anew, the read begins again.

    A plain read costs nothing more: the size is asked only after a read has failed. Asking for it in the same
    statement took 10% of a read of 1,000 events, and a third of a read without events.
    """

    def __init__(
        self,
        sql: Statements,
        read: Read,
        ask: Read,
        decoders: Decoders,
        decode: Decode,
        *,
        page_bytes: int = PAGE_BYTES,
        large_bytes: int = LARGE_BYTES,
    ) -> None:
        """Read by `read(sql, parameters, decoders)`. `ask` does the same, and tries only once.

        `decode(key, chunks, place)` makes events of the chunks of an answer.
        """
        self._sql = sql
        self._paging = PagingStatements(sql.tables)
        self._read = read
        self._ask = ask
        self._decoders = decoders
        self._decode = decode
        self._page_bytes = page_bytes
        self._large_bytes = large_bytes
        self._large: dict[Key, None] = {}

    async def get(
        self, key: Key, which: str, parameters: list[Any], place: str
    ) -> tuple[Row, list[Event]] | None:
        """Give the session's row without events, as `Statements.get_session` has it, and its events.

        Args:
            key: app name, user id, session id.
            which: which events, as in `Statements.get_session`.
            parameters: of that.
            place: what to call the session in an error.

        Raises:
            psqlpy.exceptions.Error: the server refused the read, for another reason than its size.
        """
        if self._large and key in self._large and which != "none":
            return await self._paged(key, which, parameters, place)
        try:
            rows = await self._read(self._sql.get_session(events=which), [*key, *parameters], self._decoders)
        except (TimeoutError, BaseConnectionPoolError):
            raise
        except Error:
            if which == "none" or not await self._too_large(key, which, parameters):
                raise
            return await self._paged(key, which, parameters, place)
        if not rows:
            return None
        head, chunks = _taken_apart(rows)
        if sum(len(array) for chunk in chunks for array in chunk if array is not None) > self._large_bytes:
            self._remember(key)
        return head, await self._decode(key, chunks, place)

    async def _too_large(self, key: Key, which: str, parameters: list[Any]) -> bool:
        """Whether a read failed because of its size."""
        try:
            pages = await self._pages(self._ask, key, which, parameters, 2**63 - 1)
        except Error:
            # The server cannot be asked; the first failure says more.
            return False
        if len(pages) < 2:
            return False
        self._remember(key)
        return True

    def _remember(self, key: Key) -> None:
        if len(self._large) >= _REMEMBERED:
            del self._large[next(iter(self._large))]
        self._large[key] = None

    async def _pages(
        self, read: Read, key: Key, which: str, parameters: list[Any], revision: int
    ) -> list[Row]:
        sql = self._paging.pages(which=which)
        return await read(sql, [*key, revision, self._page_bytes, *parameters], {})

    async def _paged(
        self, key: Key, which: str, parameters: list[Any], place: str
    ) -> tuple[Row, list[Event]] | None:
        for _ in range(_ATTEMPTS):
            rows = await self._read(self._sql.get_session(events="none"), [*key], self._decoders)
            if not rows:
                return None
            head = rows[0]
            _, create_time, _, revision, *_ = head
            pages = await self._pages(self._read, key, which, parameters, revision)
            if sum(size for *_, size in pages) <= self._large_bytes:
                self._large.pop(key, None)
            events = await self._events(key, pages, which, parameters, create_time, place)
            if events is not None:
                return head, events
        raise DatabaseError(
            f"{place} was deleted and made again, or lost events, each of the {_ATTEMPTS} times that it was "
            f"read. It is so large that a read takes {len(pages)} statements. Read less of it "
            "(num_recent_events), or try again"
        )

    async def _events(
        self, key: Key, pages: list[Row], which: str, parameters: list[Any], create_time: float, place: str
    ) -> list[Event] | None:
        """The events of the pages; `None` if some are not there any more."""
        events: list[Event] = []
        timed = which in ("after", "newest_after")
        sql = self._sql.get_session(events="page_after" if timed else "page")
        for first, last, count, _ in pages:
            rows = await self._read(sql, [*key, first, last, *parameters[: int(timed)]], self._decoders)
            if not rows or rows[0][1] != create_time:
                return None
            _, chunks = _taken_apart(rows)
            found = await self._decode(key, chunks, place)
            if len(found) != count:
                return None
            events += found
        return events


def _taken_apart(rows: list[Row]) -> tuple[Row, list[Row]]:
    """The columns of the session itself, and the arrays of the chunks in their order."""
    rows.sort(key=itemgetter(0))
    return rows[0][:HEAD], [row[HEAD:] for row in rows if row[HEAD:]]
