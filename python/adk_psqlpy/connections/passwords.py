"""Passwords that change: asked for again before they expire, and when the server refuses the one at hand."""

from __future__ import annotations

import asyncio
import getpass
import inspect
import math
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from adk_psqlpy.connections import passfile
from adk_psqlpy.connections.dsn import Secret

EARLY_SEC: Final = 60.0
"""So long before a password expires it is asked for again, or after half of the time that it has left."""

AGAIN_SEC: Final = 5.0
"""So long after the function has failed it is called again, while the password at hand is still good."""


@dataclass(frozen=True)
class Password:
    """A password, such as a token of a cloud database, that is good until `expires_at`.

    A `password` function of `pool_config` may give one. It is called again before that time, so that no
    connection is made with an expired one.

    Args:
        value: the password.
        expires_at: seconds since the Unix epoch, or a datetime with a zone.

    Raises:
        ValueError: `expires_at` is neither.
    """

    value: str = field(repr=False)
    expires_at: float | datetime

    def __post_init__(self) -> None:
        at = self.expires_at
        if isinstance(at, datetime):
            if at.tzinfo is None:
                raise ValueError("expires_at has no zone: give seconds since the Unix epoch, or a zone")
        elif isinstance(at, bool) or not isinstance(at, (int, float)) or not math.isfinite(at):
            raise ValueError(f"expires_at must be seconds since the Unix epoch or a datetime, not {at!r}")

    @property
    def left_sec(self) -> float:
        """For how long it is good, from now on."""
        at = self.expires_at
        return (at.timestamp() if isinstance(at, datetime) else float(at)) - time.time()


Asked = Callable[[], "str | Password | Awaitable[str | Password]"]
"""Gives the password to log in with: a function, which is called in a thread, or a coroutine function."""


class PasswordSource:
    """Where a password comes from that may be another one tomorrow.

    `renew_at` and `expires_at` are of the password that was given last, by `time.monotonic`.
    """

    def __init__(self, ask: Asked) -> None:
        self._ask = ask
        self.renew_at = self.expires_at = math.inf

    def __repr__(self) -> str:
        return "<asked for>"

    async def get(self) -> Secret | None:
        """The present password.

        Raises:
            ValueError: the function gave something other than a str, or a str with U+0000. Its own errors are
                raised unchanged.
        """
        if inspect.iscoroutinefunction(self._ask):
            given: Any = await self._ask()
        else:
            given = await asyncio.to_thread(self._ask)
            if inspect.isawaitable(given):
                given = await given
        left_sec = math.inf
        if isinstance(given, Password):
            given, left_sec = given.value, max(0.0, given.left_sec)
        if not isinstance(given, str) or "\0" in given:
            what = "a NUL character" if isinstance(given, str) else type(given).__name__
            raise ValueError(f"password: the function must give a str or a Password, and gave {what}")
        now = time.monotonic()
        self.renew_at = now + max(left_sec - EARLY_SEC, left_sec / 2)
        self.expires_at = now + left_sec
        return Secret(given)


class PasswordFile(PasswordSource):
    """The line of `~/.pgpass`, or of `PGPASSFILE`, that matches the first of the hosts."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.renew_at = self.expires_at = math.inf
        self._path = passfile.path_of(os.environ)
        self._settings = settings

    async def get(self) -> Secret | None:
        """The password in the file now; `None` if no line matches."""
        return await asyncio.to_thread(self._read) if self._path.is_file() else None

    def _read(self) -> Secret | None:
        settings = self._settings
        username = settings.get("username") or getpass.getuser()
        database = settings.get("db_name") or username
        where = (settings["hosts"][0], settings["ports"][0])
        found = passfile.read_password(self._path, *where, database, username)
        return None if found is None else Secret(found)


def source_of(settings: Mapping[str, Any]) -> PasswordSource | None:
    """The source of the password; `None` if the password itself is given."""
    given = settings.get("password")
    if isinstance(given, PasswordSource):
        return given
    return None if given is not None else PasswordFile(settings)
