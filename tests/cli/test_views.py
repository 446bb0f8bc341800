"""The SQL views: what their rows say, and that odd content neither breaks them nor hides other rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from google.adk.events.event import Event
from google.genai import types

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from adk_psqlpy.admin.views import create_views, drop_views
from servers import Database, run_sql

from .support import agent_says, answer, call, conversation, run, running, used, user_says

if TYPE_CHECKING:
    from collections.abc import Callable

VIEWS = ("adk_messages", "adk_tool_calls", "adk_token_usage", "adk_errors")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
async def ask(store: PsqlpyADKStore, dsn: str) -> Callable[[str], list[dict[str, Any]]]:
    """Rows of a query, the views being there."""
    await store.create_tables(views=True)
    return lambda query: run_sql(dsn, query)[0]


Ask = "Callable[[str], list[dict[str, Any]]]"


async def test_messages(ask: Ask, service: PsqlpySessionService) -> None:
    picture = types.Part(inline_data=types.Blob(mime_type="image/png", data=b"png"))
    thought = types.Part(text="hm", thought=True)
    await conversation(
        service,
        user_says("Guten Tag"),
        Event(
            author="agent", content=types.ModelContent([thought, types.Part(text="a"), types.Part(text="b")])
        ),
        Event(author="user", content=types.UserContent([picture])),
        call("look", "1"),
    )
    rows = ask("SELECT seq, author, role, text, thought, files FROM adk_messages ORDER BY seq")
    assert [tuple(row.values()) for row in rows] == [
        (1, "user", "user", "Guten Tag", None, 0),
        (2, "agent", "model", "a\nb", "hm", 0),
        (3, "user", "user", None, None, 1),
    ]


async def test_a_tool_call_and_its_answer_are_one_row(ask: Ask, service: PsqlpySessionService) -> None:
    await conversation(
        service,
        call("find", "1", number=7),
        answer("find", "1", found=True),
        call("find", "2"),  # answered by an error
        answer("find", "2", error="no such order"),
        call("find", "1"),  # an id that a model uses again: the answer to the first call is not its
        call("wait", None),
        call("find", None),  # without an id, by name
        answer("find", None, found=False),
    )
    rows = ask("SELECT seq, tool, call_id, answer_seq, error, seconds FROM adk_tool_calls ORDER BY seq")
    assert [tuple(row.values())[:5] for row in rows] == [
        (1, "find", "1", 2, None),
        (3, "find", "2", 4, "no such order"),
        (5, "find", "1", None, None),
        (6, "wait", None, None, None),
        (7, "find", None, 8, None),
    ]
    assert [row["seconds"] is not None and row["seconds"] >= 0 for row in rows] == [
        True,
        True,
        False,
        False,
        True,
    ]
    ((args,),) = [
        tuple(row.values()) for row in ask("SELECT args->>'number' AS n FROM adk_tool_calls WHERE seq = 1")
    ]
    assert args == "7"


async def test_answers_are_of_the_same_session(ask: Ask, service: PsqlpySessionService) -> None:
    await conversation(service, call("find", "1"))
    await conversation(service, user_says("x"), answer("find", "1", found=True), key=("app", "other", "s"))
    ((row),) = ask("SELECT answer_seq FROM adk_tool_calls")
    assert row["answer_seq"] is None


async def test_tokens(ask: Ask, service: PsqlpySessionService) -> None:
    usage = used(10, 5, cached_content_token_count=4, thoughts_token_count=2)
    whole = used(10, 5, total_token_count=99)
    await conversation(
        service,
        agent_says("a", usage_metadata=usage, model_version="gemini-3-pro"),
        agent_says("b", usage_metadata=whole),
        agent_says("c"),
    )
    rows = ask(
        "SELECT model, prompt_tokens, cached_tokens, candidates_tokens, thoughts_tokens, total_tokens "
        "FROM adk_token_usage ORDER BY seq"
    )
    assert [tuple(row.values()) for row in rows] == [
        ("gemini-3-pro", 10, 4, 5, 2, 17),
        (None, 10, None, 5, None, 99),
    ]


async def test_errors(ask: Ask, service: PsqlpySessionService) -> None:
    long = "x" * 3000
    await conversation(
        service,
        Event(author="agent", error_code="429", error_message=long),  # the column holds 1,024 of them
        answer("find", "1", error="no such order"),
        answer("find", "1", found=True),
    )
    rows = ask("SELECT seq, source, tool, code, message FROM adk_errors ORDER BY seq")
    assert [tuple(row.values()) for row in rows] == [
        (1, "event", None, "429", long),
        (2, "tool", "find", None, "no such order"),
    ]


async def test_what_postgresql_cannot_hold_is_shown_as_a_replacement(
    ask: Ask, service: PsqlpySessionService
) -> None:
    await conversation(service, user_says("a\x00b\ud800c\ufdd0d"))
    ((row),) = ask("SELECT text FROM adk_messages")
    assert row["text"] == "a\ufffdb\ufffdc\ufdd0d"


ODD = [
    "content = NULL",
    "content = '[]'",
    "content = '7'",
    "content = '{\"parts\": null}'",
    'content = \'{"parts": {"text": "x"}}\'',
    'content = \'{"parts": ["text", 7, null, [], {"text": {"a": 1}}, {"function_call": "f"}]}\'',
    'content = \'{"parts": [{"function_call": {}}, {"function_response": []}]}\'',
    "extra = '[]'",
    "extra = '{\"usage_metadata\": 7}'",
    'extra = \'{"usage_metadata": {"prompt_token_count": "many", "total_token_count": 1e300}}\'',
    'extra = \'{"usage_metadata": {"prompt_token_count": -1, "candidates_token_count": 2.5}}\'',
    "extra = '{\"$whole\": \"x\"}', error_message = 'cut'",
]


@pytest.mark.parametrize("change", ODD)
async def test_odd_content_hides_no_other_row(
    change: str, ask: Ask, service: PsqlpySessionService, dsn: str
) -> None:
    odd = Event(author="agent", content=types.ModelContent("odd"), usage_metadata=used(1, 1), error_code="1")
    plain = [
        agent_says("plain", usage_metadata=used(2, 2)),
        call("find", "1"),
        answer("find", "1", error="none"),
        Event(author="agent", error_code="2"),
    ]
    await conversation(service, odd, *plain)
    run_sql(dsn, f"UPDATE adk_events SET {change} WHERE seq = 1")
    found = {view: ask(f"SELECT * FROM {view} WHERE seq > 1") for view in VIEWS}
    assert {view: len(rows) for view, rows in found.items()} == dict(zip(VIEWS, (1, 1, 1, 2), strict=True))
    for view in VIEWS:
        assert len(ask(f"SELECT * FROM {view}")) >= len(found[view])


async def test_made_again_is_no_change(store: PsqlpyADKStore, config: PsqlpyConfig, dsn: str) -> None:
    names = await create_views(config)
    assert names == [f'"{view}"' for view in VIEWS]
    ours = "relkind = 'v' AND relname ~ '^adk_'"
    oids = f"SELECT array_agg(oid::text ORDER BY relname) AS oids FROM pg_class WHERE {ours}"
    rules = "SELECT array_agg(xmin::text) AS rules FROM pg_rewrite WHERE ev_class = 'adk_errors'::regclass"
    before = run_sql(dsn, oids, rules)
    await create_views(config)
    await store.create_tables(views=True)
    assert run_sql(dsn, oids, rules) == before
    # One that is missing is made; another definition is replaced.
    run_sql(dsn, "DROP VIEW adk_errors")
    await create_views(config)
    run_sql(dsn, "UPDATE adk_metadata SET value = 'older' WHERE key = 'views'")
    await store.create_tables(views=True)
    assert run_sql(dsn, rules) != [before[1]]
    assert len(await drop_views(config)) == len(await drop_views(config)) == 4
    ((row,),) = run_sql(dsn, oids)
    assert row["oids"] is None


async def test_names_follow_the_tables(config: PsqlpyConfig, dsn: str) -> None:
    store = PsqlpyADKStore(config, "agents.chat_sessions", "agents.chat_events")
    await store.create_tables(views=True)
    await conversation(PsqlpySessionService(store), user_says("hello"))
    ((row),) = run_sql(dsn, "SELECT text FROM agents.chat_messages")[0]
    assert row["text"] == "hello"


async def test_a_view_shows_no_row_that_the_table_would_not(
    ask: Ask, service: PsqlpySessionService, database: Database
) -> None:
    """Row-level security holds for who asks, not for who made the view."""
    await conversation(service, user_says("mine"), key=("mine", "user", "s"))
    await conversation(service, user_says("theirs"), key=("theirs", "user", "s"))
    role = f"tenant_{database.name}"
    try:
        ask(f"CREATE ROLE {role}")
        ask(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
        ask("ALTER TABLE adk_events ENABLE ROW LEVEL SECURITY")
        ask(f"CREATE POLICY tenants ON adk_events TO {role} USING (app_name = 'mine')")
        _, rows = run_sql(database.dsn, f"SET ROLE {role}", "SELECT text FROM adk_messages")
        assert [row["text"] for row in rows] == ["mine"]
    finally:
        run_sql(database.dsn, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_the_verb(store: PsqlpyADKStore, dsn: str) -> None:
    made = run("views", "--dsn", dsn)
    assert (made.code, made.out, made.err) == (0, "".join(f"made {view}\n" for view in VIEWS), "")
    assert run("views", "--dsn", dsn, "--json").json == {"views": list(VIEWS)}
    assert run("views", "--dsn", dsn, "--drop", "--json").json == {"dropped": list(VIEWS)}


async def test_a_table_of_that_name_is_left_alone(store: PsqlpyADKStore, dsn: str) -> None:
    run_sql(dsn, "CREATE TABLE adk_errors (mine int)")
    failed = await running("views", "--dsn", dsn)
    assert failed.code == 1
    assert "adk_errors" in failed.err
    assert "not a view" in failed.err
    ((row,),) = run_sql(dsn, "SELECT to_regclass('adk_messages')::text AS made")
    assert row["made"] is None, "all views or none"
