"""The keys of `PsqlpyConfig(pool_config=...)`: one table, and the checks that follow from it."""

from __future__ import annotations

import difflib
import os
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from psqlpy import ConnRecyclingMethod, LoadBalanceHosts, SslMode, TargetSessionAttrs

from adk_psqlpy.connections.dsn import Secret, parse_dsn
from adk_psqlpy.connections.sources import Kind as StatementKind

Kind = Literal["text", "secret", "whole", "seconds", "flag", "texts", "wholes", "choice"]

_WANTED: dict[Kind, str] = {
    "text": "a str",
    "secret": "a str",
    "whole": "an int",
    "seconds": "a number of seconds",
    "flag": "a bool",
    "texts": "a list of str",
    "wholes": "a list of int",
    "choice": "a str",
}


@dataclass(frozen=True)
class Key:
    """One key of `pool_config`: what it takes, what it is when left out, and what it means."""

    kind: Kind
    default: str
    meaning: str
    libpq: str | None = None  # its name inside a DSN
    low: float = 0
    high: float = 2**31 - 1
    choices: Mapping[str, Any] = field(default_factory=dict)  # canonical text -> psqlpy's enum member


_SSL_MODES = {
    "disable": SslMode.Disable,
    "allow": SslMode.Allow,
    "prefer": SslMode.Prefer,
    "require": SslMode.Require,
    "verify-ca": SslMode.VerifyCa,
    "verify-full": SslMode.VerifyFull,
}
_SESSION_ATTRS = {
    "any": TargetSessionAttrs.Any,
    "read-write": TargetSessionAttrs.ReadWrite,
    "read-only": TargetSessionAttrs.ReadOnly,
}
_BALANCE = {"disable": LoadBalanceHosts.Disable, "random": LoadBalanceHosts.Random}
_RECYCLING = {
    "fast": ConnRecyclingMethod.Fast,
    "verified": ConnRecyclingMethod.Verified,
    "clean": ConnRecyclingMethod.Clean,
}

