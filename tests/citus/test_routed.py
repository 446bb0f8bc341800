"""Each operation of one user is one task on one node, and a write one plain commit there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.genai import types

from adk_psqlpy import (
    PsqlpyADKStore,
    PsqlpyArtifactService,
    PsqlpyConfig,
    PsqlpyMemoryService,
    PsqlpySessionService,
    _native,
)
from adk_psqlpy.sessions.nodes import Nodes
from adk_psqlpy.sql import Tables
from adk_psqlpy.sql.artifact_tables import ArtifactTables
from adk_psqlpy.sql.artifacts import ArtifactStatements
from adk_psqlpy.sql.delegated import DelegatedStatements
from adk_psqlpy.sql.delegated_kept import DelegatedKeptStatements
from adk_psqlpy.sql.delegated_memory import DelegatedMemoryStatements
from adk_psqlpy.sql.delegated_travel import DelegatedTravelStatements
from adk_psqlpy.sql.memory import MemoryTable
from adk_psqlpy.sql.paging import PagingStatements
from adk_psqlpy.sql.shard_tables import DistributedTables
from contract.events import said
from servers import Database, run_sql

if TYPE_CHECKING:
    from clusters import CitusCluster

TABLES = Tables("adk_sessions", "adk_events")
DISTRIBUTED = DistributedTables.of(TABLES)
SQL = DelegatedStatements(DISTRIBUTED)
MEMORY = DelegatedMemoryStatements(MemoryTable("adk_memories"), None)
FILES = ArtifactTables("adk_artifacts")
ARTIFACTS = ArtifactStatements(FILES)
TRAVEL = DelegatedTravelStatements(DISTRIBUTED)
NOW, NO_EVENT, EMPTY = "now()", "'none'", "'{}'"
# Revision, create_time, update_time, event seen, session delta, the event's columns, the user's delta.
ADDED = ["'s'", "'simple'", NOW, *["NULL"] * 8]
APPEND = ["1", NOW, NOW, NO_EVENT, EMPTY, *("NULL" for _ in _native.EVENT_COLUMNS), EMPTY]

# One statement each, and its parameters from $4 (of memory and artifacts from $3), as SQL.
OF_ONE_USER: dict[str, tuple[str, list[str]]] = {
    "append_outcome": (SQL.append_outcome, ["'e'"]),
    "last_event": (SQL.last_event, []),
    "append": (SQL.append_event(app=False, user=True), APPEND),
    "append with version": (SQL.append_event(app=False, user=True, versions=True), [*APPEND, "1", "1"]),
    "append merging": (SQL.append_event(app=False, user=True, merge=True), APPEND),
    "update state": (SQL.update_session_state, [EMPTY, EMPTY, EMPTY, NOW]),
    "get none": (SQL.get_session(events="none"), []),
    "get all": (SQL.get_session(events="all"), []),
    "get unknown": (DelegatedKeptStatements(DISTRIBUTED).get_unknown, ["'{1}'::bigint[]", "'{}'::bigint[]"]),
    "get newest": (SQL.get_session(events="newest"), ["20"]),
    "get after": (SQL.get_session(events="after"), [NOW]),
    "get newest_after": (SQL.get_session(events="newest_after"), [NOW, "20"]),
    "get since": (SQL.get_session(events="since"), ["5"]),
    "get one": (SQL.get_session(events="one"), ["'e'"]),
    "get page": (SQL.get_session(events="page"), ["1", "9"]),
    "pages": (PagingStatements(TABLES).pages(which="all"), ["9", "1000"]),
    "delete": (SQL.delete_session, []),
    "state at the head": (TRAVEL.state_at(kind="head"), ["NULL"]),
    "state at a revision": (TRAVEL.state_at(kind="seq"), ["NULL", "1"]),
    "state at an event": (TRAVEL.state_at(kind="event"), ["NULL", "'e'"]),
    "state before an invocation": (TRAVEL.state_at(kind="invocation"), ["NULL", "'i'"]),
    "fork of all": (TRAVEL.fork(kind="head"), ["NULL", "'f'", NOW]),
    "fork at a revision": (TRAVEL.fork(kind="seq"), ["NULL", "1", "'f'", NOW]),
    "fork with artifacts": (TRAVEL.fork(kind="head", artifacts=FILES), ["NULL", "'f'", NOW, "'a'", "'b'"]),
    "list": (SQL.list_sessions(one_user=True, after=False, limited=False), []),
    "app state": (SQL.app_state, []),
    "user state": (SQL.user_state, []),
    "memory add": (MEMORY.add(replace=False), ADDED),
    "memory replace": (MEMORY.add(replace=True), ADDED),
    "memory search": (MEMORY.search(vectors=False), ["'simple'", "ARRAY['a']", "''", NOW, "10", "NULL"]),
    "memory unknown": (MEMORY.unknown, ["'s'", "ARRAY['a']"]),
    "memory delete": (MEMORY.delete, ["'a'"]),
    "artifact load": (ARTIFACTS.load, ["'s'", "'\\x00'", "NULL"]),
    "artifact chunk": (ARTIFACTS.load_chunk, ["gen_random_uuid()", "0"]),
    "artifact names": (ARTIFACTS.list_names, ["'s'"]),
    "artifact versions": (ARTIFACTS.list_versions, ["'s'", "'\\x00'"]),
    "artifact description": (ARTIFACTS.describe_version, ["'s'", "'\\x00'", "NULL"]),
}


def with_values(sql: str, values: list[str]) -> str:
    """The statement with its parameters in their places."""
    return re.sub(r"\$(\d+)", lambda found: f"({values[int(found[1]) - 1]})", sql)


@pytest.fixture
async def service(citus: Database) -> PsqlpySessionService:
    """A service on distributed tables."""
    from adk_psqlpy.admin.distribution import distribute_tables

    config = PsqlpyConfig({"dsn": citus.dsn, "max_db_pool_size": 4})
    await distribute_tables(config)
    service = PsqlpySessionService(PsqlpyADKStore(config))
    await service.store.create_tables()
    return service


async def test_one_task(service: PsqlpySessionService, citus: Database) -> None:
    """EXPLAIN says so of each statement that is for one user."""
    tasks: dict[str, list[str]] = {}
    for name, (sql, further) in OF_ONE_USER.items():
        key = ["'app'", "'user'"] if name.startswith(("memory", "artifact")) else ["'app'", "'user'", "'s'"]
        (rows,) = run_sql(citus.dsn, "EXPLAIN (VERBOSE off, COSTS off) " + with_values(sql, [*key, *further]))
        plan = "\n".join(row["QUERY PLAN"] for row in rows)
        tasks[name] = re.findall(r"Task Count: (\d+)", plan)
    assert tasks == {name: ["1"] for name in OF_ONE_USER}
    await service.close()


def remote_commands(cluster: CitusCluster, since: dict[int, int]) -> dict[int, list[str]]:
    """By worker's port: what the coordinator sent there since."""
    sent = {}
    for worker in cluster.workers:
        log = (worker.directory / "log").read_text()[since[worker.port] :]
        statements = re.findall(r"LOG:  (?:statement|execute [^:]*): (.*)", log)
        sent[worker.port] = [each for each in statements if "pg_catalog" not in each]
    return sent


