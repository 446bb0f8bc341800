"""`adk-psqlpy prune`."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import click

from adk_psqlpy.cli.options import Target, examples, json_option, server_options
from adk_psqlpy.cli.output import note, write, write_json

if TYPE_CHECKING:
    from adk_psqlpy.admin.prune import Pruned

    _OfAges = click.ParamType[timedelta]
else:  # not generic in click 8.1
    _OfAges = click.ParamType

_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Age(_OfAges):
    """A number and a unit, as a timedelta."""

    name = "AGE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """`90d`, `12h`, `30m`, `2w`."""
        if isinstance(value, timedelta):
            return value
        found = re.fullmatch(r"(\d{1,6})([mhdw])", str(value))
        if found is None or int(found[1]) == 0:
            self.fail(f"{value!r} is no age: write 90d, 12h, 30m or 2w", param, ctx)
        return timedelta(**{_UNITS[found[2]]: int(found[1])})


@click.command(
    epilog=examples(
        "adk-psqlpy prune --idle 90d --keep-sessions 5 --dry-run",
        "adk-psqlpy prune --events 30d --keep-events 100 --app cafe",
        "adk-psqlpy prune --idle 1w --expired-memories --orphaned-artifacts --json   # from cron",
    )
)
@click.option("--idle", type=Age(), help="Sessions not written for that long, with their events.")
@click.option(
    "--keep-sessions", type=click.IntRange(1), metavar="N", help="Each user's N newest sessions stay."
)
@click.option("--events", type=Age(), help="Events older than that, of sessions that stay.")
@click.option(
    "--keep-events", type=click.IntRange(1), metavar="N", help="Each session's N newest events stay."
)
@click.option("--expired-memories", is_flag=True, help="Memories whose time is over.")
@click.option(
    "--orphaned-artifacts", is_flag=True, help="Artifacts without a session, bytes without a version."
)
@click.option("--app", "apps", multiple=True, metavar="APP", help="Only in this app; may be given again.")
@click.option("--dry-run", is_flag=True, help="Delete nothing; say what would be deleted.")
@click.option(
    "--portion",
    type=click.IntRange(1, 1_000_000),
    default=5_000,
    show_default=True,
    metavar="N",
    help="About how many events one statement deletes.",
)
@click.option(
    "--pause",
    type=click.FloatRange(0, 3600),
    default=0,
    metavar="SECONDS",
    help="Wait that long between portions.",
)
@server_options("session_table", "events_table", "memory_table", "artifact_table")
@json_option
def command(
    target: Target,
    dry_run: bool,
    portion: int,
    pause: float,
    as_json: bool,
    **rules: Any,
) -> None:
    """Delete what is too old to keep.

    An age is a number and a unit: 30m, 12h, 90d, 2w. With both --idle and --keep-sessions, a session is
    deleted only if both select it. --keep-sessions alone deletes all but the newest sessions. The same holds
    for --events and --keep-events. Events of one invocation stay or go together.

    It deletes in portions and waits for no writer. So it may run while agents work, and from cron on several
    machines at once. Ctrl-C leaves nothing half done.
    """
    import asyncio

    from adk_psqlpy.admin.prune import Pruned, Rules, prune

    try:
        wanted = Rules(**rules)
    except ValueError:
        raise click.UsageError(
            "say what to delete: --idle, --keep-sessions, --events, --keep-events, --expired-memories or "
            "--orphaned-artifacts"
        ) from None
    done = Pruned()

    def progress(so_far: Pruned) -> None:
        nonlocal done
        done = so_far

    async def run() -> None:
        async with target.config() as config:
            await prune(
                config,
                wanted,
                target.table("session_table"),
                target.table("events_table"),
                memory_table=target.table("memory_table"),
                artifact_table=target.table("artifact_table"),
                dry_run=dry_run,
                portion=portion,
                pause_sec=pause,
                progress=progress,
            )

    try:
        asyncio.run(run())
    except KeyboardInterrupt:
        if not dry_run:
            note(f"interrupted; deleted so far: {_told(done)}")
        raise
    if as_json:
        write_json({"dry_run": dry_run, **asdict(done)})
    else:
        write(f"{'would delete' if dry_run else 'deleted'} {_told(done)}")


def _told(pruned: Pruned) -> str:
    """What went, in words."""
    counted = [
        (pruned.sessions, "session", f" with {pruned.session_events:,} events"),
        (pruned.events, "old event", ""),
        (pruned.memories, "expired memory", ""),
        (pruned.artifacts, "artifact", f" with {pruned.versions:,} versions"),
        (pruned.contents, "unused content", f" of {pruned.content_bytes:,} bytes"),
        (pruned.uploads, "unfinished upload", ""),
    ]
    told = [f"{number:,} {_plural(what, number)}{more}" for number, what, more in counted if number]
    return ", ".join(told) or "nothing"


def _plural(what: str, number: int) -> str:
    if number == 1:
        return what
    return f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"
