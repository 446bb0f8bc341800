"""The command `adk-psqlpy`.

Each verb is a file here with a click command named `command`. It reads its options, calls a function of
`adk_psqlpy.admin` (for the demo, of `adk_psqlpy.demo`), and prints the result. `app.VERBS` lists the verbs.
`--help` and completion import all of these files. So a verb's file imports at its top only what is quick to
import, and the rest inside the function.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from adk_psqlpy.cli.codes import FAILED, INTERRUPTED, OK, USAGE
from adk_psqlpy.cli.redaction import Redaction

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and give its exit code: `OK`, `FAILED`, `USAGE` or `INTERRUPTED`.

    Args:
        argv: the arguments without the program's name; by default those of the process.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    redaction = Redaction(arguments, os.environ)
    if argv is None:
        sys.excepthook = redaction.excepthook
        _let_everything_be_written()
    try:
        code = _run(arguments, redaction)
        sys.stdout.flush()
    except BrokenPipeError:
        # `| head` has closed the pipe. The interpreter must not write to it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return code


def _run(arguments: list[str], redaction: Redaction) -> int:
    from adk_psqlpy.cli.app import VERBS, app

    verb = next((each for each in arguments if not each.startswith("-")), "")
    name = f"adk-psqlpy {verb}" if verb in VERBS else "adk-psqlpy"

    def told(message: str, code: int) -> int:
        sys.stderr.write(redaction.hide(f"{name}: {message}\n"))
        return code

    try:
        code = app.main(arguments, prog_name="adk-psqlpy", standalone_mode=False)
    except click.UsageError as error:
        if error.ctx is not None:
            sys.stderr.write(redaction.hide(f"{error.ctx.get_usage()}\n"))
        return told(error.format_message(), USAGE)
    except click.ClickException as error:
        return told(error.format_message(), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except ValueError as error:
        return told(str(error), USAGE)
    except _failures() as error:
        return told(str(error), FAILED)
    return code if isinstance(code, int) else OK


def _failures() -> tuple[type[Exception], ...]:
    """The errors that are told in one line. The driver's are among them if it was imported (that takes 50
    ms).
    """
    drivers = sys.modules.get("psqlpy.exceptions")
    return (ImportError, OSError, RuntimeError, *(() if drivers is None else (drivers.Error,)))


def _let_everything_be_written() -> None:
    """Make the outputs escape what their encoding cannot write: `\\udc80`, which JSON reads back."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
