"""The result of a migration, and its progress."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from adk_psqlpy.admin.migrate.records import Counts, Kind, Problem

Outcome = Literal["copied", "equal", "different", "left_out"]

KEPT: Final = 1_000
"""How many problems a report holds. All problems are counted, and `on_problem` is called with each."""


@dataclass(slots=True)
class Tally:
    """Counts for one kind of record: `copied` now, already there and `equal`, `different`, or `left_out`.

    Records that differ were not changed. In a dry run, `copied` counts what would be copied.
    """

    copied: int = 0
    equal: int = 0
    different: int = 0
    left_out: int = 0

    def count(self, outcome: Outcome, many: int = 1) -> None:
        """Count something."""
        setattr(self, outcome, getattr(self, outcome) + many)

    @property
    def seen(self) -> int:
        """All of them together."""
        return self.copied + self.equal + self.different + self.left_out


@dataclass(slots=True)
class MigrationReport:
    """The outcome of a migration, an import or a dry run.

    `source` describes the source. `expected` is what the source counted before it was read. `verified` is the
    number of sessions that were read back and whose events have the source's digest. `differences` says what
    this kind of source stores in another form than adk-psqlpy. `problems` holds up to 1,000 problems, and
    `reasons` counts all of them by kind.
    """

    source: str
    target: str
    dry_run: bool
    expected: Counts
    sessions: Tally = field(default_factory=Tally)
    events: Tally = field(default_factory=Tally)
    states: Tally = field(default_factory=Tally)
    memories: Tally = field(default_factory=Tally)
    artifacts: Tally = field(default_factory=Tally)
    verified: int = 0
    differences: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    reasons: Counter[Kind] = field(default_factory=Counter)
    on_problem: Callable[[Problem], None] | None = None
    finished: bool = False

    def problem(self, problem: Problem) -> None:
        """Take a problem down."""
        self.reasons[problem.kind] += 1
        if len(self.problems) < KEPT:
            self.problems.append(problem)
        if self.on_problem is not None:
            self.on_problem(problem)

    @property
    def complete(self) -> bool:
        """Whether everything that the source holds is in the target, equal."""
        return self.finished and not self.reasons and not self.uncounted

    @property
    def uncounted(self) -> list[str]:
        """Lines about counts that were wrong: somebody wrote to the source while it was read."""
        pairs = [
            ("sessions", self.expected.sessions, self.sessions.seen),
            ("events", self.expected.events, self.events.seen),
            ("states", self.expected.states, self.states.seen),
            ("memories", self.expected.memories, self.memories.seen),
            ("artifacts", self.expected.artifacts, self.artifacts.seen),
        ]
        return [
            f"the source counted {counted:,} {name} and gave {seen:,}"
            for name, counted, seen in pairs
            if self.finished and counted is not None and counted != seen
        ]

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        values = {
            name: asdict(getattr(self, name))
            for name in ("expected", "sessions", "events", "states", "memories", "artifacts")
        }
        return {
            "source": self.source,
            "target": self.target,
            "dry_run": self.dry_run,
            "complete": self.complete,
            **values,
            "verified": self.verified,
            "differences": self.differences,
            "uncounted": self.uncounted,
            "problems": {"counted": sum(self.reasons.values()), "shown": [asdict(p) for p in self.problems]},
        }


@dataclass(frozen=True, slots=True)
class MigrationProgress:
    """The progress of a migration: sessions, memories and versions of artifacts that are done, and events
    read.

    `expected` has the totals, as far as the source knows them.
    """

    sessions: int
    events: int
    memories: int
    artifacts: int
    expected: Counts


class MigrationStoppedError(RuntimeError):
    """The database or the source failed, and the migration could not go on.

    What was carried before is complete and stays; nothing is there of what was not finished. Call the same
    function again to go on. `report` says how far the migration came.
    """

    def __init__(self, message: str, report: MigrationReport) -> None:
        super().__init__(message)
        self.report = report
