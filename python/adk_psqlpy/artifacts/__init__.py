"""ADK's artifacts in PostgreSQL."""

from adk_psqlpy.artifacts.service import PsqlpyArtifactService, Purged

__all__ = ["PsqlpyArtifactService", "Purged"]
