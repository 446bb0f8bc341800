"""Reading settings with libpq's names: parameters of a connection string, and environment variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from adk_psqlpy.connections.dsn import parse_dsn
from adk_psqlpy.connections.keys import KEYS, NO_CLIENT_CERTIFICATES, checked, close_to
from adk_psqlpy.connections.service_file import read_service

_FROM_LIBPQ = {key.libpq: name for name, key in KEYS.items() if key.libpq} | {
    "keepalives_count": "keepalives_retries"
}

# libpq parameters that psqlpy does not have: the values that ask for what happens anyway, and why others
# cannot be.
_WITHOUT: dict[str, tuple[tuple[str, ...], str]] = {
    "client_encoding": (("utf8", "utf-8", "auto"), "psqlpy always speaks UTF8"),
    "gssencmode": (("disable", "prefer"), "psqlpy has no GSSAPI"),
    "sslnegotiation": (("postgres",), "psqlpy starts TLS only after asking the server"),
    "sslcompression": (("0",), "psqlpy has no TLS compression"),
    "tcp_user_timeout": ((), "libpq means milliseconds and psqlpy seconds: use the key tcp_user_timeout_sec"),
    "passfile": ((), "name it in the environment variable PGPASSFILE"),
    "sslpassword": ((), NO_CLIENT_CERTIFICATES),
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
_ENVIRONMENT_TARGET = ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGSERVICE")


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
    # A service's parameters come before those of the other variables (manual, 32.17).
    return read_parameters(found, "environment variables PG*", environment, service_first=True)


def read_parameters(
    parameters: Mapping[str, str],
    source: str,
    environment: Mapping[str, str] | None = None,
    *,
    service_first: bool = False,
) -> dict[str, Any]:
    """Turn libpq parameters into settings, those of a `service` from its file included.

    Raises ValueError for each that psqlpy cannot honour.
    """
    settings: dict[str, Any] = {}
    if name := parameters.get("service"):
        ours = {key: value for key, value in parameters.items() if key != "service"}
        service = read_service(name, os.environ if environment is None else environment)
        parameters = ours | service if service_first else service | ours
        source = f"{source}, service {name!r}"
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
            return {"hosts": checked("hosts", parts)}
        return {"ports": checked("ports", [_number(libpq, part or "5432", source) for part in parts])}
    if key.kind == "whole":
        number = _number(libpq, text, source)
        if name == "connect_timeout_sec" and number <= 0:  # libpq: wait for ever
            return {}
        return {name: checked(name, number)}
    if key.kind == "flag":
        return {name: _number(libpq, text, source) != 0}
    return {name: checked(name, text)}


def _number(libpq: str, text: str, source: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{source}: {libpq} is not a whole number") from None
