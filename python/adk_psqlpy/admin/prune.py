"""Retention: deleting old sessions, events, memories and artifacts, in portions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from psqlpy.exceptions import DatabaseError

from adk_psqlpy.admin.audit import Audit
from adk_psqlpy.admin.shards import users_of_shards
from adk_psqlpy.admin.tables import present_tables, require_tables
from adk_psqlpy.config import PsqlpyConfig
from adk_psqlpy.connections.binary import arrays
from adk_psqlpy.connections.lanes import Lanes, Row, lanes_of
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.sql import Tables
from adk_psqlpy.sql.artifact_tables import ArtifactTables
from adk_psqlpy.sql.artifacts import ArtifactStatements
from adk_psqlpy.sql.delegated_prune import (
    DelegatedPrune,
    DelegatedPruneArtifacts,
    DelegatedPruneMemories,
    definitions,
)
from adk_psqlpy.sql.memory import MemoryTable
from adk_psqlpy.sql.prune import PruneArtifacts, PruneMemories, PruneStatements

PORTION: Final = 5_000
"""The default for how many events one statement deletes, roughly."""

GRACE: Final = timedelta(days=1)
"""An artifact whose session does not exist is kept this long: it may have been saved before its session."""

_PAGE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Rules:
    """What to delete.

    `idle` and `keep_sessions` together are one rule, and so are `events` and `keep_events`. If both parts of
    a rule are given, only what both select is deleted.

    Args:
        idle: delete sessions that nobody has written to for this long, with their events.
        keep_sessions: keep this many of the newest sessions of each user of an app. Without `idle`, all other
            sessions are deleted.
        events: delete events older than this from sessions that stay. Their state is kept.
        keep_events: keep this many of the newest events of each session. Without `events`, all other events
            are deleted. Events of one invocation stay or go together.
        expired_memories: delete memories that have expired. (Searches do not find them any more.)
        orphaned_artifacts: delete artifacts of sessions that do not exist, contents that no version has, and
            uploads that were never finished.
        apps: delete only in these apps; empty for all. Contents and uploads are those of all apps.
    """

    idle: timedelta | None = None
    keep_sessions: int | None = None
    events: timedelta | None = None
    keep_events: int | None = None
    expired_memories: bool = False
    orphaned_artifacts: bool = False
    apps: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: a value is not possible, or no rule is given.
        """
        for name in ("idle", "events"):
            age = getattr(self, name)
            if age is not None and (not isinstance(age, timedelta) or age <= timedelta(0)):
                raise ValueError(f"{name} must be a timedelta of more than zero, not {age!r}")
        for name in ("keep_sessions", "keep_events"):
            number = getattr(self, name)
            if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
                raise ValueError(f"{name} must be an integer of 1 or more, not {number!r}")
        if isinstance(self.apps, str):
            raise ValueError(f"apps must be a list of names, not {self.apps!r}")
        if not (self.of_sessions or self.of_events or self.expired_memories or self.orphaned_artifacts):
            raise ValueError(
                "no rule says what to delete: idle, keep_sessions, events, keep_events, expired_memories or "
                "orphaned_artifacts"
            )

    @property
    def of_sessions(self) -> bool:
        """Whether sessions may go."""
        return self.idle is not None or self.keep_sessions is not None

    @property
    def of_events(self) -> bool:
        """Whether events are deleted from sessions that stay."""
        return self.events is not None or self.keep_events is not None


@dataclass(frozen=True, slots=True)
class Pruned:
    """How much was deleted, or would be. `session_events` counts events that were deleted with their
    sessions.

    `artifacts` counts names, `versions` the versions saved under them. `contents` counts distinct contents,
    `content_bytes` their bytes. A trial (`dry_run`) counts only contents that are unused before anything is
    deleted.
    """

    sessions: int = 0
    session_events: int = 0
    events: int = 0
    memories: int = 0
    artifacts: int = 0
    versions: int = 0
    contents: int = 0
    content_bytes: int = 0
    uploads: int = 0

    def plus(self, **more: int) -> Pruned:
        """With more of these."""
        return replace(self, **{name: getattr(self, name) + value for name, value in more.items()})


