"""PsqlpyConfig: what it takes, what it refuses and how it says so, and that it never shows a password."""

from __future__ import annotations

import logging
import os
import traceback
from typing import Any

import psqlpy
import pytest

from adk_psqlpy.config import PsqlpyConfig, redact
from adk_psqlpy.connections.dsn import parse_dsn, render_dsn
from adk_psqlpy.connections.keys import KEYS, PUBLIC_KEYS
from servers import BinaryServer, Database, run_sql, wheel_binaries

PASSWORD = "s3cr3t/p@ss w'ord\\"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("PG") or name == "DATABASE_URL":
            monkeypatch.delenv(name)


def settings_of(config: PsqlpyConfig) -> dict[str, Any]:
    return config._settings


BAD = {
    "a DSN by itself": (
        "postgresql://h/db",
        r"pool_config: a mapping.*got str; a connection string goes in as {'dsn'",
    ),
    "not a mapping": ([("host", "h")], r"pool_config: a mapping of keys to values is wanted, got list$"),
    "unknown key": ({"dns": "x"}, r"unknown key 'dns'; did you mean 'dsn'\? Known: dsn, host"),
    "unknown key, no match": ({"zzz": 1}, r"unknown key 'zzz'\. Known: dsn, host"),
    "key only of a DSN": ({"hostaddr": "::1"}, r"unknown key 'hostaddr'"),
    "dsn of a wrong type": ({"dsn": 5}, r"dsn: a str is wanted, got int"),
    "dsn of bytes": ({"dsn": PASSWORD.encode()}, r"dsn: a str is wanted, got bytes"),
    "dsn of no form": ({"dsn": PASSWORD}, r"dsn: neither"),
    "dsn empty of meaning": ({"dsn": "localhost"}, r"dsn: neither"),
    "dsn of SQLAlchemy": (
        {"dsn": "postgresql+asyncpg://h/d"},
        r"scheme 'postgresql\+asyncpg'.*'postgresql://",
    ),
    "dsn of MySQL": ({"dsn": "mysql://h/d"}, r"scheme 'mysql'"),
    "dsn with a port in letters": ({"dsn": "postgresql://u:pa/ss@h/d"}, r"dsn: .*percent-encoded"),
    "dsn with a password split by /": ({"dsn": "postgresql://u:12/34@h/d"}, r"'@' after the host"),
    "dsn with a password split by ?": ({"dsn": "postgresql://u:12?34=@h/d"}, r"'@' after the host"),
    "dsn port out of range": ({"dsn": "postgresql://h:70000/d"}, r"port: 1 to 65535"),
    "dsn parameter without =": ({"dsn": "postgresql://h/d?x"}, r"no '='"),
    "dsn bytes": ({"dsn": "postgresql://u:%ff@h/d"}, r"not UTF-8"),
    "dsn unknown parameter": (
        {"dsn": "postgresql://h/d?sslmod=require"},
        r"'sslmod'; did you mean 'sslmode'",
    ),
    "dsn sslmode": ({"dsn": "postgresql://h/d?sslmode=yes"}, r"ssl_mode: one of 'disable'.*'yes'"),
    "dsn sslmode=prefer": (
        {"dsn": "postgresql://h/d?sslmode=prefer"},
        r"ssl_mode: .*'prefer' without a ca_file",
    ),
    "dsn sslcert": ({"dsn": "host=h sslcert=c.pem"}, r"sslcert: psqlpy 0\.13 cannot.*scram"),
    "dsn sslkey": ({"dsn": "host=h sslkey=k.pem"}, r"sslkey: psqlpy 0\.13 cannot"),
    "dsn sslcrl": ({"dsn": "host=h sslcrl=k.pem"}, r"sslcrl cannot be honoured"),
    "dsn service": ({"dsn": "service=x"}, r"service 'x': not found in"),
    "dsn passfile": ({"dsn": "passfile=x"}, r"passfile cannot be honoured"),
    "dsn gssencmode": ({"dsn": "gssencmode=require"}, r"gssencmode cannot be honoured"),
    "dsn client_encoding": ({"dsn": "client_encoding=latin1"}, r"client_encoding cannot be honoured"),
    "dsn tcp_user_timeout": ({"dsn": "tcp_user_timeout=9"}, r"milliseconds.*tcp_user_timeout_sec"),
    "dsn standby": ({"dsn": "target_session_attrs=primary"}, r"target_session_attrs: one of.*'read-write'"),
    "dsn timeout": ({"dsn": "connect_timeout=soon"}, r"connect_timeout is not a whole number"),
    "dsn and host": ({"dsn": "host=h", "host": "h"}, r"give dsn or host, not both"),
    "dsn and password": ({"dsn": "host=h", "password": PASSWORD}, r"give dsn or password, not both"),
    "host and hosts": ({"host": "a", "hosts": ["b"]}, r"give host or hosts, not both"),
    "port and ports": ({"port": 1, "ports": [1]}, r"give port or ports, not both"),
    "host of a wrong type": ({"host": 5}, r"host: a str is wanted, got 5 \(int\)"),
    "host empty": ({"host": ""}, r"host: a str, not empty"),
    "host with NUL": ({"host": "a\0"}, r"host: a NUL"),
    "hosts as text": ({"hosts": "a,b"}, r"hosts: a list of str"),
    "hosts empty": ({"hosts": []}, r"hosts: a list of str, not empty"),
    "ports not matching": (
        {"hosts": ["a", "b", "c"], "ports": [1, 2]},
        r"ports: 1 or 3 \(one a host\).*got 2",
    ),
    "port as text": ({"port": "5432"}, r"port: an int is wanted, got '5432' \(str\)"),
    "port 0": ({"port": 0}, r"port: 1 to 65535"),
    "password of a wrong type": ({"password": 12345}, r"password: a str is wanted, got int$"),
    "pool of 1": ({"max_db_pool_size": 1}, r"max_db_pool_size: 2 to .*psqlpy refuses"),
    "pool of True": ({"max_db_pool_size": True}, r"max_db_pool_size: an int is wanted, got True \(bool\)"),
    "pool of 2.5": ({"max_db_pool_size": 2.5}, r"max_db_pool_size: an int"),
    "timeout 0": ({"connect_timeout_sec": 0}, r"connect_timeout_sec: 1 to"),
    "keepalives of 1": ({"keepalives": 1}, r"keepalives: a bool is wanted, got 1 \(int\)"),
    "keepalives off and idle": (
        {"keepalives": False, "keepalives_idle_sec": 9},
        r"keepalives_idle_sec: has no meaning",
    ),
    "ssl_mode unknown": ({"ssl_mode": "on"}, r"ssl_mode: one of .*'verify-full'"),
    "ssl_mode of a wrong type": ({"ssl_mode": 4}, r"ssl_mode: one of .*got 4"),
    "ssl_mode of another enum": ({"ssl_mode": psqlpy.LoadBalanceHosts.Random}, r"ssl_mode: one of"),
    "prefer": ({"ssl_mode": "prefer"}, r"psqlpy 0\.13 cannot do 'prefer' without a ca_file"),
    "verify-full without roots": ({"ssl_mode": "verify-full"}, r"'verify-full' needs ca_file.*system"),
    "verify-ca without roots": ({"ssl_mode": psqlpy.SslMode.VerifyCa}, r"'verify-ca' needs ca_file"),
    "ca_file missing": ({"ca_file": "/nowhere/ca.pem"}, r"ca_file: no such file: '/nowhere/ca.pem'"),
    "ca_file no PEM": ({"ca_file": __file__}, r"ca_file: .*no PEM certificates"),
    "ca_file twice": ({"ca_file": "/a", "sslrootcert": "/b"}, r"ca_file, sslrootcert: two names"),
    "sslcert": ({"sslcert": "/c"}, r"sslcert: psqlpy 0\.13 cannot present a client certificate\. Use"),
    "sslkey": ({"sslkey": "/k"}, r"sslkey: psqlpy 0\.13 cannot present a client certificate"),
    "session attributes": ({"target_session_attrs": "standby"}, r"target_session_attrs: one of.*read-write"),
    "balance": ({"load_balance_hosts": "round-robin"}, r"load_balance_hosts: one of 'disable', 'random'"),
    "recycling": (
        {"conn_recycling_method": "slow"},
        r"conn_recycling_method: one of 'fast', 'verified', 'clean'",
    ),
}


