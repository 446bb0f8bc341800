"""How often, and how long, a statement is tried again."""

from __future__ import annotations

import enum
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass


class Repeat(enum.Enum):
    """Whether a statement may be sent a second time.

    If a connection breaks, its statement may have been committed, or may still be running. Neither psqlpy nor
    PostgreSQL tells which.
    """

    NEVER = "never"
    """Never: running it twice is not the same as running it once."""

    AFTER_FAILURE = "after a failure"
    """After a failure: the second run finds what the first one did, and the caller can tell. Not while the
    first may still start, because a late start could undo what happened since.
    """

    READ = "at any time"
    """It changes nothing."""

    GUARDED = "at any time, an answer with rows counts"
    """A write that is bound to a revision: one of several does something, and answers with a row."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential pauses with full jitter, until `total_sec` have passed since the first failure.

    Full jitter (a random pause between zero and the bound) spreads the retries of clients that failed at the
    same time, as all do in a failover.
    """

    total_sec: float = 15.0
    first_sec: float = 0.02
    longest_sec: float = 1.0

    def pauses(self) -> Iterator[float]:
        """Seconds to wait before each further attempt; ends when the time is up."""
        deadline = time.monotonic() + self.total_sec
        bound = self.first_sec
        while (left := deadline - time.monotonic()) > 0:
            yield min(left, random.uniform(0, bound))  # noqa: S311 - not for secrets
            bound = min(bound * 2, self.longest_sec)
