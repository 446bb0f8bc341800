"""Long-term memory: ADK's memory service with PostgreSQL's full-text search, and pgvector if it is there.

`service` has ADK's rules, `made_table` makes the table, `entries` makes rows of memories, `words` finds
their words, `vectors` asks an embedder, and `sealing` encrypts.
"""

from adk_psqlpy.memory.service import Progress, PsqlpyMemoryService
from adk_psqlpy.memory.vectors import Embed

__all__ = ["Embed", "Progress", "PsqlpyMemoryService"]
