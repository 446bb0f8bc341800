"""Reading sessions without the events that compactions stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from google.adk.sessions.base_session_service import GetSessionConfig
from pydantic import Field, model_validator
from typing_extensions import Self

from adk_psqlpy.connections.binary import parameter, raw, seconds
from adk_psqlpy.connections.lanes import Decoders
from adk_psqlpy.sessions.stored import StoredSession
from adk_psqlpy.sql.compacted import CompactedStatements

if TYPE_CHECKING:
    from adk_psqlpy.sessions.store import PsqlpyADKStore

_KEPT: Final[Decoders] = {"create_time": seconds, "kept": raw}
_ATTEMPTS: Final = 3


class CompactedSessionConfig(GetSessionConfig):
    """Read the history as a prompt needs it, without the raw events that retained compactions cover.

    It is for sessions that ADK's event compaction keeps short in the prompt, but that are long in storage:
    `RunConfig(get_session_config=CompactedSessionConfig())`, or `get_session(config=...)`.

    The prompt's contents are the same as after a full read, because ADK leaves covered events out of the
    prompt anyway. This holds for `include_contents="default"`, and for `"none"` if the turn began with the
    user's last message. These events are kept: compactions; rewinds; calls without an answer; earlier calls
    that a later answer needs; the newest token counts, cache metadata and interaction ids; everything since
    the user's last message; and all events of an isolation scope (or of none) that has no compaction of its
    own. Other readers of the history, such as a callback that counts messages, see only what is left.

    Attributes:
        overlap_size: how many of the newest covered invocations are read, too. Give it the value of the app's
            `EventsCompactionConfig`: the next summary begins that many invocations earlier.
    """

    overlap_size: int = Field(default=0, ge=0, le=1_000_000)

    @model_validator(mode="after")
    def _alone(self) -> Self:
        if self.num_recent_events is not None or self.after_timestamp is not None:
            raise ValueError(
                "CompactedSessionConfig takes no num_recent_events or after_timestamp: a history that is cut "
                "anywhere lacks summaries, and may have answers without their calls"
            )
        return self


async def read_compacted(
    store: PsqlpyADKStore, key: tuple[str, str, str], overlap_size: int
) -> StoredSession | None:
    """Read a session as a `CompactedSessionConfig` asks for; `None` if there is none.

    A first statement finds the events to read. If somebody writes to the session before they are read, this
    is repeated; after a few times, all events are read.
    """
    store._check_key(*key)
    sql = CompactedStatements(store.tables).kept
    for _ in range(_ATTEMPTS):
        rows = await store._read(sql, [*key, overlap_size], _KEPT)
        if not rows:
            return None
        revision, create_time, kept = rows[0]
        if kept is None:
            break
        found = await store._get_session(*key, "kept", [parameter(kept)])
        if found is None or (found.revision, found.create_time) == (revision, create_time):
            return found
    return await store.get_session(*key)