async def prune(
    config: PsqlpyConfig,
    rules: Rules,
    session_table: str = "adk_sessions",
    events_table: str = "adk_events",
    *,
    memory_table: str = "adk_memories",
    artifact_table: str = "adk_artifacts",
    dry_run: bool = False,
    portion: int = PORTION,
    pause_sec: float = 0.0,
    progress: Callable[[Pruned], None] | None = None,
    now: datetime | None = None,
) -> Pruned:
    """Delete what the rules select, in portions, and return how much was deleted.

    Each portion is one transaction. Writers are not waited for: what somebody has locked is passed over, and
    what was written after it was found stays. Writers of what a portion deletes wait for that portion.
    Several processes may do this at once. Cut off at any time, it leaves whole sessions, whole invocations
    and whole artifacts. Where tables are distributed, one shard is done after another. The functions for that
    are made when they are missing, which takes the owner of the tables.

    Args:
        config: the server.
        rules: what to delete.
        session_table, events_table, memory_table, artifact_table: names of tables. A table has to exist only
            if a rule needs it.
        dry_run: delete nothing, and return how much would be deleted.
        portion: about how many events one statement deletes.
        pause_sec: how long to wait between portions, for replicas to keep up.
        progress: called after each portion with how much was deleted so far.
        now: the time from which ages are counted; the present time by default.

    Raises:
        ValueError: a name, `portion` or `pause_sec` is not possible.
        psqlpy.exceptions.Error: tables are missing, or the server could not be asked or did not allow it.
    """
    if isinstance(portion, bool) or not isinstance(portion, int) or not 1 <= portion <= 1_000_000:
        raise ValueError(f"portion must be an integer from 1 to 1,000,000, not {portion!r}")
    if not 0 <= pause_sec <= 3600:
        raise ValueError(f"pause_sec must be from 0 to 3,600, not {pause_sec!r}")
    tables, artifacts = Tables(session_table, events_table), ArtifactTables(artifact_table)
    memories = MemoryTable(memory_table)
    if rules.of_sessions or rules.of_events or rules.orphaned_artifacts:
        await require_tables(config, tables)
    wanted = [
        *([memories.memories] if rules.expired_memories else []),
        *([artifacts.artifacts, artifacts.names, artifacts.contents] if rules.orphaned_artifacts else []),
    ]
    if wanted:
        there = await present_tables(config, *wanted)
        for table in wanted:
            if table not in there:
                raise DatabaseError(
                    f"there is no table {table} on the search path of this connection: check the name, or "
                    "leave out the rule that needs it"
                )
    lanes = lanes_of(config)
    audit = Audit(config, tables)
    if not dry_run:
        given = {name: value for name, value in asdict(rules).items() if value}
        await audit.record("prune", details={"rules": given})
    work = _Work(
        lanes,
        rules,
        now or datetime.now(timezone.utc),
        dry_run,
        portion,
        pause_sec,
        progress or (lambda _: None),
    )
    if rules.of_sessions or rules.of_events:
        of_sessions = await _for_sessions(lanes, tables)
        if rules.of_sessions:
            for sessions in of_sessions:
                await work.sessions(sessions)
        if rules.of_events:
            for sessions in of_sessions:
                await work.events(sessions)
    if rules.expired_memories:
        for expired in await _for_memories(lanes, memories):
            await work.memories(expired)
    if rules.orphaned_artifacts:
        for orphaned, collect in await _for_artifacts(lanes, artifacts, tables):
            await work.artifacts(orphaned, collect)
    if not dry_run:
        await audit.record("pruned", details={name: many for name, many in asdict(work.done).items() if many})
    return work.done


# The statements: one set, or one for each shard where tables are distributed.


