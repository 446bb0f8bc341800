"""The statements of one user as functions. Citus delegates a call to the node that has the user's rows.

Why functions: Citus executes each data-modifying CTE separately, with a round trip to the worker, and commits in two
phases if several nodes take part. A call of a distributed function that is alone in its statement is one round trip
to one node, with one plain commit there. `sql.functions` describes what happens on that node.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Final

from adk_psqlpy.sql import event_columns
from adk_psqlpy.sql.app_state import with_app_state
from adk_psqlpy.sql.delegated_kept import DelegatedKeptStatements
from adk_psqlpy.sql.delegated_travel import DelegatedSealedTravelStatements, DelegatedTravelStatements
from adk_psqlpy.sql.distribution import digest
from adk_psqlpy.sql.functions import SENT_ARRAYS, Function, as_sent
from adk_psqlpy.sql.kept import FIRST_SEQ
from adk_psqlpy.sql.listing import ListingStatements
from adk_psqlpy.sql.reading import CHUNK
from adk_psqlpy.sql.row_versions import NODE
from adk_psqlpy.sql.shard_tables import DistributedTables, TablesOfShard
from adk_psqlpy.sql.statements import Statements

# Parameters in the order of the statements that the functions stand for.
_KEY: Final = (("app", "varchar"), ("usr", "varchar"), ("session", "varchar"))
_SEEN: Final = (
    ("expected", "bigint"),
    ("created", "timestamptz"),
    ("updated", "timestamptz"),
    ("last_event", "varchar"),
)
_EVENT: Final = tuple((f"event_{name}", kind) for name, kind in event_columns.TYPES.items())
_APPEND: Final = (*_KEY, *_SEEN, ("delta", "jsonb"), *_EVENT)
# The variants of `get_session`. Values: the `seq` after which to read, the earliest time, the number of newest events.
_READ: Final = {
    "all": ("NULL", "NULL", "NULL"),
    "since": ("$4", "NULL", "NULL"),
    "after": ("NULL", "$4", "NULL"),
    "newest": ("NULL", "NULL", "$4"),
    "newest_after": ("NULL", "$4", "$5"),
}
_HEAD: Final = (
    ("number", "bigint"),
    ("create_time", "timestamptz"),
    ("update_time", "timestamptz"),
    ("revision", "bigint"),
    ("state", "jsonb"),
    ("app_state", "jsonb"),
    ("user_state", "jsonb"),
)


@dataclass(frozen=True)
class DelegatedStatements(Statements):
    """The statements for distributed tables: those that write for one user are calls of functions.

    None of them gives the state of an app, but for `create_session_with_app`: `app_state` reads it.
    """

    tables: DistributedTables

    @cached_property
    def listing(self) -> ListingStatements:
        """Those that Citus plans: it does not take every form of a list."""
        return ListingStatements(self.tables, distributed=True)

    @cached_property
    def travel(self) -> DelegatedTravelStatements:
        """Calls of functions."""
        return DelegatedTravelStatements(self.tables)

    @cached_property
    def sealed_travel(self) -> DelegatedSealedTravelStatements:
        """Those that write are calls of functions."""
        return DelegatedSealedTravelStatements(self.tables)

    @property
    def functions(self) -> list[str]:
        """The batches that create the functions."""
        appending = (self._append(merge=False), self._append(merge=True), self._append_with_version)
        with_app = (self._create, *appending, self._update_state)
        made = (*with_app, self._append_group, self._read)
        # These begin with what holds shards.
        kept = DelegatedKeptStatements(self.tables).function
        outer = [self._with_app(each).local_definition for each in with_app]
        return [
            *self.travel.functions(),
            *self.sealed_travel.functions(),
            *(each.definition for each in (*made, kept)),
            *outer,
        ]

    @cached_property
    def version_of_functions(self) -> str:
        """The value of `functions` in `adk_metadata` if the tables and these functions are distributed."""
        return digest((*self.functions, *self.tables.by_user))

    @cached_property
    def node_of_users(self) -> str:
        """`$1` user ids. Gives, for each id in their order, the node group that has the user's rows, and the shard."""
        return f"""
        SELECT p.groupid, p.shardid FROM unnest($1::varchar[]) WITH ORDINALITY AS u (user_id, place)
        JOIN pg_dist_placement AS p
            ON p.shardid = get_shard_id_for_distribution_column('{self.tables.sessions}', u.user_id)
        ORDER BY u.place
        """

    @cached_property
    def create_session(self) -> str:
        """As `Statements.create_session`, without a delta of the app."""
        return self._create.call

    @cached_property
    def create_session_with_app(self) -> str:
        """As `Statements.create_session`."""
        values = ["$1", "$2", "$3", "$4", "NULL", "$6", "$7", "$5"]
        return self._with_app(self._create).call_with(values)

    @cache  # noqa: B019 - a store has one of these, for as long as it lives
    def append_event(
        self,
        *,
        app: bool,
        user: bool,
        merge: bool = False,
        versions: bool = False,
    ) -> str:
        """As `Statements.append_event`. The version is NULL also if the shard is not on the node of the call."""
        values = [f"${place}" for place in range(1, len(_APPEND) + 1)]
        further = len(values) + 1
        values.append(f"${further + app}" if user else "NULL")
        function = self._append_with_version if versions else self._append(merge=merge)
        if versions:
            values += [f"${further + app + user}", f"${further + app + user + 1}"]
        if app:
            return self._with_app(function).call_with([*values, f"${further}"])
        return function.call_with(values)

    @cached_property
    def update_session_state(self) -> str:
        """As `Statements.update_session_state`, without a delta of the app."""
        return self._update_state.call

    @cached_property
    def update_session_state_with_app(self) -> str:
        """As `Statements.update_session_state`."""
        values = ["$1", "$2", "$3", "$4", "NULL", "$6", "$7", "$5"]
        return self._with_app(self._update_state).call_with(values)

    @cached_property
    def append_group(self) -> str:
        """As `Statements.append_group`, for users of one node. Citus sends the call to the node of the first user.
        The call is fastest if the users are in the order of their shards."""
        return self._append_group.call

    @cache  # noqa: B019 - a store has one of these, for as long as it lives
    def get_session(self, *, events: str) -> str:
        """As `Statements.get_session`. Reads of many events are calls too: Citus would plan the plain statement anew
        at each read on both nodes, which takes 10 ms for 100 events."""
        further = _READ.get(events)
        if further is None:
            return super().get_session(events=events)
        return self._read.call_with(["$1", "$2", "$3", *further])

    def _limit(self, place: int) -> str:
        # Citus refuses others: "subquery in LIMIT is not supported in multi-shard queries". With a subquery, a
        # shard would not know where to stop either.
        return f"LIMIT ${place}::bigint"

    # The functions. A parameter `app_delta` is there for its place only, and is not used.

    def _with_app(self, function: Function) -> Function:
        at = "event_timestamp" if "event_timestamp" in dict(function.parameters) else "at"
        return with_app_state(function, self.tables.app_states, at)

    @cached_property
    def _create(self) -> Function:
        t = self._on_shard.tables
        return Function(
            table=t.session_table,
            purpose="create_session",
            parameters=(
                *_KEY,
                ("state", "jsonb"),
                ("app_delta", "jsonb"),
                ("user_delta", "jsonb"),
                ("at", "timestamptz"),
            ),
            returns=(("revision", "bigint"), ("app_state", "jsonb"), ("user_state", "jsonb")),
            body=f"""
            DECLARE
                of_user jsonb;
            BEGIN
                INSERT INTO {t.sessions} (app_name, user_id, id, state, initial_state, create_time, update_time)
                VALUES (p_app, p_usr, p_session, p_state, p_state, p_at, p_at)
                ON CONFLICT (app_name, user_id, id) DO NOTHING;
                IF NOT FOUND THEN
                    RETURN;
                END IF;
                IF p_user_delta IS NOT NULL THEN
                    INSERT INTO {t.user_states} AS stored (app_name, user_id, state, update_time)
                    VALUES (p_app, p_usr, p_user_delta, p_at)
                    ON CONFLICT (app_name, user_id) DO UPDATE
                        SET state = stored.state || excluded.state, update_time = excluded.update_time
                    RETURNING state INTO of_user;
                ELSE
                    SELECT state INTO of_user FROM {t.user_states} WHERE app_name = p_app AND user_id = p_usr;
                END IF;
                revision := 0;
                user_state := of_user;
                RETURN NEXT;
            END
            """,
            nested=True,
        )

    @cache  # noqa: B019 - a store has one of these, for as long as it lives
    def _append(self, *, merge: bool) -> Function:
        return Function(
            table=self.tables.session_table,
            purpose="merge" if merge else "append",
            parameters=(*_APPEND, ("user_delta", "jsonb")),
            returns=(("revision", "bigint"),),
            body=_giving(self._on_shard.append_event(app=False, user=True, merge=merge)),
            nested=True,
        )

    @cached_property
    def _append_with_version(self) -> Function:
        t = self.tables
        without = Statements(t).append_event(app=False, user=True)
        return Function(
            table=t.session_table,
            purpose="append_kept",
            parameters=(*_APPEND, ("user_delta", "jsonb"), ("server", "bigint"), ("seed", "bigint")),
            returns=(("revision", "bigint"), ("version", "bigint")),
            body=_giving(self._on_shard.append_event(app=False, user=True, versions=True)),
            on_tables=f"BEGIN FOR revision IN {without} LOOP RETURN NEXT; END LOOP; END",
            nested=True,
        )

    @cached_property
    def _update_state(self) -> Function:
        return Function(
            table=self.tables.session_table,
            purpose="update_state",
            parameters=(
                *_KEY,
                ("delta", "jsonb"),
                ("app_delta", "jsonb"),
                ("user_delta", "jsonb"),
                ("at", "timestamptz"),
            ),
            returns=(("revision", "bigint"),),
            body=_giving(self._on_shard._update_session_state(app=False)),
            nested=True,
        )

    @cached_property
    def _append_group(self) -> Function:
        return Function(
            table=self.tables.session_table,
            purpose="append_group",
            parameters=(*((name, f"{kind}[]") for name, kind in _APPEND), ("on_node_of", "varchar")),
            returns=(("place", "bigint"), ("revision", "bigint")),
            by="on_node_of",
            over_group=True,
            body=_giving(self._on_shard.append_group),
        )

    @cached_property
    def _read(self) -> Function:
        """One row for each chunk, as in `Statements.get_session`. All rows are of one snapshot, since a STABLE
        function uses the snapshot of the statement that calls it."""
        t = self._on_shard.tables
        columns = [*(f'e."{name}"' for name in event_columns.OWN), self._rare]
        arrays = ", ".join(as_sent(f"array_agg({column} ORDER BY e.seq)") for column in columns)
        into = event_columns.quoted(event_columns.ARRAYS)
        events = "e.app_name = p_app AND e.user_id = p_usr AND e.session_id = p_session"
        wanted = f"""{events} AND e.seq > coalesce(p_after_seq, {FIRST_SEQ})
                    AND (p_after_time IS NULL OR e.timestamp >= p_after_time)"""
        return Function(
            table=t.session_table,
            purpose="read",
            parameters=(*_KEY, ("after_seq", "bigint"), ("after_time", "timestamptz"), ("newest", "bigint")),
            returns=(*_HEAD, *SENT_ARRAYS),
            volatility="STABLE",
            body=f"""
            DECLARE
                first bigint;
                last bigint;
                until bigint;
            BEGIN
                SELECT s.create_time, s.update_time, s.revision, s.state
                INTO create_time, update_time, revision, state
                FROM {t.sessions} AS s
                WHERE s.app_name = p_app AND s.user_id = p_usr AND s.id BETWEEN p_session AND p_session;
                IF NOT FOUND THEN
                    RETURN;
                END IF;
                SELECT u.state INTO user_state FROM {t.user_states} AS u
                WHERE u.app_name = p_app AND u.user_id = p_usr;
                IF p_newest IS NULL THEN
                    SELECT min(e.seq), max(e.seq) INTO first, last FROM {t.events} AS e WHERE {wanted};
                ELSE
                    SELECT min(n.seq), max(n.seq) INTO first, last FROM (
                        SELECT e.seq FROM {t.events} AS e WHERE {wanted} ORDER BY e.seq DESC LIMIT p_newest
                    ) AS n;
                END IF;
                IF first IS NULL THEN
                    RETURN NEXT;
                    RETURN;
                END IF;
                number := 1;
                LOOP
                    -- As on one server, the last chunk has all that is behind it: somebody may have changed `seq`.
                    until := CASE WHEN first > revision - {CHUNK} THEN last ELSE first + {CHUNK - 1} END;
                    SELECT {arrays} INTO {into}
                    FROM {t.events} AS e
                    WHERE {events} AND e.seq >= first AND e.seq <= until
                        AND (p_after_time IS NULL OR e.timestamp >= p_after_time);
                    RETURN NEXT;
                    EXIT WHEN until >= last;
                    state := NULL;
                    user_state := NULL;
                    number := number + 1;
                    first := until + 1;
                END LOOP;
            END
            """,
        )

    @cached_property
    def _on_shard(self) -> Statements:
        """The statements of one server, for the tables of a shard."""
        return Statements(TablesOfShard(self.tables.session_table, self.tables.events_table), NODE)


def _giving(statement: str) -> str:
    """A function body: one statement, whose rows are returned."""
    return f"BEGIN RETURN QUERY {statement}; END"
