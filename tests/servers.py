"""PostgreSQL servers for the tests: given, embedded, from installed binaries, in a container.

Each is a context manager with `.dsn` (a URL of its superuser) once entered, and ends what it started.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import psqlpy
from typing_extensions import Self

from adk_psqlpy.connections.dsn import parse_dsn
from adk_psqlpy.connections.embedded import EmbeddedServer, _wheel

START_LIMIT_SEC = 60


def with_database(dsn: str, database: str, **changes: str) -> str:
    """The DSN, of either form, as a URL to another database; `changes` are libpq parameters."""
    parameters = parse_dsn(dsn) | {"dbname": database} | changes
    user = quote(parameters.pop("user", ""), safe="")
    if "password" in parameters:
        user += ":" + quote(parameters.pop("password"), safe="")
    host, port = parameters.pop("host", "localhost"), parameters.pop("port", "5432")
    where = f"{host}:{port}"
    if host.startswith("/"):
        where, parameters = "", {"host": host, "port": port, **parameters}
    name = quote(parameters.pop("dbname"), safe="")
    query = "&".join(f"{key}={quote(value)}" for key, value in parameters.items())
    return f"postgresql://{user + '@' if user else ''}{where}/{name}{'?' + query if query else ''}"


def run_sql(dsn: str, *statements: str) -> list[list[dict[str, Any]]]:
    """Run statements one after another on a connection of their own; blocks, inside an event loop too."""

    async def run() -> list[list[dict[str, Any]]]:
        connection = await psqlpy.connect(dsn=dsn)
        try:
            return [(await connection.fetch(statement)).result() for statement in statements]
        finally:
            connection.close()

    # A thread of its own: here a loop may be running, and asyncio.run would unset this thread's current one.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(run())).result()


@asynccontextmanager
async def held(database: Database, lock: str) -> AsyncIterator[None]:
    """Another client's transaction has taken a lock."""
    connection = await psqlpy.connect(dsn=database.dsn)
    try:
        await connection.execute_batch(f"BEGIN; {lock}")
        yield
        await connection.execute_batch("ROLLBACK")
    finally:
        connection.close()


class Server(ABC):
    """A PostgreSQL server for the length of a `with` block."""

    superuser: str = "postgres"
    _dsn: str | None = None

    @property
    def dsn(self) -> str:
        """URL of the superuser on the maintenance database."""
        assert self._dsn is not None, "not started"
        return self._dsn

    def database_dsn(self, name: str, **changes: str) -> str:
        """URL of another database of this server."""
        return with_database(self.dsn, name, **changes)

    @property
    def version(self) -> int:
        """`server_version_num`, such as 180006."""
        ((row,),) = run_sql(self.dsn, "SELECT current_setting('server_version_num')::int4 AS version")
        return int(row["version"])

    def create_database(self, name: str, options: str = "") -> None:
        """Make an empty database; `options` are those of CREATE DATABASE."""
        run_sql(self.dsn, f'CREATE DATABASE "{name}" {options}')

    def drop_database(self, name: str) -> None:
        """Drop it, whoever is connected."""
        run_sql(self.dsn, f'DROP DATABASE "{name}" WITH (FORCE)')

    def on_each_node(self, dsn: str, query: str) -> list[str]:
        """What a query of one value gives, as text, on each node that has a part of a database."""
        return [row["value"] for row in run_sql(dsn, f"SELECT ({query})::text AS value")[0]]

    @abstractmethod
    def start(self) -> str:
        """Start, and return the superuser's DSN."""

    @abstractmethod
    def stop(self) -> None:
        """End what `start` began."""

    def __enter__(self) -> Self:
        self._dsn = self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._dsn = None
        self.stop()


class GivenServer(Server):
    """One that runs already: `ADK_PSQLPY_TEST_DSN`, a role that may create databases."""

    def __init__(self, dsn: str) -> None:
        parameters = parse_dsn(dsn)
        self.superuser = parameters.get("user", "")
        self._given = with_database(dsn, parameters.get("dbname", "postgres"))

    def start(self) -> str:
        return self._given

    def stop(self) -> None:
        pass


class EmbeddedTestServer(Server):
    """The wheel's, on a temporary directory. fsync stays on: durations mean something."""

    def __init__(self) -> None:
        self._server = EmbeddedServer(temporary=True)

    def start(self) -> str:
        return self._server.start().dsn

    def stop(self) -> None:
        self._server.stop()


