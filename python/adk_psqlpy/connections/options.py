"""Turning a given `pool_config` into the settings of a pool."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adk_psqlpy.connections.dsn import parse_dsn
from adk_psqlpy.connections.keys import PUBLIC_KEYS, TARGET_KEYS, checked, close_to
from adk_psqlpy.connections.libpq import read_parameters
from adk_psqlpy.connections.sources import Kind

STATEMENT_TIMEOUTS: dict[Kind, str] = {
    "read": "read_timeout_sec",
    "list": "list_timeout_sec",
    "write": "write_timeout_sec",
}


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
    settings = {name: checked(name, value) for name, value in given.items() if value is not None}
    dsn = settings.pop("dsn", None)
    if dsn is not None:
        doubled = [name for name in (*TARGET_KEYS, "target_session_attrs") if name in settings]
        if doubled:
            raise ValueError(
                f"pool_config: give dsn or {', '.join(doubled)}, not both: put them into the dsn"
            )
        settings = read_parameters(parse_dsn(dsn.reveal()), "dsn") | settings
    return settings


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
    # A peer that vanished is noticed within a minute, and not after the system's two hours.
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
    """Set `ssl_mode` and `ca_file` to what the connection will use; see `PsqlpyConfig` for the reasons."""
    renamed = settings.pop("sslrootcert", None)
    if renamed is not None and settings.setdefault("ca_file", renamed) != renamed:
        raise ValueError(
            "ca_file, sslrootcert: two names of one key, given with different values: leave one of them out"
        )
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
