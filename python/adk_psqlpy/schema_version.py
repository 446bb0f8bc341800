"""The schema version that tables record of themselves."""

from __future__ import annotations

from adk_psqlpy.connections.lanes import Lanes
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.sql.catalog import present
from adk_psqlpy.sql.recorded import recorded


async def stored_version(lanes: Lanes, metadata: str) -> int:
    """What the metadata table (quoted) says; 0 where it is not there.

    Asked first, since making tables takes rights that a service's role need not have.

    Raises:
        psqlpy.exceptions.Error: the server could not be asked.
    """
    if not await lanes.fetch(present(1), [metadata], repeat=Repeat.READ):
        return 0
    rows = await lanes.fetch(recorded(metadata), ["schema_version"], repeat=Repeat.READ)
    return int(rows[0][0]) if rows else 0