def artifact_calls(commands: list[str]) -> list[str]:
    """Which functions of artifacts were called."""
    found = (
        re.search(r"FROM .*adk_((?:save|begin|upload|delete|collect)\w*)_[0-9a-f]{10}", each)
        for each in commands
    )
    return [each[1] for each in found if each]


async def test_a_write_is_one_plain_commit(
    service: PsqlpySessionService, cluster: CitusCluster, citus: Database
) -> None:
    """The workers' logs: the node of the user gets the call, in a transaction of its own; no other gets
    anything, and nothing is prepared."""
    await service.close()
    for worker in cluster.workers:
        run_sql(worker.dsn, "ALTER SYSTEM SET log_statement = 'all'", "SELECT pg_reload_conf()")
    home = cluster.worker_of(citus, "user")
    start = {worker.port: (worker.directory / "log").stat().st_size for worker in cluster.workers}
    config = PsqlpyConfig({"dsn": citus.dsn, "max_db_pool_size": 2})
    service = PsqlpySessionService(PsqlpyADKStore(config))
    await service.store.create_tables()
    session = await service.create_session(
        app_name="app", user_id="user", session_id="s", state={"user:u": 1}
    )
    await service.append_event(session, said("a red house"))
    delta = EventActions(state_delta={"k": 1, "user:u": 2})
    await service.append_event(session, Event(author="user", actions=delta))
    artifacts = PsqlpyArtifactService(config)
    part = types.Part.from_bytes(data=b"a" * 1000, mime_type="text/plain")
    for _ in range(2):
        await artifacts.save_artifact(app_name="app", user_id="user", filename="f", artifact=part)
    await service.fork_session(session, artifacts=artifacts)
    memory = PsqlpyMemoryService(config)
    await memory.add_session_to_memory(session)
    await artifacts.delete_artifact(app_name="app", user_id="user", filename="f")
    await service.close()
    for worker in cluster.workers:
        run_sql(worker.dsn, "ALTER SYSTEM RESET log_statement", "SELECT pg_reload_conf()")
    sent = remote_commands(cluster, start)
    (other,) = [worker.port for worker in cluster.workers if worker is not home]
    assert [each for each in sent[other] if "adk_" in each] == []
    called = artifact_calls(sent[home.port])
    assert set(called) == {"save_one_chunk", "delete_artifact", "collect_contents"}
    everything = "\n".join(sent[home.port] + sent[other])
    assert "PREPARE TRANSACTION" not in everything
    assert len([each for each in sent[home.port] if "adk_create_session_" in each and "FROM" in each]) == 1
    assert len([each for each in sent[home.port] if "adk_append_" in each and "FROM" in each]) == 2
    for name in ("adk_fork_files_head_", "adk_add_memories_"):
        assert len([each for each in sent[home.port] if name in each and "FROM" in each]) == 1


async def test_groups_go_to_the_users_node(
    service: PsqlpySessionService, cluster: CitusCluster, citus: Database
) -> None:
    """A user's node is looked up in the background, and is the one that has the shard."""
    nodes = Nodes(service.store._lanes, SQL)
    users = [each for worker in cluster.users_on_each(citus, 3) for each in worker]
    assert [nodes.of(each) for each in users] == [None] * 6
    assert nodes._asking is not None
    await nodes._asking
    found = [nodes.of(each) for each in users]
    (rows,) = run_sql(citus.dsn, "SELECT groupid, nodeport FROM pg_dist_node")
    ports = {row["groupid"]: row["nodeport"] for row in rows}
    assert [ports[each] for each in found] == [w.port for w in cluster.workers for _ in range(3)]
    await service.close()
