"""Whether all is well, and what to do where it is not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from psqlpy.exceptions import Error

from adk_psqlpy import _native
from adk_psqlpy.admin.diagnostics import model_paths, versions
from adk_psqlpy.config import PsqlpyConfig

Status = Literal["ok", "note", "todo"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    `todo` is something that needs doing, `note` something worth knowing; for both, `advice` says what to do.
    `details` are further lines, for example the sessions in question.
    """

    check: str
    status: Status
    text: str
    advice: str | None = None
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """What all checks found, in their order."""

    findings: list[Finding]

    @property
    def well(self) -> bool:
        """Whether nothing needs doing."""
        return not any(finding.status == "todo" for finding in self.findings)

    @property
    def verdict(self) -> str:
        """One line that says whether all is well."""
        todo = sum(finding.status == "todo" for finding in self.findings)
        notes = sum(finding.status == "note" for finding in self.findings)
        if todo:
            return f"{todo} thing{'' if todo == 1 else 's'} need{'s' if todo == 1 else ''} doing."
        known = f"; {notes} thing{'' if notes == 1 else 's'} to know" if notes else ""
        return f"All is well{known}."


async def examine(
    config: PsqlpyConfig | None,
    session_table: str = "adk_sessions",
    events_table: str = "adk_events",
    *,
    memory_table: str = "adk_memories",
    artifact_table: str = "adk_artifacts",
) -> Report:
    """Check what is installed, and the server if one is given.

    Nothing is changed. The tables of sessions and states are read once, to find the longest histories and the
    largest states. No other table is read as a whole.

    Args:
        config: the server; `None` checks only what is installed.
        session_table, events_table, memory_table, artifact_table: names of tables.

    Raises:
        ValueError: a table's name is not one.
    """
    from adk_psqlpy.admin import checks

    names = checks.Names(session_table, events_table, memory_table, artifact_table)
    findings = [installed(), fast_path()]
    if config is not None:
        try:
            findings += await checks.of_server(config, names)
        except Error as error:
            findings.append(Finding("connection", "todo", f"the server could not be asked: {error}", _REACH))
    return Report(findings)


_REACH = "do what the message says; the findings before it are above"


def installed() -> Finding:
    """The versions of the packages."""
    found = versions()
    details = tuple(f"{name} {text}" for name, text in found.items())
    text = f"adk-psqlpy {_native.__version__}, " + ", ".join(
        f"{name} {found[name]}" for name in ("psqlpy", "google-adk", "pydantic")
    )
    if _native.DEBUG_BUILD:
        return Finding(
            "versions", "todo", f"{text}: a debug build, some ten times slower", "make build", details
        )
    return Finding("versions", "ok", text, None, details)


# The classes that every event goes through.
_HOT = ("Event", "EventActions", "Content", "Part", "FunctionCall", "FunctionResponse")


def fast_path() -> Finding:
    """Check which of ADK's model classes the crate reads and writes by itself."""
    paths = model_paths()
    slow = [path for path in paths if not path.fast]
    text = f"{len(paths) - len(slow)} of {len(paths)} model classes are read and written by the crate"
    if 0 < len(slow) <= 3:
        text += f"; pydantic does {', '.join(path.name for path in slow)}, which few events have"
    width = max(len(path.name) for path in paths)
    details = tuple(
        f"{path.name:<{width}}  written {_path(path.writing)}, read {_path(path.reading)}"
        for path in sorted(paths, key=lambda path: path.fast)
    )
    if any(path.name in _HOT for path in slow):
        return Finding(
            "fast path",
            "todo",
            f"pydantic, and not the crate, does {', '.join(path.name for path in slow if path.name in _HOT)}",
            "events are read and written correctly, and some ten times slower: report it with these versions",
            details,
        )
    return Finding("fast path", "ok", text, None, details)


def _path(reason: str | None) -> str:
    return "fast" if reason is None else f"by pydantic ({reason})"
