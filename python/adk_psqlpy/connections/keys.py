"""The table of the keys of `PsqlpyConfig(pool_config=...)`, and checking values by it."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from psqlpy import ConnRecyclingMethod, LoadBalanceHosts, SslMode, TargetSessionAttrs

from adk_psqlpy.connections.dsn import Secret
from adk_psqlpy.connections.passwords import PasswordSource

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
    """One key of `pool_config`: its values, its default, and its meaning."""

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
    "password": Key(
        "secret",
        "of ~/.pgpass",
        "its password, or a function or coroutine function that gives it; never shown",
        "password",
    ),
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
        "how long a statement is tried again when its connection breaks or the server recovers; set 60 where "
        "Patroni fails over; 0: not",
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

# The keys that say where the server is. If none is given, the environment is read.
TARGET_KEYS = ("dsn", "host", "hosts", "port", "ports", "username", "password", "db_name", "hostaddr")

PUBLIC_KEYS = tuple(name for name in KEYS if name not in ("hostaddr", "channel_binding"))

NO_CLIENT_CERTIFICATES = (
    "psqlpy 0.13 cannot present a client certificate. Use password (scram-sha-256) authentication over "
    "ssl_mode='verify-full', or a local TLS proxy (pgbouncer, stunnel, a cloud provider's proxy) "
    "that holds the certificate"
)


def key_table(indent: str = "") -> str:
    """Return the public keys as Markdown list items, one for each line: name, type, default, meaning."""
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


def checked(name: str, value: object) -> Any:
    """Return `value` in the key's own form. Raises ValueError if it does not fit."""
    if name in ("sslcert", "sslkey"):
        raise ValueError(f"{name}: {NO_CLIENT_CERTIFICATES}")
    key = KEYS[name]
    if name == "password" and callable(value):
        return PasswordSource(value)
    wanted = _WANTED[key.kind]
    if key.kind == "choice":
        return _chosen(name, key, value)
    if key.kind in ("texts", "wholes"):
        if isinstance(value, str | bytes) or not isinstance(value, Sequence) or not value:
            raise ValueError(f"{name}: {wanted}, not empty, is wanted, got {value!r}")
        return [checked("host" if key.kind == "texts" else "port", item) for item in value]
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
    """Accept a choice as text (in upper or lower case, with `_` or `-`), as psqlpy's enum member, or as its
    name.
    """
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
