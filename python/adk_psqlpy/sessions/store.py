"""The store: the tables and the plain operations on them. ADK's service is built on it."""

from __future__ import annotations

from typing import Any

from adk_psqlpy.config import PsqlpyConfig
from adk_psqlpy.sessions.decoders import SESSION
from adk_psqlpy.sessions.event_operations import EventOperations
from adk_psqlpy.sessions.session_operations import SessionOperations
from adk_psqlpy.sql import IndexSet
from adk_psqlpy.telemetry import observed


class PsqlpyADKStore(SessionOperations, EventOperations):
    """Sessions, events and state of ADK agents in PostgreSQL tables.

    Args:
        config: where the server is: a `PsqlpyConfig`, or a configuration of another package with a
            `provide_connection()` that lends psqlpy connections, such as SQLSpec's. Such a pool still belongs
            to its owner.
        session_table: the table of sessions, with its schema if it is not on the search path. The other
            tables take its prefix: `adk_app_states`, `adk_user_states`, `adk_state_log`, `adk_forks`,
            `adk_metadata`.
        events_table: the table of events.
        key_length: the longest app name, user, session or event id in characters, 1 to 1,024. The tables are
            made with it, so it is chosen before `create_tables`.
        group_appends: whether appends to several sessions that wait for the server are sent in one statement.
            Each append still gets its own result. A lone append is sent by itself.
        history_cache_bytes: how much memory to use for the events of sessions that were read, so that the
            next read brings only what is new. The result is exact, because the server compares all rows at
            each read. 0 or `None` turns it off.
        tables_on_first_use: whether the first operation calls `create_tables`, for callers that cannot do it
            themselves.
        follow_settings: how often followers look for new events, and how long they wait for an unreachable
            server.
        seal: encrypts content, actions, metadata and state before they are sent (docs/security.md). Rows that
            were written without a seal are still read.
        before_append: a coroutine function that is called once with a copy of each event before it is stored.
            It returns the event to store instead, for example a masked one, or `None` to store none. It must
            not change id, invocation id and timestamp.

    Every method raises `ValueError` for arguments that cannot be stored, before anything is sent, and
    `psqlpy.exceptions.Error` for errors of the connection and of the server. Every method that reads raises
    `SealError` if a sealed value cannot be opened.
    """

    async def create_tables(
        self,
        *,
        index_set: IndexSet | None = None,
        notify: bool | None = None,
        event_search: bool | str | None = None,
        views: bool = False,
        distributed: bool = False,
        waiting_index: bool = False,
        row_security: bool = False,
        audit: bool = False,
    ) -> None:
        """Make the tables and indexes, or bring them to the newest version. Safe to call from many processes.

        Args:
            distributed: whether to distribute the tables by `user_id` over the nodes of a Citus cluster.
                Distributed tables stay distributed, and every store that calls this notices it. Filled tables
                are copied, and writes to them wait meanwhile.
            index_set: what the indexes over the session table are for. With `"reading"`, the default of new
                tables, pages of long lists, retention and `state @>` are fast, and each append writes to all
                of the indexes. With `"appending"`, appends write to none of them, and those queries read and
                sort more, up to the whole table. `None` leaves the set as it is.
            notify: whether a trigger notifies followers of each write to a session, so that they need not
                look for it. Commits that notify wait for each other in PostgreSQL (docs/following.md has
                numbers). `None` leaves it as it is; new tables do not notify.
            event_search: a text search configuration (`True`: `simple`) makes the tables for `search_events`;
                `False` drops them. `None` leaves it as it is.
            views: make the SQL views over events too (`docs/views.md`), or bring them to this package's
                definitions.
            waiting_index: make the partial index by which `list_paused` and `list_sessions(waiting=...)` find
                long-running calls, if it is not there. Others read and write meanwhile. It holds the events
                with such calls only, so other appends do not write to it.
            row_security: whether roles see only what `adk_psqlpy.admin.access.grant_access` gave them
                (docs/security.md). It stays so, also for tables that are made later. Makes the table of
                streamed texts too, since a service's role cannot make it. Not for distributed tables.
            audit: make the table in which `adk_psqlpy.admin` and the command line record who read or erased
                which user's data (docs/audit.md), if it is not there.

        Every process should ask for the same index set, or for none. A change of the set is one transaction.
        Writes of sessions wait until it is done; reads wait only while the old indexes are dropped, but those
        of distributed tables wait until it is done. If other transactions hold the table for 5 s, the change
        gives up and changes nothing. Indexes that you made yourself stay.

        Raises:
            psqlpy.exceptions.NotSupportedError: the server is older than PostgreSQL 15, or the tables were
                made by a newer version of this package; or `event_search` is wanted of distributed tables, or
                with a seal.
            psqlpy.exceptions.Error: the server did not let the tables be made or secured, or the set be
                changed.
            ValueError: the tables were made with other names or another `key_length`.
        """
        await self._made.create(
            index_set=index_set,
            notify=notify,
            event_search=event_search,
            views=views,
            distributed=distributed,
            waiting_index=waiting_index,
            row_security=row_security,
            audit=audit,
        )

    @observed("app_states")
    async def get_app_state(self, app_name: str) -> dict[str, Any]:
        """The app's state, with keys without their `app:` prefix; empty if nothing was stored."""
        self._check(app_name=app_name)
        rows = await self._read(self._sql.app_state, [app_name], SESSION)
        place = f"app {app_name!r}"
        return await self._values.shared_state(app_name, None, rows[0][0], place) if rows else {}

    @observed("user_states")
    async def get_user_state(self, app_name: str, user_id: str) -> dict[str, Any]:
        """The user's state, with keys without their `user:` prefix; empty if nothing was stored."""
        self._check(app_name=app_name, user_id=user_id)
        rows = await self._read(self._sql.user_state, [app_name, user_id], SESSION)
        place = f"user {user_id!r} of app {app_name!r}"
        return await self._values.shared_state(app_name, user_id, rows[0][0], place) if rows else {}

    async def close(self) -> None:
        """Close the configuration's pool. If the configuration is another package's, only give its
        connections back.
        """
        if isinstance(self.config, PsqlpyConfig):
            await self.config.close_pool()
        else:
            self._lanes.close()
