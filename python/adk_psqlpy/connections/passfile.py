"""The password file, as libpq reads it (PostgreSQL manual, 32.16)."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

logger = logging.getLogger("adk_psqlpy")

# Where libpq looks for a Unix socket if nothing else is said; the file calls that `localhost`.
_SOCKET_DIRECTORIES = ("/tmp", "/var/run/postgresql", "/run/postgresql")  # noqa: S108


def path_of(environment: Mapping[str, str]) -> Path:
    """`PGPASSFILE`, else `~/.pgpass`."""
    return Path(environment.get("PGPASSFILE") or "~/.pgpass").expanduser()


def read_password(path: Path, host: str, port: int, database: str, user: str) -> str | None:
    """The password of the first line that matches; `None` if no line does, or there is no such file.

    As in libpq, a file that others than its owner may read is ignored, with a warning.
    """
    if not path.is_file():
        return None
    if os.name == "posix" and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        logger.warning(
            "password file %s has group or world access, so it is not read: set its permissions to 0600",
            path,
        )
        return None
    if host in _SOCKET_DIRECTORIES:
        host = "localhost"
    wanted = (host, str(port), database, user)
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        fields = list(_fields(line))
        if len(fields) >= 5 and all(
            is_any or text == value for (text, is_any), value in zip(fields[:4], wanted, strict=True)
        ):
            return fields[4][0]
    return None


def _fields(line: str) -> Iterator[tuple[str, bool]]:
    """The fields of a line without their escapes, and whether each is a bare `*`."""
    text, start, at = "", 0, 0
    while at < len(line):
        if line[at] == "\\" and at + 1 < len(line):
            text += line[at + 1]
            at += 2
            continue
        if line[at] == ":":
            yield text, line[start:at] == "*"
            text, start = "", at + 1
        else:
            text += line[at]
        at += 1
    yield text, line[start:] == "*"
