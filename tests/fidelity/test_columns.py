"""What is in which column, and that the columns are the only copy: what SQL changes there is read next."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from google.adk.events import Event, EventActions
from google.genai import types

from servers import run_sql

from .compare import assert_same
from .rows import instant

if TYPE_CHECKING:
    from google.adk.sessions import Session

    from adk_psqlpy import PsqlpySessionService
    from servers import Database

TEXT_COLUMNS = {"invocation_id": 256, "author": 256, "branch": 256, "error_code": 256, "error_message": 1024}
AT = 1_700_000_000.25
# The column is bytea; this is how SQL reads it.
ACTIONS = "convert_from(actions, 'UTF8')::jsonb"


def full() -> Event:
    """An event with something in every column."""
    return Event(
        id="e-1",
        timestamp=AT,
        invocation_id="inv",
        author="agent",
        branch="root.child",
        error_code="CODE",
        error_message="words",
        content=types.Content(
            role="model",
            parts=[
                types.Part(text="said"),
                types.Part(function_call=types.FunctionCall(id="fc", name="f", args={"zeta": 1, "a": 2.0})),
            ],
        ),
        actions=EventActions(state_delta={"zeta": 1, "app:a": 2}, transfer_to_agent="other"),
        long_running_tool_ids={"b", "a"},
        grounding_metadata=types.GroundingMetadata(web_search_queries=["q"]),
        custom_metadata={"zeta": 1, "a": [None]},
        turn_complete=True,
        partial=False,
        interrupted=False,
        model_version="m-1",
        output={"zeta": 1, "a": 2},
    )


async def append(service: PsqlpySessionService, session: Session, event: Event) -> None:
    """Append an event whose object the test goes on using."""
    await service.append_event(session, event)


async def read(service: PsqlpySessionService, session: Session) -> Event:
    """The one event of the session, as it is stored now."""
    found = await service.get_session(
        app_name=session.app_name, user_id=session.user_id, session_id=session.id
    )
    assert found is not None
    (event,) = found.events
    return event


def look(database: Database, expression: str) -> Any:
    """A value of the one event, as PostgreSQL shows it."""
    ((row,),) = run_sql(database.dsn, f"SELECT {expression} AS value FROM adk_events")
    return row["value"]


def edit(database: Database, change: str) -> None:
    """Change the one event, as an operator would.

    The new value is read first: Citus takes no function that is STABLE, as `convert_to` is, in an UPDATE.
    """
    column, _, value = change.partition(" = ")
    literal = look(database, f"quote_nullable(({value})::text)")
    run_sql(database.dsn, f"UPDATE adk_events SET {column} = {literal}")


# What SQL sees of `full()`.
SEEN: list[tuple[str, Any]] = [
    ("id", "e-1"),
    ("session_id", "s"),
    ("app_name", "app"),
    ("user_id", "user"),
    ("seq", 1),
    ("invocation_id", "inv"),
    ("author", "agent"),
    ("branch", "root.child"),
    ("error_code", "CODE"),
    ("error_message", "words"),
    ("timestamp", instant(AT)),
    ("turn_complete", True),
    ("partial", False),
    ("interrupted", False),
    ("long_running_tool_ids_json", '["a","b"]'),
    ("content->'parts'->0->>'text'", "said"),
    ("content->'parts'->1->'function_call'->'args'->>'zeta'", "1"),
    ("content::text LIKE '%null%'", False),
    ("grounding_metadata", {"web_search_queries": ["q"]}),
    ("custom_metadata", {"zeta": 1, "a": [None]}),
    ("convert_from(actions, 'UTF8')::jsonb->'state_delta'", {"zeta": 1, "app:a": 2}),
    ("convert_from(actions, 'UTF8')::jsonb->>'transfer_to_agent'", "other"),
    ("extra->>'model_version'", "m-1"),
    ("extra->'output'", {"zeta": 1, "a": 2}),
    (
        "(SELECT array_agg(key ORDER BY key) FROM jsonb_object_keys(extra) AS key)",
        ["$order", "model_version", "node_info", "output"],
    ),
    (
        "(SELECT array_agg(key ORDER BY key) FROM jsonb_object_keys(extra->'$order') AS key)",
        ["content", "custom_metadata", "output"],
    ),
]


async def test_a_full_event(service: PsqlpySessionService, session: Session, database: Database) -> None:
    """Every field stands in its column, or in `extra`, in a form that SQL can ask for."""
    await append(service, session, full())
    for expression, value in SEEN:
        assert (expression, look(database, expression)) == (expression, value)


async def test_columns_agree_with_the_dump(
    service: PsqlpySessionService, session: Session, database: Database
) -> None:
    """The JSON in the columns is `model_dump(mode="json", exclude_none=True)`."""
    await append(service, session, full())
    dump = full().model_dump(mode="json", exclude_none=True)
    for name in ("content", "grounding_metadata", "custom_metadata"):
        assert look(database, name) == dump[name]
    assert look(database, "convert_from(actions, 'UTF8')::jsonb") == dump["actions"]
    assert json.loads(look(database, "long_running_tool_ids_json")) == dump["long_running_tool_ids"]
    assert {key: value for key, value in look(database, "extra").items() if not key.startswith("$")} == {
        key: dump[key] for key in ("model_version", "output", "node_info")
    }


async def test_what_an_event_lacks_is_null(
    service: PsqlpySessionService, session: Session, database: Database
) -> None:
    """A field that is None is NULL, not the JSON null, so that `IS NULL` finds it."""
    await append(service, session, Event(author="agent", timestamp=AT))
    names = (
        "content",
        "branch",
        "error_code",
        "error_message",
        "long_running_tool_ids_json",
        "grounding_metadata",
    )
    for name in (*names, "custom_metadata", "partial", "turn_complete", "interrupted"):
        assert look(database, f'"{name}" IS NULL'), name
    assert look(database, "extra") == {"node_info": {"path": ""}}


@pytest.mark.parametrize(("field", "limit"), TEXT_COLUMNS.items())
@pytest.mark.parametrize("character", ["x", "é", "\U0001f600"])
async def test_a_text_longer_than_its_column(
    service: PsqlpySessionService,
    session: Session,
    database: Database,
    field: str,
    limit: int,
    character: str,
) -> None:
    """The column holds as many characters as it can, `extra` the whole, and the whole is read."""
    event = Event.model_validate({"author": "agent", field: character * (limit + 1)})
    await append(service, session, event)
    assert look(database, field) == character * limit
    assert look(database, f"extra->'$whole'->>'{field}'") == character * (limit + 1)
    assert getattr(await read(service, session), field) == character * (limit + 1)


@pytest.mark.parametrize(("field", "limit"), TEXT_COLUMNS.items())
async def test_a_text_as_long_as_its_column(
    service: PsqlpySessionService, session: Session, database: Database, field: str, limit: int
) -> None:
    """A text that fits is stored once."""
    await append(service, session, Event.model_validate({"author": "agent", field: "é" * limit}))
    assert look(database, "extra->'$whole'") is None
    assert getattr(await read(service, session), field) == "é" * limit


async def test_a_cut_inside_an_escape(service: PsqlpySessionService, session: Session) -> None:
    """A text whose escapes reach over the column's end is whole on reading."""
    for count in range(250, 258):
        text = "x" * count + "\0\ud83d\ufdd0" * 3
        other = await service.create_session(app_name="app", user_id="user", session_id=f"s{count}")
        await append(service, other, Event(author="agent", branch=text))
        assert (await read(service, other)).branch == text


