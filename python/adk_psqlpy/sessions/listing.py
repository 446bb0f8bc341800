"""Lists for a product: filtered, in both orders, and of calls that wait for somebody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.adk.sessions.session import Session
from psqlpy.exceptions import NotSupportedError

from adk_psqlpy import _native
from adk_psqlpy.connections.binary import parameter, raw, seconds, timestamptz
from adk_psqlpy.connections.lanes import Decoders
from adk_psqlpy.sessions import arguments
from adk_psqlpy.sessions.decoders import LIST
from adk_psqlpy.sessions.state import scoped
from adk_psqlpy.sessions.stored import StoredSession
from adk_psqlpy.sql.listing import ListingStatements
from adk_psqlpy.telemetry import observed

if TYPE_CHECKING:
    from adk_psqlpy.sessions.operations import Operations

_CALLS: Decoders = {"timestamp": seconds, "call": raw}

After = tuple[float, str, str]


@dataclass(frozen=True, slots=True)
class WaitingCall:
    """A long-running call that waits for an answer, which is a function response of the user with its
    `call_id`.

    `name` and `args` are those of the call; they are `None` if the event that announces the call does not
    contain it. `timestamp` is the event's, in seconds since the Unix epoch.
    """

    user_id: str
    session_id: str
    event_id: str
    seq: int
    timestamp: float
    invocation_id: str
    call_id: str
    name: str | None
    args: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Filters:
    """Which sessions a list contains, and in which order. See `PsqlpySessionService.list_sessions`."""

    state: Mapping[str, Any] | None = None
    updated_from: float | None = None
    updated_before: float | None = None
    waiting: bool | None = None
    newest_first: bool = False

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: one is not of its type.
        """
        if self.waiting is not None and not isinstance(self.waiting, bool):
            raise ValueError(f"waiting must be True, False or None, not {self.waiting!r}")
        if not isinstance(self.newest_first, bool):
            raise ValueError(f"newest_first must be True or False, not {self.newest_first!r}")
        self.contained()
        self.times()

    def contained(self) -> bytes | None:
        """The part of state to look for, as jsonb; `None` for any state."""
        if self.state is None:
            return None
        parts = scoped(self.state, "the state to look for")
        if parts.app is not None or parts.user is not None:
            raise ValueError(
                "the state to look for has keys of app: or user:, which are not the session's own: a list is "
                "filtered by the session's own keys"
            )
        return parts.session

    def times(self) -> list[Any]:
        """The parameters for the times that are given."""
        given = (("updated_from", self.updated_from), ("updated_before", self.updated_before))
        return [
            parameter(timestamptz(arguments.micros(name, value)))
            for name, value in given
            if value is not None
        ]


PLAIN = Filters()
"""All sessions, least recently updated first."""


class Listing:
    """Filtered lists of one store."""

    def __init__(self, store: Operations) -> None:
        """Use the tables and connections of `store`."""
        self._store = store
        self._telemetry = store._telemetry
        self._collections = store._collections

    @observed("sessions")
    async def list_sessions(
        self, app_name: str, user_id: str | None, filters: Filters, *, limit: int | None, after: After | None
    ) -> list[StoredSession]:
        """List sessions without their events, as `PsqlpyADKStore.list_sessions` does, with filters.

        With `newest_first`, the page after `after` has sessions that were updated before it.

        Raises:
            psqlpy.exceptions.NotSupportedError: the store seals, and state or waiting calls are asked for.
        """
        store = self._store
        if filters.state is not None or filters.waiting is not None:
            self._refuse_sealed()
        store._check(app_name=app_name)
        parameters: list[Any] = [app_name]
        if user_id is not None:
            store._check(user_id=user_id)
            parameters.append(user_id)
        if after is not None:
            at, after_user, after_id = after
            parameters += [
                parameter(timestamptz(arguments.micros("the update_time in after", at))),
                after_user,
                after_id,
            ]
        contained = filters.contained()
        if contained is not None:
            parameters.append(parameter(contained))
        parameters += filters.times()
        if limit is not None:
            parameters.append(arguments.count("limit", limit))
        sql = (await self._statements()).list_sessions(
            one_user=user_id is not None,
            after=after is not None,
            limited=limit is not None,
            newest_first=filters.newest_first,
            state=contained is not None,
            updated_from=filters.updated_from is not None,
            updated_before=filters.updated_before is not None,
            waiting=filters.waiting,
        )
        (row,), app = await store._with_app_state(app_name, store._read(sql, parameters, LIST, kind="list"))
        return await store._values.sessions(app_name, row, app)

    @observed("events")
    async def waiting_calls(
        self,
        app_name: str,
        user_id: str | None = None,
        *,
        limit: int | None = None,
        after: WaitingCall | None = None,
    ) -> list[WaitingCall]:
        """List the calls that wait for an answer, the oldest first; as `ProductLists.list_paused`.

        Raises:
            ValueError: an argument is not of its type.
            psqlpy.exceptions.NotSupportedError: the store seals.
        """
        self._refuse_sealed()
        store = self._store
        store._check(app_name=app_name)
        parameters: list[Any] = [app_name]
        if user_id is not None:
            store._check(user_id=user_id)
            parameters.append(user_id)
        if after is not None:
            if not isinstance(after, WaitingCall):
                raise ValueError(f"after must be a WaitingCall, not {type(after).__name__}")
            at = parameter(timestamptz(arguments.micros("the timestamp of after", after.timestamp)))
            parameters += [at, after.user_id, after.session_id, after.seq, after.call_id]
        if limit is not None:
            parameters.append(arguments.count("limit", limit))
        sql = (await self._statements()).waiting_calls(
            one_user=user_id is not None, after=after is not None, limited=limit is not None
        )
        rows = await store._read(sql, parameters, _CALLS, kind="list")
        place = f"events of app {app_name!r}"
        return [WaitingCall(*row[:5], **_native.decode_json(row[5], place=place)) for row in rows]

    async def _statements(self) -> ListingStatements:
        """The statements for the tables as they are: distributed, or of one server."""
        await self._store._made.ready()
        return self._store._sql.listing

    def _refuse_sealed(self) -> None:
        """Refuse with a seal: the server compares contents, and cannot read sealed ones."""
        if self._store.seal is not None:
            raise NotSupportedError(
                "a store with a seal has no lists by state, and no lists of waiting calls: the server would "
                "have to read sealed contents"
            )


class ProductLists:
    """The methods of `PsqlpySessionService` beyond ADK's contract for lists in a product."""

    listing: Listing

    async def list_paused(
        self,
        *,
        app_name: str,
        user_id: str | None = None,
        limit: int | None = None,
        after: WaitingCall | None = None,
    ) -> list[WaitingCall]:
        """List the long-running calls that wait for an answer, of an app or of one user, the oldest first.

        Such a call (a confirmation, a credential, a question, or any tool that is marked as long-running)
        waits until the session has a function response with its id whose author is the user. An answer of the
        tool itself does not count. A call that a rewind undid does not wait. A call still waits if the user
        went on without answering it.

        `limit` is the size of a page, and the last call of one page as `after` gives the page that follows. A
        call that begins to wait meanwhile is met on a later page, unless its event carries an earlier time.

        `create_tables(waiting_index=True)` makes the index that finds them without reading all events.
        """
        return await self.listing.waiting_calls(app_name, user_id, limit=limit, after=after)

    @staticmethod
    def title(session: Session, *, key: str = "title") -> str | None:
        """The title of a session: the text in its state at `key`; `None` if there is no text."""
        title = session.state.get(key)
        return title if isinstance(title, str) and title else None
