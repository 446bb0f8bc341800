"""Table names: validated, quoted, and the names derived from them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

# PostgreSQL manual, 4.1.1: letters, digits and underscores, not a digit first. ASCII only, so that a byte is
# a character and the limit of 63 bytes (NAMEDATALEN - 1) is plain; no dollar sign, which could end a quote.
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LONGEST = 63


@dataclass(frozen=True)
class Tables:
    """The five tables of one store, each as `(schema or None, name)` behind its property.

    `session_table` and `events_table` are given; the other three take the prefix of the session table:
    `adk_sessions` has `adk_app_states`, `adk_user_states` and `adk_metadata` beside it, in its schema.

    Raises:
        ValueError: a name is not a plain identifier, or longer than 63 bytes.
    """

    session_table: str
    events_table: str

    def __post_init__(self) -> None:
        _split("session_table", self.session_table)
        _split("events_table", self.events_table)
        if self.sessions == self.events:
            raise ValueError(
                f"session_table and events_table are both {self.session_table!r}; they must differ"
            )
        for derived in (self._beside(suffix) for suffix in ("app_states", "user_states", "metadata")):
            _split(f"the name derived from session_table {self.session_table!r}", derived)
            if derived == self.events_table:
                raise ValueError(
                    f"events_table {derived!r} is the name of a table derived from session_table"
                )

    @property
    def sessions(self) -> str:
        """The session table, quoted."""
        return _quoted(self.session_table)

    @property
    def events(self) -> str:
        """The events table, quoted."""
        return _quoted(self.events_table)

    @property
    def app_states(self) -> str:
        """The table of app states, quoted."""
        return _quoted(self._beside("app_states"))

    @property
    def user_states(self) -> str:
        """The table of user states, quoted."""
        return _quoted(self._beside("user_states"))

    @property
    def metadata(self) -> str:
        """The table that records the schema version, quoted."""
        return _quoted(self._beside("metadata"))

    @property
    def schemas(self) -> list[str]:
        """The schemas that are named, quoted, each once."""
        named = (_split("table", table)[0] for table in (self.session_table, self.events_table))
        return sorted({f'"{schema}"' for schema in named if schema is not None})

    def index(self, table: str, suffix: str) -> str:
        """The quoted name of an index: `idx_<table>_<suffix>`, shortened by a hash past 63 bytes.

        An index lives in its table's schema, so the name carries none.
        """
        name = f"idx_{_split('table', table)[1]}_{suffix}"
        if len(name) > _LONGEST:
            digest = hashlib.sha256(name.encode()).hexdigest()[:8]
            name = f"{name[: _LONGEST - 9]}_{digest}"
        return f'"{name}"'

    def _beside(self, suffix: str) -> str:
        prefix = self.session_table.removesuffix("sessions")
        if prefix == self.session_table:
            prefix += "_"
        return prefix + suffix


def _split(parameter: str, table: str) -> tuple[str | None, str]:
    if not isinstance(table, str):
        raise ValueError(f"{parameter} must be a str, not {type(table).__name__}")
    schema, _, name = table.rpartition(".")
    for part in (schema, name) if "." in table else (name,):
        if not _IDENTIFIER.fullmatch(part):
            raise ValueError(
                f"{parameter} {table!r} is not a table name: use letters, digits and underscores, "
                "optionally with a schema in front (agents.adk_sessions)"
            )
        if len(part) > _LONGEST:
            raise ValueError(f"{parameter} {table!r} has {len(part)} characters; PostgreSQL keeps {_LONGEST}")
    return schema or None, name


def _quoted(table: str) -> str:
    schema, name = _split("table", table)
    return f'"{schema}"."{name}"' if schema else f'"{name}"'
