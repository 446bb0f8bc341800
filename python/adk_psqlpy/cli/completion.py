"""`adk-psqlpy completion`."""

from __future__ import annotations

import click

from adk_psqlpy.cli.options import examples
from adk_psqlpy.cli.output import write


@click.command(
    epilog=examples(
        'eval "$(adk-psqlpy completion bash)"    # in ~/.bashrc',
        'eval "$(adk-psqlpy completion zsh)"     # in ~/.zshrc',
        "adk-psqlpy completion fish > ~/.config/fish/completions/adk-psqlpy.fish",
    )
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the script that completes verbs and options in a shell."""
    from click.shell_completion import get_completion_class

    from adk_psqlpy.cli.app import app

    kind = get_completion_class(shell)
    assert kind is not None, shell
    write(kind(app, {}, "adk-psqlpy", "_ADK_PSQLPY_COMPLETE").source())
