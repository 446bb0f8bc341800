"""Passwords that change: asked for again when the server refuses the one at hand."""

from __future__ import annotations

import asyncio
import getpass
import inspect
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from adk_psqlpy.connections import passfile
from adk_psqlpy.connections.dsn import Secret

Asked = Callable[[], "str | Awaitable[str]"]
"""Gives the password to log in with: a function, which is called in a thread, or a coroutine function."""


class PasswordSource:
    """Where a password comes from that may be another one tomorrow."""

    def __init__(self, ask: Asked) -> None:
        self._ask = ask

    def __repr__(self) -> str:
        return "<asked for>"

    async def get(self) -> Secret | None:
        """The password of now.

        Raises:
            ValueError: what was given is no str, or holds U+0000. What the function raises comes through.
        """
        if inspect.iscoroutinefunction(self._ask):
            given: Any = await self._ask()
        else:
            given = await asyncio.to_thread(self._ask)
            if inspect.isawaitable(given):
                given = await given
        if not isinstance(given, str) or "\0" in given:
            what = "a NUL character" if isinstance(given, str) else type(given).__name__
            raise ValueError(f"password: the function must give a str, and gave {what}")
        return Secret(given)


class PasswordFile(PasswordSource):
    """The line of `~/.pgpass`, or of `PGPASSFILE`, that fits the first of the hosts."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._path = passfile.path_of(os.environ)
        self._settings = settings

    async def get(self) -> Secret | None:
        """The password as the file has it now; `None` where no line fits."""
        return await asyncio.to_thread(self._read) if self._path.is_file() else None

    def _read(self) -> Secret | None:
        settings = self._settings
        username = settings.get("username") or getpass.getuser()
        database = settings.get("db_name") or username
        where = (settings["hosts"][0], settings["ports"][0])
        found = passfile.read_password(self._path, *where, database, username)
        return None if found is None else Secret(found)


def source_of(settings: Mapping[str, Any]) -> PasswordSource | None:
    """Where the password comes from; `None` where it is given as it is."""
    given = settings.get("password")
    if isinstance(given, PasswordSource):
        return given
    return None if given is not None else PasswordFile(settings)
