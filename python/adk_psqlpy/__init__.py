"""PostgreSQL sessions, memory and artifacts for Google's Agent Development Kit, on the Rust driver psqlpy."""

import warnings

from adk_psqlpy import _native
from adk_psqlpy.artifacts import PsqlpyArtifactService
from adk_psqlpy.config import PsqlpyConfig
from adk_psqlpy.connections.embedded import EmbeddedServer
from adk_psqlpy.memory import PsqlpyMemoryService
from adk_psqlpy.sessions import PsqlpyADKStore, PsqlpySessionService, StoredSession

__all__ = [
    "EmbeddedServer",
    "PsqlpyADKStore",
    "PsqlpyArtifactService",
    "PsqlpyConfig",
    "PsqlpyMemoryService",
    "PsqlpySessionService",
    "StoredSession",
    "__version__",
]

__version__ = _native.__version__

if _native.DEBUG_BUILD:
    warnings.warn(
        "adk_psqlpy._native is a debug build, some ten times slower: build it with `make build`",
        RuntimeWarning,
        stacklevel=2,
    )
