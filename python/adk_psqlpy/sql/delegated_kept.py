"""Reading what is new of a session where tables are distributed: the statement of `sql.kept` on the user's shard."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from adk_psqlpy.sql import event_columns
from adk_psqlpy.sql.functions import SENT_ARRAYS, Function, as_sent
from adk_psqlpy.sql.kept import KeptStatements
from adk_psqlpy.sql.row_versions import NODE, UNKNOWN
from adk_psqlpy.sql.shard_tables import DistributedTables, TablesOfShard


@dataclass(frozen=True)
class DelegatedKeptStatements(KeptStatements):
    """The statement for distributed tables: the call of a function.

    On the user's node it compares versions of the rows of the shard there, as on one server. These conclusions of
    `KeptStatements.get_unknown` hold for each node by itself, so the seed names the node:

    - Another node has the shard since (a move, a rebalance). Its rows were written there anew, and `groupid` is
      another one.
    - The shard came back to a node that had it before. Its rows were written by later transactions of that node,
      and `tableoid` is that of another table.
    - The shard was split. The parts are other tables.
    - The node was replaced by its standby or restored: `pg_postmaster_start_time` is another one.

    If the shard is not on the node of the call, because it was moved a moment ago, its server is not known. All
    events are sent then, since the digests of such a read equal no others.
    """

    tables: DistributedTables

    @cached_property
    def get_unknown(self) -> str:
        """As `KeptStatements.get_unknown`."""
        return self.function.call

    @cached_property
    def function(self) -> Function:
        """The function to call."""
        t = self.tables
        on_shard = KeptStatements(TablesOfShard(t.session_table, t.events_table), NODE)
        anywhere = KeptStatements(t, UNKNOWN)
        return Function(
            table=t.session_table,
            purpose="read_unknown",
            parameters=(
                *(("app", "varchar"), ("usr", "varchar"), ("session", "varchar")),
                *(("firsts", "bigint[]"), ("digests", "bigint[]")),
            ),
            returns=(
                *(("number", "bigint"), ("create_time", "timestamptz"), ("update_time", "timestamptz")),
                *(
                    ("revision", "bigint"),
                    ("state", "jsonb"),
                    ("app_state", "jsonb"),
                    ("user_state", "jsonb"),
                ),
                *(("first_seq", "bigint"), ("last_seq", "bigint"), ("digest", "bigint")),
                *SENT_ARRAYS,
            ),
            volatility="STABLE",
            body=_sending(on_shard.get_unknown),
            on_tables=_sending(anywhere.get_unknown),
        )


def _sending(statement: str) -> str:
    """A function body that returns the rows of the statement, with the arrays of events as they are sent."""
    names = ("number", "create_time", "update_time", "revision", "state", "app_state", "user_state")
    head = event_columns.quoted((*names, "first_seq", "last_seq", "digest"), "r")
    arrays = ", ".join(as_sent(f'r."{name}"') for name in event_columns.ARRAYS)
    return f"BEGIN RETURN QUERY SELECT {head}, {arrays} FROM ({statement}) AS r; END"
