"""What the tables of a service record about themselves."""

from __future__ import annotations

from adk_psqlpy.connections.lanes import Lanes
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.sql.catalog import EXISTS
from adk_psqlpy.sql.recorded import read_metadata


async def recorded_of(lanes: Lanes, metadata: str) -> dict[str, str]:
    """Return what a table of metadata (its quoted name) records; nothing if there is no such table.

    Raises:
        psqlpy.exceptions.Error: the server could not be asked.
    """
    ((there,),) = await lanes.fetch(EXISTS, [metadata], repeat=Repeat.READ)
    return dict(await lanes.fetch(read_metadata(metadata), [], repeat=Repeat.READ)) if there else {}