KEYS: dict[str, Key] = {
    # where
    "dsn": Key(
        "secret", "none", "connection string, URL or 'host=... user=...'; instead of the keys below it"
    ),
    "host": Key("text", "localhost", "host name, address, or a directory that holds a Unix socket", "host"),
    "port": Key("whole", "5432", "port of host, or of all hosts", "port", 1, 65535),
    "hosts": Key("texts", "none", "several hosts, tried in order; instead of host"),
    "ports": Key("wholes", "5432", "one port for all hosts, or one a host; instead of port", None, 1, 65535),
    "username": Key("text", "the system user", "role to log in as", "user"),
    "password": Key("secret", "none", "its password; never shown", "password"),
    "db_name": Key("text", "the username", "database", "dbname"),
    # pool
    "max_db_pool_size": Key("whole", "10", "connections at most; psqlpy needs 2 or more", None, 2, 100_000),
    "conn_recycling_method": Key(
        "choice",
        "fast",
        "check when a connection is taken again: fast, verified or clean",
        None,
        choices=_RECYCLING,
    ),
    "acquire_timeout_sec": Key(
        "seconds",
        "30",
        "how long to wait for a connection of the pool, or for the server to accept one",
        None,
        0.001,
    ),
    # statements of the package's own
    "retry_sec": Key(
        "seconds",
        "15",
        "how long a statement is tried again when its connection breaks or the server recovers; 0: not",
    ),
    "read_timeout_sec": Key(
        "seconds", "none", "PostgreSQL stops a read of a session, state or artifact after this", None, 0.001
    ),
    "list_timeout_sec": Key("seconds", "none", "the same for lists and searches", None, 0.001),
    "write_timeout_sec": Key("seconds", "none", "the same for writes, which are undone then", None, 0.001),
    # network
    "connect_timeout_sec": Key(
        "whole", "none", "seconds for the TCP connection to one address of one host", "connect_timeout", 1
    ),
    "tcp_user_timeout_sec": Key("whole", "30", "seconds sent data may stay unacknowledged", None, 1),
    "keepalives": Key("flag", "True", "TCP keepalive", "keepalives"),
    "keepalives_idle_sec": Key(
        "whole", "30", "seconds of silence before the first probe", "keepalives_idle", 1
    ),
    "keepalives_interval_sec": Key("whole", "10", "seconds between probes", "keepalives_interval", 1),
    "keepalives_retries": Key("whole", "3", "probes before giving up", "keepalives_retries", 1),
    # TLS
    "ssl_mode": Key(
        "choice",
        "disable; verify-full with a ca_file",
        "disable, prefer, require, verify-ca, verify-full; see PsqlpyConfig",
        "sslmode",
        choices=_SSL_MODES,
    ),
    "ca_file": Key("text", "none", "PEM file of trusted roots, or 'system' for the machine's", "sslrootcert"),
    "sslrootcert": Key("text", "none", "the same under libpq's name"),
    "sslcert": Key("text", "refused", "client certificate: psqlpy 0.13 has none", "sslcert"),
    "sslkey": Key("text", "refused", "key of the client certificate: psqlpy 0.13 has none", "sslkey"),
    # session
    "target_session_attrs": Key(
        "choice", "any", "any, read-write or read-only", "target_session_attrs", choices=_SESSION_ATTRS
    ),
    "load_balance_hosts": Key(
        "choice", "disable", "disable or random", "load_balance_hosts", choices=_BALANCE
    ),
    "application_name": Key("text", "adk-psqlpy", "name shown in pg_stat_activity", "application_name"),
    "options": Key("text", "none", "server options, '-c name=value'; pgbouncer refuses them", "options"),
    # only inside a DSN
    "hostaddr": Key("text", "none", "address to connect to, host being the name checked by TLS", "hostaddr"),
    "channel_binding": Key(
        "choice",
        "prefer",
        "disable, prefer or require",
        "channel_binding",
        choices={"disable": "disable", "prefer": "prefer", "require": "require"},
    ),
}

# What says where the server is: with none of them, the environment is asked.
TARGET_KEYS = ("dsn", "host", "hosts", "port", "ports", "username", "password", "db_name", "hostaddr")

STATEMENT_TIMEOUTS: dict[StatementKind, str] = {
    "read": "read_timeout_sec",
    "list": "list_timeout_sec",
    "write": "write_timeout_sec",
}

_NO_CLIENT_CERTIFICATES = (
    "psqlpy 0.13 cannot present a client certificate. Use password (scram-sha-256) authentication over "
    "ssl_mode='verify-full', or a local TLS proxy (pgbouncer, stunnel, a cloud provider's proxy) "
    "that holds the certificate"
)

_FROM_LIBPQ = {key.libpq: name for name, key in KEYS.items() if key.libpq} | {
    "keepalives_count": "keepalives_retries"
}

# libpq parameters that psqlpy has nothing for: the values that ask for what happens anyway, and why others
# cannot be.
_WITHOUT: dict[str, tuple[tuple[str, ...], str]] = {
    "client_encoding": (("utf8", "utf-8", "auto"), "psqlpy always speaks UTF8"),
    "gssencmode": (("disable", "prefer"), "psqlpy has no GSSAPI"),
    "sslnegotiation": (("postgres",), "psqlpy starts TLS only after asking the server"),
    "sslcompression": (("0",), "psqlpy has no TLS compression"),
    "tcp_user_timeout": ((), "libpq means milliseconds and psqlpy seconds: use the key tcp_user_timeout_sec"),
    "passfile": ((), "psqlpy reads no password file: give the password"),
    "service": ((), "psqlpy reads no service file: give host, port, db_name and username"),
    "sslpassword": ((), _NO_CLIENT_CERTIFICATES),
    "sslcrl": ((), "psqlpy checks no revocation list"),
    "require_auth": ((), "psqlpy cannot restrict the authentication methods"),
    "requirepeer": ((), "psqlpy cannot check the server's user"),
    "replication": ((), "psqlpy has no replication protocol"),
}