@pytest.mark.parametrize(("given", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused_by_name(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        PsqlpyConfig(pool_config=given)
    shown = "".join(traceback.format_exception(caught.value)).partition("ValueError")[2]
    for secret in (PASSWORD, "12345", "pa/ss", "12/34"):
        assert secret not in shown


def test_every_key_is_documented() -> None:
    assert PsqlpyConfig.__doc__ is not None
    assert all(f"- `{name}` (" in PsqlpyConfig.__doc__ for name in PUBLIC_KEYS)
    assert all(key.meaning and key.default for key in KEYS.values())


def test_defaults() -> None:
    assert settings_of(PsqlpyConfig({"host": "h"})) == {
        "hosts": ["h"],
        "ports": [5432],
        "max_db_pool_size": 10,
        "acquire_timeout_sec": 30,
        "retry_sec": 15,
        "tcp_user_timeout_sec": 30,
        "keepalives_idle_sec": 30,
        "keepalives_interval_sec": 10,
        "keepalives_retries": 3,
        "application_name": "adk-psqlpy",
        "ssl_mode": "disable",
    }


@pytest.mark.parametrize(
    "text", ["verify-full", "verify_full", "VERIFY_FULL", "VerifyFull", psqlpy.SslMode.VerifyFull]
)
def test_choices_are_taken_as_text_or_enum(text: Any) -> None:
    assert settings_of(PsqlpyConfig({"ssl_mode": text, "ca_file": "system"}))["ssl_mode"] == "verify-full"


def test_parameters_of_a_dsn_become_keys() -> None:
    dsn = (
        "postgres://u%40x:p%2Fw@[::1]:6000,b.example/d%20b?connect_timeout=3&application_name=me&keepalives=0"
        "&options=-c%20geqo%3Doff&target_session_attrs=read-write&load_balance_hosts=random&sslmode=require"
        "&client_encoding=UTF8&gssencmode=disable&channel_binding=prefer"
    )
    settings = settings_of(PsqlpyConfig({"dsn": dsn, "application_name": "mine"}))
    assert settings.pop("password").reveal() == "p/w"
    assert settings == {
        "username": "u@x",
        "hosts": ["::1", "b.example"],
        "ports": [6000, 5432],
        "db_name": "d b",
        "connect_timeout_sec": 3,
        "application_name": "mine",
        "keepalives": False,
        "options": "-c geqo=off",
        "target_session_attrs": "read-write",
        "load_balance_hosts": "random",
        "ssl_mode": "require",
        "channel_binding": "prefer",
        "max_db_pool_size": 10,
        "acquire_timeout_sec": 30,
        "retry_sec": 15,
        "tcp_user_timeout_sec": 30,
    }


def test_keyword_form_reads_back_what_it_wrote() -> None:
    parameters = {"user": "a b", "password": PASSWORD, "dbname": "d'\\", "host": "/run/x"}
    assert parse_dsn(render_dsn(parameters)) == parameters


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (
            {"DATABASE_URL": "postgresql://u@h1/d", "PGHOST": "h2"},
            {"hosts": ["h1"], "username": "u", "db_name": "d"},
        ),
        (
            {"PGHOST": "h2", "PGPORT": "6000", "PGUSER": "u"},
            {"hosts": ["h2"], "ports": [6000], "username": "u"},
        ),
        ({"PGDATABASE": "d", "DATABASE_URL": ""}, {"hosts": ["localhost"], "db_name": "d"}),
        (
            {
                "PGHOST": "h",
                "PGAPPNAME": "a",
                "PGOPTIONS": "-c x=y",
                "PGCONNECT_TIMEOUT": "7",
                "PGSSLMODE": "require",
            },
            {"application_name": "a", "options": "-c x=y", "connect_timeout_sec": 7, "ssl_mode": "require"},
        ),
        (
            {
                "PGHOST": "h",
                "PGTARGETSESSIONATTRS": "read-only",
                "PGSSLMODE": "disable",
                "PGSSLROOTCERT": "/x",
            },
            {"target_session_attrs": "read-only", "ssl_mode": "disable"},
        ),
    ],
)
def test_environment(
    environment: dict[str, str], expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = settings_of(PsqlpyConfig({"max_db_pool_size": 3}))
    assert settings.items() >= (expected | {"max_db_pool_size": 3}).items()


def test_environment_is_not_read_beside_a_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://other/x")
    assert settings_of(PsqlpyConfig({"host": "mine"}))["hosts"] == ["mine"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("DATABASE_URL", f"mysql://u:{PASSWORD}@h/d", r"DATABASE_URL: dsn: the scheme 'mysql'"),
        ("PGSSLCERT", "/c", r"sslcert: psqlpy 0\.13 cannot"),
        ("PGSERVICE", "s", r"service 's': not found in"),
        ("PGPORT", "x", r"environment variables PG\*: port is not"),
    ],
)
def test_bad_environment_is_named(
    name: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGHOST", "h")
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message) as caught:
        PsqlpyConfig()
    assert PASSWORD not in str(caught.value)


def test_password_is_in_no_text_of_the_object() -> None:
    for config in (
        PsqlpyConfig({"host": "h", "username": "u", "password": PASSWORD}),
        PsqlpyConfig({"dsn": render_dsn({"host": "h", "password": PASSWORD})}),
    ):
        for text in (repr(config), str(config), f"{config}", repr(vars(config))):
            assert "s3cr3t" not in text
        assert "'***'" in repr(config)
        assert "hosts=['h']" in repr(config)


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("postgresql://u:pw@h:1/d", "user='u' password='***' host='h' port='1' dbname='d'"),
        ("host=h password='a b' sslpassword=x", "host='h' password='***' sslpassword='***'"),
        ("postgresql://u@h/d?password=pw", "user='u' host='h' dbname='d' password='***'"),
        ("pw", "<unreadable dsn>"),
    ],
)
def test_redact(dsn: str, shown: str) -> None:
    assert redact(dsn) == shown


