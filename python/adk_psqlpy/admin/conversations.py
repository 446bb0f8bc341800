"""Looking up a session, reading it as a conversation, and following it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event

from adk_psqlpy.admin.audit import Audit
from adk_psqlpy.admin.tables import present_tables, require_tables
from adk_psqlpy.checks import LONGEST_KEY
from adk_psqlpy.config import PsqlpyConfig
from adk_psqlpy.connections.binary import arrays
from adk_psqlpy.connections.lanes import lanes_of
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.errors import SessionDeletedError
from adk_psqlpy.seal.seal import Seal
from adk_psqlpy.sessions.store import PsqlpyADKStore
from adk_psqlpy.sessions.stored import Version
from adk_psqlpy.sql import Tables
from adk_psqlpy.sql.artifact_tables import ArtifactTables
from adk_psqlpy.sql.inspect import InspectStatements, files


class AmbiguousSessionError(ValueError):
    """Several sessions have this id: they belong to different users or apps."""


@dataclass(frozen=True, slots=True)
class SessionSummary:
    """A session without its content. `events` is the number of stored events, `revision` the number of all
    writes.
    """

    app_name: str
    user_id: str
    id: str
    revision: int
    create_time: datetime
    update_time: datetime
    events: int

    @property
    def key(self) -> tuple[str, str, str]:
        """App, user and id: the session's key."""
        return (self.app_name, self.user_id, self.id)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A version of an artifact of the session. `size` is `None` for a reference to something else."""

    filename: str
    version: int
    mime_type: str | None
    size: int | None
    create_time: datetime


@dataclass(frozen=True, slots=True)
class Conversation:
    """A session with its newest events, and the files that belong to it."""

    summary: SessionSummary
    state: dict[str, Any]
    events: list[Event]
    files: list[StoredFile] = field(default_factory=list)


async def find_sessions(
    config: PsqlpyConfig,
    session_table: str = "adk_sessions",
    events_table: str = "adk_events",
    *,
    session_id: str | None = None,
    app_name: str | None = None,
    user_id: str | None = None,
    limit: int = 20,
) -> list[SessionSummary]:
    """Look up sessions by any of id, app and user, most recently updated first.

    Without an app and a user this reads the whole table of sessions.

    Raises:
        ValueError: a table's name is not one.
        psqlpy.exceptions.Error: the tables are missing, or the server could not be asked.
    """
    tables = Tables(session_table, events_table)
    await require_tables(config, tables)
    # Without the user, nothing would find the session's id in the audit when the user is erased.
    told = None if user_id is None else session_id
    await Audit(config, tables).record("find-sessions", app_name, user_id, told, {"limit": limit})
    statements, lanes = InspectStatements(tables), lanes_of(config)
    found = await lanes.fetch(
        statements.find, [session_id, app_name, user_id, limit], kind="list", repeat=Repeat.READ
    )
    keys = arrays(("text",) * 3, ([each.encode() for each in row[:3]] for row in found))
    counts = await lanes.fetch(statements.event_counts, keys, kind="list", repeat=Repeat.READ)
    return [SessionSummary(*(*row, count)) for row, (count,) in zip(found, counts, strict=True)]


async def find_session(
    config: PsqlpyConfig,
    session_id: str,
    session_table: str = "adk_sessions",
    events_table: str = "adk_events",
    *,
    app_name: str | None = None,
    user_id: str | None = None,
) -> SessionSummary:
    """Look up the one session with this id, in this app and of this user if they are given.

    Raises:
        SessionNotFoundError: there is none.
        AmbiguousSessionError: there are several; the message names them.
        psqlpy.exceptions.Error: the tables are missing, or the server could not be asked.
    """
    found = await find_sessions(
        config,
        session_table,
        events_table,
        session_id=session_id,
        app_name=app_name,
        user_id=user_id,
        limit=10,
    )
    if not found:
        of = "".join(
            f" of {what} {value!r}"
            for what, value in (("user", user_id), ("app", app_name))
            if value is not None
        )
        raise SessionNotFoundError(f"there is no session {session_id!r}{of}")
    if len(found) > 1:
        owners = ", ".join(f"app {each.app_name!r} user {each.user_id!r}" for each in found)
        raise AmbiguousSessionError(
            f"several sessions have the id {session_id!r}, so say which app and user: {owners}"
        )
    return found[0]


async def read_conversation(
    config: PsqlpyConfig,
    summary: SessionSummary,
    session_table: str = "adk_sessions",
    events_table: str = "adk_events",
    *,
    artifact_table: str = "adk_artifacts",
    last: int | None = None,
    seal: Seal | None = None,
) -> Conversation:
    """Read a session, with its newest `last` events or with all of them; `seal` opens what is sealed.

    Raises:
        SessionNotFoundError: it was deleted meanwhile.
        SealError: a value is sealed, and there is no `seal`, or it does not open.
        psqlpy.exceptions.Error: the server could not be asked.
    """
    store = _store(config, session_table, events_table, seal)
    await Audit(config, store.tables).record("show", *summary.key, {"last": last})
    stored = await store.get_session(*summary.key, limit=last)
    if stored is None:
        raise SessionNotFoundError(f"session {summary.id!r} was deleted")
    artifacts = ArtifactTables(artifact_table)
    rows = []
    if await present_tables(config, artifacts.artifacts):
        rows = await lanes_of(config).fetch(
            files(artifacts), list(summary.key), kind="read", repeat=Repeat.READ
        )
    newest = SessionSummary(
        *summary.key,
        stored.revision,
        datetime.fromtimestamp(stored.create_time, summary.create_time.tzinfo),
        datetime.fromtimestamp(stored.update_time, summary.update_time.tzinfo),
        max(summary.events, len(stored.events)),
    )
    return Conversation(newest, stored.state, stored.events, [StoredFile(*row) for row in rows])


async def follow_conversation(
    config: PsqlpyConfig,
    conversation: Conversation,
    session_table: str = "adk_sessions",
    events_table: str = "adk_events",
    *,
    seal: Seal | None = None,
) -> AsyncIterator[Event]:
    """Yield the events that are appended after a conversation was read, as they come
    (`PsqlpyADKStore.follow`).

    It ends when the session is deleted.

    Raises:
        HistoryLostError: the server no longer has events that it had given.
        psqlpy.exceptions.Error: the server was unreachable for longer than `FollowSettings` allows.
    """
    summary = conversation.summary
    seen = Version(summary.revision, summary.create_time.timestamp())
    async with _store(config, session_table, events_table, seal).follow(*summary.key, seen) as follower:
        try:
            async for event in follower:
                yield event
        except SessionDeletedError:
            return


def _store(config: PsqlpyConfig, session_table: str, events_table: str, seal: Seal | None) -> PsqlpyADKStore:
    # Whatever the tables were made with: nothing is written here.
    return PsqlpyADKStore(config, session_table, events_table, key_length=LONGEST_KEY, seal=seal)
