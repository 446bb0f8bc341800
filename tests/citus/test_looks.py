"""Following, and streamed texts: a look at what has changed asks only the shards of the users it is about."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from adk_psqlpy.admin.distribution import distribute_tables
from adk_psqlpy.sql import Tables
from adk_psqlpy.sql.following import FollowingStatements
from adk_psqlpy.sql.partials import PartialStatements
from adk_psqlpy.streaming.partials import Partials, Stream, Texts
from clusters import SHARDS
from contract.events import said
from servers import Database, run_sql

from .test_distribute import tables_of
from .test_routed import with_values

if TYPE_CHECKING:
    from clusters import CitusCluster

TABLES = Tables("adk_sessions", "adk_events")
FOLLOWING = FollowingStatements(TABLES, distributed=True)
PARTIALS = PartialStatements(TABLES, distributed=True)
STREAM = Stream("invocation", "agent", "")
PLACE = ["'invocation'", "'agent'", "''"]

# One statement each, and its parameters from $4.
OF_ONE_SESSION: dict[str, tuple[str, list[str]]] = {
    "events after": (FOLLOWING.events_after, ["0", "64", "1000"]),
    "put": (PARTIALS.put, [*PLACE, "'text'", "NULL", "1", "now()"]),
    "finish": (PARTIALS.finish, [*PLACE, "'e'"]),
    "clear": (PARTIALS.clear, ["'invocation'", "now()"]),
    "read": (PARTIALS.read, []),
}
# Statements about many sessions, and their parameters from $4, for each session.
LOOKS: dict[str, tuple[str, list[str]]] = {
    "sessions": (FOLLOWING.changed, ["0::bigint", "NULL::timestamptz"]),
    "texts": (PARTIALS.changed, ["''::text"]),
}


def tasks(dsn: str, sql: str, values: list[str]) -> list[int]:
    """How many tasks each part of a plan has."""
    (rows,) = run_sql(dsn, "EXPLAIN (COSTS off) " + with_values(sql, values))
    return [int(found) for row in rows for found in re.findall(r"Task Count: (\d+)", row["QUERY PLAN"])]


async def test_tasks(cluster: CitusCluster, citus: Database) -> None:
    """One task for one session; a look at many leaves out the shards of other users."""
    async with PsqlpyConfig({"dsn": citus.dsn, "max_db_pool_size": 4}) as config:
        await distribute_tables(config)
        store = PsqlpyADKStore(config)
        await Partials(store).create_table()
    key = ["'app'", "'user'", "'s'"]
    assert {name: tasks(citus.dsn, sql, [*key, *more]) for name, (sql, more) in OF_ONE_SESSION.items()} == {
        name: [1] for name in OF_ONE_SESSION
    }
    (first, *_), (second, *_) = cluster.users_on_each(citus, 1)
    for name, (sql, further) in LOOKS.items():
        for users, expected in (([first], [1]), ([first, second], [2, 1])):
            assert len(users) < SHARDS
            sessions = [["'app'", f"'{user}'", "'s'"] for user in users]
            keys = [f"ARRAY[{', '.join(column)}]::varchar[]" for column in zip(*sessions, strict=True)]
            more = [f"ARRAY[{', '.join([value] * len(users))}]" for value in further]
            assert tasks(citus.dsn, sql, [*keys, *more]) == expected, name


@pytest.mark.parametrize("first", ["distributed", "filled"])
async def test_streamed_texts(citus: Database, first: str) -> None:
    """Their table lies beside the sessions, made before these were distributed or afterwards."""
    key = ("app", "user", "s")
    async with PsqlpyConfig({"dsn": citus.dsn, "max_db_pool_size": 4}) as config:
        store = PsqlpyADKStore(config)
        await store.create_tables(distributed=first == "distributed")
        session = await PsqlpySessionService(store).create_session(
            app_name="app", user_id="user", session_id="s"
        )
        await Partials(store).put(key, STREAM, "One")
        if first == "filled":
            await distribute_tables(config)
        found = tables_of(citus.dsn)
        assert found["adk_partials"] == found["adk_sessions"]
        partials = Partials(store)
        known = await partials.read(key)
        assert '"text": "One"' in known.json
        assert await partials._changed([(key, known.token)]) == []
        await partials.put(key, STREAM, "One two")
        assert await partials._changed([(key, known.token), (("app", "other", "s"), "")]) == [key]
        await partials.finish(key, STREAM, "e")
        assert '"text": "One two"' in (await partials.read(key)).json
        await PsqlpySessionService(store).append_event(session, said("One two three", id="e"))
        assert await partials.read(key) == Texts("", "[]")
        await store.delete_session(*key)
        assert run_sql(citus.dsn, "SELECT FROM adk_partials") == [[]]
