"""What tells the versions of rows apart, as SQL expressions of 64 bits: `sql/kept.py` says why they do."""

from __future__ import annotations

from typing import Final

_XIDS_BITS: Final = 30
"""Transaction numbers are 32 bits in a row. Fewer than 2^30 of them lie between two reads that are compared."""

SERVER: Final = f"""hash_record_extended(ROW(
                pg_postmaster_start_time(), pg_stat_get_bgwriter_stat_reset_time(),
                pg_snapshot_xmax(pg_current_snapshot())::text::bigint >> {_XIDS_BITS}
            ), 0)"""
"""The server since it was started, and the quarter of the 2^32 numbers of transactions that it is in."""


def seed_of(server: str, events: str) -> str:
    """What the versions of all rows of the table `events` depend on: `SERVER`'s value, and the columns."""
    return f"""hash_record_extended(ROW({server},
                (SELECT bit_xor(hashtidextended(a.ctid, hash_array_extended(ARRAY[a.xmin], a.attnum)))
                 FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = '{events}'::regclass)
            ), 0)"""


def version_of(ctid: str, xmin: str, tableoid: str, seed: str) -> str:
    """One version of one row."""
    return f"hashtidextended({ctid}, hash_array_extended(ARRAY[{xmin}], hashoidextended({tableoid}, {seed})))"
