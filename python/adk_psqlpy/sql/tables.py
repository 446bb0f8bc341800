"""The names of a store's tables: the given ones, and those derived from them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from adk_psqlpy.sql.names import LONGEST, quoted, split


@dataclass(frozen=True)
class Tables:
    """The seven tables of one store, each as `(schema or None, name)` behind its property.

    `session_table` and `events_table` are given; the other five take the prefix of the session table:
    `adk_sessions` has `adk_app_states`, `adk_user_states`, `adk_state_log`, `adk_forks` and `adk_metadata`
    beside it, in its schema.

    Raises:
        ValueError: a name is not a plain identifier, or longer than 63 bytes.
    """

    session_table: str
    events_table: str

    def __post_init__(self) -> None:
        split("session_table", self.session_table)
        split("events_table", self.events_table)
        if self.sessions == self.events:
            raise ValueError(
                f"session_table and events_table are both {self.session_table!r}; they must differ"
            )
        for derived in map(
            self._beside,
            (
                *("app_states", "user_states", "state_log", "forks"),
                *("partials", "event_words", "event_marks", "audit", "metadata"),
            ),
        ):
            split(f"the name derived from session_table {self.session_table!r}", derived)
            if derived == self.events_table:
                raise ValueError(
                    f"events_table {derived!r} is the name of a table derived from session_table: give "
                    "another name"
                )

    @property
    def sessions(self) -> str:
        """The session table, quoted."""
        return quoted(self.session_table)

    @property
    def events(self) -> str:
        """The events table, quoted."""
        return quoted(self.events_table)

    @property
    def app_states(self) -> str:
        """The table of app states, quoted."""
        return quoted(self._beside("app_states"))

    @property
    def state_of_app(self) -> str:
        """An expression: the state of the app `$1`, for statements that read it beside something else."""
        return f"(SELECT a.state FROM {self.app_states} AS a WHERE a.app_name = $1)"

    @property
    def user_states(self) -> str:
        """The table of user states, quoted."""
        return quoted(self._beside("user_states"))

    @property
    def state_log(self) -> str:
        """The table of state deltas without an event, quoted."""
        return quoted(self._beside("state_log"))

    @property
    def fork_table(self) -> str:
        """The name of the table of forks' origins, in the form of `session_table`."""
        return self._beside("forks")

    @property
    def forks(self) -> str:
        """The table of forks' origins, quoted."""
        return quoted(self.fork_table)

    @property
    def partials(self) -> str:
        """The table of texts that are being streamed, quoted. It is made when it is first needed."""
        return quoted(self._beside("partials"))

    @property
    def event_words_table(self) -> str:
        """The table of the words of events, in the form of `session_table`. It exists if `event_search` was
        asked for.
        """
        return self._beside("event_words")

    @property
    def event_words(self) -> str:
        """The same, quoted."""
        return quoted(self.event_words_table)

    @property
    def event_marks(self) -> str:
        """The table that says up to which `seq` a session's events have words, quoted."""
        return quoted(self._beside("event_marks"))

    @property
    def audit_table(self) -> str:
        """The table of what was read and erased, as `session_table` is given; there if it was asked for."""
        return self._beside("audit")

    @property
    def audit(self) -> str:
        """The same, quoted."""
        return quoted(self.audit_table)

    @property
    def metadata(self) -> str:
        """The table that records the schema version, quoted."""
        return quoted(self._beside("metadata"))

    def beside(self, suffix: str) -> str:
        """The name of a table beside the session table: `adk_<suffix>`, in the form of `session_table`.

        Raises:
            ValueError: it would be longer than 63 bytes.
        """
        name = self._beside(suffix)
        split(f"the name derived from session_table {self.session_table!r}", name)
        return name

    @property
    def by_user(self) -> list[str]:
        """The tables that have a `user_id`, quoted. Tables that others refer to come first."""
        return [self.sessions, self.events, self.state_log, self.forks, self.user_states]

    @property
    def schemas(self) -> list[str]:
        """The given schemas, quoted, each once."""
        named = (split("table", table)[0] for table in (self.session_table, self.events_table))
        return sorted({f'"{schema}"' for schema in named if schema is not None})

    def index(self, table: str, suffix: str) -> str:
        """The quoted name of an index: `idx_<table>_<suffix>`, shortened by a hash past 63 bytes.

        An index is made in its table's schema, so this name has none. `in_schema_of` gives the name of an
        existing index.
        """
        name = f"idx_{split('table', table)[1]}_{suffix}"
        if len(name) > LONGEST:
            digest = hashlib.sha256(name.encode()).hexdigest()[:8]
            name = f"{name[: LONGEST - 9]}_{digest}"
        return f'"{name}"'

    def in_schema_of(self, table: str, index: str) -> str:
        """The quoted name of an index, with the schema of its table if one is given."""
        schema = split("table", table)[0]
        return f'"{schema}".{index}' if schema else index

    def _beside(self, suffix: str) -> str:
        prefix = self.session_table.removesuffix("sessions")
        if prefix == self.session_table:
            prefix += "_"
        return prefix + suffix
