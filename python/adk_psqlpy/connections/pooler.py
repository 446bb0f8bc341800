"""Time limits of statements behind pgbouncer, where a connection's settings would reach the next client."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from contextlib import suppress
from typing import Any, Final

from psqlpy import Connection, QueryResult
from psqlpy.exceptions import Error

from adk_psqlpy.connections.lease import send_only

_VERSION: Final = 3 << 16
_TLS_REQUEST: Final = struct.pack("!ii", 8, 80877103)
# PostgreSQL takes a startup parameter with a dot for a setting of an extension, and goes on to ask for a
# password. pgbouncer refuses parameters that it does not know and was not told to ignore, before it asks for
# a password.
_UNKNOWN: Final = "adk_psqlpy.probe"
_REFUSAL: Final = b"unsupported startup parameter"


async def is_pgbouncer(
    host: str, port: int, user: str, database: str, *, tls: bool, timeout_sec: float
) -> bool | None:
    """Whether pgbouncer answers there; `None` if nobody does.

    It sends the first message of the protocol, reads the answer, and closes the connection.
    """
    try:
        return await asyncio.to_thread(_refuses, host, port, user, database, tls, timeout_sec)
    except (OSError, EOFError):
        return None


def _refuses(host: str, port: int, user: str, database: str, tls: bool, timeout_sec: float) -> bool:
    with _connected(host, port, timeout_sec) as plain, _wrapped(plain, tls) as connection:
        names = {"user": user, "database": database, _UNKNOWN: "1"}
        text = b"".join(each.encode() + b"\0" for pair in names.items() for each in pair)
        connection.sendall(struct.pack("!ii", len(text) + 9, _VERSION) + text + b"\0")
        kind, length = struct.unpack("!ci", _exactly(connection, 5))
        return bool(kind == b"E" and _REFUSAL in _exactly(connection, min(length, 1 << 16) - 4))


def _connected(host: str, port: int, timeout_sec: float) -> socket.socket:
    if not host.startswith("/"):
        return socket.create_connection((host, port), timeout_sec)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(timeout_sec)
    connection.connect(f"{host}/.s.PGSQL.{port}")
    return connection


def _wrapped(connection: socket.socket, tls: bool) -> socket.socket:
    if not tls or connection.family == socket.AF_UNIX:
        return connection
    connection.sendall(_TLS_REQUEST)
    if _exactly(connection, 1) != b"S":
        return connection
    # Nothing secret is sent, so the certificate need not be checked.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(connection)


def _exactly(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        part = connection.recv(size - len(found))
        if not part:
            raise EOFError
        found += part
    return found


async def fetch_within(
    connection: Connection, sql: str, parameters: list[Any], timeout_sec: float
) -> QueryResult:
    """Run one statement with a time limit of its own, by `SET LOCAL` in a transaction.

    The connection must have nothing else in flight. Three round trips.
    """
    await connection.execute_batch(f"BEGIN; SET LOCAL statement_timeout = {round(timeout_sec * 1000)}")
    try:
        result = await connection.fetch(sql, parameters)
    except asyncio.CancelledError:  # the loop is ending
        send_only(connection.execute_batch("ROLLBACK"))
        raise
    except Exception:
        with suppress(Error):  # the connection is broken, and the first error says more
            await connection.execute_batch("ROLLBACK")
        raise
    await connection.execute_batch("COMMIT")
    return result