async def _for_sessions(lanes: Lanes, tables: Tables) -> Sequence[PruneStatements]:
    users = await users_of_shards(lanes, tables.metadata, "", tables.sessions)
    if not users:
        return [PruneStatements(tables)]
    made = [DelegatedPrune(tables=tables, key=user) for user in users]
    await lanes.batch(definitions(made[0].functions.values(), tables.session_table))
    return made


async def _for_memories(lanes: Lanes, table: MemoryTable) -> Sequence[PruneMemories]:
    users = await users_of_shards(lanes, table.metadata, f"{table.name}.", table.memories)
    if not users:
        return [PruneMemories(table)]
    made = [DelegatedPruneMemories(table=table, key=user) for user in users]
    await lanes.batch(definitions(made[0].functions.values(), table.memory_table))
    return made


async def _for_artifacts(
    lanes: Lanes, artifacts: ArtifactTables, tables: Tables
) -> Sequence[tuple[PruneArtifacts, str]]:
    """With the statement that collects contents."""
    users = await users_of_shards(lanes, artifacts.metadata, "", artifacts.artifacts)
    if not users:
        return [(PruneArtifacts(artifacts, tables), ArtifactStatements(artifacts).collect_portion)]
    made = [DelegatedPruneArtifacts(artifacts=artifacts, sessions=tables, key=user) for user in users]
    await lanes.batch(definitions(made[0].functions.values(), artifacts.artifact_table))
    return [(each, each.collect_portion) for each in made]


