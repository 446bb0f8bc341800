"""A server that is killed as a crash would kill it, and started again on the same data and port."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from servers import BinaryServer

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
        postmaster = self._postmaster()
        os.kill(postmaster, signal.SIGSTOP)  # so that it starts no further one meanwhile
        victims = [postmaster, *(pid for pid, parent in _processes() if parent == postmaster)]
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        _wait_until_gone(victims)

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

    def _postmaster(self) -> int:
        return int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])


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
