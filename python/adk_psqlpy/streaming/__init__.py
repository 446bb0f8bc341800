"""Conversations over HTTP that a browser may leave and come back to. FastAPI is imported on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adk_psqlpy.streaming.plugin import PartialTextPlugin

if TYPE_CHECKING:
    from adk_psqlpy.streaming.router import resumable_sse

__all__ = ["PartialTextPlugin", "resumable_sse"]


def __getattr__(name: str) -> Any:
    if name == "resumable_sse":
        from adk_psqlpy.streaming.router import resumable_sse

        return resumable_sse
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
