"""What a migration did, and how far it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from adk_psqlpy.admin.migrate.records import Counts, Kind, Problem

Outcome = Literal["copied", "equal", "different", "left_out"]

KEPT: Final = 1_000
"""How many problems a report holds. All are counted, and `on_problem` is told of each."""


@dataclass(slots=True)
class Tally:
    """How many of one kind were `copied` now, were there already and `equal`, or `different`, or `left_out`.

    What is different was not touched. In a dry run, `copied` is what would be.
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

    `source` says what the source was taken for. `expected` is what it counted before it was read.
    `verified` is how many sessions were read back and have the digest of the source's events. `differences`
    says what this kind of source keeps in another form than adk-psqlpy. `problems` holds up to 1,000 of those
    that were met, `reasons` counts all of them by kind.
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
        """Where the source gave another number of things than it had counted before: it was written to."""
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
    """How far a migration is: sessions, memories and versions of artifacts that are done, and events read.

    `expected` has how many there are, as far as the source can tell.
    """

    sessions: int
    events: int
    memories: int
    artifacts: int
    expected: Counts


class MigrationStoppedError(RuntimeError):
    """A migration that could not go on: the database or the source failed.

    What was carried before is whole and stays, and what was not finished is not there at all. Calling the
    same again goes on. `report` says how far it came.
    """

    def __init__(self, message: str, report: MigrationReport) -> None:
        super().__init__(message)
        self.report = report
