"""`adk-psqlpy revoke`."""

from __future__ import annotations

import click

from adk_psqlpy.cli.grant import told
from adk_psqlpy.cli.options import TABLES, Target, examples, server_options
from adk_psqlpy.cli.output import write


@click.command(
    epilog=examples("adk-psqlpy revoke shop_service shop", "adk-psqlpy revoke ada_service shop --user ada")
)
@click.argument("role")
@click.argument("app")
@click.option("--user", "user_id", metavar="ID", help="What was granted for this user.")
@server_options(*TABLES)
def command(target: Target, role: str, app: str, user_id: str | None) -> None:
    """Take back from ROLE what `grant` with the same arguments gave.

    A role that is left with nothing loses its rights to the tables. A role that was never granted this is
    refused, and nothing is changed. Run it as the owner of the tables.
    """
    import asyncio

    from adk_psqlpy.admin.access import SecuredTables, revoke_access

    async def run() -> None:
        names = SecuredTables(**{name: target.table(name) for name in TABLES})
        async with target.config() as config:
            await revoke_access(config, role=role, app_name=app, user_id=user_id, names=names)

    asyncio.run(run())
    write(f"{role} no longer sees {told(app, user_id)}")