async def refused(config: PsqlpyConfig) -> psqlpy.Error:
    with pytest.raises(psqlpy.Error) as caught:
        async with config.provide_connection():
            pass
    assert (await config.create_pool()).status().size == 0
    await config.close_pool()
    for text in ("".join(traceback.format_exception(caught.value)), repr(caught.value.args)):
        assert "s3cr3t" not in text
    return caught.value


async def test_unreachable_server_is_explained(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    error = await refused(
        PsqlpyConfig({"host": "127.0.0.1", "port": 1, "username": "u", "password": PASSWORD, "db_name": "d"})
    )
    assert type(error) is psqlpy.exceptions.BaseConnectionPoolError
    assert type(error.__cause__) is type(error)
    message = str(error)
    for part in ("127.0.0.1:1 ", "'d'", "'u'", "refused", "Check that the server is running"):
        assert part in message
    assert "s3cr3t" not in caplog.text


async def test_every_host_tried_is_named() -> None:
    error = await refused(PsqlpyConfig({"hosts": ["127.0.0.1", "localhost"], "ports": [1]}))
    assert "127.0.0.1:1, localhost:1 " in str(error)


async def test_unknown_host_is_explained() -> None:
    assert "nohost.invalid:5432" in str(
        await refused(PsqlpyConfig({"host": "nohost.invalid", "password": PASSWORD}))
    )


async def test_missing_database_is_explained(database: Database) -> None:
    dsn = database.server.database_dsn("no_such_database")
    error = await refused(PsqlpyConfig({"dsn": dsn}))
    assert 'database "no_such_database" does not exist' in str(error)


async def test_wrong_password_is_explained() -> None:
    rules = "local all all trust\nhost all postgres all trust\nhost all all all scram-sha-256\n"
    with BinaryServer(wheel_binaries(), hba=rules) as server:
        run_sql(server.dsn, "CREATE ROLE alice LOGIN PASSWORD 'right'")
        given = {"host": "127.0.0.1", "port": server.port, "username": "alice", "db_name": "postgres"}
        error = await refused(PsqlpyConfig({**given, "password": PASSWORD}))
        assert 'password authentication failed for user "alice"' in str(error)
        assert "password" in str(await refused(PsqlpyConfig(given)))
        async with (
            PsqlpyConfig({**given, "password": "right"}) as config,
            config.provide_connection() as connection,
        ):
            assert await connection.fetch_val("SELECT current_user::text") == "alice"


async def test_settings_reach_the_server(database: Database) -> None:
    async with PsqlpyConfig({"dsn": database.dsn, "options": "-c geqo=off", "max_db_pool_size": 2}) as config:
        async with config.provide_connection() as connection:
            query = "SELECT current_setting('application_name') AS name, current_setting('geqo') AS geqo"
            assert (await connection.fetch(query)).result() == [{"name": "adk-psqlpy", "geqo": "off"}]
        assert (await config.create_pool()).status().max_size == 2


async def test_every_key_is_accepted_by_the_driver(database: Database) -> None:
    given = {
        "dsn": database.dsn,
        "max_db_pool_size": 2,
        "conn_recycling_method": "verified",
        "connect_timeout_sec": 5,
        "tcp_user_timeout_sec": 5,
        "keepalives": True,
        "keepalives_idle_sec": 5,
        "keepalives_interval_sec": 5,
        "keepalives_retries": 5,
        "load_balance_hosts": psqlpy.LoadBalanceHosts.Random,
        "application_name": "it's \\ me",
        "ssl_mode": "disable",
    }
    async with PsqlpyConfig(given) as config, config.provide_connection() as connection:
        assert await connection.fetch_val("SELECT current_setting('application_name')") == "it's \\ me"


async def test_read_only_is_asked_of_the_server(database: Database) -> None:
    dsn = database.server.database_dsn(database.name, target_session_attrs="read-only")
    assert "not read only" in str(await refused(PsqlpyConfig({"dsn": dsn})))


async def test_system_user_is_said_where_none_is_given() -> None:
    error = await refused(PsqlpyConfig({"host": "127.0.0.1", "port": 1}))
    assert "user of the system user" in str(error)
