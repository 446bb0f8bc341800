"""Passwords that change, password files and service files."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from psqlpy import ConnectionPool
from psqlpy.exceptions import BaseConnectionPoolError

from adk_psqlpy import Password, PsqlpyADKStore, PsqlpyConfig
from adk_psqlpy.connections.passfile import read_password
from adk_psqlpy.connections.service_file import read_service
from servers import run_sql

if TYPE_CHECKING:
    from servers import Database, Server


def test_a_password_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The first line that fits counts; `*` fits anything; backslashes take a colon's meaning away."""
    path = tmp_path / "pgpass"
    path.write_text(
        "# a comment: not:a:line\n"
        "db.example.org:5432:agents:alice:first\n"
        "db.example.org:*:*:alice:second\n"
        "localhost:*:*:bob:of\\:bob\\\\\n"
        "*:*:\\*:carol:literal star\n"
        "short:line\n"
    )
    path.chmod(0o600)
    assert read_password(path, "db.example.org", 5432, "agents", "alice") == "first"
    assert read_password(path, "db.example.org", 5433, "agents", "alice") == "second"
    assert read_password(path, "/tmp", 5432, "x", "bob") == "of:bob\\"
    assert read_password(path, "h", 1, "*", "carol") == "literal star"
    assert read_password(path, "h", 1, "agents", "carol") is None
    assert read_password(tmp_path / "none", "h", 1, "d", "u") is None
    path.chmod(0o644)
    assert read_password(path, "db.example.org", 5432, "agents", "alice") is None
    assert "has group or world access, so it is not read" in caplog.text


def test_a_service_file(tmp_path: Path) -> None:
    """Sections by name, comments, the user's file before the system's."""
    own, system = tmp_path / "own.conf", tmp_path / "pg_service.conf"
    own.write_text("# services\n[one]\nhost=db.example.org\nport = 5433\n\n[two]\nuser=alice\nuser=bob\n")
    system.write_text("[one]\nhost=other\n[three]\ndbname=agents\n")
    environment = {"PGSERVICEFILE": str(own), "PGSYSCONFDIR": str(tmp_path)}
    assert read_service("one", environment) == {"host": "db.example.org", "port": "5433"}
    assert read_service("two", environment) == {"user": "alice"}
    assert read_service("three", environment) == {"dbname": "agents"}
    with pytest.raises(ValueError, match=r"service 'four': not found in .*own.conf or .*pg_service.conf"):
        read_service("four", environment)
    with pytest.raises(ValueError, match="there is no file '/nonexistent'"):
        read_service("one", {"PGSERVICEFILE": "/nonexistent"})
    own.write_text("[one]\nldap://x\n")
    with pytest.raises(
        ValueError, match=r"service 'one': line 2 of .* is no parameter that can be used here"
    ):
        read_service("one", environment)