@pytest.mark.parametrize(
    ("change", "path", "value"),
    [
        ("error_message = 'redacted'", "error_message", "redacted"),
        ("error_message = NULL", "error_message", None),
        ("error_message = ''", "error_message", ""),
        ("branch = 'other'", "branch", "other"),
        ("partial = NULL", "partial", None),
        ("interrupted = true", "interrupted", True),
        ("\"timestamp\" = '2001-02-03 04:05:06.789012+00'", "timestamp", 981173106.789012),
        (
            "content = jsonb_set(content, '{parts,0,text}', '\"redacted\"')",
            "content.parts.0.text",
            "redacted",
        ),
        ("content = NULL", "content", None),
        ("custom_metadata = NULL", "custom_metadata", None),
        ('custom_metadata = \'{"b": 1.50, "a": 1}\'', "custom_metadata", {"a": 1, "b": 1.5}),
        ("long_running_tool_ids_json = '[\"z\"]'", "long_running_tool_ids", {"z"}),
        ("long_running_tool_ids_json = NULL", "long_running_tool_ids", None),
        (
            'grounding_metadata = \'{"webSearchQueries": ["x"]}\'',
            "grounding_metadata.web_search_queries",
            ["x"],
        ),
        (
            f"actions = convert_to(({ACTIONS} || '{{\"transfer_to_agent\": null}}')::text, 'UTF8')",
            "actions.transfer_to_agent",
            None,
        ),
        (
            f"actions = convert_to(jsonb_set({ACTIONS}, '{{state_delta,zeta}}', '[true]')::text, 'UTF8')",
            "actions.state_delta.zeta",
            [True],
        ),
        ("actions = NULL", "actions", EventActions()),
        ("extra = extra - 'model_version'", "model_version", None),
        ('extra = extra || \'{"model_version": "m-2"}\'', "model_version", "m-2"),
        ('extra = extra || \'{"finish_reason": "STOP"}\'', "finish_reason", types.FinishReason.STOP),
        ("extra = NULL", "output", None),
    ],
)
async def test_an_edit_is_what_is_read_next(
    service: PsqlpySessionService, session: Session, database: Database, change: str, path: str, value: Any
) -> None:
    """What an operator writes into a column is the event's field from then on, and nothing else changes."""
    event = full()
    event.branch = "x" * 300
    await append(service, session, event)
    edit(database, change)
    found: Any = await read(service, session)
    for step in path.split("."):
        found = (
            found[int(step)]
            if step.isdecimal()
            else found[step]
            if isinstance(found, dict)
            else getattr(found, step)
        )
    assert_same(found, value, order=False)


