"""Servers that are killed as a crash would kill them: started again on the same data, or replaced."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from servers import BinaryServer, free_port, run_sql

LIMIT_SEC = 30


class CrashServer(BinaryServer):
    """`BinaryServer` with `kill`, `kill_backend`, `restart` and `promote`.

    Durability is PostgreSQL's default (fsync, synchronous_commit): what it acknowledged survives a kill.
    """

    def __init__(self, binaries: Path, options: Mapping[str, str] | None = None) -> None:
        small = {"max_connections": "60", "shared_buffers": "16MB", "log_min_messages": "warning"}
        super().__init__(binaries, small | dict(options or {}))

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.directory / "data"

    def kill(self) -> None:
        """SIGKILL to the postmaster and to all its processes, at one moment."""
        kill_server(self.data)

    def kill_backend(self, pid: int) -> None:
        """SIGKILL to one backend: the postmaster ends all others and goes through recovery by itself."""
        if (pid, self._postmaster()) not in _processes():
            raise ProcessLookupError(pid)
        os.kill(pid, signal.SIGKILL)

    def restart(self) -> None:
        """Start again after `kill` or `halt`: recovery, then open for connections."""
        self._run("pg_ctl", "-D", self.data, "-l", self.directory / "log", "-w", "start")

    def up(self) -> None:
        """Start again if a test that failed left it down."""
        if subprocess.run([self._binaries / "pg_isready", "-q", "-d", self.dsn], check=False).returncode != 0:
            self.restart()

    def promote(self) -> None:
        """Make a standby the primary."""
        self._run("pg_ctl", "-D", self.data, "-w", "promote")

    def stop(self) -> None:
        """End it, if a test has not done so for good."""
        if self._postmaster() not in [pid for pid, _ in _processes()]:
            (self.data / "postmaster.pid").unlink()
        super().stop()

    def _postmaster(self) -> int:
        return _postmaster_of(self.data)


class Standby(CrashServer):
    """A streaming copy of a running server, open for reads; the primary then waits for it at each commit.

    With that, what was acknowledged is on both. `settings` of the primary made so are undone by nobody: end
    it with the `with` block of the standby.
    """

    def __init__(self, binaries: Path, primary: CrashServer) -> None:
        super().__init__(binaries)
        self._primary = primary

    def start(self) -> str:
        self.directory = Path(tempfile.mkdtemp(prefix="adk-psqlpy-pg-"))
        self.own(self.directory)
        self.port = free_port()
        source = f"host=127.0.0.1 port={self._primary.port} user={self.superuser}"
        self._run("pg_basebackup", "-d", source, "-D", self.data, "-X", "stream", "-R", "-c", "fast", "-N")
        settings = {
            "port": self.port,
            "unix_socket_directories": self.directory,
            "cluster_name": "standby",  # the name it streams under
        }
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        self.restart()
        run_sql(
            self._primary.dsn,
            "ALTER SYSTEM SET synchronous_standby_names = 'standby'",
            "SELECT pg_reload_conf()",
        )
        deadline = time.monotonic() + LIMIT_SEC
        query = "SELECT count(*) AS n FROM pg_stat_replication WHERE sync_state = 'sync'"
        while run_sql(self._primary.dsn, query)[0][0]["n"] != 1:
            assert time.monotonic() < deadline, "the standby never became a synchronous one"
            time.sleep(0.02)  # between two looks
        return f"postgresql://{self.superuser}@127.0.0.1:{self.port}/postgres"


def kill_server(data: Path) -> None:
    """SIGKILL to the server of a data directory: the postmaster and all its processes, at one moment.

    Nothing happens where its postmaster is gone already.
    """
    postmaster = _postmaster_of(data)
    if postmaster not in [pid for pid, _ in _processes()]:
        return
    os.kill(postmaster, signal.SIGSTOP)  # so that it starts no further one meanwhile
    victims = [postmaster, *(pid for pid, parent in _processes() if parent == postmaster)]
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    _wait_until_gone(victims)


def _postmaster_of(data: Path) -> int:
    return int((data / "postmaster.pid").read_text().split("\n", 1)[0])


def _processes() -> list[tuple[int, int]]:
    """Process id and parent's id of every process."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
    ).stdout
    rows = (line.split() for line in listed.splitlines())
    return [(int(pid), int(parent)) for pid, parent in rows]


def _wait_until_gone(victims: list[int]) -> None:
    """Wait until they have ended and their parent has taken note; a new server minds unburied ones."""
    deadline = time.monotonic() + LIMIT_SEC
    while any(pid in victims for pid, _ in _processes()):
        assert time.monotonic() < deadline, f"some of {victims} are there {LIMIT_SEC} s after SIGKILL"
        time.sleep(0.01)  # between two looks


def service_on(*servers: CrashServer, **settings: Any) -> PsqlpySessionService:
    """A service that finds the one of these servers that accepts writes."""
    given = {
        "hosts": ["127.0.0.1" for _ in servers],
        "ports": [server.port for server in servers],
        "username": "postgres",
        "db_name": "postgres",
        "target_session_attrs": "read-write",
        "connect_timeout_sec": 5,
        "max_db_pool_size": 6,
    }
    return PsqlpySessionService(PsqlpyADKStore(PsqlpyConfig(given | settings)))
