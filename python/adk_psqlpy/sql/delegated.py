"""The writing statements as functions, which Citus hands whole to the node that has the user's rows.

Why functions: Citus executes each data-modifying CTE by itself, as a round trip to the worker, and commits in two
phases where nodes differ. A call of a distributed function, alone in its statement, is one round trip to one node and
one plain commit there. Inside stand simple statements: a CTE form took six times the CPU of these.

A function's name ends in a digest of its definition, so that processes of two versions each find their own.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Final

from adk_psqlpy import _native
from adk_psqlpy.sql.distribution import digest
from adk_psqlpy.sql.names import quoted, split
from adk_psqlpy.sql.reading import CHUNK
from adk_psqlpy.sql.statements import Statements

_COLUMNS: Final = tuple(name for name, _ in _native.EVENT_COLUMNS)

# Parameters in the order of the statements that the functions stand for.
_KEY: Final = (("app", "varchar"), ("usr", "varchar"), ("session", "varchar"))
_SEEN: Final = (
    ("expected", "bigint"),
    ("created", "timestamptz"),
    ("updated", "timestamptz"),
    ("last_event", "varchar"),
)
_EVENT: Final = tuple((f"event_{name}", kind) for name, kind in _native.EVENT_COLUMNS)
_APPEND: Final = (*_KEY, *_SEEN, ("delta", "jsonb"), *_EVENT)
# Variants of `get_session`: after which `seq`, from which time on, how many of the newest.
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
class Function:
    """A function whose first or named argument says on which node it runs."""

    table: str
    purpose: str
    parameters: tuple[tuple[str, str], ...]
    returns: tuple[tuple[str, str], ...]
    body: str
    by: str = "usr"
    volatility: str = "VOLATILE"

    @property
    def name(self) -> str:
        """Its quoted name, in the schema of the table."""
        schema, _ = split("table", self.table)
        made_of = (self.parameters, self.returns, self.body, self.volatility)
        told = hashlib.sha256(repr(made_of).encode()).hexdigest()[:10]
        return quoted(f"{schema}.adk_{self.purpose}_{told}" if schema else f"adk_{self.purpose}_{told}")

    @property
    def call(self) -> str:
        """A statement that does nothing but call it, with `$1...` for its parameters."""
        return self.call_with([f"${place}" for place in range(1, len(self.parameters) + 1)])

    def call_with(self, values: list[str]) -> str:
        """The same with these values, of which some may be NULL."""
        columns = ", ".join(f'"{name}"' for name, _ in self.returns)
        given = zip(values, self.parameters, strict=True)
        arguments = ", ".join(f"{value}::{kind}" for value, (_, kind) in given)
        return f"SELECT {columns} FROM {self.name}({arguments})"

    @property
    def definition(self) -> str:
        """A batch that makes and distributes it, unless it is there."""
        given = ", ".join(f"p_{name} {kind}" for name, kind in self.parameters)
        kinds = ", ".join(kind for _, kind in self.parameters)
        columns = ", ".join(f'"{name}" {kind}' for name, kind in self.returns)
        return f"""
        DO $function$ BEGIN
            IF to_regprocedure('{self.name}({kinds})') IS NULL THEN
                CREATE FUNCTION {self.name}({given}) RETURNS TABLE ({columns})
                LANGUAGE plpgsql {self.volatility} AS $body$
                #variable_conflict use_column
                {self.body}
                $body$;
                PERFORM create_distributed_function(
                    '{self.name}({kinds})'::regprocedure, 'p_{self.by}', colocate_with => '{quoted(self.table)}'
                );
            END IF;
        END $function$;
        """


@dataclass(frozen=True)
class DelegatedStatements(Statements):
    """The statements for distributed tables: those that write for one user are calls of functions."""

    @property
    def functions(self) -> list[str]:
        """What makes the functions."""
        return [each.definition for each in (self._create, self._append, self._append_group, self._read)]

    @cached_property
    def version_of_functions(self) -> str:
        """What `adk_metadata` records under `functions` where the tables and these functions are distributed."""
        return digest((*self.functions, *self.tables.by_user))

    @cached_property
    def node_of_users(self) -> str:
        """`$1` user ids: for each, in their order, the group of nodes that has the user's rows."""
        return f"""
        SELECT p.groupid FROM unnest($1::varchar[]) WITH ORDINALITY AS u (user_id, place)
        JOIN pg_dist_placement AS p
            ON p.shardid = get_shard_id_for_distribution_column('{self.tables.sessions}', u.user_id)
        ORDER BY u.place
        """

    @cached_property
    def create_session(self) -> str:
        """As `Statements.create_session`."""
        return self._create.call

    @cache  # noqa: B019 - a store has one of these, for as long as it lives
    def append_event(self, *, app: bool, user: bool, merge: bool = False) -> str:
        """As `Statements.append_event`; a merging append is a statement here too, of several round trips."""
        if merge:
            return super().append_event(app=app, user=user, merge=True)
        values = [f"${place}" for place in range(1, len(_APPEND) + 1)]
        further = len(values) + 1
        for given in (app, user):
            values.append(f"${further}" if given else "NULL")
            further += given
        return self._append.call_with(values)

    @cached_property
    def append_group(self) -> str:
        """As `Statements.append_group`, for users of one node: the first user's node gets the call."""
        return self._append_group.call

    @cache  # noqa: B019 - a store has one of these, for as long as it lives
    def get_session(self, *, events: str) -> str:
        """As `Statements.get_session`. Citus plans that statement anew at each read, on both nodes (10 ms of 100
        events), so the reads of many events are calls too."""
        further = _READ.get(events)
        if further is None:
            return super().get_session(events=events)
        return self._read.call_with(["$1", "$2", "$3", *further])

    def _limit(self, place: int) -> str:
        # "subquery in LIMIT is not supported in multi-shard queries"; nor would each shard know where to stop.
        return f"LIMIT ${place}::bigint"

    # The functions.

    @cached_property
    def _create(self) -> Function:
        t = self.tables
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
                of_app jsonb;
                of_user jsonb;
            BEGIN
                INSERT INTO {t.sessions} (app_name, user_id, id, state, initial_state, create_time, update_time)
                VALUES (p_app, p_usr, p_session, p_state, p_state, p_at, p_at)
                ON CONFLICT (app_name, user_id, id) DO NOTHING;
                IF NOT FOUND THEN
                    RETURN;
                END IF;
                {self._merge_states("p_at")}
                SELECT state INTO of_app FROM {t.app_states} WHERE app_name = p_app;
                SELECT state INTO of_user FROM {t.user_states} WHERE app_name = p_app AND user_id = p_usr;
                revision := 0;
                app_state := of_app;
                user_state := of_user;
                RETURN NEXT;
            END
            """,
        )

    @cached_property
    def _append(self) -> Function:
        return Function(
            table=self.tables.session_table,
            purpose="append",
            parameters=(*_APPEND, ("app_delta", "jsonb"), ("user_delta", "jsonb")),
            returns=(("revision", "bigint"),),
            body=f"""
            BEGIN
                {self._append_one("p_", "RETURN;", "FOR NO KEY UPDATE")}
                {self._merge_states("p_event_timestamp")}
                revision := p_expected + 1;
                RETURN NEXT;
            END
            """,
        )

    @cached_property
    def _append_group(self) -> Function:
        names = [name for name, _ in _APPEND]
        given = ", ".join(f"p_{name}" for name in names)
        # Without waiting for locks, as the statement of one server: groups cannot deadlock.
        skip_locked = "FOR NO KEY UPDATE SKIP LOCKED"
        return Function(
            table=self.tables.session_table,
            purpose="append_group",
            parameters=(*((name, f"{kind}[]") for name, kind in _APPEND), ("on_node_of", "varchar")),
            returns=(("place", "bigint"), ("revision", "bigint")),
            by="on_node_of",
            body=f"""
            DECLARE
                g record;
            BEGIN
                FOR g IN SELECT * FROM unnest({given}) WITH ORDINALITY AS g ({", ".join(names)}, number) LOOP
                    {self._append_one("g.", "CONTINUE;", skip_locked)}
                    place := g.number;
                    revision := g.expected + 1;
                    RETURN NEXT;
                END LOOP;
            END
            """,
        )

    @cached_property
    def _read(self) -> Function:
        """A row a chunk, as `Statements.get_session` gives them. All of it is of one moment: a function that is
        STABLE sees what the statement that calls it sees."""
        t = self.tables
        own = [(name, kind) for name, kind in _native.EVENT_COLUMNS[: _native.OWN_ARRAYS]]
        arrays = ", ".join(f'array_agg(e."{name}" ORDER BY e.seq)' for name, _ in own)
        into = ", ".join(f'"{name}"' for name in (*(name for name, _ in own), "rare"))
        events = "e.app_name = p_app AND e.user_id = p_usr AND e.session_id = p_session"
        wanted = f"""{events} AND e.seq > coalesce(p_after_seq, -1)
                    AND (p_after_time IS NULL OR e.timestamp >= p_after_time)"""
        return Function(
            table=t.session_table,
            purpose="read",
            parameters=(*_KEY, ("after_seq", "bigint"), ("after_time", "timestamptz"), ("newest", "bigint")),
            returns=(*_HEAD, *((name, f"{kind}[]") for name, kind in own), ("rare", "text[]")),
            volatility="STABLE",
            body=f"""
            DECLARE
                first bigint;
                last bigint;
            BEGIN
                SELECT s.create_time, s.update_time, s.revision, s.state
                INTO create_time, update_time, revision, state
                FROM {t.sessions} AS s
                WHERE s.app_name = p_app AND s.user_id = p_usr AND s.id BETWEEN p_session AND p_session;
                IF NOT FOUND THEN
                    RETURN;
                END IF;
                SELECT a.state INTO app_state FROM {t.app_states} AS a WHERE a.app_name = p_app;
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
                WHILE first <= last LOOP
                    SELECT {arrays}, array_agg({self._rare} ORDER BY e.seq) INTO {into}
                    FROM {t.events} AS e
                    WHERE {events} AND e.seq >= first AND e.seq < first + {CHUNK}
                        AND (p_after_time IS NULL OR e.timestamp >= p_after_time);
                    RETURN NEXT;
                    state := NULL;
                    app_state := NULL;
                    user_state := NULL;
                    number := number + 1;
                    first := first + {CHUNK};
                END LOOP;
            END
            """,
        )

    def _append_one(self, given: str, otherwise: str, locking: str) -> str:
        """Statements that do what `Statements.append_event` does, one after another."""
        t = self.tables
        session = f"s.app_name = {given}app AND s.user_id = {given}usr AND s.id = {given}session"
        columns = ", ".join(f'"{name}"' for name in _COLUMNS)
        event = ", ".join(f"{given}event_{name}" for name in _COLUMNS)
        return f"""
                PERFORM FROM {t.sessions} AS s
                WHERE {session} AND s.revision = {given}expected AND s.create_time = {given}created
                    AND s.update_time = coalesce({given}updated, s.update_time)
                {locking};
                IF NOT FOUND THEN
                    {otherwise}
                END IF;
                IF {given}last_event IS NOT NULL THEN
                    PERFORM FROM {t.events} AS e
                    WHERE e.app_name = {given}app AND e.user_id = {given}usr AND e.session_id = {given}session
                        AND e.id BETWEEN {given}last_event AND {given}last_event
                    ORDER BY e.id LIMIT 1;
                    IF NOT FOUND THEN
                        {otherwise}
                    END IF;
                END IF;
                INSERT INTO {t.events} (app_name, user_id, session_id, seq, {columns})
                VALUES ({given}app, {given}usr, {given}session, {given}expected + 1, {event})
                ON CONFLICT DO NOTHING;
                IF NOT FOUND THEN
                    {otherwise}
                END IF;
                UPDATE {t.sessions} AS s SET
                    state = CASE WHEN {given}delta IS NULL THEN s.state ELSE s.state || {given}delta END,
                    revision = {given}expected + 1,
                    update_time = {given}event_timestamp
                WHERE {session};
        """

    def _merge_states(self, at: str) -> str:
        """Deltas of shared state, in the order of locks: app, user."""
        t = self.tables
        return f"""
                IF p_app_delta IS NOT NULL THEN
                    INSERT INTO {t.app_states} AS stored (app_name, state, update_time)
                    VALUES (p_app, p_app_delta, {at})
                    ON CONFLICT (app_name) DO UPDATE
                        SET state = stored.state || excluded.state, update_time = excluded.update_time;
                END IF;
                IF p_user_delta IS NOT NULL THEN
                    INSERT INTO {t.user_states} AS stored (app_name, user_id, state, update_time)
                    VALUES (p_app, p_usr, p_user_delta, {at})
                    ON CONFLICT (app_name, user_id) DO UPDATE
                        SET state = stored.state || excluded.state, update_time = excluded.update_time;
                END IF;
        """
