"""Finding out why a server refuses a connection, from its message or by asking the server.

psqlpy passes no SQLSTATE on. The text is certain where the server speaks English. Where it does not, a
second, plain connection asks for the SQLSTATE; by then the reason may have passed.
"""

from __future__ import annotations

import asyncio
import struct
from typing import Final

# PostgreSQL manual, appendix A: cannot_connect_now (starting, in recovery, shutting down) and
# too_many_connections. Both are said before authentication, and both pass.
BUSY: Final = frozenset({"57P03", "53300"})

# The messages of these two in PostgreSQL's sources (proc.c, postinit.c, backend_startup.c), 13 to 18.
_BUSY_TEXTS: Final = (
    "sorry, too many clients already",
    "remaining connection slots are reserved for",
    "too many connections for role",
    "too many connections for database",
    "the database system is ",
)

_VERSION: Final = 3 << 16
_LONGEST: Final = 64 << 10


def says_busy(text: str) -> bool:
    """Whether a server's refusal says, in English, that it has no slot left or lets nobody in yet."""
    return "FATAL: " in text and any(busy in text for busy in _BUSY_TEXTS)


async def sqlstate(host: str, port: int, user: str, database: str, timeout_sec: float) -> str | None:
    """The SQLSTATE with which a server refuses a plain connection; `None` if it does not answer, or asks for
    a password.

    Sends the first message of the protocol (manual, 54.2.1), reads the answer and hangs up.
    """
    try:
        return await asyncio.wait_for(_ask(host, port, user, database), timeout_sec)
    except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError):
        return None


async def _ask(host: str, port: int, user: str, database: str) -> str | None:
    if host.startswith("/"):
        reader, writer = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
    else:
        reader, writer = await asyncio.open_connection(host, port)
    try:
        names = b"".join(
            text.encode() + b"\0"
            for text in ("user", user, "database", database, "application_name", "adk-psqlpy")
        )
        writer.write(struct.pack("!ii", len(names) + 9, _VERSION) + names + b"\0")
        kind, body = await _message(reader)
        if (kind, body) == (b"R", b"\0\0\0\0"):  # let in without a password; slots are counted later
            kind, body = await _message(reader)
        if kind != b"E":
            return None
        fields = body.split(b"\0")
        return next((field[1:].decode("ascii", "replace") for field in fields if field[:1] == b"C"), None)
    finally:
        writer.close()


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    kind, length = struct.unpack("!ci", await reader.readexactly(5))
    return (kind, await reader.readexactly(length - 4)) if 4 <= length < _LONGEST else (b"", b"")
