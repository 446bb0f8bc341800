"""Analytics over sessions with SQL: states by JSONB, tool calls, tokens.

    python examples/session_analytics.py

The server is the one that DATABASE_URL, or PGHOST and its kin, names; without them an embedded one
(`pip install 'adk-psqlpy[embedded]'`). The first run stores 60 sessions of an imaginary support desk.
"""

import asyncio

from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.genai import types

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService

APP = "support_desk"
TOPICS = ("billing", "delivery", "returns")
TOOLS = ("find_order", "refund", "ask_a_person")

QUERIES = {
    # `state != '{}'` lets PostgreSQL take the index over states: `@>` alone does not.
    "open cases by topic": """
        SELECT state ->> 'topic' AS topic, count(*) AS cases
        FROM adk_sessions
        WHERE app_name = $1 AND state @> '{"status": "open"}' AND state != '{}'
        GROUP BY topic ORDER BY topic
    """,
    # Has the key, whatever its value.
    "cases that a person took over": """
        SELECT user_id, state ->> 'person' AS person
        FROM adk_sessions
        WHERE app_name = $1 AND state ? 'person' AND state != '{}'
        ORDER BY user_id LIMIT 3
    """,
    # The parts of a content are a JSON array: a row for each.
    "tool calls": """
        SELECT part -> 'function_call' ->> 'name' AS tool, count(*) AS calls,
            count(DISTINCT session_id) AS sessions
        FROM adk_events, jsonb_array_elements(content -> 'parts') AS part
        WHERE app_name = $1 AND part ? 'function_call'
        GROUP BY tool ORDER BY calls DESC, tool
    """,
    # Fields of an event without a column of their own are in `extra`.
    "tokens by topic": """
        SELECT s.state ->> 'topic' AS topic,
            sum((e.extra -> 'usage_metadata' ->> 'total_token_count')::bigint)::bigint AS tokens
        FROM adk_events AS e
        JOIN adk_sessions AS s ON (s.app_name, s.user_id, s.id) = (e.app_name, e.user_id, e.session_id)
        WHERE e.app_name = $1
        GROUP BY topic ORDER BY tokens DESC
    """,
    # `seq` is the order of a session's events; an event's actions are JSON as bytes.
    "last change of state in a case": """
        SELECT DISTINCT ON (user_id) user_id,
            (convert_from(actions, 'UTF8')::jsonb -> 'state_delta')::text AS change
        FROM adk_events
        WHERE app_name = $1 AND convert_from(actions, 'UTF8')::jsonb -> 'state_delta' != '{}'
        ORDER BY user_id, seq DESC LIMIT 3
    """,
}


async def main() -> None:
    """Store the cases where there are none, then print what each query finds."""
    config = PsqlpyConfig()
    store = PsqlpyADKStore(config)
    await store.create_tables()
    async with PsqlpySessionService(store) as service:
        if not (await service.list_sessions(app_name=APP, limit=1)).sessions:
            await asyncio.gather(*(case(service, number) for number in range(60)))
        async with config.provide_connection() as connection:
            for title, query in QUERIES.items():
                rows = (await connection.fetch(query, [APP])).result()
                print(f"\n{title}")
                for row in rows:
                    print("  " + "  ".join(str(value) for value in row.values()))


async def case(service: PsqlpySessionService, number: int) -> None:
    """One customer: a question, a tool call, an answer; every tenth case stays open."""
    session = await service.create_session(
        app_name=APP,
        user_id=f"customer {number:02}",
        state={"topic": TOPICS[number % 3], "status": "open"},
    )
    tool = TOOLS[number % 2 if number % 10 else 2]
    done = {"status": "closed"} if number % 10 else {"person": "Kim"}
    answered = types.GenerateContentResponseUsageMetadata(total_token_count=100 + number)
    for event in (
        Event(author="user", content=types.UserContent("It is about my order.")),
        Event(
            author="desk",
            content=types.ModelContent([types.Part.from_function_call(name=tool, args={"number": number})]),
            usage_metadata=answered,
        ),
        Event(
            author="desk",
            content=types.ModelContent("Done."),
            actions=EventActions(state_delta=done),
            usage_metadata=answered,
        ),
    ):
        await service.append_event(session, event)


if __name__ == "__main__":
    asyncio.run(main())