async def test_an_edit_leaves_the_rest_alone(
    service: PsqlpySessionService, session: Session, database: Database
) -> None:
    """An edited value keeps the order of the keys around it."""
    await append(service, session, full())
    edit(database, "content = jsonb_set(content, '{parts,1,function_call,args,zeta}', '\"redacted\"')")
    expected = full()
    assert expected.content is not None
    assert expected.content.parts is not None
    expected.content.parts[1].function_call.args["zeta"] = "redacted"
    assert_same((await read(service, session)).content, expected.content)


@pytest.mark.parametrize(
    ("change", "args"),
    [
        ("content #- '{parts,1,function_call,args,zeta}'", {"a": 2.0}),
        ("jsonb_set(content, '{parts,1,function_call,args,beta}', '3')", {"a": 2.0, "beta": 3, "zeta": 1}),
        ("content #- '{parts,1,function_call,id}'", {"a": 2.0, "zeta": 1}),
    ],
)
async def test_added_and_removed_keys(
    service: PsqlpySessionService, session: Session, database: Database, change: str, args: dict[str, Any]
) -> None:
    """Another set of keys in a document is read in JSONB's order; the other documents keep theirs."""
    await append(service, session, full())
    edit(database, f"content = {change}")
    found = await read(service, session)
    assert_same(found.get_function_calls()[0].args, args)
    assert_same(found.output, {"zeta": 1, "a": 2})


async def test_a_cut_text_that_was_edited(
    service: PsqlpySessionService, session: Session, database: Database
) -> None:
    """The whole of a cut text counts for as long as the column holds its beginning."""
    await append(service, session, Event(author="agent", error_message="x" * 2000))
    edit(database, "error_message = left(error_message, 5)")
    assert (await read(service, session)).error_message == "xxxxx"


async def test_a_moved_timestamp(service: PsqlpySessionService, session: Session, database: Database) -> None:
    """The exact time counts for as long as the column holds it to the microsecond."""
    await append(service, session, Event(author="agent", timestamp=1.7e9 + 1 / 3))
    assert (await read(service, session)).timestamp == 1.7e9 + 1 / 3
    edit(database, '"timestamp" = "timestamp" + interval \'1 microsecond\'')
    assert (await read(service, session)).timestamp == 1_700_000_000.333334


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ("actions = 'x'", "actions"),
        ("actions = '\\xff'", "actions"),
        ("actions = '[]'", "actions"),
        ("content = '[]'", "content"),
        ("content = '{\"unheard_of\": 1}'", "unheard_of"),
        ("long_running_tool_ids_json = 'a'", "long_running_tool_ids_json"),
        ("extra = '[]'", "extra"),
        ('extra = extra || \'{"output": 1, "$order": 5}\'', "extra"),
    ],
)
async def test_an_edit_that_is_no_event(
    service: PsqlpySessionService, session: Session, database: Database, change: str, column: str
) -> None:
    """A row that is no event any more is refused with its session, its id and its column."""
    await append(service, session, full())
    edit(database, change)
    with pytest.raises(ValueError, match=column) as refused:
        await read(service, session)
    assert "session 's'" in str(refused.value)
    assert "e-1" in str(refused.value)