class _Work:
    """One run: it reads page after page, and deletes in portions."""

    def __init__(
        self,
        lanes: Lanes,
        rules: Rules,
        now: datetime,
        dry_run: bool,
        portion: int,
        pause_sec: float,
        progress: Callable[[Pruned], None],
    ) -> None:
        self.done = Pruned()
        self._lanes = lanes
        self._rules = rules
        self._now = now
        self._dry_run = dry_run
        self._portion = portion
        self._pause_sec = pause_sec
        self._progress = progress
        self._apps = _column("text", [app.encode() for app in rules.apps]) if rules.apps else None

    async def sessions(self, sql: PruneStatements) -> None:
        """Sessions with their events."""
        rules = self._rules
        before = None if rules.idle is None else self._now - rules.idle
        async for page in self._pages(sql.idle_sessions, 3, before, rules.keep_sessions):
            for rows in _portions(page, self._portion, lambda row: int(row[4])):
                if self._dry_run:
                    gone = list(rows)
                else:
                    places = await self._write(sql.delete_sessions, _keys(rows, revisions=True))
                    gone = [rows[place - 1] for (place,) in places]
                await self._count(sessions=len(gone), session_events=sum(row[4] for row in gone))

    async def events(self, sql: PruneStatements) -> None:
        """Old events of sessions that stay."""
        rules = self._rules
        before = None if rules.events is None else self._now - rules.events
        async for page in self._pages(sql.old_events, 3, before, rules.keep_events):
            cut = [row for row in page if row[3] is not None]
            if self._dry_run:
                await self._count(events=sum(row[4] for row in cut))
                continue
            for row in cut:
                if row[4] > self._portion:
                    await self._long_session(sql, row)
            short = [row for row in cut if row[4] <= self._portion]
            for rows in _portions(short, self._portion, lambda row: int(row[4])):
                ((gone,),) = await self._write(sql.delete_events, _keys(rows, revisions=True))
                await self._count(events=gone)

    async def _long_session(self, sql: PruneStatements, row: Row) -> None:
        """A session with more old events than a portion has."""
        *key, cut, _ = row
        end = -1
        while end < cut:
            found = await self._lanes.fetch(sql.portion_end, [*key, cut, self._portion], repeat=Repeat.READ)
            end = found[0][0] if found else cut
            ((gone,),) = await self._write(sql.delete_events, _keys([(*key, end)], revisions=True))
            await self._count(events=gone)
            if not gone:
                return  # the session is being deleted, or another process was faster

    async def memories(self, sql: PruneMemories) -> None:
        """Memories that have expired."""
        if self._dry_run:
            ((count,),) = await self._lanes.fetch(sql.count, [self._now, self._apps], repeat=Repeat.READ)
            await self._count(memories=count)
            return
        gone = 1
        while gone:
            ((gone,),) = await self._write(sql.delete, [self._now, self._apps, self._portion])
            await self._count(memories=gone)

    async def artifacts(self, sql: PruneArtifacts, collect: str) -> None:
        """Artifacts of sessions that are not there, and what no version needs, which `collect` deletes."""
        before = self._now - GRACE
        async for page in self._pages(sql.orphans, 4, before):
            for rows in _portions(page, self._portion, lambda row: int(row[5])):
                if self._dry_run:
                    gone = list(rows)
                else:
                    hashes = _column("bytea", [row[3] for row in rows])
                    versions = _column("bigint", [_bigint(row[4]) for row in rows])
                    places = await self._write(sql.delete, [*_keys(rows), hashes, versions])
                    gone = [rows[place - 1] for (place,) in places]
                await self._count(artifacts=len(gone), versions=sum(row[5] for row in gone))
        if self._dry_run:
            ((contents, size, uploads),) = await self._lanes.fetch(sql.unused, [before], repeat=Repeat.READ)
            await self._count(contents=contents, content_bytes=size, uploads=uploads)
            return
        # A content can be large, so only a few are deleted at once.
        few = max(1, self._portion // 50)
        contents = uploads = few
        while contents == few:
            ((contents, size),) = await self._write(collect, [few])
            await self._count(contents=contents, content_bytes=size)
        while uploads == few:
            ((uploads,),) = await self._write(sql.clear_uploads, [before, few])
            await self._count(uploads=uploads)

    async def _pages(self, sql: str, width: int, *limits: Any) -> AsyncIterator[list[Row]]:
        """The pages of a table in the order of its key, which is the first `width` columns."""
        last: list[Any] = [""] * 3 + [b""] * (width - 3)
        while True:
            page = await self._lanes.fetch(
                sql, [*last, self._apps, *limits, _PAGE], kind="list", repeat=Repeat.READ
            )
            if page:
                yield page
            if len(page) < _PAGE:
                return
            last = list(page[-1][:width])

    async def _write(self, sql: str, parameters: list[Any]) -> list[Row]:
        """Delete one portion. If the statement is sent twice, it deletes once, and what the first attempt
        deleted is not counted.
        """
        rows = await self._lanes.fetch(sql, parameters, repeat=Repeat.AFTER_FAILURE)
        if self._pause_sec:
            await asyncio.sleep(self._pause_sec)
        return rows

    async def _count(self, **more: int) -> None:
        self.done = self.done.plus(**more)
        self._progress(self.done)


def _portions(rows: Sequence[Row], most: int, weight: Callable[[Row], int]) -> Iterable[Sequence[Row]]:
    """Lots of rows whose weights add up to at most `most`, or of one row. A row weighs at least 1."""
    lot: list[Row] = []
    weighed = 0
    for row in rows:
        own = max(1, weight(row))
        if lot and weighed + own > most:
            yield lot
            lot, weighed = [], 0
        lot.append(row)
        weighed += own
    if lot:
        yield lot


def _keys(rows: Sequence[Row], *, revisions: bool = False) -> list[Any]:
    """Arrays of the rows' app names, user ids and ids, and of the bigint that follows them."""
    columns: list[Any] = [_column("text", [row[place].encode() for row in rows]) for place in range(3)]
    return [*columns, _column("bigint", [_bigint(row[3]) for row in rows])] if revisions else columns


def _column(kind: str, values: list[bytes]) -> Any:
    return arrays((kind,), ([value] for value in values))[0]


def _bigint(value: int) -> bytes:
    return value.to_bytes(8, "big", signed=True)