def test_a_service_in_a_dsn_and_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A DSN's own parameters come before the service's, and these before the other variables, as in libpq."""
    file = tmp_path / "services"
    file.write_text("[agents]\nhost=db.example.org\nport=5433\nuser=alice\n")
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    shown = repr(PsqlpyConfig({"dsn": "service=agents port=6000"}))
    assert "hosts=['db.example.org'], ports=[6000]" in shown
    assert "username='alice'" in shown
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("PGSERVICE", "agents")
    monkeypatch.setenv("PGPORT", "7000")
    monkeypatch.setenv("PGDATABASE", "memories")
    shown = repr(PsqlpyConfig())
    assert "ports=[5433]" in shown
    assert "db_name='memories'" in shown
    file.write_text("[agents]\nhots=x\n")
    with pytest.raises(ValueError, match="service 'agents': unknown parameter 'hots'"):
        PsqlpyConfig()


class Roles:
    """A login role with a password, in a server that asks for it, and what the password is now."""

    def __init__(self, server: Server, database: Database) -> None:
        self.server, self.database = server, database
        self.name = f"{database.name}_role"
        self.password = "first"
        self.asked = 0
        run_sql(server.dsn, f"CREATE ROLE {self.name} LOGIN SUPERUSER PASSWORD 'first'")

    def rotate(self, password: str) -> None:
        run_sql(self.server.dsn, f"ALTER ROLE {self.name} PASSWORD '{password}'")
        self.password = password

    async def ask(self) -> str:
        self.asked += 1
        return self.password


@pytest.fixture
def asking(server: Server, database: Database) -> Any:
    """A role whose password the server really asks for: a line of pg_hba.conf is put first for it."""
    ((row,),) = run_sql(server.dsn, "SHOW hba_file")
    hba = Path(row["hba_file"])
    if not os.access(hba, os.W_OK):
        pytest.skip("the server's pg_hba.conf cannot be written from here")
    roles = Roles(server, database)
    before = hba.read_text()
    hba.write_text(f"local all {roles.name} scram-sha-256\nhost all {roles.name} all scram-sha-256\n{before}")
    run_sql(server.dsn, "SELECT pg_reload_conf()")
    yield roles
    hba.write_text(before)
    run_sql(database.dsn, "SELECT pg_reload_conf()", f"DROP OWNED BY {roles.name} CASCADE")
    run_sql(server.dsn, f"DROP ROLE {roles.name}")


def settings(roles: Roles, **further: Any) -> dict[str, Any]:
    """Where the test's database is, for that role."""
    shown = PsqlpyConfig({"dsn": roles.database.dsn})._settings
    where = {"hosts": shown["hosts"], "ports": shown["ports"], "db_name": roles.database.name}
    return where | {"username": roles.name, "max_db_pool_size": 4} | further


async def test_a_password_that_is_rotated(asking: Roles) -> None:
    """Asked for at the first connection, and when the server refuses it; no request fails."""
    async with PsqlpyConfig(settings(asking, password=asking.ask)) as config:
        assert "'first'" not in repr(config)
        store = PsqlpyADKStore(config)
        await store.create_tables()
        assert asking.asked == 1
        asking.rotate("second")
        run_sql(
            asking.server.dsn,
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{asking.name}'",
        )
        assert await store.create_session("app", "user", "s", {}) is not None
        assert asking.asked == 2
        assert await store.get_session("app", "user", "s") is not None
        assert asking.asked == 2


async def login(config: PsqlpyConfig) -> str:
    """A connection that is opened now, and what the server says of it."""
    await config.close_pool()
    async with config.provide_connection() as connection:
        return str((await connection.fetch("SELECT current_user")).result()[0]["current_user"])


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> list[ConnectionPool]:
    """The pools whose password the server did not take."""
    pools: list[ConnectionPool] = []
    changed = PsqlpyConfig._password_changed

    async def noted(config: PsqlpyConfig, pool: ConnectionPool) -> bool:
        pools.append(pool)
        return await changed(config, pool)

    monkeypatch.setattr(PsqlpyConfig, "_password_changed", noted)
    return pools


async def test_a_token_that_has_expired_is_not_tried(asking: Roles, refused: list[ConnectionPool]) -> None:
    """The role's password is good until a time; ten logins after that have the next one, asked for once."""

    async def token() -> Password:
        asking.asked += 1
        value, until = f"token {asking.asked}", datetime.now(timezone.utc) + lifetimes[asking.asked]
        run_sql(asking.server.dsn, f"ALTER ROLE {asking.name} PASSWORD '{value}' VALID UNTIL '{until}'")
        return Password(value, until)

    lifetimes = {1: timedelta(seconds=0.5), 2: timedelta(hours=1)}
    expired = f"SELECT rolvaliduntil < now() AS expired FROM pg_roles WHERE rolname = '{asking.name}'"
    async with PsqlpyConfig(settings(asking, password=token, retry_sec=0)) as config:
        assert await login(config) == asking.name
        while not run_sql(asking.server.dsn, expired)[0][0]["expired"]:  # noqa: ASYNC110 - the server tells it
            await asyncio.sleep(0.02)
        config._pool.close()  # type: ignore[union-attr]
        config._pool = None

        async def one() -> None:
            async with config.provide_connection() as connection:
                await connection.fetch("SELECT 1")

        await asyncio.gather(*(one() for _ in range(10)))
        assert asking.asked == 2
    assert refused == []