class BinaryServer(Server):
    """initdb and pg_ctl of `binaries`, in a temporary directory, on a free port of 127.0.0.1.

    `options` are server settings; `hba` replaces pg_hba.conf. `directory` (exists once entered) may hold
    files of the test, such as certificates: `own` gives one to the server's user.
    """

    def __init__(
        self, binaries: Path, options: Mapping[str, str] | None = None, *, hba: str | None = None
    ) -> None:
        self._binaries = binaries
        self._options = dict(options or {})
        self._hba = hba
        # PostgreSQL refuses to run as root.
        self._user = ordinary_user() if os.geteuid() == 0 else None
        self.directory = Path()
        self.port = 0

    def start(self) -> str:
        self.directory = Path(tempfile.mkdtemp(prefix="adk-psqlpy-pg-"))
        self.own(self.directory)
        self.port = free_port()
        data = self.directory / "data"
        self._run("initdb", "-D", data, "-U", self.superuser, "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        if self._hba is not None:
            (data / "pg_hba.conf").write_text(self._hba)
        settings = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.directory),
        } | self._options
        with (data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        self._run("pg_ctl", "-D", data, "-l", self.directory / "log", "-w", "start")
        return f"postgresql://{self.superuser}@127.0.0.1:{self.port}/postgres"

    def halt(self) -> None:
        """End the server in good order, keeping its files until the end of the `with` block."""
        self._run("pg_ctl", "-D", self.directory / "data", "-m", "fast", "-w", "stop")

    def stop(self) -> None:
        # pg_ctl takes the id of the process from the data directory.
        if (self.directory / "data/postmaster.pid").exists():
            self._run("pg_ctl", "-D", self.directory / "data", "-m", "immediate", "-w", "stop")
        shutil.rmtree(self.directory)

    def own(self, path: Path) -> None:
        """Give a file or directory to the user that runs the server."""
        give_to_server_user(path)

    def _run(self, program: str, *arguments: object) -> None:
        # The server inherits the outputs of pg_ctl, so they go to a file: a pipe would never reach its end.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                [str(self._binaries / program), *map(str, arguments)],
                stdout=output,
                stderr=output,
                user=self._user,
                cwd="/",
                check=False,
                timeout=START_LIMIT_SEC,
            )
            if done.returncode != 0:
                output.seek(0)
                log = self.directory / "log"
                raise RuntimeError(f"{program}: {output.read()}{log.read_text() if log.exists() else ''}")


class ContainerServer(Server):
    """An image that behaves as `postgres:18` does, started through testcontainers."""

    def __init__(self, image: str, password: str = "postgres") -> None:
        from testcontainers.core.container import DockerContainer

        self._password = password
        self._container = (
            DockerContainer(image)
            .with_exposed_ports(5432)
            .with_env("POSTGRES_USER", self.superuser)
            .with_env("POSTGRES_PASSWORD", password)
        )

    def start(self) -> str:
        self._container.start()
        try:
            host, port = self._container.get_container_host_ip(), self._container.get_exposed_port(5432)
            dsn = f"postgresql://{self.superuser}:{self._password}@{host}:{port}/postgres"
            _wait_until_answers(dsn)
        except BaseException:
            self._container.stop()
            raise
        return dsn

    def stop(self) -> None:
        self._container.stop()


@dataclass(frozen=True)
class Database:
    """A database of a test's own."""

    name: str
    dsn: str
    server: Server

    def waiting_for_locks(self) -> int:
        """How many statements wait for a lock, on whichever node."""
        query = (
            "SELECT count(*) FROM pg_stat_activity "
            f"WHERE wait_event_type = 'Lock' AND datname = '{self.name}' AND pid <> pg_backend_pid()"
        )
        return sum(map(int, self.server.on_each_node(self.server.database_dsn(self.name), query)))


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wheel_binaries() -> Path:
    """The programs of the embedded server."""
    return Path(_wheel().__file__).parent / "pginstall" / "bin"


def choose_server(kind: str | None, image: str) -> Server:
    """The server that `--pg` and the environment ask for."""
    given = os.environ.get("ADK_PSQLPY_TEST_DSN")
    if kind is None:
        return GivenServer(given) if given else EmbeddedTestServer()
    if kind == "embedded":
        return EmbeddedTestServer()
    if kind == "container":
        return ContainerServer(image)
    binaries = Path(f"/usr/lib/postgresql/{kind}/bin") if kind.isdecimal() else Path(kind)
    if not (binaries / "initdb").exists():
        raise ValueError(f"--pg={kind}: no initdb in {binaries}")
    return BinaryServer(binaries)


def give_to_server_user(path: Path) -> None:
    """Give a file or directory to the user that runs servers, where this process is root."""
    if os.geteuid() == 0:
        entry = pwd.getpwnam(ordinary_user())
        os.chown(path, entry.pw_uid, entry.pw_gid)


def ordinary_user() -> str:
    """A user to run PostgreSQL as, for root."""
    for name in ("postgres", "embedded_postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise RuntimeError("no ordinary user to run PostgreSQL as")


def _wait_until_answers(dsn: str) -> None:
    deadline = time.monotonic() + START_LIMIT_SEC
    while True:
        try:
            run_sql(dsn, "SELECT 1")
        except psqlpy.Error:  # noqa: PERF203 - the loop waits on purpose
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)  # between two looks at the condition
        else:
            return
