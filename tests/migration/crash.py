"""A migration in a process of its own, which the tests kill: `python -m tests.migration.crash SOURCE DSN`."""

from __future__ import annotations

import asyncio
import sys

from adk_psqlpy import PsqlpyConfig
from adk_psqlpy.admin.migrate import MigrationOptions, MigrationProgress, migrate


def told(now: MigrationProgress) -> None:
    """One line for each step, for whoever counts."""
    sys.stdout.write(f"{now.sessions} {now.events}\n")
    sys.stdout.flush()


async def main(source: str, dsn: str) -> None:
    """Migrate, small transactions."""
    from adk_psqlpy.admin.migrate import sessions

    sessions.COMMIT_EVENTS = 200  # type: ignore[misc]
    sessions.FLUSH_BYTES = 20_000  # type: ignore[misc]
    async with PsqlpyConfig({"dsn": dsn}) as target:
        report = await migrate(source, target, MigrationOptions(on_progress=told))
    assert report.complete, report.problems
    sys.stdout.write("done\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
