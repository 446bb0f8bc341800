"""A cluster under a real manager: three PostgreSQL servers, each with its Patroni, which agree through etcd.

Patroni and etcd come from PyPI. Each node reaches etcd through a relay of its own, so that a test can cut it
off.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from typing_extensions import Self

from servers import free_port, give_to_server_user, ordinary_user

from .crash import kill_server
from .deadlines import until

START_SEC = 90
TTL_SEC = 20
"""How long a leader's lease lasts: Patroni takes no less. Its default is 30."""


def programs() -> tuple[Path, Path]:
    """Patroni and etcd, as pip installed them beside this interpreter."""
    scripts = Path(sysconfig.get_path("scripts"))
    return scripts / "patroni", scripts / "etcd"


def missing() -> str | None:
    """Why there can be no cluster here; `None` where there can."""
    if sys.platform != "linux":
        return "the cluster is tried on Linux only"
    for program in programs():
        if not program.exists():
            return f"{program.name} is not installed (pip install --group test)"
        tried = subprocess.run(
            [program, "--version"], user=_user(), cwd="/", capture_output=True, check=False, timeout=60
        )
        if tried.returncode != 0:
            return f"the server's user cannot run {program.name}: {tried.stderr.decode()[-200:]}"
    return None


def _user() -> str | None:
    # PostgreSQL refuses to run as root.
    return ordinary_user() if os.geteuid() == 0 else None


class Relay:
    """Passes bytes on from a port of 127.0.0.1 to another one, until it is cut."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._open = True
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen on `port`."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """End what is open, and refuse what comes."""
        self._open = False
        for writer in list(self._writers):
            writer.transport.abort()

    def heal(self) -> None:
        """Pass on again."""
        self._open = True

    async def stop(self) -> None:
        """Listen no longer, and end what is open."""
        self._server.close()
        self.cut()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._open:
            writer.transport.abort()
            return
        try:
            back, on = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:  # etcd is not there yet, or no longer
            writer.transport.abort()
            return
        self._writers |= {writer, on}
        try:
            await asyncio.gather(_pump(reader, on), _pump(back, writer))
        finally:
            self._writers -= {writer, on}


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


class Node:
    """One PostgreSQL server and the Patroni that looks after it."""

    def __init__(self, name: str, directory: Path, relay: Relay) -> None:
        self.name, self.directory, self.relay = name, directory, relay
        self.port, self.rest = free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.directory / self.name / "data"

    @property
    def dsn(self) -> str:
        """URL of the superuser."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def configure(self, binaries: Path, *, synchronous: bool) -> None:
        """Write what Patroni reads."""
        home = self.directory / self.name
        home.mkdir()
        give_to_server_user(home)
        trust = [
            "local all all trust",
            "host all all 127.0.0.1/32 trust",
            "host replication all 127.0.0.1/32 trust",
        ]
        # JSON is YAML as well.
        settings = {
            "scope": "adk",
            "name": self.name,
            "restapi": {
                "listen": f"127.0.0.1:{self.rest}",
                "connect_address": f"127.0.0.1:{self.rest}",
            },
            # As a proxy, or Patroni would ask etcd for its address and go around the relay.
            "etcd3": {"proxy": f"http://127.0.0.1:{self.relay.port}"},
            "bootstrap": {
                "dcs": {
                    "ttl": TTL_SEC,
                    "loop_wait": 2,
                    "retry_timeout": 3,
                    "synchronous_mode": synchronous,
                    "postgresql": {
                        "use_pg_rewind": True,
                        "parameters": {
                            "max_connections": 60,
                            "shared_buffers": "16MB",
                            "wal_log_hints": "on",
                            "log_min_messages": "warning",
                        },
                    },
                },
                "initdb": [{"encoding": "UTF8"}, {"auth": "trust"}, {"locale": "C"}],
            },
            "postgresql": {
                "listen": f"127.0.0.1:{self.port}",
                "connect_address": f"127.0.0.1:{self.port}",
                "data_dir": str(self.data),
                "bin_dir": str(binaries),
                "pgpass": str(home / "pgpass"),
                "authentication": {
                    "superuser": {"username": "postgres"},
                    "replication": {"username": "replicator"},
                },
                "parameters": {"unix_socket_directories": str(home)},
                "pg_hba": trust,
            },
        }
        (home / "patroni.yml").write_text(json.dumps(settings, indent=1))

    def start(self) -> None:
        """Start Patroni, which starts PostgreSQL."""
        home = self.directory / self.name
        with (home / "log").open("ab") as log:
            self._process = _popen([programs()[0], home / "patroni.yml"], log)

    def kill(self) -> None:
        """SIGKILL to Patroni and to all of PostgreSQL, as if the machine had lost its power."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        kill_server(self.data)
        self._process = None

    def stop(self) -> None:
        """End Patroni and the server in good order; nothing where neither runs."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(START_SEC)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if (self.data / "postmaster.pid").exists():
            kill_server(self.data)

    def log(self) -> str:
        """The end of what Patroni and PostgreSQL wrote."""
        path = self.directory / self.name / "log"
        return path.read_text(errors="replace")[-3_000:] if path.exists() else ""


