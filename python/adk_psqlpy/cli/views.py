"""`adk-psqlpy views`."""

from __future__ import annotations

import click

from adk_psqlpy.cli.options import Target, examples, json_option, server_options
from adk_psqlpy.cli.output import write, write_json


@click.command(
    epilog=examples(
        "adk-psqlpy views --dsn postgresql://me@localhost/agents",
        "adk-psqlpy views --session-table agents.adk_sessions --events-table agents.adk_events",
        'psql -c "SELECT tool, count(*) FROM adk_tool_calls GROUP BY tool"',
    )
)
@server_options("session_table", "events_table")
@click.option("--drop", is_flag=True, help="Remove the views.")
@json_option
def command(target: Target, drop: bool, as_json: bool) -> None:
    """Make SQL views of messages, tool calls, use of tokens, and errors.

    adk_messages, adk_tool_calls, adk_token_usage and adk_errors take their prefix from the session table, and
    are in its schema. The command may be run again. The views are for psql, Grafana and Metabase;
    docs/views.md describes their columns.
    """
    import asyncio

    from adk_psqlpy.admin.views import create_views, drop_views

    async def run() -> list[str]:
        async with target.config() as config:
            change = drop_views if drop else create_views
            return await change(config, target.table("session_table"), target.table("events_table"))

    names = [name.replace('"', "") for name in asyncio.run(run())]
    if as_json:
        write_json({"dropped" if drop else "views": names})
        return
    for name in names:
        write(f"{'dropped' if drop else 'made'} {name}")
