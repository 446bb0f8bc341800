"""`adk-psqlpy erase-user`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from adk_psqlpy.cli.codes import FAILED, OK
from adk_psqlpy.cli.options import Target, asked, examples, json_option, server_options
from adk_psqlpy.cli.output import note, table, write, write_json

if TYPE_CHECKING:
    from adk_psqlpy.admin.erase import Erased

_OTHERS: Final = ("memory_table", "artifact_table", "credential_table", "key_table")


@click.command(
    epilog=examples(
        "adk-psqlpy erase-user cafe alice --dry-run",
        "adk-psqlpy erase-user cafe alice",
        "adk-psqlpy erase-user cafe alice --yes --json > proof.json",
    )
)
@click.argument("app")
@click.argument("user")
@click.option("--yes", is_flag=True, help="Ask no question.")
@click.option("--dry-run", is_flag=True, help="Delete nothing; count what is there.")
@server_options("session_table", "events_table", *_OTHERS)
@json_option
def command(target: Target, app: str, user: str, yes: bool, dry_run: bool, as_json: bool) -> int:
    """Erase every trace of USER in APP: sessions, state, memories, artifacts, credentials, keys.

    Shows how many rows there are by table, asks, deletes them in one transaction, and searches every table
    that names users afterwards. Exit code 1 if anything is left. What is deleted stays in backups and in the
    write-ahead log.
    """
    import asyncio

    from adk_psqlpy.admin.erase import erase_user, find_user

    names = (target.table("session_table"), target.table("events_table"))
    others = {name: target.table(name) for name in _OTHERS}

    async def find() -> dict[str, int]:
        async with target.config() as config:
            return await find_user(config, app, user, *names, **others)

    async def erase() -> Erased:
        async with target.config() as config:
            return await erase_user(config, app, user, *names, **others)

    found = asyncio.run(find())
    if dry_run and as_json:
        write_json({"dry_run": True, "app_name": app, "user_id": user, "rows": found})
    elif not as_json:
        _show(found)
    if dry_run:
        return OK
    # Asked outside of an event loop: within one, Ctrl-C would have to wait for the answer.
    if any(found.values()) and not asked(f"Delete all of this for user {user!r} in app {app!r}?", yes=yes):
        note("nothing was deleted")
        return FAILED
    return _report(asyncio.run(erase()), as_json)


def _show(rows: dict[str, int]) -> None:
    table(("table", "rows"), rows.items())


def _report(erased: Erased, as_json: bool) -> int:
    code = FAILED if erased.left else OK
    if as_json:
        write_json(asdict(erased))
        return code
    write()
    write(f"deleted {erased.total:,} rows of user {erased.user_id} in app {erased.app_name}")
    if erased.left:
        write("left:")
        table(("table", "rows"), erased.left.items())
        write("They were written meanwhile, or the table is not one of adk-psqlpy.")
        write("Stop what writes for this user, and run this again.")
    else:
        write(f"searched {len(erased.searched)} tables afterwards: no row names this user")
    if erased.mentions:
        keys = ", ".join(erased.mentions)
        write(
            f"The app's state, which belongs to no user, has this id in: {keys}. Check whether it may stay."
        )
    return code
