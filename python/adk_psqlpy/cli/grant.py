"""`adk-psqlpy grant`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from adk_psqlpy.cli.options import TABLES, Target, examples, json_option, server_options
from adk_psqlpy.cli.output import table, write, write_json

if TYPE_CHECKING:
    from adk_psqlpy.admin.access import Access


@click.command(
    epilog=examples(
        "adk-psqlpy grant shop_service shop --dsn postgresql://owner@localhost/agents",
        "adk-psqlpy grant ada_service shop --user ada",
        "adk-psqlpy grant   # lists who has what",
    )
)
@click.argument("role", required=False)
@click.argument("app", required=False)
@click.option("--user", "user_id", metavar="ID", help="Only this user of the app.")
@server_options(*TABLES)
@json_option
def command(target: Target, role: str | None, app: str | None, user_id: str | None, as_json: bool) -> None:
    """Let ROLE see and write the rows of APP, and no others: row-level security.

    The tables that are there get policies, if they have none. The role must be there already. It is refused
    if policies would not bind it, as those of a superuser or of the tables' owner. Run it as the owner of the
    tables. Without ROLE and APP it lists what was granted.
    """
    import asyncio

    from adk_psqlpy.admin.access import SecuredTables, grant_access, list_access

    names = SecuredTables(**{name: target.table(name) for name in TABLES})
    if (role is None) != (app is None) or (role is None and user_id is not None):
        raise click.UsageError("say both ROLE and APP, or neither to list what was granted")

    async def run() -> list[Access]:
        async with target.config() as config:
            if role is not None and app is not None:
                await grant_access(config, role=role, app_name=app, user_id=user_id, names=names)
            return await list_access(config, names)

    granted = asyncio.run(run())
    if role is not None:
        granted = [
            each for each in granted if (each.role, each.app_name, each.user_id) == (role, app, user_id or "")
        ]
    if as_json:
        write_json([{"role": e.role, "app_name": e.app_name, "user_id": e.user_id or None} for e in granted])
    elif role is None:
        table(("role", "app", "user"), [(e.role, e.app_name, e.user_id or "(all)") for e in granted])
    else:
        write(f"{role} sees and writes {told(app or '', user_id)}")


def told(app: str, user_id: str | None) -> str:
    """Whose rows."""
    return f"the rows of app {app}" if user_id is None else f"the rows of user {user_id} of app {app}"
