"""`adk-psqlpy migrate`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from adk_psqlpy.cli.keys import are_of_users, keys_option, seal_of
from adk_psqlpy.cli.options import Target, carry_options, examples, json_option, server_options
from adk_psqlpy.cli.output import note, printable, table, write, write_json

if TYPE_CHECKING:
    from adk_psqlpy.admin.migrate import MigrationReport, SourceOptions
    from adk_psqlpy.config import PsqlpyConfig

SHOWN: Final = 20
"""How many problems are printed; `--problems` has all."""


@click.command(
    epilog=examples(
        "adk-psqlpy migrate agents/ postgresql://me@localhost/agents",
        "adk-psqlpy migrate sqlite+aiosqlite:///sessions.db postgresql://me@localhost/agents --dry-run",
        "adk-psqlpy migrate mysql+aiomysql://me:pw@db/adk postgresql://me@localhost/agents",
        "adk-psqlpy migrate postgresql://me@localhost/agents postgresql://me@localhost/agents --kind sqlspec",
    )
)
@click.argument("source", metavar="FROM")
@click.argument("to", metavar="[TO]", required=False)
@keys_option(of="what the target holds and is given")
@server_options("session_table", "events_table", "memory_table", "artifact_table", "key_table")
@click.option(
    "--kind", type=click.Choice(["adk", "sqlspec", "adk-psqlpy"]), help="Whose tables FROM has, if several."
)
@keys_option(
    "--source-keys", of="what is sealed in FROM, if it has tables of adk-psqlpy", else_variable=False
)
@click.option(
    "--source-session-table", metavar="NAME", help="Of SQLSpec or adk-psqlpy, if not the usual one."
)
@click.option("--source-events-table", metavar="NAME", help="Of SQLSpec or adk-psqlpy, if not the usual one.")
@click.option(
    "--source-key-table", metavar="NAME", help="The table of users' keys in FROM, if not that of --key-table."
)
@click.option(
    "--source-timezone",
    metavar="ZONE",
    default="UTC",
    help="Of times without a zone in ADK's tables: before release 1.22 ADK wrote the local time of its host.",
)
@carry_options
@json_option
def command(source: str, to: str | None, target: Target, as_json: bool, **given: Any) -> int:
    """Carry sessions, states, memories and artifacts from ADK's own storage, or SQLSpec's, into PostgreSQL.

    FROM is a SQLAlchemy URL as ADK takes it, a postgresql:// URL, an SQLite file, a folder of agents that adk
    web has stored in, the folder of a FileArtifactService, or an export. TO is where the tables are, or
    are made; else --dsn and the environment say. Nothing that TO holds is changed. A migration that was
    interrupted goes on when it is started again. Tables that are recorded as sealed are written with --keys
    only.
    """
    import asyncio

    from adk_psqlpy.admin.migrate import SourceOptions

    if to is not None:
        if target.dsn is not None:
            raise click.UsageError("TO and --dsn are both given: leave one of them out")
        target = Target(to, target.given)
    source_options = SourceOptions(
        given.pop("kind"),
        given.pop("source_session_table"),
        given.pop("source_events_table"),
        _zone(given.pop("source_timezone")),
    )
    return asyncio.run(carry(source, target, source_options, as_json=as_json, **given))


async def carry(
    source: str | Path,
    target: Target,
    source_options: SourceOptions,
    *,
    as_json: bool,
    problems: Path | None,
    keys: str | None = None,
    source_keys: str | None = None,
    source_key_table: str | None = None,
    key_length: int | None = None,
    language: str = "simple",
    dry_run: bool = False,
    keep_rest: bool = False,
) -> int:
    """Migrate, and print the report; give the exit code."""
    import json
    from contextlib import AsyncExitStack
    from dataclasses import asdict, replace

    from adk_psqlpy.admin.migrate import MigrationOptions, MigrationStoppedError, Problem, TableNames, migrate
    from adk_psqlpy.cli.progress import Progress

    names = TableNames(
        *(target.table(f"{name}_table") for name in ("session", "events", "memory", "artifact"))
    )
    async with AsyncExitStack() as stack:
        file = stack.enter_context(problems.open("w", encoding="utf-8")) if problems is not None else None

        def told(problem: Problem) -> None:
            if file is not None:
                file.write(json.dumps(asdict(problem)) + "\n")

        config = await stack.enter_async_context(target.config())
        if source_keys is not None:
            in_source = Target(given={"key_table": source_key_table or target.table("key_table")})
            holds_keys = config
            if are_of_users(source_keys):
                holds_keys = await stack.enter_async_context(_with_keys_of_users(source, in_source))
            source_options = replace(source_options, seal=await seal_of(source_keys, in_source, holds_keys))
        options = MigrationOptions(
            source=source_options,
            seal=await seal_of(keys, target, config),
            names=names,
            key_length=key_length or target.key_length(),
            language=language,
            dry_run=dry_run,
            keep_rest=keep_rest,
            on_progress=stack.enter_context(Progress()),
            on_problem=told,
        )
        try:
            report = await migrate(source, config, options)
        except MigrationStoppedError as error:
            await stack.aclose()
            _show(error.report, as_json=as_json)
            raise
    _show(report, as_json=as_json)
    return 0 if report.complete else 1


@asynccontextmanager
async def _with_keys_of_users(source: str | Path, keys: Target) -> AsyncIterator[PsqlpyConfig]:
    """The database FROM, for the table of users' keys there.

    Raises:
        click.UsageError: FROM is not in PostgreSQL, or has no such table.
    """
    from adk_psqlpy.admin.migrate.sources import postgresql_dsn
    from adk_psqlpy.admin.tables import present_tables
    from adk_psqlpy.config import PsqlpyConfig
    from adk_psqlpy.sql.user_keys import UserKeyTable

    dsn = postgresql_dsn(source)
    if dsn is None:
        raise click.UsageError(
            "--source-keys users+...: the keys of users are in a table of FROM, and FROM is no postgresql:// "
            "URL: leave the option out"
        )
    table = UserKeyTable(keys.table("key_table")).keys
    async with PsqlpyConfig({"dsn": dsn, "max_db_pool_size": 2}) as config:
        # Asked first, since `UserKeys` would make the table, and FROM is only read.
        if not await present_tables(config, table):
            raise click.UsageError(
                f"--source-keys users+...: FROM has no table {table} of users' keys: name it "
                "(--source-key-table)"
            )
        yield config


def _show(report: MigrationReport, *, as_json: bool) -> None:
    if as_json:
        write_json(report.as_dict())
        return
    write(f"{'would carry' if report.dry_run else 'carried'} {report.source} to {report.target}\n")
    kinds = ("sessions", "events", "states", "memories", "artifacts")
    rows = [
        (name, tally.copied, tally.equal, tally.different, tally.left_out)
        for name in kinds
        if (tally := getattr(report, name)).seen
    ]
    if rows:
        table(
            ("", "would copy" if report.dry_run else "copied", "equal before", "different", "left out"), rows
        )
    else:
        write("there was nothing to carry")
    if not report.dry_run:
        write(f"\n{report.verified:,} sessions were read back and are equal to the source's")
    for text in [*report.uncounted, *(f"note: {each}" for each in report.differences)]:
        write(text)
    total = sum(report.reasons.values())
    if total:
        write(f"\n{total:,} problems:")
        for problem in report.problems[:SHOWN]:
            write(f"  {printable(str(problem))}")
        if total > SHOWN:
            note(f"  and {total - SHOWN:,} more: --problems FILE writes all of them")


def _zone(name: str) -> Any:
    from datetime import timezone

    if name.upper() == "UTC":
        return timezone.utc
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise click.UsageError(f"--source-timezone {name}: there is no such zone ({error})") from error
