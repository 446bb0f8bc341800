"""The statements that read sessions, events and states."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Final

from adk_psqlpy.sql import event_columns
from adk_psqlpy.sql.catalog import EXISTS
from adk_psqlpy.sql.recorded import read_metadata
from adk_psqlpy.sql.row_versions import SERVER
from adk_psqlpy.sql.tables import Tables

_LAST_SEQ: Final = 2**63 - 1

CHUNK: Final = 128
"""How many values of `seq` a row of `get_session` covers. 64 to 256 were equally fast for events of 600
bytes.
"""


def given(place: int, kind: str = "bigint") -> str:
    """A parameter whose value the planner does not see.

    For `LIMIT $1` with the value 20, the planner expects 20 rows in a plan for this value, but a tenth of all
    rows in a plan for any value. So the generic plan looked more expensive, and each read was planned again:
    0.2-0.3 ms.
    """
    return f"(SELECT ${place}::{kind})"


@dataclass(frozen=True)
class ReadStatements:
    """The reading statements for one set of tables. Parameters `$1 $2 $3` are app, user and session id throughout.

    `server` is an expression that identifies the run of the server that has the tables (`sql.row_versions`).
    """

    tables: Tables
    server: str = SERVER

    @cached_property
    def version(self) -> str:
        """The server's version number and the recorded schema version's table, if it is there."""
        return "SELECT current_setting('server_version_num')::int, to_regclass($1)::text"

    @cached_property
    def metadata(self) -> str:
        """What is recorded about the tables: keys and values."""
        return read_metadata(self.tables.metadata)

    @cached_property
    def append_outcome(self) -> str:
        """`$4` an event id: the session's revision and create_time, and the event's `seq` (NULL: not there)."""
        t = self.tables
        return f"""
        SELECT s.revision, s.create_time, e.seq
        FROM {t.sessions} AS s
        LEFT JOIN {t.events} AS e
            ON e.app_name = $1 AND e.user_id = $2 AND e.session_id = $3 AND e.id = $4
        WHERE s.app_name = $1 AND s.user_id = $2 AND s.id = $3
        """

    @cached_property
    def last_event(self) -> str:
        """A session's revision, create_time and update_time, and the id of its newest event (NULL: none)."""
        t = self.tables
        return f"""
        SELECT s.revision, s.create_time, s.update_time, (
            SELECT e.id FROM {t.events} AS e
            WHERE e.app_name = $1 AND e.user_id = $2 AND e.session_id = $3
            ORDER BY e.seq DESC LIMIT 1
        ) AS last_event_id
        FROM {t.sessions} AS s
        WHERE s.app_name = $1 AND s.user_id = $2 AND s.id = $3
        """

    @cache  # noqa: B019 - a store has one of these, for as long as it lives
    def get_session(self, *, events: str) -> str:
        """The session, both shared states, and the events in chunks, one array a column.

        `events` is `none`, `all`, `newest` (`$4` how many), `after` (`$4` the earliest time), `newest_after`
        (`$4` the time, `$5` how many), `since` (`$4` a revision: those appended after it), `until` (`$4` a revision: the others), `kept` (`$4` their `seq`s, an array), `one` (`$4` an
        event id), `page` (`$4` to `$5` the `seq`s) or `page_after` (`$6` the earliest time as well). No row
        where the session does not exist, else a row a chunk, told apart by `number` (from 1; NULL where there
        are no events): the caller puts them in order. Only the first one carries the states. Within a chunk the events come in the order of
        `seq`; PostgreSQL aggregates a sorted subquery in its order (manual, 9.21).

        A chunk covers `CHUNK` values of `seq`. 1,000 events in one row took 4.8 ms, in eight rows 2.9 ms: the
        server builds each array, and the message around it, in the same memory as the one before, and the
        client reads meanwhile. A long history also stays below the 1 GB that a value may have.

        The plan has to be the same for every session. Otherwise the server would plan each read again (0.2 ms
        of 0.5). So the events are looked up by the columns of the session's row, for whose values there are
        no statistics, and limited by values that the planner does not see (`given`). The planner assumes ten
        rows for an array of unknown length. Ten is enough for it to choose the index even on a small table,
        and too few for it to start JIT compilation. With `ORDER BY s.id` only the primary key is left.
        Without it and without statistics, the planner takes any index that begins with app and user, and
        reads all sessions of the user.
        """
        head, states, session = self._head, self._states, self._session
        if events == "none":
            return head.format(number="NULL::bigint", **states) + session
        arrays = "".join(f', e."{name}"' for name in event_columns.ARRAYS)
        if events == "one":
            found = f"{self._events('e.id BETWEEN $4 AND $4')} ORDER BY e.id LIMIT 1"
            return f"""{head.format(number="1::bigint", **states)}{arrays}{session}
        CROSS JOIN LATERAL ({self._aggregated(found)}) AS e"""
        in_first = {
            name: f"CASE WHEN chunk.number > 1 THEN NULL ELSE {value} END" for name, value in states.items()
        }
        condition = {
            "after": f"e.timestamp >= {given(4, 'timestamptz')}",
            "newest_after": f"e.timestamp >= {given(4, 'timestamptz')}",
            "since": f"e.seq > {given(4)}",
            "until": f"e.seq <= {given(4)}",
            "kept": "e.seq = ANY ($4::bigint[])",
            "page": f"e.seq >= {given(4)} AND e.seq <= {given(5)}",
            "page_after": f"e.seq >= {given(4)} AND e.seq <= {given(5)} AND e.timestamp >= {given(6, 'timestamptz')}",
        }.get(events)
        last = "s.revision"
        if events == "until" or events.startswith("page"):
            last = f"least(s.revision, {given(4 if events == 'until' else 5)})"
        chunk = f"""{self._events(condition)} AND e.seq >= chunk.first
                AND e.seq <= CASE WHEN chunk.first > s.revision - {CHUNK} THEN {_LAST_SEQ}
                    ELSE chunk.first + {CHUNK - 1} END
            ORDER BY e.seq"""
        starts = f"""
            SELECT generate_series(start.seq, greatest(start.seq, {last}), {CHUNK})
            FROM ({self._start(events, condition)}) AS start"""
        if events == "kept":
            # Only chunks that have events: the others are gaps.
            starts = f"SELECT DISTINCT (seq - 1) / {CHUNK} * {CHUNK} + 1 FROM unnest($4::bigint[]) AS seq ORDER BY 1"
        return f"""{head.format(number="chunk.number", **in_first)}{arrays}{session}
        LEFT JOIN LATERAL unnest(ARRAY({starts})) WITH ORDINALITY AS chunk (first, number) ON true
        LEFT JOIN LATERAL ({self._aggregated(chunk)}) AS e ON chunk.first IS NOT NULL
        """

    @property
    def _head(self) -> str:
        """The columns of the session itself, with places for `{number}` and the keys of `_states`."""
        return """
        SELECT {number} AS number, s.create_time, s.update_time, s.revision,
            {state} AS state,
            {app_state} AS app_state,
            {user_state} AS user_state"""

    @property
    def _states(self) -> dict[str, str]:
        """The states of a session, by their names in `_head`."""
        t = self.tables
        return {
            "state": "s.state",
            "app_state": t.state_of_app,
            "user_state": f"(SELECT u.state FROM {t.user_states} AS u WHERE u.app_name = $1 AND u.user_id = $2)",
        }

    @property
    def _session(self) -> str:
        """The session `s` that `$1 $2 $3` name."""
        return f"""
        FROM (
            SELECT s.app_name, s.id, s.state, s.create_time, s.update_time, s.revision FROM {self.tables.sessions} AS s
            WHERE s.app_name = $1 AND s.user_id = $2 AND s.id BETWEEN $3 AND $3 ORDER BY s.id LIMIT 1
        ) AS s"""

    def _aggregated(self, events: str, *further: str) -> str:
        """Events as arrays. `further` columns come first."""
        columns = [*further, *(f'array_agg(e."{name}") AS "{name}"' for name in event_columns.OWN)]
        columns.append(f"array_agg({self._rare}) AS rare")
        return f"SELECT {', '.join(columns)} FROM ({events}) AS e"

    @cached_property
    def _rare(self) -> str:
        """The rare columns of an event `e` as one JSON text; NULL if it has none."""
        rare = [f'e."{name}"' for name in event_columns.RARE]
        # As text: for 1,000 rows with some of these columns, jsonb_build_object took 3.1 ms more, this 0.2
        # ms.
        members = ", ".join(f"""'"{name}":' || to_json(e."{name}")::text""" for name in event_columns.RARE)
        return f"CASE WHEN num_nonnulls({', '.join(rare)}) > 0 THEN '{{' || concat_ws(',', {members}) || '}}' END"

    def _events(self, condition: str | None, columns: tuple[str, ...] = event_columns.NAMES) -> str:
        """Events of the session `s`, in no order."""
        further = f" AND {condition}" if condition else ""
        return f"""SELECT {", ".join(f'e."{name}"' for name in columns)} FROM {self.tables.events} AS e
            WHERE e.app_name = s.app_name AND e.user_id = $2 AND e.session_id = s.id{further}"""

    def _start(self, events: str, condition: str | None) -> str:
        """The `seq` of the first event to read; NULL or no row if there is none."""
        in_order = f"{self._events(condition, ('seq',))} ORDER BY e.seq"
        if events not in ("newest", "newest_after"):
            return f"{in_order} LIMIT 1"
        # The newest n are found from the end of the index.
        most = given(4 if events == "newest" else 5)
        return f"SELECT min(e.seq) AS seq FROM ({in_order} DESC LIMIT {most}) AS e"

    @cache  # noqa: B019 - a store has one of these, for as long as it lives
    def list_sessions(self, *, one_user: bool, after: bool, limited: bool) -> str:
        """`$1` app, then the user (`one_user`), then time, user and id of the last session seen (`after`),
        then how many (`limited`).

        In a cluster, a list that is not for one user visits every shard.

        Gives one row: an array a column of the sessions, oldest update first, ties by user and id (in code
        point order, as Python sorts), the app state, and the states of the users in it.
        """
        t = self.tables
        # The conditions match idx_adk_sessions_app_user and idx_adk_sessions_user. Because of its collation,
        # the first of these is not used for look-ups by the whole key. It has an entry for every update since
        # the last VACUUM; the primary key has far fewer.
        conditions = ['s.app_name COLLATE "C" = $1']
        place = 2
        if one_user:
            conditions.append(f's.user_id COLLATE "C" = ${place}')
            place += 1
        if after:
            # update_time also has a condition of its own, so that an index scan can start there.
            conditions.append(f"s.update_time >= ${place}")
            conditions.append(
                f"""(s.update_time, s.user_id COLLATE "C", s.id COLLATE "C") > (${place}, ${place + 1}, ${place + 2})"""
            )
            place += 3
        limit = self._limit(place) if limited else ""
        users = "u.user_id = $2" if one_user else "u.user_id IN (SELECT page.user_id FROM page)"
        return f"""
        WITH page AS MATERIALIZED (
            SELECT s.user_id, s.id, s.state, s.create_time, s.update_time, s.revision
            FROM {t.sessions} AS s
            WHERE {" AND ".join(conditions)}
            ORDER BY s.update_time, s.user_id COLLATE "C", s.id COLLATE "C" {limit}
        )
        SELECT array_agg(user_id) AS user_ids, array_agg(id) AS ids, array_agg(state) AS states,
               array_agg(create_time) AS create_times, array_agg(update_time) AS update_times,
               array_agg(revision) AS revisions,
               {t.state_of_app} AS app_state,
               (SELECT array_agg(u.user_id ORDER BY u.user_id) FROM {t.user_states} AS u
                WHERE u.app_name = $1 AND {users}) AS state_user_ids,
               (SELECT array_agg(u.state ORDER BY u.user_id) FROM {t.user_states} AS u
                WHERE u.app_name = $1 AND {users}) AS user_states
        FROM page
        """

    def _limit(self, place: int) -> str:
        return f"LIMIT {given(place)}"

    @cached_property
    def app_state(self) -> str:
        """The app's state; no row if nothing was ever stored."""
        return f"SELECT state FROM {self.tables.app_states} WHERE app_name = $1"

    @cached_property
    def user_state(self) -> str:
        """The user's state; no row if nothing was ever stored."""
        return f"SELECT state FROM {self.tables.user_states} WHERE app_name = $1 AND user_id = $2"

    @cached_property
    def tables_present(self) -> str:
        """Whether the sessions table is visible: `$1` its name, quoted."""
        return EXISTS

    @cached_property
    def may_be_distributed(self) -> str:
        """`$1` the metadata table, quoted: whether it is visible in a database that has the extension citus."""
        return (
            "SELECT to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL AND to_regclass($1) IS NOT NULL"
        )