def _popen(command: Sequence[str | Path], log: IO[bytes]) -> subprocess.Popen[bytes]:
    """A program of the cluster, as the server's user, with nothing of this process's environment but PATH."""
    return subprocess.Popen(
        command,
        stdout=log,
        stderr=log,
        stdin=subprocess.DEVNULL,
        user=_user(),
        cwd="/",
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
    )


class PatroniCluster:
    """Three nodes for the length of an `async with` block. `synchronous`: Patroni's `synchronous_mode`."""

    def __init__(self, binaries: Path, *, synchronous: bool = True) -> None:
        self._binaries, self._synchronous = binaries, synchronous
        self.nodes: list[Node] = []

    async def __aenter__(self) -> Self:
        """Start all, and wait until one leads and two follow."""
        self._directory = Path(tempfile.mkdtemp(prefix="adk-psqlpy-patroni-"))
        give_to_server_user(self._directory)
        client, peer = free_port(), free_port()
        self._etcd_log = (self._directory / "etcd.log").open("ab")
        name = "here"
        arguments = {
            "name": name,
            "data-dir": self._directory / "etcd",
            "listen-client-urls": f"http://127.0.0.1:{client}",
            "advertise-client-urls": f"http://127.0.0.1:{client}",
            "listen-peer-urls": f"http://127.0.0.1:{peer}",
            "initial-advertise-peer-urls": f"http://127.0.0.1:{peer}",
            "initial-cluster": f"{name}=http://127.0.0.1:{peer}",
        }
        etcd = [programs()[1], *(f"--{key}={value}" for key, value in arguments.items())]
        self._etcd = _popen(etcd, self._etcd_log)
        try:
            await until(lambda: _answers(f"http://127.0.0.1:{client}/health"), START_SEC, "etcd")
            for number in range(3):
                relay = Relay(client)
                await relay.start()
                node = Node(f"node{number}", self._directory, relay)
                self.nodes.append(node)
                node.configure(self._binaries, synchronous=self._synchronous)
                node.start()
            await self.settled()
        except AssertionError as error:
            logs = "\n".join(f"--- {node.name}\n{node.log()}" for node in self.nodes)
            await self.__aexit__(type(error), error, None)
            raise AssertionError(f"{error}\n{logs}") from None
        except BaseException as error:
            await self.__aexit__(type(error), error, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End all and remove their files."""
        await asyncio.gather(*(asyncio.to_thread(node.stop) for node in self.nodes))
        for node in self.nodes:
            await node.relay.stop()
        self._etcd.terminate()
        await asyncio.to_thread(self._etcd.wait)
        self._etcd_log.close()
        shutil.rmtree(self._directory)

    async def members(self) -> dict[str, dict[str, Any]]:
        """What Patroni says of each member, asked of the first node that answers."""
        for node in self.nodes:
            said = await _get(f"http://127.0.0.1:{node.rest}/cluster")
            if said is not None:
                return {member["name"]: member for member in said["members"]}
        return {}

    async def leader(self) -> Node:
        """The node that Patroni says leads."""
        found: list[Node] = []

        async def led() -> bool:
            members = await self.members()
            found[:] = [node for node in self.nodes if members.get(node.name, {}).get("role") == "leader"]
            return len(found) == 1

        await until(led, START_SEC, "a leader")
        return found[0]

    async def settled(self) -> None:
        """Wait until one node leads and two stream, one of them synchronously where that was asked for."""

        async def streaming() -> bool:
            members = await self.members()
            roles = sorted(member["role"] for member in members.values())
            wanted = ["leader", "replica", "sync_standby" if self._synchronous else "replica"]
            followers = [member for member in members.values() if member["role"] != "leader"]
            return roles == wanted and all(member["state"] == "streaming" for member in followers)

        await until(streaming, START_SEC, "three nodes in order")

    async def changes_leader(self, old: Node) -> Node:
        """Wait until another node than `old` leads and takes writes; give it."""
        found: list[Node] = []

        async def led() -> bool:
            for node in self.nodes:
                # Answers 200 where the node holds the lease and its server is a primary.
                if node is not old and await _answers(f"http://127.0.0.1:{node.rest}/primary"):
                    found[:] = [node]
                    return True
            return False

        await until(led, START_SEC + TTL_SEC, f"a leader other than {old.name}")
        return found[0]

    async def switch_over(self) -> Node:
        """Have Patroni hand the lead to another node; the new leader."""
        old = await self.leader()
        body = json.dumps({"leader": old.name}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{old.rest}/switchover", body, method="POST")
        await asyncio.to_thread(urllib.request.urlopen, request, timeout=START_SEC)
        return await self.changes_leader(old)


async def _get(url: str) -> Any:
    """A JSON answer; `None` where nobody answers, or not with 200."""

    def ask() -> Any:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return json.load(answer)
        except (OSError, ValueError):  # HTTPError is an OSError
            return None

    return await asyncio.to_thread(ask)


async def _answers(url: str) -> bool:
    return await _get(url) is not None