_ENVIRONMENT = {
    "PGHOST": "host",
    "PGPORT": "port",
    "PGUSER": "user",
    "PGPASSWORD": "password",
    "PGDATABASE": "dbname",
    "PGSSLMODE": "sslmode",
    "PGSSLROOTCERT": "sslrootcert",
    "PGAPPNAME": "application_name",
    "PGOPTIONS": "options",
    "PGCONNECT_TIMEOUT": "connect_timeout",
    "PGTARGETSESSIONATTRS": "target_session_attrs",
    "PGSSLCERT": "sslcert",  # this and the rest: refused by name rather than passed over
    "PGSSLKEY": "sslkey",
    "PGSERVICE": "service",
}
_ENVIRONMENT_TARGET = ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE")


PUBLIC_KEYS = tuple(name for name in KEYS if name not in ("hostaddr", "channel_binding"))


def key_table(indent: str = "") -> str:
    """Return the public keys as Markdown list items, one a line: name, type, default, meaning."""
    lines = (
        f"- `{name}` ({_WANTED[key.kind].partition(' ')[2]}; default: {key.default}): {key.meaning}"
        for name, key in KEYS.items()
        if name in PUBLIC_KEYS
    )
    return f"\n{indent}".join(lines)


def close_to(name: str, known: Sequence[str]) -> str:
    """Return "; did you mean 'x'?" for the nearest known names, or nothing."""
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.6)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def read_pool_config(given: Mapping[str, Any]) -> dict[str, Any]:
    """Check `pool_config` and return its settings, a DSN inside it taken apart.

    Returns:
        Settings by the names of `KEYS` (never `dsn`, `sslrootcert`): str, int, bool, list of either,
        `Secret`; choices as their canonical text.

    Raises:
        ValueError: names the key, what was given (only the type for secrets) and what is wanted.
    """
    if not isinstance(given, Mapping):
        hint = "; a connection string goes in as {'dsn': ...}" if isinstance(given, str) else ""
        raise ValueError(
            f"pool_config: a mapping of keys to values is wanted, got {type(given).__name__}{hint}"
        )
    for name in given:
        if name not in PUBLIC_KEYS:
            near = close_to(str(name), PUBLIC_KEYS) or "."
            raise ValueError(f"pool_config: unknown key {name!r}{near} Known: {', '.join(PUBLIC_KEYS)}")
    settings = {name: _checked(name, value) for name, value in given.items() if value is not None}
    dsn = settings.pop("dsn", None)
    if dsn is not None:
        doubled = [name for name in (*TARGET_KEYS, "target_session_attrs") if name in settings]
        if doubled:
            raise ValueError(
                f"pool_config: give dsn or {', '.join(doubled)}, not both: put them into the dsn"
            )
        settings = read_parameters(parse_dsn(dsn.reveal()), "dsn") | settings
    return settings


