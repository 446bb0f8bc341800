"""The statements of filtered lists, and of calls that wait for an answer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

from adk_psqlpy.sql.tables import Tables

# `Event.long_running_tool_ids` is NULL or an empty array where no call of the event is long-running.
_HAS_LONG_CALLS = "long_running_tool_ids_json <> '[]'"


@dataclass(frozen=True)
class ListingStatements:
    """The statements for one set of tables. `$1` is the app.

    Of `distributed` tables, a limit is a parameter by itself: Citus refuses a subquery there.
    """

    tables: Tables
    distributed: bool = False

    @cache  # noqa: B019 - a store has one of these, for as long as it lives
    def list_sessions(
        self,
        *,
        one_user: bool = False,
        after: bool = False,
        limited: bool = False,
        newest_first: bool = False,
        state: bool = False,
        updated_from: bool = False,
        updated_before: bool = False,
        waiting: bool | None = None,
    ) -> str:
        """Then the parameters of what is asked for, in this order: the user; time, user and id of the last
        session seen; an object that the session's own state contains; the earliest time of an update, and
        the time before which it was; how many.

        Gives what `Statements.list_sessions` gives, in its order or, `newest_first`, in the reverse of that.
        `waiting` asks for sessions with a waiting call (`waiting_calls`), or for the others.
        """
        t = self.tables
        # As in Statements.list_sessions: the collation is that of the index.
        conditions = ['s.app_name COLLATE "C" = $1']
        place = 1

        def given(count: int = 1) -> list[str]:
            nonlocal place
            place += count
            return [f"${number}" for number in range(place - count + 1, place + 1)]

        users = "u.user_id IN (SELECT page.user_id FROM page)"
        if one_user:
            conditions.append(f's.user_id COLLATE "C" = {given()[0]}')
            users = "u.user_id = $2"
        if after:
            seen = given(3)
            sign = "<" if newest_first else ">"
            conditions.append(f"s.update_time {sign}= {seen[0]}")
            conditions.append(
                f"""(s.update_time, s.user_id COLLATE "C", s.id COLLATE "C") {sign} ({", ".join(seen)})"""
            )
        if state:
            # The index over state is partial, so its condition has to be repeated.
            conditions.append(f"s.state @> {given()[0]}::jsonb AND s.state != '{{}}'")
        if updated_from:
            conditions.append(f"s.update_time >= {given()[0]}")
        if updated_before:
            conditions.append(f"s.update_time < {given()[0]}")
        if waiting is not None:
            keys = f"SELECT c.user_id, c.session_id FROM ({self._waiting('$1', '$2' if one_user else None)}) AS c"
            conditions.append(f"(s.user_id, s.id) {'IN' if waiting else 'NOT IN'} ({keys})")
        order = " DESC" if newest_first else ""
        limit = self._limit(given()[0]) if limited else ""
        return f"""
        WITH page AS MATERIALIZED (
            SELECT row_number() OVER (
                       ORDER BY s.update_time{order}, s.user_id COLLATE "C"{order}, s.id COLLATE "C"{order}
                   ) AS place, s.user_id, s.id, s.state, s.create_time, s.update_time, s.revision
            FROM {t.sessions} AS s
            WHERE {" AND ".join(conditions)}
            ORDER BY s.update_time{order}, s.user_id COLLATE "C"{order}, s.id COLLATE "C"{order} {limit}
        )
        SELECT array_agg(user_id ORDER BY place) AS user_ids, array_agg(id ORDER BY place) AS ids,
               array_agg(state ORDER BY place) AS states, array_agg(create_time ORDER BY place) AS
               create_times, array_agg(update_time ORDER BY place) AS update_times, array_agg(revision ORDER
               BY place) AS revisions, {t.state_of_app} AS
               app_state, (SELECT array_agg(u.user_id ORDER BY u.user_id) FROM {t.user_states} AS u
                WHERE u.app_name = $1 AND {users}) AS state_user_ids,
               (SELECT array_agg(u.state ORDER BY u.user_id) FROM {t.user_states} AS u
                WHERE u.app_name = $1 AND {users}) AS user_states
        FROM page
        """

    @cache  # noqa: B019 - a store has one of these, for as long as it lives
    def waiting_calls(self, *, one_user: bool, after: bool = False, limited: bool = False) -> str:
        """`$2` the user (`one_user`), then time, user, session, `seq` and call id of the last call seen (`after`),
        then how many (`limited`). The calls that wait, oldest first, ties by what `after` has behind the time.

        User, session, event, its `seq` and time, and an object with invocation_id, call_id, and the call's
        name and args (null where the event does not hold the call).
        """
        place = 3 if one_user else 2
        order = (
            """w.timestamp, w.user_id COLLATE "C", w.session_id COLLATE "C", w.seq, w.call_id COLLATE "C" """
        )
        seen = ""
        if after:
            values = ", ".join(f"${place + number}" for number in range(5))
            seen = f"WHERE w.timestamp >= ${place} AND ({order}) > ({values})"
            place += 5
        limit = self._limit(f"${place}") if limited else ""
        return f"""
        SELECT w.user_id, w.session_id, w.event_id, w.seq, w.timestamp, jsonb_build_object(
                   'invocation_id', w.invocation_id, 'call_id', w.call_id,
                   'name', w.call->'name', 'args', w.call->'args') AS call
        FROM ({self._waiting("$1", "$2" if one_user else None)}) AS w
        {seen}
        ORDER BY {order} {limit}
        """

    def _limit(self, parameter: str) -> str:
        return f"LIMIT {parameter}::bigint" if self.distributed else f"LIMIT (SELECT {parameter}::bigint)"

    @cached_property
    def index_name(self) -> str:
        """The index that finds events with long-running calls, quoted, with its schema if that is named."""
        t = self.tables
        return t.in_schema_of(t.events_table, t.index(t.events_table, "long_calls"))

    @cached_property
    def index_is_valid(self) -> str:
        """`$1` the index: whether it can be used; no row if it does not exist."""
        return "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)"

    @cached_property
    def create_index(self) -> str:
        """Makes the index without blocking writes. It must run outside of a transaction."""
        t = self.tables
        name = t.index(t.events_table, "long_calls")
        return f"""
        CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {t.events} (app_name, user_id, session_id, seq)
        WHERE {_HAS_LONG_CALLS}
        """

    def _waiting(self, app: str, user: str | None) -> str:
        """Long-running calls that no function response of the user's has answered, and no rewind has undone.

        An answer of the tool itself does not end the waiting: a tool that asks somebody answers at once that
        the question was asked.
        """
        t = self.tables
        # With the user himself, Citus sees that it is all on one shard.
        key = f"{{0}}.app_name = e.app_name AND {{0}}.user_id = {user or 'e.user_id'} AND {{0}}.session_id = e.session_id"
        of_user = f" AND e.user_id = {user}" if user else ""
        return f"""
            SELECT e.user_id, e.session_id, e.id AS event_id, e.seq, e.timestamp,
                   coalesce(e.extra->'$whole'->>'invocation_id', e.invocation_id) AS invocation_id, ids.id
                   AS call_id, (
                       SELECT part->'function_call' FROM jsonb_array_elements(e.content->'parts') AS part
                       WHERE part->'function_call'->>'id' = ids.id LIMIT 1
                   ) AS call
            FROM {t.events} AS e, jsonb_array_elements_text(e.long_running_tool_ids_json::jsonb) AS ids (id)
            WHERE e.app_name = {app}{of_user} AND e.{_HAS_LONG_CALLS}
                AND NOT EXISTS (
                    SELECT FROM {t.events} AS answer
                    WHERE {key.format("answer")} AND answer.seq > e.seq AND answer.author = 'user'
                        AND answer.content @> jsonb_build_object('parts', jsonb_build_array(
                            jsonb_build_object('function_response', jsonb_build_object('id', ids.id))))
                )
                AND NOT EXISTS (
                    SELECT FROM {t.events} AS rewind
                    WHERE {key.format("rewind")} AND rewind.seq > e.seq
                        AND position('"rewind_before_invocation_id"'::bytea IN rewind.actions) > 0
                        AND e.seq >= (
                            SELECT min(first.seq) FROM {t.events} AS first
                            WHERE {key.format("first")} AND first.invocation_id = left(
                                convert_from(rewind.actions, 'UTF8')::jsonb->>'rewind_before_invocation_id',
                                256)
                        )
                )"""
