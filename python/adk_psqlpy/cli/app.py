"""The list of verbs, and the command that has them."""

from __future__ import annotations

from importlib import import_module
from typing import Final

import click

VERBS: Final = {
    "show": "show",
    "stats": "stats",
    "doctor": "doctor",
    "prune": "prune",
    "reseal": "reseal",
    "erase-user": "erase_user",
    "migrate": "migrate",
    "export": "export",
    "import": "import_",
    "views": "views",
    "grant": "grant",
    "revoke": "revoke",
    "distribute": "distribute",
    "init": "init",
    "demo": "demo",
    "completion": "completion",
}
"""Each verb and its file in this folder, in the order in which `--help` lists them."""


class _Verbs(click.Group):
    """A group that imports a verb when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - as click calls it
        """The verbs in the order of `VERBS`."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The verb's command; `None` if there is no such verb."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = import_module(f"adk_psqlpy.cli.{VERBS[cmd_name]}").command
        return command


def _show_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from adk_psqlpy import _native

        click.echo(f"adk-psqlpy {_native.__version__}")
        ctx.exit()


@click.group(
    cls=_Verbs,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Where the server is: --dsn, else DATABASE_URL, else PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE.
Exit codes: 0 all is well, 1 something failed or needs doing, 2 usage, 130 interrupted.""",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
def app() -> None:
    """Sessions, memory and artifacts of Google's Agent Development Kit in PostgreSQL."""
