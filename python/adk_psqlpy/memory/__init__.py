"""Long-term memory: ADK's memory service with PostgreSQL's full-text search, and pgvector if it is there."""

from adk_psqlpy.memory.service import Progress, PsqlpyMemoryService
from adk_psqlpy.memory.vectors import Embed

__all__ = ["Embed", "Progress", "PsqlpyMemoryService"]
