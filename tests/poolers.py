"""pgbouncer in transaction mode, in front of a server of the tests."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from typing_extensions import Self

from servers import START_LIMIT_SEC as LIMIT_SEC
from servers import BinaryServer, Database, free_port, ordinary_user, with_database

NOT_HERE = "there is no pgbouncer of version 1.21 or newer: install one, or give --pooler=PROGRAM"


class Pooler:
    """One pgbouncer for the length of a `with` block; it leads to every database of the server."""

    def __init__(
        self, program: Path, server: BinaryServer, *, prepared_statements: int = 200, ignored: str = ""
    ) -> None:
        self._prepared_statements = prepared_statements
        self._ignored = ignored
        self._program = program
        self._server = server
        self._user = ordinary_user() if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None
        self.directory = Path()
        self.port = 0

    def __enter__(self) -> Self:
        self.directory = Path(tempfile.mkdtemp(prefix="adk-psqlpy-pgbouncer-"))
        self.port = free_port()
        users, settings = self.directory / "users.txt", self.directory / "pgbouncer.ini"
        users.write_text(f'"{self._server.superuser}" ""\n')
        settings.write_text(
            f"""[databases]
* = host=127.0.0.1 port={self._server.port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = transaction
max_prepared_statements = {self._prepared_statements}
default_pool_size = 8
max_client_conn = 500
ignore_startup_parameters = {self._ignored}
logfile = {self.directory / "log"}
"""
        )
        if self._user is not None:
            entry = pwd.getpwnam(self._user)
            for path in (self.directory, users, settings):
                os.chown(path, entry.pw_uid, entry.pw_gid)
        self.start()
        return self

    def start(self) -> None:
        """Start, or start again after `kill`."""
        self._process = subprocess.Popen(
            [self._program, "-q", self.directory / "pgbouncer.ini"],
            user=self._user,
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + LIMIT_SEC
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:  # noqa: PERF203 - the loop waits on purpose
                log = self.directory / "log"
                assert time.monotonic() < deadline, log.read_text() if log.exists() else "no log"
                time.sleep(0.02)  # between two looks
            else:
                return

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def __exit__(self, *raised: object) -> None:
        self.kill()
        shutil.rmtree(self.directory)

    def through(self, database: Database) -> Database:
        """The same database, reached through the pooler."""
        dsn = with_database(database.dsn, database.name, host="127.0.0.1", port=str(self.port))
        return Database(database.name, dsn, database.server)
