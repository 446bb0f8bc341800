"""PostgreSQL sessions, memory and artifacts for Google's Agent Development Kit, on the Rust driver psqlpy."""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from typing import TYPE_CHECKING

# Before the extension module is loaded: loading it would switch the GIL on for the whole process.
if "free-threading" in sys.version:
    raise ImportError(
        f"adk_psqlpy does not run on a free-threaded build of Python ({sys.version.split()[0]}t): its "
        "extension module relies on the GIL while it reads and makes objects. Use the ordinary build of this "
        "version"
    )

from adk_psqlpy import _native

if TYPE_CHECKING:
    from adk_psqlpy.artifacts import PsqlpyArtifactService
    from adk_psqlpy.config import PsqlpyConfig
    from adk_psqlpy.connections.embedded import EmbeddedServer
    from adk_psqlpy.connections.passwords import Password
    from adk_psqlpy.memory import PsqlpyMemoryService
    from adk_psqlpy.seal import Seal
    from adk_psqlpy.sessions import PsqlpyADKStore, PsqlpySessionService, StoredSession

__all__ = [
    "EmbeddedServer",
    "Password",
    "PsqlpyADKStore",
    "PsqlpyArtifactService",
    "PsqlpyConfig",
    "PsqlpyMemoryService",
    "PsqlpySessionService",
    "Seal",
    "StoredSession",
    "__version__",
]

__version__ = _native.__version__

# Imported when first asked for: the ADK takes a second, and `adk-psqlpy --help` and shell completion need
# none of it.
_HOMES = {
    "EmbeddedServer": "adk_psqlpy.connections.embedded",
    "Password": "adk_psqlpy.connections.passwords",
    "PsqlpyADKStore": "adk_psqlpy.sessions",
    "PsqlpyArtifactService": "adk_psqlpy.artifacts",
    "PsqlpyConfig": "adk_psqlpy.config",
    "PsqlpyMemoryService": "adk_psqlpy.memory",
    "PsqlpySessionService": "adk_psqlpy.sessions",
    "Seal": "adk_psqlpy.seal",
    "StoredSession": "adk_psqlpy.sessions",
}


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import a public name, once."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        """The public names beside what is imported already."""
        return sorted({*globals(), *__all__})


if _native.DEBUG_BUILD:
    warnings.warn(
        "adk_psqlpy._native is a debug build, some ten times slower: build it with `make build`",
        RuntimeWarning,
        stacklevel=2,
    )