def read_environment(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the settings of DATABASE_URL, else of libpq's PG* variables, else None. Empty means unset."""
    url = environment.get("DATABASE_URL")
    if url:
        try:
            return read_parameters(parse_dsn(url), "DATABASE_URL")
        except ValueError as error:
            raise ValueError(f"environment variable DATABASE_URL: {error}") from None
    if not any(environment.get(name) for name in _ENVIRONMENT_TARGET):
        return None
    found = {libpq: environment[name] for name, libpq in _ENVIRONMENT.items() if environment.get(name)}
    return read_parameters(found, "environment variables PG*")


def read_parameters(parameters: Mapping[str, str], source: str) -> dict[str, Any]:
    """Turn libpq parameters into settings. Raises ValueError for each that psqlpy cannot honour."""
    settings: dict[str, Any] = {}
    fallback_name = None
    for libpq, text in parameters.items():
        if libpq == "fallback_application_name":
            fallback_name = text
        elif libpq in _WITHOUT:
            harmless, reason = _WITHOUT[libpq]
            if text.lower() not in harmless:
                raise ValueError(f"{source}: {libpq} cannot be honoured: {reason}")
        elif libpq in _FROM_LIBPQ:
            name = _FROM_LIBPQ[libpq]
            settings.update(_from_text(name, libpq, text, source))
        else:
            raise ValueError(
                f"{source}: unknown parameter {libpq!r}{close_to(libpq, [*_FROM_LIBPQ, *_WITHOUT])}"
            )
    if fallback_name is not None:
        settings.setdefault("application_name", fallback_name)
    return settings


def _from_text(name: str, libpq: str, text: str, source: str) -> dict[str, Any]:
    """Convert one parameter's text to the type of its key; a list goes to hosts or ports."""
    key = KEYS[name]
    if text == "" and name != "password":
        return {}
    if name in ("host", "port") and "," in text:
        parts = text.split(",")
        if name == "host":
            return {"hosts": _checked("hosts", parts)}
        return {"ports": _checked("ports", [_number(libpq, part or "5432", source) for part in parts])}
    if key.kind == "whole":
        number = _number(libpq, text, source)
        if name == "connect_timeout_sec" and number <= 0:  # libpq: wait for ever
            return {}
        return {name: _checked(name, number)}
    if key.kind == "flag":
        return {name: _number(libpq, text, source) != 0}
    return {name: _checked(name, text)}


def _number(libpq: str, text: str, source: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{source}: {libpq} is not a whole number") from None


def _checked(name: str, value: object) -> Any:
    """Return `value` as the key keeps it. Raises ValueError where it does not fit."""
    if name in ("sslcert", "sslkey"):
        raise ValueError(f"{name}: {_NO_CLIENT_CERTIFICATES}")
    key = KEYS[name]
    wanted = _WANTED[key.kind]
    if key.kind == "choice":
        return _chosen(name, key, value)
    if key.kind in ("texts", "wholes"):
        if isinstance(value, str | bytes) or not isinstance(value, Sequence) or not value:
            raise ValueError(f"{name}: {wanted}, not empty, is wanted, got {value!r}")
        return [_checked("host" if key.kind == "texts" else "port", item) for item in value]
    fits: dict[Kind, Callable[[object], bool]] = {
        "text": lambda it: isinstance(it, str),
        "secret": lambda it: isinstance(it, str),
        "whole": lambda it: isinstance(it, int) and not isinstance(it, bool),
        "seconds": lambda it: isinstance(it, (int, float)) and not isinstance(it, bool),
        "flag": lambda it: isinstance(it, bool),
    }
    if isinstance(value, os.PathLike) and name in ("ca_file", "sslrootcert", "host"):
        value = os.fspath(value)
    if not fits[key.kind](value):
        shown = type(value).__name__ if key.kind == "secret" else f"{value!r} ({type(value).__name__})"
        raise ValueError(f"{name}: {wanted} is wanted, got {shown}")
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError(f"{name}: a NUL character is not possible in a connection setting")
        if not value and key.kind == "text" and name != "options":
            raise ValueError(
                f"{name}: {wanted}, not empty, is wanted, got ''; leave the key out for its default"
            )
        return Secret(value) if key.kind == "secret" else value
    if isinstance(value, (int, float)) and key.kind != "flag" and not key.low <= value <= key.high:
        reason = " (psqlpy refuses a smaller pool)" if name == "max_db_pool_size" else ""
        raise ValueError(f"{name}: {key.low} to {key.high} is possible{reason}, got {value}")
    return value


def _chosen(name: str, key: Key, value: object) -> str:
    """Accept a choice as text, in any case and with `_` or `-`, or as psqlpy's enum member or its name."""
    if isinstance(value, str):
        text = value.strip().lower().replace("_", "-")
        for choice in key.choices:
            if text in (choice, choice.replace("-", "")):
                return choice
    for choice, member in key.choices.items():
        if not isinstance(member, str) and type(member) is type(value) and member == value:
            return choice
    hint = ""
    if name == "target_session_attrs" and value in ("primary", "standby", "prefer-standby"):
        hint = "; psqlpy asks only whether a server accepts writes: 'read-write' finds the primary"
    raise ValueError(f"{name}: one of {', '.join(map(repr, key.choices))} is wanted, got {value!r}{hint}")


def settle(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in defaults and check what two keys say together. Raises ValueError."""
    settled = dict(settings)
    for one, many in (("host", "hosts"), ("port", "ports")):
        if one in settled and many in settled:
            raise ValueError(f"pool_config: give {one} or {many}, not both")
    hosts = settled.get("hosts") or [settled.get("host") or "localhost"]
    settled["hosts"] = [part for host in hosts for part in host.split(",")]
    settled["ports"] = settled.get("ports") or [settled.get("port") or 5432]
    settled.pop("host", None)
    settled.pop("port", None)
    if len(settled["ports"]) not in (1, len(settled["hosts"])):
        raise ValueError(
            f"ports: 1 or {len(settled['hosts'])} (one a host) are wanted, got {len(settled['ports'])}"
        )
    if settled.get("keepalives") is False:
        for name in ("keepalives_idle_sec", "keepalives_interval_sec", "keepalives_retries"):
            if name in settled:
                raise ValueError(f"{name}: has no meaning with keepalives=False")
    settled.setdefault("max_db_pool_size", 10)
    settled.setdefault("application_name", "adk-psqlpy")
    settled.setdefault("acquire_timeout_sec", 30)
    settled.setdefault("retry_sec", 15)
    # A peer that is gone without a word is noticed within a minute, not after the system's two hours.
    settled.setdefault("tcp_user_timeout_sec", 30)
    if settled.get("keepalives", True):
        settled.setdefault("keepalives_idle_sec", 30)
        settled.setdefault("keepalives_interval_sec", 10)
        settled.setdefault("keepalives_retries", 3)
    timeouts = {settled[name] for name in STATEMENT_TIMEOUTS.values() if name in settled}
    if len(timeouts) >= settled["max_db_pool_size"]:
        raise ValueError(
            f"max_db_pool_size: {len(timeouts)} different statement timeouts need a connection each, and one "
            f"more for other statements: {len(timeouts) + 1} or more, got {settled['max_db_pool_size']}"
        )
    _settle_tls(settled)
    return settled


def _settle_tls(settings: dict[str, Any]) -> None:
    """Leave `ssl_mode` and `ca_file` as the connection will be made, see `PsqlpyConfig` for the reasons."""
    renamed = settings.pop("sslrootcert", None)
    if renamed is not None and settings.setdefault("ca_file", renamed) != renamed:
        raise ValueError("ca_file, sslrootcert: two names of one key, given with different values")
    ca_file = settings.get("ca_file")
    mode = settings.setdefault("ssl_mode", "verify-full" if ca_file else "disable")
    if mode in ("allow", "prefer") and not ca_file:
        raise ValueError(
            f"ssl_mode: psqlpy 0.13 cannot do {mode!r} without a ca_file (it would always speak plain text): "
            "write 'require' (TLS, certificate not checked), 'verify-full' with a ca_file, or 'disable'"
        )
    if mode in ("verify-ca", "verify-full") and not ca_file:
        raise ValueError(
            f"ssl_mode: {mode!r} needs ca_file, a PEM file with the root certificate "
            "(ca_file='system' takes the machine's own trusted roots)"
        )
    if mode == "disable" or ca_file is None:
        settings.pop("ca_file", None)
        return
    if ca_file == "system":
        paths = ssl.get_default_verify_paths()
        ca_file = paths.cafile or paths.openssl_cafile
    if not Path(ca_file).is_file():
        raise ValueError(f"ca_file: no such file: {ca_file!r}")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(ca_file)
    except (ssl.SSLError, OSError) as error:
        raise ValueError(
            f"ca_file: {ca_file!r} holds no PEM certificates that can be read: {error}"
        ) from error
    settings["ca_file"] = ca_file
