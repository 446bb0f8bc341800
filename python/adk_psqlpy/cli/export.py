"""`adk-psqlpy export`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from adk_psqlpy.cli.keys import keys_option, seal_of
from adk_psqlpy.cli.options import Target, examples, json_option, server_options


@click.command(
    epilog=examples(
        "adk-psqlpy export agents.jsonl --dsn postgresql://me@localhost/agents",
        "adk-psqlpy export user.jsonl --app cafe --user ada",
        "adk-psqlpy export - | gzip > agents.jsonl.gz",
    )
)
@click.argument("file", metavar="FILE")
@keys_option()
@server_options("session_table", "events_table", "memory_table", "artifact_table", "key_table")
@click.option("--app", "app_name", metavar="NAME", help="Only this app.")
@click.option("--user", "user_id", metavar="ID", help="Only this user of the app, with the app's state.")
@json_option
def command(
    file: str,
    target: Target,
    app_name: str | None,
    user_id: str | None,
    keys: str | None,
    as_json: bool,
) -> None:
    """Write sessions, states, memories and artifacts as JSON Lines that ADK's own classes read.

    FILE is overwritten, when all of it has been written; - is standard output. What is sealed is opened with
    --keys, so the file holds plain text.
    """
    import asyncio

    if user_id is not None and app_name is None:
        raise click.UsageError("--user belongs to an app: say --app as well")
    asyncio.run(_run(file, target, app_name, user_id, keys, as_json=as_json))


async def _run(
    file: str, target: Target, app_name: str | None, user_id: str | None, keys: str | None, *, as_json: bool
) -> None:
    import sys

    from adk_psqlpy.admin.migrate import TableNames, export
    from adk_psqlpy.cli.output import note, write_json
    from adk_psqlpy.cli.progress import Progress

    names = TableNames(
        *(target.table(f"{name}_table") for name in ("session", "events", "memory", "artifact"))
    )
    to = sys.stdout.buffer if file == "-" else Path(file)
    async with target.config() as config:
        seal = await seal_of(keys, target, config)
        with Progress() as progress:
            report = await export(
                config, to, app_name=app_name, user_id=user_id, names=names, seal=seal, on_progress=progress
            )
    if as_json and file != "-":
        write_json(asdict(report))
        return
    written = ", ".join(f"{many:,} {name}" for name, many in asdict(report.counts).items() if many)
    note(f"wrote {written or 'nothing but a header'}: {report.size:,} bytes, SHA-256 {report.sha256}")
