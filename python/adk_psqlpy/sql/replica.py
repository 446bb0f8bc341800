"""The positions of servers in the WAL, which decide whether a replica may answer a read."""

from __future__ import annotations

from typing import Final

POSITION: Final = """
SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint, left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)
"""
"""Of the primary: a position in the WAL behind every commit that was acknowledged before, and the timeline
(manual, 9.28.3 and 25.3.6). Positions of two timelines do not compare.

The position of insertion, not of the flush: with `synchronous_commit = off` a commit is acknowledged before
its flush.
"""

REPLAYED: Final = """
SELECT CASE
    WHEN pg_is_in_recovery() AND EXISTS (SELECT FROM pg_stat_wal_receiver)
    THEN (pg_last_wal_replay_lsn() - '0/0')::bigint
END
"""
"""Of a replica: up to where it has replayed the WAL. NULL where it is no standby, or receives nothing.

A standby that lost its connection to the primary may have stayed behind on an older timeline after a
failover. Its positions do not compare with the new primary's, so it counts as unknown.
"""
