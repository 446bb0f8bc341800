"""`adk-psqlpy distribute`: distributing the tables over the nodes of a Citus cluster."""

from __future__ import annotations

from typing import Final

import click

from adk_psqlpy.cli.options import Target, examples, server_options
from adk_psqlpy.cli.output import write

_PLACES: Final = {0: "on every node", -1: "on the coordinator"}


@click.command(epilog=examples("adk-psqlpy distribute --dsn postgresql://me@coordinator/agents"))
@server_options("session_table", "events_table", "memory_table", "artifact_table")
def command(target: Target) -> int:
    """Distribute the tables by user over the nodes of a Citus cluster.

    Missing tables are made. Filled tables are copied, and writes to them wait meanwhile. Tables that are
    distributed already stay as they are.
    """
    import asyncio

    return asyncio.run(_run(target))


async def _run(target: Target) -> int:
    from adk_psqlpy.admin.distribution import distribute_tables
    from adk_psqlpy.admin.table_names import TableNames

    names = TableNames(
        session_table=target.table("session_table"),
        events_table=target.table("events_table"),
        memory_table=target.table("memory_table"),
        artifact_table=target.table("artifact_table"),
    )
    async with target.config() as config:
        for table, shards in (await distribute_tables(config, names, target.key_length())).items():
            write(f"{table}: {_PLACES.get(shards, f'by user_id, {shards} shards')}")
    return 0
