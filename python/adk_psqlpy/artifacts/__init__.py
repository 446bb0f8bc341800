"""ADK's artifacts in PostgreSQL.

`service` has ADK's rules, `made_tables` makes the tables, `names` says which artifact is meant, `parts`
makes rows of parts, `blobs` sends and reads their bytes in chunks, and `sealing` encrypts.
"""

from adk_psqlpy.artifacts.service import PsqlpyArtifactService, Purged

__all__ = ["PsqlpyArtifactService", "Purged"]
