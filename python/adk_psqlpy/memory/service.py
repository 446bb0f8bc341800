"""ADK's memory service on a table with full-text search and, with an embedder, vectors."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any

from google.adk.events.event import Event
from google.adk.memory.base_memory_service import BaseMemoryService, SearchMemoryResponse
from google.adk.memory.memory_entry import MemoryEntry
from google.adk.sessions.session import Session
from psqlpy.extra_types import CustomType
from typing_extensions import Self, override

from adk_psqlpy.checks import LONGEST_KEY, whole
from adk_psqlpy.config import PsqlpyConfig
from adk_psqlpy.connections.binary import parameter, timestamptz
from adk_psqlpy.connections.lanes import Row, lanes_of
from adk_psqlpy.connections.replica import reads_of
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.connections.sources import Kind
from adk_psqlpy.memory import entries
from adk_psqlpy.memory.entries import Stored
from adk_psqlpy.memory.made_table import MadeTable
from adk_psqlpy.memory.sealing import Sealing
from adk_psqlpy.memory.vectors import MOST_DIMENSIONS, Embed, embedded
from adk_psqlpy.memory.words import LONGEST_QUERY, LONGEST_TEXT, terms
from adk_psqlpy.seal.seal import Seal, checked_seal
from adk_psqlpy.sql.memory import MemoryStatements, MemoryTable, text_search_configuration

Progress = Callable[[int, int], None]
"""Called with how many events or memories are done, and how many there are."""


class PsqlpyMemoryService(BaseMemoryService):
    """Memories in PostgreSQL, as ADK's `BaseMemoryService` defines them.

    A memory is an event's content or an explicit entry, found by its words and, with `embed`, by its meaning.
    The table is made on first use, or by `create_tables`. One service may be used by any number of tasks, in
    several event loops one after another; any number of services may use one table.

    Args:
        config: where the server is.
        memory_table: the table, with its schema if it is not on the search path.
        language: PostgreSQL's text search configuration, which stems words and drops stop words: `english`,
            `german`, and so on. `simple` does neither, and is for any language. The table is made with it.
        limit: the most memories that a search returns.
        ttl: how long memories are found, as a timedelta or in seconds. It counts from the time of an event,
            and for an explicit memory from when it is added. `purge_expired` deletes expired memories.
        embed: an async function that returns a vector for each text. Needs pgvector in the database.
        dimensions: the length of those vectors.
        batch_size: the most events or memories in a statement, and texts in a call of `embed`.
        key_length: the longest app name, user, session or memory id in characters, 1 to 1,024. The table is
            made with it.
        seal: encrypts memories before they are sent, and hashes the words by which they are found with a key
            of the user (docs/security.md). The table is made with it: a table holds either plain or sealed
            memories. With a seal there is no stemming, and no search by metadata or meaning.

    Every method raises `ValueError` for arguments that cannot be stored, before anything is sent. It raises
    `psqlpy.exceptions.Error` for errors of the connection and of the server. Errors of `embed` reach the
    caller.
    """

    def __init__(
        self,
        config: PsqlpyConfig,
        memory_table: str = "adk_memories",
        *,
        language: str = "simple",
        limit: int = 10,
        ttl: timedelta | float | None = None,
        embed: Embed | None = None,
        dimensions: int | None = None,
        batch_size: int = 250,
        key_length: int = 128,
        seal: Seal | None = None,
    ) -> None:
        self.config = config
        self.seal = checked_seal(seal)
        self._sealing = Sealing(self.seal)
        if seal is not None:
            _check_sealed(language, embed)
        self.table = MemoryTable(memory_table)
        text_search_configuration(language)
        self.language = language
        self.limit = whole("limit", limit, 1_000)
        self.batch_size = whole("batch_size", batch_size, 10_000)
        self.key_length = whole("key_length", key_length, LONGEST_KEY)
        self._ttl_micros = None if ttl is None else entries.ttl_micros(ttl)
        if embed is not None and not callable(embed):
            raise ValueError(f"embed must be an async function, not {type(embed).__name__}")
        if (embed is None) != (dimensions is None):
            raise ValueError(
                "embed and dimensions go together: an embedder and the length of the vectors that it gives"
            )
        self.dimensions = None if dimensions is None else whole("dimensions", dimensions, MOST_DIMENSIONS)
        self._embed = embed
        self._lanes = lanes_of(config)
        self._reads = reads_of(config, self._lanes)
        self._telemetry = config.telemetry
        self._collection = self.table.memories.replace('"', "")
        self._made = MadeTable(
            self.table,
            self._lanes,
            language=language,
            key_length=self.key_length,
            dimensions=self.dimensions,
            sealed=seal is not None,
        )

    # Tables.

    async def create_tables(self, *, distributed: bool = False, row_security: bool = False) -> None:
        """Make the table and its indexes, or bring them up to date. Safe to call from many processes.

        Args:
            distributed: whether to distribute the table by `user_id` over the nodes of a Citus cluster. It
                stays so. A filled table is copied, and writes to it wait meanwhile.
            row_security: whether roles see only what `adk_psqlpy.admin.access.grant_access` gave them
                (docs/security.md). It stays so.

        Raises:
            psqlpy.exceptions.NotSupportedError: the server is older than PostgreSQL 15, the table was made
                by a newer version of this package, or `embed` is given and the database has no pgvector.
            ValueError: there is no such language, or the table was made with another one, another
                `key_length` or other `dimensions`.
        """
        await self._made.create(distributed=distributed, row_security=row_security)

    # Adding.

    @override
    async def add_session_to_memory(self, session: Session, *, progress: Progress | None = None) -> None:
        """Add those events of a session that have text and are not stored yet.

        Add a session again after it has grown to add its new events. Events whose memory was deleted stay
        deleted. `progress` is called after each batch with the number of events done, and the number of all
        events.
        """
        if not isinstance(session, Session):
            raise ValueError(f"session must be a Session, not {type(session).__name__}")
        await self.add_events_to_memory(
            app_name=session.app_name,
            user_id=session.user_id,
            events=session.events,
            session_id=session.id,
            progress=progress,
        )

    @override
    async def add_events_to_memory(
        self,
        *,
        app_name: str,
        user_id: str,
        events: Sequence[Event],
        session_id: str | None = None,
        custom_metadata: Mapping[str, object] | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Add those events that have text and are not stored yet. They belong to this session, or to none.

        `custom_metadata` becomes the metadata of each memory. Each batch is one statement, so after a failure
        there are only complete memories. Add the same events again to go on.
        """
        scope = self._scope(app_name, user_id, session_id or "")
        metadata = entries.encode_metadata(custom_metadata or {})
        _require_list("events", events, "Events")
        for event in events:
            if not isinstance(event, Event):
                raise ValueError(f"events must be Events, not {type(event).__name__}")
        told = [event for event in events if entries.searched_text(event.content).strip()]
        for event in told:
            if event.id:
                entries.check_key("event.id", event.id, self.key_length)
        sql = await self._made.statements()
        now = _now()
        done = len(events) - len(told)
        for start in range(0, len(told), self.batch_size):
            batch = told[start : start + self.batch_size]
            ids = [event.id for event in batch if event.id]
            known = [*scope, entries.texts(ids)]
            unknown = {row[0] for row in await self._run("find_unknown", sql.unknown, known, Repeat.READ)}
            rows = [
                entries.of_event(event, metadata, self._ttl_micros, self.key_length)
                for event in batch
                if not event.id or event.id in unknown
            ]
            await self._store(
                sql, scope, [r for r in rows if r.expires is None or r.expires > now], replace=False
            )
            done += len(batch)
            if progress is not None:
                progress(done, len(events))

    @override
    async def add_memory(
        self,
        *,
        app_name: str,
        user_id: str,
        memories: Sequence[MemoryEntry],
        custom_metadata: Mapping[str, object] | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Add explicit memories. A memory replaces the explicit memory with the same id; without an id, it
        gets one.

        `custom_metadata` is added to the metadata of each memory. The memory's own keys take precedence.
        """
        scope = self._scope(app_name, user_id, "")
        shared = custom_metadata or {}
        entries.encode_metadata(shared)
        given: list[tuple[MemoryEntry, bytes]] = []
        _require_list("memories", memories, "MemoryEntry")
        for entry in memories:
            if not isinstance(entry, MemoryEntry):
                raise ValueError(f"memories must be MemoryEntry, not {type(entry).__name__}")
            if entry.id:
                entries.check_key("the id of a memory", entry.id, self.key_length)
            given.append((entry, entries.encode_metadata({**shared, **entry.custom_metadata})))
        sql = await self._made.statements()
        now = _now()
        for start in range(0, len(given), self.batch_size):
            batch = given[start : start + self.batch_size]
            stored = [
                entries.of_entry(entry, entry.id or str(uuid.uuid4()), metadata, now, self._ttl_micros)
                for entry, metadata in batch
            ]
            # Of several with one id the last is stored, as if they were added one after another.
            await self._store(sql, scope, list({row.id: row for row in stored}.values()), replace=True)
            if progress is not None:
                progress(start + len(batch), len(given))

    async def _store(
        self, sql: MemoryStatements, scope: list[str], rows: list[Stored], *, replace: bool
    ) -> None:
        """Write the rows of a batch, with their vectors or not at all."""
        # All writers have one order, so that two writers of the same rows wait for each other and cannot
        # deadlock.
        rows.sort(key=lambda row: row.id)
        for part in entries.parts(rows):
            if self._embed is not None and self.dimensions is not None:
                with_text = [row for row in part if row.text.strip()]
                texts = [row.text[:LONGEST_TEXT] for row in with_text]
                if texts:
                    for row, vector in zip(
                        with_text, await embedded(self._embed, self.dimensions, texts), strict=True
                    ):
                        row.embedding = vector
            await self._sealing.rows(scope, part)
            columns = entries.columns(part, vectors=sql.dimensions is not None)
            parameters = [*scope, self._configuration(), parameter(timestamptz(_now())), *columns]
            await self._run("add_memories", sql.add(replace=replace), parameters)

    # Searching and deleting.

    @override
    async def search_memory(
        self,
        *,
        app_name: str,
        user_id: str,
        query: str,
        limit: int | None = None,
        custom_metadata: Mapping[str, object] | None = None,
    ) -> SearchMemoryResponse:
        """Find this user's memories in this app that have any word of the query, best first.

        The query may be a sentence. "Words in quotes" match only in this order, next to each other. A word
        with a minus in front excludes memories that have it. With an embedder, memories of similar meaning
        are found as well. A query without words finds nothing; with an embedder, only an empty query finds
        nothing.

        Two arguments go beyond ADK's contract: `limit` replaces the service's limit, and memories must
        contain `custom_metadata` (`@>`).
        """
        scope = self._scope(app_name, user_id)
        if not isinstance(query, str):
            raise ValueError(f"query must be a str, not {type(query).__name__}")
        most = self.limit if limit is None else whole("limit", limit, 1_000)
        if custom_metadata and self.seal is not None:
            raise ValueError(
                "sealed memories cannot be searched by custom_metadata: the server cannot read it"
            )
        metadata = None if not custom_metadata else CustomType(entries.encode_metadata(custom_metadata))
        query = query[:LONGEST_QUERY]
        wanted = terms(query)
        vectors: list[str] = []
        sql = await self._made.statements()
        if self._embed is not None and self.dimensions is not None and query.strip():
            vectors = await embedded(self._embed, self.dimensions, [query])
        if not wanted.any and not vectors:
            return SearchMemoryResponse()
        parameters: list[Any] = [
            *scope,
            self._configuration(),
            entries.texts(await self._sealing.terms(scope, wanted.any)),
            " | ".join(f"({term})" for term in await self._sealing.terms(scope, wanted.none)),
        ]
        parameters += [parameter(timestamptz(_now())), most, metadata, *vectors]
        with self._telemetry.operation("search_memory", self._collection):
            statement = sql.search(vectors=bool(vectors))
            rows = await self._reads.fetch(statement, parameters, entries.ROW, kind="list")
        return SearchMemoryResponse(
            memories=[entries.entry_of(await self._sealing.opened(scope, row)) for row in rows]
        )

    @override
    async def delete_memory(self, *, app_name: str, user_id: str, memory_id: str | None = None) -> None:
        """Delete the memory with this id. Nothing happens if there is no such memory, or if no id is given.

        The content is removed from the table. The id stays, so that adding the session again does not bring
        the memory back.
        """
        scope = self._scope(app_name, user_id)
        if not memory_id:
            return
        entries.check_key("memory_id", memory_id, self.key_length)
        sql = await self._made.statements()
        await self._run("delete_memory", sql.delete, [*scope, memory_id])

    async def purge_expired(self) -> int:
        """Delete the expired memories of all apps and users, and return their number."""
        sql = await self._made.statements()
        ((gone,),) = await self._run("purge_expired", sql.purge, [parameter(timestamptz(_now()))])
        return int(gone)

    # Beneath.

    async def _run(
        self, name: str, sql: str, parameters: list[Any], repeat: Repeat = Repeat.AFTER_FAILURE
    ) -> list[Row]:
        """Run a statement as one operation of the telemetry, so that an embedder's time is not counted."""
        kind: Kind = "list" if repeat is Repeat.READ else "write"
        with self._telemetry.operation(name, self._collection):
            return await self._lanes.fetch(sql, parameters, entries.ROW, kind=kind, repeat=repeat)

    def _scope(self, app_name: str, user_id: str, *session_id: str) -> list[str]:
        entries.check_key("app_name", app_name, self.key_length)
        entries.check_key("user_id", user_id, self.key_length)
        for identity in session_id:
            entries.check_key("session_id", identity, self.key_length)
        return [app_name, user_id, *session_id]

    def _configuration(self) -> str:
        return ".".join(f'"{part}"' for part in text_search_configuration(self.language) if part)

    async def close(self) -> None:
        """Close the pool of connections; a later call opens it again."""
        await self.config.close_pool()

    async def __aenter__(self) -> Self:
        """Give the service itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        await self.close()


def _check_sealed(language: str, embed: Embed | None) -> None:
    """Refuse what a service with a seal cannot do."""
    if language != "simple":
        raise ValueError(
            f"language must be 'simple' where memories are sealed, not {language!r}: the server sees hashes "
            "of words, which it cannot stem"
        )
    if embed is not None:
        raise ValueError("embed cannot be used with seal: vectors tell their readers what a text is about")


def _now() -> int:
    return time.time_ns() // 1000


def _require_list(name: str, value: object, items: str) -> None:
    # A pydantic model is iterable, too: over its fields.
    if not isinstance(value, Sequence):
        raise ValueError(f"{name} must be a list of {items}, not {type(value).__name__}")
