"""ADK's `DatabaseSessionService` on MySQL: Debian's MariaDB, where it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from adk_psqlpy.admin.migrate import migrate
from servers import ordinary_user

from .support import assert_all_copied, assert_same_sessions, fill
from .test_adk_sources import database_service

if TYPE_CHECKING:
    from adk_psqlpy import PsqlpyConfig, PsqlpySessionService

pytest.importorskip("aiomysql", reason="the driver aiomysql is not installed")
LIMIT_SEC = 60


@pytest.fixture(scope="module")
def mysql() -> Iterator[str]:
    """The URL of a server of the test's own, on a socket in a temporary folder."""
    server, install = shutil.which("mariadbd"), shutil.which("mariadb-install-db")
    server = server or shutil.which("mariadbd", path="/usr/sbin")
    if server is None or install is None:
        pytest.skip("there is no MariaDB: apt-get install mariadb-server")
    user = ordinary_user() if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="adk-mysql-") as folder:
        data, socket = Path(folder) / "data", Path(folder) / "socket"
        if user is not None:
            shutil.chown(folder, user)
        options = ["--no-defaults", f"--datadir={data}", *([] if user is None else [f"--user={user}"])]
        made = subprocess.run(
            [install, *options, "--auth-root-authentication-method=normal"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert made.returncode == 0, made.stdout + made.stderr
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [server, *options, f"--socket={socket}", "--skip-networking"],
                stdout=output,
                stderr=output,
            )
        try:
            client = ["mariadb", "--no-defaults", f"--socket={socket}", "-uroot", "-e"]
            deadline = time.monotonic() + LIMIT_SEC
            while subprocess.run([*client, "SELECT 1"], capture_output=True, check=False).returncode != 0:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)  # between two looks
            subprocess.run([*client, "CREATE DATABASE adk CHARACTER SET utf8mb4"], check=True)
            yield f"mysql+aiomysql://root@localhost/adk?unix_socket={socket}"
        finally:
            process.terminate()
            process.wait(LIMIT_SEC)


@pytest.mark.filterwarnings("ignore::Warning:aiomysql", "ignore::Warning:pymysql")
async def test_mysql(mysql: str, target: PsqlpyConfig, ours: PsqlpySessionService) -> None:
    """Schema v1: JSON as text, times with microseconds; more than a page of sessions."""
    async with database_service(mysql) as service:
        events = await fill(service)
        for number in range(230):
            await service.create_session(app_name="cafe", user_id="many", session_id=f"m{number}")
        report = await migrate(mysql, target)
        assert "mysql" in report.source
        assert_all_copied(report, sessions=238, events=events)
        assert await assert_same_sessions(service, ours) == events
        again = await migrate(mysql, target)
        assert (again.complete, again.sessions.equal) == (True, 238)
