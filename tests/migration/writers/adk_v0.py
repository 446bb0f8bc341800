"""Writes sessions with the google-adk that runs it, and prints what that reads: `python adk_v0.py URL`.

It runs in an environment with an old release, so it imports nothing of this project.
"""

import asyncio
import json
import sys

from google.adk.events import Event, EventActions
from google.adk.sessions import DatabaseSessionService
from google.genai import types


def events(number):
    """Events of one session, with the fields that an old release has."""
    call = types.FunctionCall(id="fc", name="search", args={"q": "ü", "n": [1, 2.5, None]})
    image = types.Blob(data=b"\x00\xff", mime_type="image/png")
    answer = types.FunctionResponse(id="fc", name="search", response={"rows": [{"id": 1}]})
    kinds = [
        ("user", [types.Part(text="hello")], {}),
        ("agent", [types.Part(function_call=call)], {"long_running_tool_ids": {"fc"}}),
        ("agent", [types.Part(function_response=answer)], {"branch": "root.child"}),
        (
            "agent",
            [types.Part(inline_data=image)],
            {"partial": False},
        ),
        ("agent", [types.Part(text="done")], {"turn_complete": True, "custom_metadata": {"b": 1, "a": None}}),
        (
            "agent",
            [types.Part(text="failed")],
            {"error_code": "500", "error_message": "slow", "interrupted": True},
        ),
    ]
    for place, (author, parts, fields) in enumerate(kinds):
        yield Event(
            id=f"e{number}-{place}",
            invocation_id="inv",
            author=author,
            timestamp=1_700_000_000.123456 + number * 100 + place,
            content=types.Content(role=author, parts=parts),
            actions=EventActions(
                state_delta={"k": place, "app:last": number, "user:seen": [number]},
                artifact_delta={"a.txt": place},
                transfer_to_agent="other" if place == 4 else None,
                escalate=place == 5 or None,
            ),
            **fields,
        )


async def main(url):
    """Two users with two sessions each."""
    service = DatabaseSessionService(url)
    read = []
    for number, (user, identity) in enumerate((u, s) for u in ("ada", "grace") for s in ("s1", "s2")):
        session = await service.create_session(
            app_name="cafe",
            user_id=user,
            session_id=identity,
            state={"n": number, "app:made": 1, "user:made": user},
        )
        for event in events(number):
            await service.append_event(session, event)
    for user in ("ada", "grace"):
        for identity in ("s1", "s2"):
            session = await service.get_session(app_name="cafe", user_id=user, session_id=identity)
            read.append(
                {
                    "user_id": user,
                    "id": identity,
                    "state": session.state,
                    "last_update_time": session.last_update_time,
                    "events": [event.model_dump(mode="json", exclude_none=True) for event in session.events],
                }
            )
    sys.stdout.write(json.dumps(read))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
