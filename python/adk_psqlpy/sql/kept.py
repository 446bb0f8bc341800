"""Reading a session of which the caller knows a part already."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from adk_psqlpy.sql import event_columns
from adk_psqlpy.sql.reading import CHUNK, ReadStatements
from adk_psqlpy.sql.row_versions import seed_of, version_of

FIRST_SEQ: Final = -(2**63)
"""No `seq` is lower."""

LAST_SEQ: Final = 2**63 - 1
"""No `seq` is higher."""

_VERSION: Final = version_of("e.ctid", "e.xmin", "e.tableoid", "origin.seed")


@dataclass(frozen=True)
class KeptStatements(ReadStatements):
    """The statement for one set of tables. Parameters `$1 $2 $3` are app, user and session id."""

    @cached_property
    def get_unknown(self) -> str:
        """The session, both shared states, and those of its events that are not known yet.

        The caller knows events as chunks of consecutive `seq`s. The parameters describe these chunks:

        - `$4` (bigint[]) has the first `seq` of each chunk, which for the first chunk is the lowest bigint. Its last
          element is the first `seq` of which the caller knows nothing.
        - `$5` (bigint[], one element less) has the digest of each chunk.

        If the session does not exist, there is no row. Otherwise the first row has `number` 0. Only this row has
        the states. Its `first_seq` and `digest` are the `server` and `seed` that an append needs to tell the version
        of its row. Then comes a row for each chunk that has changed, with `number` counting from 1 in the order of
        `$4`. Rows for what comes after the known chunks continue the numbers, with `CHUNK` values of `seq` in each.
        A row of a chunk has its first `seq`, the last `seq` of its events, its digest, and arrays as in
        `Statements.get_session`. If the chunk has no events any more, all these but the first are NULL.

        It is one statement, so the digests, the comparison, the events and the states are of one snapshot.

        Equal digests mean equal events, for this reason. A version of a row never changes, and `xmin` is the
        transaction that made it. All rows of a transaction become visible at once. So if every `xmin` that is
        seen now was seen before, nothing new has come since. If nothing is missing either, everything is as
        before. This holds as long as transaction numbers are not used again, and all reads are on one server
        that does not go back in time. Every digest depends on `origin.seed`, so that digests differ in the cases
        where this may not hold:

        - The server is another one, or was started since (a restore, a failover, pg_resetwal). The seed has
          `pg_postmaster_start_time`.
        - The server recovered from a crash without a new postmaster. It may have lost commits that were not flushed
          (`synchronous_commit = off`). Recovery begins the statistics anew, and the seed has
          `pg_stat_get_bgwriter_stat_reset_time`.
        - Transaction numbers have reached another quarter of the 2^32. The seed has the upper bits of the next one.
        - Columns were dropped, added or renamed, which changes what rows say without writing them. The seed has the
          versions of the table's rows in `pg_attribute`.

        `ctid` and `tableoid` are in the digest for two further cases: a row whose `xmin` is billions of
        transactions old, and a table that replaces another one. VACUUM FULL and CLUSTER move rows, so the
        next read after them is a full one.

        No index holds `xmin`, so the statement has to read the rows. For 1,000 rows that takes 0.2 ms of the server's
        time, of which hashing takes 0.05 ms. docs/design.md has the alternatives. The events of a known chunk are
        read only if its digest differs (a one-time filter in the plan). New chunks are hashed while their columns
        are read.
        """
        states = {
            name: f"CASE WHEN chunk.number > 0 THEN NULL ELSE {value} END"
            for name, value in self._states.items()
        }
        head = self._head.format(number="chunk.number", **states)
        arrays = "".join(f', e."{name}"' for name in event_columns.ARRAYS)
        within = "e.seq >= chunk.first AND e.seq <= chunk.last"
        rest = self._events("e.seq >= origin.firsts[cardinality(origin.firsts)]", ("seq",))
        known = f"""SELECT bit_xor({_VERSION}) AS digest
            FROM ({self._events(within, ("ctid", "xmin", "tableoid"))} AND chunk.known IS NOT NULL) AS e"""
        of_chunk = ("max(e.seq) AS last_seq", f"bit_xor({_VERSION}) AS digest")
        found = f"""{self._events(within, (*event_columns.NAMES, "seq", "ctid", "xmin", "tableoid"))}
                AND (chunk.known IS NULL OR known.digest IS DISTINCT FROM chunk.known) AND chunk.number > 0
            ORDER BY e.seq"""
        digest = "CASE WHEN chunk.number > 0 THEN e.digest ELSE origin.seed END"
        return f"""{head}, chunk.first AS first_seq, e.last_seq, {digest} AS digest{arrays}{self._session}
        CROSS JOIN (
            SELECT here.server, {seed_of("here.server", self.tables.events)} AS seed,
                $4::bigint[] AS firsts, $5::bigint[] AS digests
            FROM (SELECT {self.server} AS server OFFSET 0) AS here OFFSET 0
        ) AS origin
        CROSS JOIN LATERAL (
            SELECT 0::bigint, origin.server, NULL::bigint, NULL::bigint
            UNION ALL
            SELECT k.number, k.first, origin.firsts[k.number + 1] - 1, k.known
            FROM unnest(origin.firsts, origin.digests) WITH ORDINALITY AS k (first, known, number)
            WHERE k.known IS NOT NULL
            UNION ALL
            SELECT cardinality(origin.digests) + new.number, new.first,
                CASE WHEN new.first > s.revision - {CHUNK} THEN {LAST_SEQ} ELSE new.first + {CHUNK - 1} END, NULL
            FROM unnest(ARRAY(
                SELECT generate_series(start.seq, greatest(start.seq, s.revision), {CHUNK})
                FROM ({rest} ORDER BY e.seq LIMIT 1) AS start
            )) WITH ORDINALITY AS new (first, number)
        ) AS chunk (number, first, last, known)
        LEFT JOIN LATERAL ({known}) AS known ON true
        LEFT JOIN LATERAL ({self._aggregated(found, *of_chunk)}) AS e ON true
        WHERE chunk.number = 0 OR e.digest IS NOT NULL OR known.digest IS DISTINCT FROM chunk.known
        """
