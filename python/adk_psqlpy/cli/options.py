"""Options that verbs share (the server, the tables, JSON), and finding out which server is meant."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from adk_psqlpy.config import PsqlpyConfig
    from adk_psqlpy.service_registry.uri import ServiceUri

_Function = TypeVar("_Function", bound=Callable[..., Any])

TABLES: Final = {
    "session_table": "adk_sessions",
    "events_table": "adk_events",
    "memory_table": "adk_memories",
    "artifact_table": "adk_artifacts",
    "credential_table": "adk_credentials",
    "key_table": "adk_user_keys",
}
"""The tables whose names can be given, with their default names."""

NO_SERVER: Final = "no server is given: --dsn, or DATABASE_URL, or PGHOST and the like in the environment"


@dataclass(frozen=True)
class Target:
    """Where a verb works: a server, and the names of the tables there.

    `dsn` is the value of `--dsn`: a connection string, or a URI as `adk web` takes it (`psqlpy://`,
    `psqlpy+embedded:///path`), whose options may name tables, too.
    """

    dsn: str | None = field(default=None, repr=False)
    given: dict[str, str | None] = field(default_factory=dict)

    @cached_property
    def _uri(self) -> ServiceUri | None:
        if self.dsn is None or not self.dsn.lower().startswith(("psqlpy:", "psqlpy+")):
            return None
        from adk_psqlpy.service_registry.uri import parse

        return parse(self.dsn)

    def config(self) -> PsqlpyConfig:
        """The server's configuration, not connected yet.

        Raises:
            click.UsageError: no server is given.
            ValueError: what is given is not possible.
        """
        config = self.config_if_given()
        if config is None:
            raise click.UsageError(NO_SERVER)
        return config

    def config_if_given(self) -> PsqlpyConfig | None:
        """The same; `None` if no server is given."""
        from adk_psqlpy.config import PsqlpyConfig
        from adk_psqlpy.connections.embedded import EmbeddedServer
        from adk_psqlpy.connections.libpq import read_environment

        if self._uri is not None:
            embedded = EmbeddedServer(self._uri.data_dir) if self._uri.embedded else None
            return PsqlpyConfig(self._uri.pool_config, embedded=embedded)
        if self.dsn is not None:
            return PsqlpyConfig({"dsn": self.dsn})
        # Checked here as well, because a configuration without settings would start the embedded server.
        return None if read_environment(os.environ) is None else PsqlpyConfig()

    def table(self, name: str) -> str:
        """The name of a table of `TABLES`: from its option, else from the URI, else the default."""
        given = self.given.get(name)
        if given is not None:
            return given
        from_uri = self._uri.options.get(name) if self._uri is not None else None
        return str(from_uri) if from_uri is not None else TABLES[name]

    def key_length(self) -> int:
        """The `key_length` of the URI, else the default, 128."""
        return int(self._uri.options.get("key_length", 128)) if self._uri is not None else 128


def server_options(*tables: str) -> Callable[[_Function], _Function]:
    """Add `--dsn`, and an option for each of these tables. The function gets them as `target`, a `Target`."""

    def decorate(function: _Function) -> _Function:
        @wraps(function)
        def call(**options: Any) -> Any:
            given = {name: options.pop(name) for name in tables}
            return function(target=Target(options.pop("dsn"), given), **options)

        decorated: Any = call
        for name in reversed(tables):
            option = f"--{name.replace('_', '-')}"
            decorated = click.option(option, name, metavar="NAME", help=f"If not {TABLES[name]}.")(decorated)
        return click.option(  # type: ignore[no-any-return]
            "--dsn",
            metavar="DSN",
            help="postgresql://user:password@host:port/database, or a URI as adk web takes it. "
            "Otherwise DATABASE_URL or PGHOST and the like are read.",
        )(decorated)

    return decorate


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON in place of text.")
"""`--json`, as `as_json`."""


def carry_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of verbs that carry data into tables of adk-psqlpy."""
    options = (
        click.option(
            "--key-length",
            type=click.IntRange(1, 1024),
            help="Longest identifier of tables that are made now.",
        ),
        click.option(
            "--language", default="simple", show_default=True, help="Of the memory table, if it is made now."
        ),
        click.option("--dry-run", is_flag=True, help="Read and compare everything, write nothing."),
        click.option(
            "--keep-rest",
            is_flag=True,
            help="Carry a session without those of its events that cannot be carried.",
        ),
        click.option(
            "--problems",
            metavar="FILE",
            type=click.Path(path_type=Path),
            help="Write every problem as JSON Lines.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def examples(*lines: str) -> str:
    """The end of a verb's help: commands that work as they are written."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def asked(question: str, *, yes: bool) -> bool:
    """Ask a question, and return whether the answer is yes. With `yes`, no question is asked.

    Raises:
        click.UsageError: there is no terminal to ask on.
    """
    import sys

    if yes:
        return True
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise click.UsageError(
            "the command asks before it changes anything, and there is no terminal to ask on: say --yes"
        )
    return click.confirm(question, err=True)
