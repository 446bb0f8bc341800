"""SQL expressions of 64 bits that differ between versions of rows. `sql/kept.py` explains why they do."""

from __future__ import annotations

from typing import Final

_XIDS_BITS: Final = 30
"""Transaction numbers are 32 bits in a row. Fewer than 2^30 of them lie between two reads that are compared."""

SERVER: Final = f"""hash_record_extended(ROW(
                pg_postmaster_start_time(), pg_stat_get_bgwriter_stat_reset_time(),
                pg_snapshot_xmax(pg_current_snapshot())::text::bigint >> {_XIDS_BITS}
            ), 0)"""
"""Identifies one run of the server, and which quarter of the 2^32 transaction numbers it has reached."""

NODE: Final = f"""hash_record_extended(ROW(
                (SELECT l.groupid FROM pg_catalog.pg_dist_local_group AS l), {SERVER}
            ), 0)"""
"""The same for the node of a cluster on which it is evaluated."""

UNKNOWN: Final = "((random() - 0.5) * 1e18)::bigint"
"""Another value at each evaluation, for rows whose server is not known: nothing that was read before equals it."""


def seed_of(server: str, events: str) -> str:
    """The seed of the versions of all rows of the table `events`: a hash of `SERVER`'s value and of the columns."""
    return f"""hash_record_extended(ROW({server},
                (SELECT bit_xor(hashtidextended(a.ctid, hash_array_extended(ARRAY[a.xmin], a.attnum)))
                 FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = '{events}'::regclass)
            ), 0)"""


def version_of(ctid: str, xmin: str, tableoid: str, seed: str) -> str:
    """The hash of one version of one row."""
    return f"hashtidextended({ctid}, hash_array_extended(ARRAY[{xmin}], hashoidextended({tableoid}, {seed})))"
