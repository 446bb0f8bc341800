"""Tables of adk-psqlpy as a source: in another database, with other names, or to be exported."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from google.genai import types
from typing_extensions import Self, override

from adk_psqlpy import _native
from adk_psqlpy.admin.audit import Audit
from adk_psqlpy.admin.migrate import artifacts, memories
from adk_psqlpy.admin.migrate.records import (
    ArtifactRecord,
    Counts,
    Fork,
    MemoryRecord,
    Record,
    SessionHead,
    SharedState,
)
from adk_psqlpy.admin.migrate.sources.base import PAGE_SESSIONS, Source, SourceError
from adk_psqlpy.admin.migrate.stored import DECODERS, Key, StoredHead, StoredSessions
from adk_psqlpy.admin.table_names import TableNames
from adk_psqlpy.artifacts.names import checked_name
from adk_psqlpy.artifacts.parts import assembled
from adk_psqlpy.artifacts.service import PsqlpyArtifactService
from adk_psqlpy.config import PsqlpyConfig
from adk_psqlpy.connections.lanes import Decoders, Row
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.memory.sealing import Sealing as MemorySealing
from adk_psqlpy.seal.seal import Seal
from adk_psqlpy.sessions.values import Values
from adk_psqlpy.sql.artifact_tables import USER_SCOPE, ArtifactTables
from adk_psqlpy.sql.carry import CarryStatements
from adk_psqlpy.sql.carry_artifacts import CarryArtifactStatements
from adk_psqlpy.sql.carry_memories import CarryMemoryStatements
from adk_psqlpy.sql.memory import MemoryTable

PAGE: Final = 200


class OwnSource(Source):
    """The content of adk-psqlpy's tables: of all apps, of one app, or of one of its users.

    Args:
        config: where they are; opened and closed with the source.
        names: the names of the tables.
        app_name: read only this app.
        user_id: read only this user, and the state of the app.
        close: whether the pool of `config` is closed at the end.
        seal: opens what is sealed there.
    """

    def __init__(
        self,
        config: PsqlpyConfig,
        names: TableNames,
        *,
        app_name: str | None = None,
        user_id: str | None = None,
        close: bool = True,
        seal: Seal | None = None,
    ) -> None:
        super().__init__()
        self._seal = seal
        self._values = Values(seal)
        self._memory_sealing = MemorySealing(seal)
        self._config = config
        self._names = names
        self._chosen = (app_name, user_id)
        self._close = close
        self._carry = CarryStatements(names.tables)
        self._stored = StoredSessions(config.lanes, names.tables, seal)
        self._memories = CarryMemoryStatements(MemoryTable(names.memory_table))
        self._artifacts = CarryArtifactStatements(ArtifactTables(names.artifact_table))
        self._there: dict[str, bool] = {}
        self.description = f"tables of adk-psqlpy, {names.session_table} and others"

    @override
    async def __aenter__(self) -> Self:
        try:
            await self._look()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def _look(self) -> None:
        tables = self._names.tables
        for what, table, metadata in (
            ("sessions", tables.sessions, tables.metadata),
            ("memories", self._memories.table.memories, self._memories.table.metadata),
            ("artifacts", self._artifacts.tables.artifacts, self._artifacts.tables.metadata),
        ):
            ((here, recorded),) = await self._fetch(self._carry.made_here, [table, metadata])
            self._there[what] = here and recorded
        if not any(self._there.values()):
            raise SourceError(f"there are no tables of adk-psqlpy: no {tables.sessions}")
        await Audit(self._config, tables).record("export", *self._chosen)

    @override
    async def __aexit__(self, *_: object) -> None:
        if self._close:
            await self._config.close_pool()

    async def _fetch(self, sql: str, parameters: list[Any], decoders: Decoders | None = None) -> list[Row]:
        return await self._config.lanes.fetch(sql, parameters, decoders, kind="list", repeat=Repeat.READ)

    @override
    async def count(self) -> Counts:
        chosen = list(self._chosen)
        counts = Counts()
        if self._there["sessions"]:
            ((counts.sessions, counts.events, counts.states),) = await self._fetch(
                self._carry.count_all, chosen
            )
        if self._there["memories"]:
            ((counts.memories,),) = await self._fetch(self._memories.count, chosen)
        if self._there["artifacts"]:
            ((counts.artifacts,),) = await self._fetch(self._artifacts.count, chosen)
        return counts

    @override
    async def read(self) -> AsyncIterator[Record]:
        parts = []
        if self._there["sessions"]:
            parts += [self._app_states(), self._user_states(), self._sessions()]
        if self._there["memories"]:
            parts.append(self._all_memories())
        if self._there["artifacts"]:
            parts.append(self._all_artifacts())
        for part in parts:
            async for record in part:
                yield record

    async def _app_states(self) -> AsyncIterator[Record]:
        after = ""
        while rows := await self._fetch(self._carry.app_state_page, [*self._chosen, after, PAGE], DECODERS):
            for app, state, micros in rows:
                decoded = await self._values.shared_state(app, None, state, f"app {app!r}")
                yield SharedState(app, None, decoded, micros)
            after = rows[-1][0]

    async def _user_states(self) -> AsyncIterator[Record]:
        after = ["", ""]
        while rows := await self._fetch(self._carry.user_state_page, [*self._chosen, *after, PAGE], DECODERS):
            for app, user, state, micros in rows:
                place = f"user {user!r} of app {app!r}"
                decoded = await self._values.shared_state(app, user, state, place)
                yield SharedState(app, user, decoded, micros)
            after = list(rows[-1][:2])

    async def _sessions(self) -> AsyncIterator[Record]:
        after: Key = ("", "", "")
        while heads := await self._stored.page(*self._chosen, after, PAGE_SESSIONS):
            after = heads[-1].key
            forks = await self._stored.forks([head.key for head in heads])
            with_events = {head.key: head for head in heads if head.events or head.changes}
            for head in heads:
                if head.key not in with_events:
                    yield _session(head, forks.get(head.key))
            current: Key | None = None
            async for head, part in self._stored.events(list(with_events.values())):
                if head.key != current:
                    current = head.key
                    yield _session(head, forks.get(head.key))
                yield part

    async def _all_memories(self) -> AsyncIterator[Record]:
        after = ["", "", "", ""]
        while rows := await self._fetch(
            self._memories.page, [*self._chosen, *after, PAGE], memories.DECODERS
        ):
            for row in rows:
                yield _memory(await self._opened(row))
            after = list(rows[-1][:4])

    async def _opened(self, row: Row) -> Row:
        app, user, identity, session_id, author, micros, time_text, content, metadata, expires = row
        sealed = (identity, author, micros, time_text, content, metadata, session_id)
        _, _, _, time_text, content, metadata = await self._memory_sealing.opened([app, user], sealed)
        return (app, user, identity, session_id, author, micros, time_text, content, metadata, expires)

    async def _all_artifacts(self) -> AsyncIterator[Record]:
        recorded: dict[str, str] = dict(await self._fetch(self._artifacts.metadata, []))
        service = PsqlpyArtifactService(
            self._config,
            self._names.artifact_table,
            key_length=int(recorded["key_length"]),
            seal=self._seal,
        )
        after: list[Any] = ["", "", "", b"", -1]
        while rows := await self._fetch(
            self._artifacts.page, [*self._chosen, *after, PAGE], artifacts.DECODERS
        ):
            for app, user, scope, name_hash, filename, version, micros, _, metadata, _ in rows:
                session_id = None if scope == USER_SCOPE else scope
                name = checked_name(app, user, filename, session_id, service.key_length)
                found = await service.load_stored(name, version)
                if found is not None:
                    metadata = await service._sealing.open_metadata(name, metadata)
                    custom = _native.decode_json(metadata, place=name.place)
                    part = assembled(*found)
                    yield ArtifactRecord(app, user, session_id, filename, version, part, custom, micros)
                after = [app, user, scope, name_hash, version]


def _session(head: StoredHead, fork: Fork | None) -> SessionHead:
    return SessionHead(
        *head.key,
        head.state,
        head.create_micros,
        head.update_micros,
        head.initial_state,
        head.revision,
        fork,
        head.events,
        head.changes,
    )


def _memory(row: Row) -> MemoryRecord:
    app, user, identity, session_id, author, micros, time_text, content, metadata, expires = row
    place = f"memory {identity!r}"
    return MemoryRecord(
        app,
        user,
        session_id,
        identity,
        author,
        micros,
        time_text,
        types.Content.model_validate(_native.decode_json(content, place=place)),
        _native.decode_json(metadata, place=place),
        expires,
    )
