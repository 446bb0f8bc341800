"""All tables of a database, sealed anew one after another."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

from adk_psqlpy.admin.reseal import artifacts, credentials, memories, sessions, texts
from adk_psqlpy.admin.reseal.rows import Work, go_over, rewriting
from adk_psqlpy.admin.shards import is_distributed
from adk_psqlpy.admin.tables import present_tables, require_tables
from adk_psqlpy.config import PsqlpyConfig
from adk_psqlpy.connections.lanes import Lanes, lanes_of
from adk_psqlpy.recorded import recorded_of
from adk_psqlpy.seal.seal import Seal
from adk_psqlpy.sql import Tables
from adk_psqlpy.sql.artifact_tables import ArtifactTables
from adk_psqlpy.sql.credentials import CredentialTable
from adk_psqlpy.sql.memory import MemoryTable
from adk_psqlpy.sql.migrate import record_sealed


@dataclass(frozen=True, slots=True)
class Resealed:
    """How many rows were read (`seen`), and how many of each kind were written anew.

    `artifacts` counts versions, `contents` the rows that hold the bytes of versions, and `texts` the texts
    that are being streamed. `left` names the tables that were not changed, and says why.
    """

    seen: int = 0
    events: int = 0
    states: int = 0
    memories: int = 0
    artifacts: int = 0
    contents: int = 0
    credentials: int = 0
    texts: int = 0
    left: tuple[str, ...] = ()

    def plus(self, **more: int) -> Resealed:
        """A copy with these numbers added."""
        return replace(self, **{name: getattr(self, name) + value for name, value in more.items()})


async def reseal(
    config: PsqlpyConfig,
    seal: Seal,
    session_table: str = "adk_sessions",
    events_table: str = "adk_events",
    *,
    memory_table: str = "adk_memories",
    artifact_table: str = "adk_artifacts",
    credential_table: str = "adk_credentials",
    portion: int = 500,
    progress: Callable[[Resealed], None] | None = None,
) -> Resealed:
    """Seal values with the current key if they are plain or sealed with another key.

    The function covers events, states and texts that are being streamed. It also covers memories, artifacts
    and credentials if their tables exist. It hashes the search words of memories anew, and stores contents
    of artifacts anew under a new hash.

    Each row is written by one statement. A row that somebody else has changed meanwhile is read again. In a
    state, the statement replaces only members that still have the value that was read. So agents may work
    while this runs, two runs may overlap, and a run may be stopped and started again at any time. The ranges
    of keys are chosen at the beginning, so a run ends, however fast others write.

    Start it when all processes seal with the current key, which is `Seal.cache_sec` after the rotation. When
    it is done, the other keys are not needed any more, with two exceptions. Unfinished uploads of artifacts
    and contents without a version keep their keys; nobody reads them, and `PsqlpyArtifactService.purge`
    deletes them. The keys of users are sealed with a master key, which `UserKeys.rewrap` replaces.

    A sealed member of a state stays sealed, even if the patterns of `seal` do not match it. Three things are
    not changed, and `Resealed.left` names them: a table of memories that was made without a seal, since its
    index holds plain words; the index of a search over events; and artifacts in the distributed tables of a
    Citus cluster.

    Args:
        config: the server.
        seal: its ring has the current key, and the keys that values are sealed with.
        session_table, events_table, memory_table, artifact_table, credential_table: names of tables.
        portion: about how many rows are read at a time.
        progress: called after each portion with the numbers so far.

    Returns:
        How many rows were read and written.

    Raises:
        MissingKeyError: the ring lacks a key that a value is sealed with. Rows before that value, in the
            order of keys, are done.
        SealError: a value does not open.
        ValueError: `portion` is not 1 or more.
        psqlpy.exceptions.Error: the tables of sessions are missing, the server could not be reached, or it
            refused the statement.
    """
    if isinstance(portion, bool) or not isinstance(portion, int) or portion < 1:
        raise ValueError(f"portion must be an integer of 1 or more, not {portion!r}")
    seal.forget()
    lanes, tables = lanes_of(config), Tables(session_table, events_table)
    memory, files = MemoryTable(memory_table), ArtifactTables(artifact_table)
    owned = CredentialTable(credential_table)
    await require_tables(config, tables)
    optional = (tables.partials, memory.memories, files.artifacts, owned.credentials)
    there = await present_tables(config, *optional)
    done = Resealed()
    if "event_search" in await recorded_of(lanes, tables.metadata):
        why = "it holds the words of events; create_tables(event_search=False) drops it"
        done = _left(done, tables.event_words, why)
    await lanes.batch(record_sealed(tables.metadata))
    work = sessions.tables_of(tables, seal)
    if tables.partials in there:
        work.append(texts.table_of(tables, seal))
    if memory.memories in there:
        if await memories.is_sealed(lanes, memory):
            work.append(memories.table_of(memory, seal))
        else:
            done = _left(done, memory.memories, "it was made without a seal")
    if owned.credentials in there:
        work.append(credentials.table_of(owned, seal))
    if files.artifacts in there:
        if await is_distributed(lanes, files.metadata):
            done = _left(done, files.artifacts, "it is distributed")
        else:
            await lanes.batch(record_sealed(files.metadata))
            # Contents come before versions, since storing a content anew changes its versions.
            contents = artifacts.Contents(lanes, files, seal)
            async for seen, written in go_over(lanes, contents.table, portion, contents.again):
                done = _told(done.plus(seen=seen, contents=written), progress)
            work.append(artifacts.versions_of(files, seal))
    for each in work:
        async for seen, written in _rewritten(lanes, each, portion):
            done = _told(done.plus(seen=seen, **{each.what: written}), progress)
    return done


def _rewritten(lanes: Lanes, work: Work, portion: int) -> AsyncIterator[tuple[int, int]]:
    return go_over(lanes, work.table, portion, rewriting(lanes, work.table, work.resealing))


def _told(done: Resealed, progress: Callable[[Resealed], None] | None) -> Resealed:
    if progress is not None:
        progress(done)
    return done


def _left(done: Resealed, table: str, why: str) -> Resealed:
    name = table.replace('"', "")
    return replace(done, left=(*done.left, f"{name}: {why}"))
