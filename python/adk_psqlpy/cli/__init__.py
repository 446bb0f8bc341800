"""The command `adk-psqlpy`."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from psqlpy.exceptions import Error

from adk_psqlpy import _native

__all__ = ["main"]

# Exit codes: argparse's own 2 for what was written on the command line.
FAILED = 1
USAGE = 2
INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """Argparse, except that a connection string in the wrong place is not repeated with its password."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and end with exit code 2."""
        message = re.sub(r"://\S*@", "://***@", message)
        super().error(re.sub(r"(?i)\bpassword=('[^']*'|\S+)", "password=***", message))


def _parser() -> argparse.ArgumentParser:
    # No abbreviations: `--ds` would become another option one day.
    parser = _Parser(
        prog="adk-psqlpy",
        description="Sessions of Google's Agent Development Kit in PostgreSQL, on psqlpy.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"adk-psqlpy {_native.__version__}")
    commands = parser.add_subparsers(
        title="commands", dest="command", metavar="{demo,doctor,init}", required=True
    )

    demo = commands.add_parser(
        "demo",
        help="an agent whose conversations go on in a second process",
        description="Runs an ADK agent for two users, then resumes their sessions in a second process and "
        "checks that nothing was lost. Without --dsn it starts the embedded PostgreSQL in a temporary "
        "directory; with it, it works in a schema of its own, which it drops at the end.",
        allow_abbrev=False,
    )
    demo.add_argument("--dsn", metavar="DSN", help="postgresql://user:password@host:port/database")
    # The second process, which takes what the first one handed over from its standard input.
    demo.add_argument("--resume", action="store_true", help=argparse.SUPPRESS)

    doctor = commands.add_parser(
        "doctor",
        help="versions, fast paths, and the server",
        description="Shows the versions that matter, which of ADK's model classes take the fast path, "
        "and the versions of the server and of the tables. The server is that of --dsn, else of "
        "DATABASE_URL or the PG* variables, else none.",
        allow_abbrev=False,
    )
    doctor.add_argument("--dsn", metavar="DSN", help="postgresql://user:password@host:port/database")
    doctor.add_argument("--session-table", metavar="NAME", default="adk_sessions", help="if not adk_sessions")

    init = commands.add_parser(
        "init",
        help="let adk web, adk api_server and adk run take psqlpy:// URIs",
        description="Writes the file by which ADK learns of the URI schemes psqlpy and psqlpy+embedded into "
        "the folder that is given to adk web, adk api_server or adk run. No file is overwritten.",
        allow_abbrev=False,
    )
    init.add_argument("directory", metavar="DIR", help="the agents' folder; for adk run, the agent's own")
    init.add_argument("--yaml", action="store_true", help="services.yaml in place of services.py")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; give its exit code: 0, 1 for a failure, 2 for bad arguments."""
    arguments = _parser().parse_args(argv)
    try:
        if arguments.command == "doctor":
            from adk_psqlpy.cli import doctor

            return asyncio.run(doctor.run(arguments.dsn, arguments.session_table))
        if arguments.command == "init":
            from adk_psqlpy.cli import init

            return init.run(arguments.directory, as_yaml=arguments.yaml)
        try:
            import rich  # noqa: F401 - asked for here, so that the message is of this command
        except ImportError:
            return _failed("demo", "it prints with rich: pip install 'adk-psqlpy[embedded]'")
        from adk_psqlpy.cli import demo

        return demo.resume(sys.stdin.read()) if arguments.resume else demo.run(arguments.dsn)
    except ValueError as error:
        return _failed(arguments.command, str(error), USAGE)
    except BrokenPipeError:  # `| head` has read enough; nor may the interpreter write there at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (Error, ImportError, OSError, RuntimeError) as error:
        return _failed(arguments.command, str(error))
    except KeyboardInterrupt:
        return INTERRUPTED


def _failed(command: str, message: str, code: int = FAILED) -> int:
    sys.stderr.write(f"adk-psqlpy {command}: {message}\n")
    return code
