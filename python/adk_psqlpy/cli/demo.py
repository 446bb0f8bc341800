"""`adk-psqlpy demo`."""

from __future__ import annotations

import sys

import click

from adk_psqlpy.cli.options import examples


@click.command(
    epilog=examples(
        "adk-psqlpy demo", "adk-psqlpy demo --keep", "adk-psqlpy demo --dsn postgresql://me@localhost/scratch"
    )
)
@click.option("--dsn", metavar="DSN", help="postgresql://user:password@host:port/database")
@click.option("--keep", is_flag=True, help="Leave the data in place, to be looked at.")
# The second process. It reads from its standard input what the first one handed over.
@click.option("--resume", is_flag=True, hidden=True)
def command(dsn: str | None, keep: bool, resume: bool) -> int:
    """Show an agent whose conversations go on in a second process.

    Runs an ADK agent for two users, then resumes their sessions in a second process and checks that
    nothing was lost. Without --dsn it starts the embedded PostgreSQL in a temporary directory. With --dsn
    it works in a schema of its own, which it drops at the end. With --keep both stay, and the last line
    says how to look at them.
    """
    from adk_psqlpy.demo import run as demo

    return demo.resume(sys.stdin.read()) if resume else demo.run(dsn, keep=keep)
