"""What the services with one table have in common: its name, and the table that records its version."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, TypeVar

from adk_psqlpy.sql.migrate import migrate
from adk_psqlpy.sql.names import quoted, split


@dataclass(frozen=True)
class SingleTable:
    """The only table of a service; `<name>_metadata` beside it records its version.

    Raises:
        ValueError: the name is not a plain identifier, or too long.
    """

    parameter: ClassVar[str]
    """What error messages call the name."""

    name: str

    def __post_init__(self) -> None:
        split(self.parameter, self.name)
        split(f"the name derived from {self.parameter} {self.name!r}", f"{self.name}_metadata")

    @cached_property
    def metadata(self) -> str:
        """The table that records the schema version, quoted."""
        return quoted(f"{self.name}_metadata")

    @property
    def schema(self) -> str | None:
        """The schema, quoted, if one is named."""
        schema = split(self.parameter, self.name)[0]
        return f'"{schema}"' if schema else None


AnyTable = TypeVar("AnyTable", bound=SingleTable)


def create(table: AnyTable, migrations: Sequence[Callable[[AnyTable, int], str]], key_length: int) -> str:
    """A batch that brings a database of any version to the last migration's (`sql.migrate`)."""
    return migrate(
        table.metadata,
        [] if table.schema is None else [table.schema],
        [migration(table, key_length) for migration in migrations],
        {"key_length": str(key_length)},
    )