async def test_a_token_is_asked_for_before_it_expires(asking: Roles, refused: list[ConnectionPool]) -> None:
    """Half way, while requests go on with the one at hand; then new connections have the next one."""
    lifetime = 4.0
    expires_at = []

    async def token() -> Password:
        asking.asked += 1
        expires_at.append(time.time() + lifetime)
        return Password(asking.password, expires_at[-1])

    async with PsqlpyConfig(settings(asking, password=token, retry_sec=0)) as config:
        while asking.asked < 2:
            async with config.provide_connection() as connection:
                await connection.fetch("SELECT 1")
        assert time.time() < expires_at[0]
        # A role has one password, so the next one is given while nobody logs in.
        asking.rotate("second")
        first, passwords = config._pool, config._passwords
        assert passwords is not None
        while time.monotonic() < passwords.renew_at:  # noqa: ASYNC110 - the time itself
            await asyncio.sleep(0.02)
        assert await config.create_pool() is first
        assert config._renewal is not None
        await config._renewal
        assert await config.create_pool() is not first
        assert await login(config) == asking.name
    assert refused == []


async def test_a_function_that_fails_early(asking: Roles, caplog: pytest.LogCaptureFixture) -> None:
    """Requests go on with the password at hand; it is told without what the error says."""

    async def token() -> Password:
        asking.asked += 1
        if asking.asked > 1:
            raise OSError("no answer for secret-client")
        return Password(asking.password, time.time() + 2)

    async with PsqlpyConfig(settings(asking, password=token, retry_sec=0)) as config:
        while "the password function of pool_config raised OSError" not in caplog.text:
            async with config.provide_connection() as connection:
                await connection.fetch("SELECT 1")
    assert "secret-client" not in caplog.text
    assert asking.asked == 2


def test_a_password_says_until_when() -> None:
    """A time without a zone, or none at all, is refused; the password is not shown."""
    for wrong in (datetime(2030, 1, 1), float("nan"), "tomorrow", True):
        with pytest.raises(ValueError, match="expires_at"):
            Password("secret", wrong)  # type: ignore[arg-type]
    assert "secret" not in repr(Password("secret", 1.0))


async def test_a_wrong_password_is_told_once(asking: Roles) -> None:
    """A function that goes on giving the same is asked twice, and the error shows no password."""
    asking.password = "wrong-secret"
    async with PsqlpyConfig(settings(asking, password=asking.ask, retry_sec=0)) as config:
        with pytest.raises(BaseConnectionPoolError) as raised:
            async with config.provide_connection():
                pass
        assert "wrong-secret" not in str(raised.value)
    assert asking.asked == 2


async def test_a_password_of_a_file(asking: Roles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read again when the server refuses what it said."""
    path = tmp_path / "pgpass"
    monkeypatch.setenv("PGPASSFILE", str(path))

    def write(password: str) -> None:
        path.touch(0o600)
        path.chmod(0o600)
        path.write_text(f"*:*:{asking.database.name}:{asking.name}:{password}\n")

    write("first")
    async with PsqlpyConfig(settings(asking)) as config:
        store = PsqlpyADKStore(config)
        await store.create_tables()
        asking.rotate("second")
        write("second")
        run_sql(
            asking.server.dsn,
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{asking.name}'",
        )
        assert await store.create_session("app", "user", "s", {}) is not None


@pytest.mark.parametrize("given", [None, 5, "a\0b"])
async def test_what_is_no_password(given: Any) -> None:
    """A plain function will do; what it gives must be a text."""
    config = PsqlpyConfig({"host": "localhost", "password": lambda: given})
    with pytest.raises(ValueError, match="password: the function must give a str or a Password, and gave"):
        await config.create_pool()
