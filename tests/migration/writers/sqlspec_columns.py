"""Writes sessions with an old SQLSpec, and prints what that reads: `python sqlspec_columns.py DSN`.

It runs in an environment with an old release, so it imports nothing of this project.
"""

import asyncio
import json
import sys

from adk_v0 import events
from sqlspec.adapters.asyncpg import AsyncpgConfig
from sqlspec.adapters.asyncpg.adk import AsyncpgADKStore
from sqlspec.extensions.adk import SQLSpecSessionService


async def main(dsn):
    """As adk_v0 does; SQLSpec's session ids are unique over all users."""
    config = AsyncpgConfig(pool_config={"dsn": dsn, "min_size": 1, "max_size": 2})
    store = AsyncpgADKStore(config)
    await store.create_tables()
    service = SQLSpecSessionService(store)
    read = []
    for number, (user, identity) in enumerate((u, s) for u in ("ada", "grace") for s in ("s1", "s2")):
        session = await service.create_session(
            app_name="cafe",
            user_id=user,
            session_id=f"{user}-{identity}",
            state={"n": number, "app:made": number, "user:made": user},
        )
        for event in events(number):
            await service.append_event(session, event)
    for user in ("ada", "grace"):
        for identity in ("s1", "s2"):
            session = await service.get_session(
                app_name="cafe", user_id=user, session_id=f"{user}-{identity}"
            )
            read.append(
                {
                    "user_id": user,
                    "id": session.id,
                    "state": session.state,
                    "last_update_time": session.last_update_time,
                    "events": [event.model_dump(mode="json", exclude_none=True) for event in session.events],
                }
            )
    await config.close_pool()
    sys.stdout.write(json.dumps(read))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
