"""`adk-psqlpy init`."""

from __future__ import annotations

import click

from adk_psqlpy.cli.options import examples
from adk_psqlpy.cli.output import write


@click.command(epilog=examples("adk-psqlpy init agents/", "adk-psqlpy init agents/cafe --yaml"))
@click.argument("directory", metavar="DIR")
@click.option("--yaml", "as_yaml", is_flag=True, help="Write services.yaml in place of services.py.")
def command(directory: str, as_yaml: bool) -> None:
    """Let adk web, adk api_server and adk run take psqlpy:// URIs.

    Writes the file by which ADK learns of the URI schemes psqlpy and psqlpy+embedded into DIR: the folder
    that is given to adk web or adk api_server; for adk run, the agent's own. No file is overwritten.
    """
    from adk_psqlpy.admin.agents_folder import how_to_run, write_services

    target = write_services(directory, as_yaml=as_yaml)
    write(f"wrote {target}\n\n{how_to_run(target.parent)}")
