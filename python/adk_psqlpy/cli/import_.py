"""`adk-psqlpy import`."""

from __future__ import annotations

from typing import Any

import click

from adk_psqlpy.cli.keys import keys_option
from adk_psqlpy.cli.options import Target, carry_options, examples, json_option, server_options


@click.command(
    epilog=examples(
        "adk-psqlpy import agents.jsonl --dsn postgresql://me@localhost/agents",
        "adk-psqlpy export - --dsn $A | adk-psqlpy import - --dsn $B",
    )
)
@click.argument("file", metavar="FILE")
@keys_option(of="what the target holds and is given")
@server_options("session_table", "events_table", "memory_table", "artifact_table", "key_table")
@carry_options
@json_option
def command(file: str, target: Target, as_json: bool, **given: Any) -> int:
    """Read what export wrote into tables of adk-psqlpy, which are made where they are missing.

    FILE is an export, or - for standard input. What is there already is compared, and left as it is. Tables
    that are recorded as sealed are written with --keys only.
    """
    import asyncio

    from adk_psqlpy.admin.migrate import SourceOptions
    from adk_psqlpy.admin.migrate.export import check_export
    from adk_psqlpy.cli.migrate import carry

    check_export(file)
    return asyncio.run(carry(file, target, SourceOptions(), as_json=as_json, **given))
