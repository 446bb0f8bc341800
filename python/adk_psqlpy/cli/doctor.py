"""`adk-psqlpy doctor`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from adk_psqlpy.cli.codes import FAILED, OK
from adk_psqlpy.cli.options import NO_SERVER, Target, examples, json_option, server_options
from adk_psqlpy.cli.output import console, printable, write, write_json

if TYPE_CHECKING:
    from adk_psqlpy.admin.doctor import Report

_MARKS: Final = {"ok": ("ok  ", "green"), "note": ("note", "yellow"), "todo": ("TODO", "bold red")}


@click.command(
    epilog=examples(
        "adk-psqlpy doctor",
        "adk-psqlpy doctor --dsn postgresql://me@localhost/agents --verbose",
        "adk-psqlpy doctor --features --dsn postgresql://me@localhost/agents",
        "adk-psqlpy doctor --json | jq '.findings[] | select(.status == \"todo\")'",
    )
)
@click.option("-v", "--verbose", is_flag=True, help="More of each: packages, model classes, sessions.")
@click.option(
    "--features", is_flag=True, help="Try what the services need, in a schema of its own, and nothing else."
)
@server_options("session_table", "events_table", "memory_table", "artifact_table")
@json_option
def command(target: Target, verbose: bool, as_json: bool, features: bool) -> int:
    """Say whether all is well, and what to do where it is not.

    What is installed; then, of the server: connection, TLS, version, a pooler in the way, extensions,
    tables, indexes, rights, vacuum, heap-only updates, the longest history, the largest state, the oldest
    transaction. Nothing is changed. With --features: each construct that the statements use, tried in a
    schema that is dropped again, and which services run. Exit code 1 where something needs doing.
    """
    import asyncio

    from adk_psqlpy.admin.doctor import examine

    if features:
        return asyncio.run(_features(target, as_json=as_json))

    config = target.config_if_given()

    async def run() -> Report:
        names = (target.table("session_table"), target.table("events_table"))
        others = {name: target.table(name) for name in ("memory_table", "artifact_table")}
        try:
            return await examine(config, *names, **others)
        finally:
            if config is not None:
                await config.close_pool()

    report = asyncio.run(run())
    if as_json:
        findings = [asdict(finding) for finding in report.findings]
        write_json({"well": report.well, "verdict": report.verdict, "findings": findings})
    else:
        _show(report, verbose=verbose, asked=config is not None)
    return OK if report.well else FAILED


async def _features(target: Target, *, as_json: bool) -> int:
    from adk_psqlpy.admin.features import services_that_run, try_features

    async with target.config() as config:
        found = await try_features(config)
    runs = services_that_run(found)
    if as_json:
        write_json({"features": [asdict(each) for each in found], "services": runs})
    else:
        width = max(len(each.name) for each in found)
        for each in found:
            write(f"{each.name:<{width}}  {'works' if each.problem is None else each.problem}")
        for service, well in runs.items():
            write(f"{service}: {'runs' if well else 'does not run'} here")
    return OK if all(runs.values()) else FAILED


def _show(report: Report, *, verbose: bool, asked: bool) -> None:
    from rich.text import Text

    screen = console()
    screen.print(Text(report.verdict, style="bold green" if report.well else "bold red"))
    screen.print()
    width = max(len(finding.check) for finding in report.findings)
    for finding in report.findings:
        mark, style = _MARKS[finding.status]
        head = f"  {finding.check:<{width}}  "
        screen.print(Text.assemble((mark, style), head, printable(finding.text)))
        if finding.advice is not None:
            screen.print(Text(f"{' ' * (width + 8)}-> {printable(finding.advice)}"))
        if verbose:
            for line in finding.details:
                screen.print(Text(f"{' ' * (width + 8)}{printable(line)}", style="dim"))
    if not asked:
        screen.print(f"\nNo server was looked at: {NO_SERVER.partition(': ')[2]}.")
