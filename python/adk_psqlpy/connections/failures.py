"""Messages for when there is no connection. psqlpy's own say neither where it tried nor what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psqlpy import ConnectionPool

from adk_psqlpy.connections.addresses import addresses
from adk_psqlpy.connections.dsn import Secret


def explain_timeout(settings: Mapping[str, Any], pool: ConnectionPool) -> str:
    """Say why a pool gave no connection in time."""
    seconds, size = settings["acquire_timeout_sec"], settings["max_db_pool_size"]
    if pool.status().size < size:
        return explain(settings, f"no answer within {seconds} s (acquire_timeout_sec)")
    return (
        f"no connection became free within {seconds} s (acquire_timeout_sec): all {size} of the pool "
        "are in use. Leave `async with provide_connection()` blocks sooner, or raise max_db_pool_size, "
        "within the server's max_connections"
    )


def explain(settings: Mapping[str, Any], text: str) -> str:
    """Say what failed, where it was tried, and what to check. The password is shown as stars."""
    reason = text.rpartition("Error occurred while creating a new object: ")[2]
    password = password_of(settings)
    if password:
        reason = reason.replace(password, "***")
    where = ", ".join(f"{host}:{port}" for host, port in addresses(settings))
    user = settings.get("username")
    database = settings.get("db_name") or user
    return (
        f"cannot connect to PostgreSQL at {where} "
        f"(database {_named(database)}, user {_named(user)}, ssl_mode {settings['ssl_mode']}): "
        f"{reason}. Check that the server is running and reachable there, that the database exists, "
        "that the user and password are right, what pg_hba.conf and the server's TLS settings ask for, "
        "and whether max_connections leaves room for max_db_pool_size in every process"
    )


def password_of(settings: Mapping[str, Any]) -> str | None:
    """The password in plain text; `None` if there is none."""
    secret = settings.get("password")
    return secret.reveal() if isinstance(secret, Secret) else None


def _named(name: str | None) -> str:
    return "of the system user" if name is None else repr(name)
