"""Showing the progress of a migration or an export: a bar with rate and time left, or in a log a line from
time to time.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import Self

from adk_psqlpy.cli.output import console, note

if TYPE_CHECKING:
    from adk_psqlpy.admin.migrate import MigrationProgress

_LINE_SEC: Final = 10.0
"""The seconds between two lines, if there is no terminal."""


class Progress:
    """Shows `MigrationProgress` on standard error, for the time of a `with` block; call it with each."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bar: Any = None
        self._task: Any = None
        self._began = self._told = time.monotonic()

    def __enter__(self) -> Self:
        """Begin."""
        if not self._quiet and sys.stderr.isatty():
            from rich import progress

            self._bar = progress.Progress(
                progress.TextColumn("{task.description}"),
                progress.BarColumn(),
                progress.TaskProgressColumn(),
                progress.TextColumn("{task.fields[rate]}"),
                progress.TimeRemainingColumn(),
                console=console(sys.stderr),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("looking", total=None, rate="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End."""
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, now: MigrationProgress) -> None:
        """Show how far it is."""
        if self._quiet:
            return
        passed = max(time.monotonic() - self._began, 1e-9)
        done, total = _steps(now)
        rate = f"{now.events / passed:,.0f} events/s"
        text = f"{now.sessions:,} sessions, {now.events:,} events"
        if now.memories or now.artifacts:
            text += f", {now.memories:,} memories, {now.artifacts:,} artifacts"
        if self._bar is not None:
            self._bar.update(self._task, description=text, completed=done, total=total, rate=rate)
        elif time.monotonic() - self._told >= _LINE_SEC:
            self._told = time.monotonic()
            left = "" if not total or not done else f", {passed * (total - done) / done:,.0f} s left"
            note(f"{text}, {rate}{left}")


def _steps(now: MigrationProgress) -> tuple[int, int | None]:
    """The steps done and the steps in all. Each event, session, memory and artifact is a step."""
    expected = now.expected
    counted = (expected.sessions, expected.events, expected.memories, expected.artifacts)
    total = sum(each for each in counted if each is not None) if None not in counted else None
    return now.sessions + now.events + now.memories + now.artifacts, total
