"""Kept histories on distributed tables: versions of rows are those of the node that a session lives on."""

from __future__ import annotations

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig
from contract.events import said, varied
from reads.conftest import KEY, observed_reads
from servers import Database, run_sql

OF_SESSION = f"(app_name, user_id, session_id) = {KEY}"


async def test_changes_with_sql(citus: Database) -> None:
    """Seen as on one server; what has not changed is not sent again."""
    async with PsqlpyConfig(pool_config={"dsn": citus.dsn, "max_db_pool_size": 4}) as config:
        plain = PsqlpyADKStore(config, history_cache_bytes=0)
        await plain.create_tables(distributed=True)
        reads = observed_reads(PsqlpyADKStore(config), plain, citus.dsn)
        await reads.create([*varied().values(), *(said(f"event {n}", seconds=n) for n in range(200))])
        for _ in range(3):
            await reads.read()
        found = await reads.read()
        assert found is not None
        assert reads.last == (len(found.events), 0)

        run_sql(citus.dsn, f"UPDATE adk_events SET content = NULL WHERE {OF_SESSION} AND seq = 7")
        await reads.read()
        run_sql(citus.dsn, f"DELETE FROM adk_events WHERE {OF_SESSION} AND seq BETWEEN 30 AND 40")
        await reads.read()
        run_sql(
            citus.dsn,
            "ALTER TABLE adk_events DROP COLUMN error_message",
            "ALTER TABLE adk_events ADD COLUMN error_message varchar(1024) DEFAULT 'new'",
        )
        await reads.read()
        await reads.append([said("more")])
        await reads.read()
        assert reads.last[1] == 1
