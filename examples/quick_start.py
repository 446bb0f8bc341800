"""Quick start: a session with state and events, in PostgreSQL, read back and queried with SQL.

    python examples/quick_start.py

The server is the one that DATABASE_URL, or PGHOST and its kin, names; without them an embedded one
(`pip install 'adk-psqlpy[embedded]'`). Run it twice: the second run counts on from the first.
"""

import asyncio
from typing import Any

from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.genai import types

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService

APP, USER = "quick_start", "ann"


def said(author: str, text: str, **state_delta: Any) -> Event:
    """An event with a text, and what it changes in the state."""
    return Event(
        author=author,
        invocation_id="1",
        content=types.Content(role="user" if author == "user" else "model", parts=[types.Part(text=text)]),
        actions=EventActions(state_delta=state_delta),
    )


async def main() -> None:
    """Create a session, append to it, read it again."""
    config = PsqlpyConfig()
    store = PsqlpyADKStore(config)
    await store.create_tables()  # again is harmless

    async with PsqlpySessionService(store) as service:
        # `user:` keys are shared by all sessions of a user, `app:` keys by all sessions of the app.
        visits = (await service.get_user_state(app_name=APP, user_id=USER)).get("visits", 0) + 1
        session = await service.create_session(
            app_name=APP, user_id=USER, state={"table": 7, "user:visits": visits}
        )
        await service.append_event(session, said("user", "Two teas, please."))
        await service.append_event(session, said("waiter", "Two teas for table 7.", order={"tea": 2}))

        # What any other process reads.
        found = await service.get_session(app_name=APP, user_id=USER, session_id=session.id)
        assert found == session
        for event in found.events:
            parts = event.content.parts if event.content else None
            print(f"{event.author}: {parts[0].text if parts else ''}")
        print("state:", found.state)

        async with config.provide_connection() as connection:
            result = await connection.fetch(
                "SELECT count(*) AS orders FROM adk_sessions WHERE state @> $1 AND state != '{}'",
                [{"order": {"tea": 2}}],
            )
        print("orders of two teas so far:", result.result()[0]["orders"])


if __name__ == "__main__":
    asyncio.run(main())
