"""Earlier states and forks where tables are distributed: the statements of `sql.travel` on the shard of the user."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

from adk_psqlpy.sql import event_columns
from adk_psqlpy.sql.artifact_tables import ArtifactTables
from adk_psqlpy.sql.functions import ShardStatement, define_hold_shards
from adk_psqlpy.sql.sealed_travel import SealedTravelStatements
from adk_psqlpy.sql.shard_tables import ArtifactTablesOfShard, DistributedTables, TablesOfShard
from adk_psqlpy.sql.travel import POINT_KINDS, PointKind, TravelStatements

_KEY: Final = (("app", "varchar"), ("usr", "varchar"), ("session", "varchar"), ("created", "timestamptz"))
_POINT: Final[dict[PointKind, tuple[tuple[str, str], ...]]] = {
    "head": (),
    "seq": (("at_seq", "bigint"),),
    "event": (("at_event", "varchar"),),
    "invocation": (("before", "text"),),
}
_NEW: Final = (("fork", "varchar"), ("now", "timestamptz"))
_URIS: Final = (("old_uri", "text"), ("new_uri", "text"))
_HEAD: Final = (("revision", "bigint"), ("create_time", "timestamptz"), ("point", "bigint"))
_REPLAYED: Final = (("unknown", "boolean"), ("missing", "bigint"))
# Of a fork that is written of values, in the order of `SealedTravelStatements.write_fork`.
_VALUES: Final = (
    *(*_KEY, *_NEW, ("state", "jsonb"), ("initial", "jsonb"), ("at_revision", "bigint")),
    *(("revisions", "bigint[]"), ("deltas", "jsonb[]"), ("times", "timestamptz[]"), ("seqs", "bigint[]")),
    *((f"event_{name}", f"{kind}[]") for name, kind in event_columns.TYPES.items()),
)


@dataclass(frozen=True)
class DelegatedTravelStatements(TravelStatements):
    """The statements for distributed tables: earlier states and forks are calls of functions."""

    tables: DistributedTables

    def functions(self, artifacts: ArtifactTables | None = None) -> list[str]:
        """What makes the functions; with `artifacts`, those that take artifacts along."""
        forks = [self._fork(kind, artifacts) for kind in POINT_KINDS]
        states = [] if artifacts is not None else [self._state_at(kind) for kind in POINT_KINDS]
        return [
            define_hold_shards(self.tables.session_table),
            *(each.definition for each in (*states, *forks)),
        ]

    @cache  # noqa: B019 - as in `TravelStatements`
    def state_at(self, *, kind: PointKind) -> str:
        """As `TravelStatements.state_at`."""
        return self._state_at(kind).call

    @cache  # noqa: B019 - as in `TravelStatements`
    def fork(self, *, kind: PointKind, artifacts: ArtifactTables | None = None) -> str:
        """As `TravelStatements.fork`."""
        return self._fork(kind, artifacts).call

    # The functions.

    def _state_at(self, kind: PointKind) -> ShardStatement:
        states = (("app_state", "jsonb"), ("user_state", "jsonb"))
        return ShardStatement(
            table=self.tables.session_table,
            purpose=f"state_at_{kind}",
            parameters=(*_KEY, *_POINT[kind]),
            returns=(*_HEAD, ("state", "jsonb"), *_REPLAYED, *states),
            body=self._on_shard.state_at(kind=kind),
            volatility="STABLE",
        )

    def _fork(self, kind: PointKind, artifacts: ArtifactTables | None) -> ShardStatement:
        of_shard = None if artifacts is None else ArtifactTablesOfShard(artifacts.artifact_table)
        return ShardStatement(
            table=self.tables.session_table,
            purpose=f"fork_{kind}" if artifacts is None else f"fork_files_{kind}",
            parameters=(*_KEY, *_POINT[kind], *_NEW, *(() if artifacts is None else _URIS)),
            returns=(*_HEAD, *_REPLAYED, ("made", "boolean")),
            body=self._on_shard.fork(kind=kind, artifacts=of_shard),
        )

    @property
    def _on_shard(self) -> TravelStatements:
        """The statements of one server, for the tables of a shard."""
        return TravelStatements(TablesOfShard(self.tables.session_table, self.tables.events_table))


@dataclass(frozen=True)
class DelegatedSealedTravelStatements(SealedTravelStatements):
    """The statements for distributed tables where sessions are sealed: a fork is a call of a function."""

    def functions(self) -> list[str]:
        """What makes the function."""
        return [self._write_fork.definition]

    @property
    def write_fork(self) -> str:
        """As `SealedTravelStatements.write_fork`."""
        return self._write_fork.call

    @property
    def _write_fork(self) -> ShardStatement:
        of_shard = TablesOfShard(self.tables.session_table, self.tables.events_table)
        return ShardStatement(
            table=self.tables.session_table,
            purpose="write_fork",
            parameters=_VALUES,
            returns=(("made", "boolean"),),
            body=SealedTravelStatements(of_shard).write_fork,
        )
