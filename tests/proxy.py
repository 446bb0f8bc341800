"""A proxy before a PostgreSQL server: counts round trips, and breaks connections as a test asks.

It reads the frontend/backend protocol (manual, 54.2) as far as needed to know where a request and where its
answer ends: a request is what a client sends up to Sync (`S`), Flush (`H`) or a simple query (`Q`), after
which it waits; its answer ends with ReadyForQuery (`Z`).
"""

from __future__ import annotations

import asyncio
import enum
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from typing_extensions import Self

from adk_psqlpy import PsqlpyConfig
from adk_psqlpy.connections.dsn import parse_dsn

LIMIT_SEC = 10


class Cut(enum.Enum):
    """When a connection is cut, seen from one request."""

    BEFORE = "before the request reaches the server"
    DURING = "as soon as the server has the request"
    WITHIN = "halfway through the answer"
    AFTER = "after the server has answered, before the client hears of it"


class Proxy:
    """Passes everything on between clients and the server of `dsn`.

    Listens on a Unix socket in `directory`, or without one on a free port of 127.0.0.1. Leaving the block
    waits until the last client has left, unless `cut_all` was called.

    Attributes:
        counted: the requests so far; the first packets of a connection are none.
        cuts: how often each cut was made.
        fate: asked for each request of an established connection; `None` lets it pass.
        delay: seconds that a request waits here; asked for each.
    """

    def __init__(self, dsn: str, directory: Path | None = None) -> None:
        self._target = parse_dsn(dsn)
        self._directory = directory
        self._tasks: set[asyncio.Task[None]] = set()
        self._lines: set[_Line] = set()
        self._passing = asyncio.Event()
        self._passing.set()
        self._refusing = False
        self.counted = 0
        self.cuts: Counter[Cut] = Counter()
        self.fate: Callable[[], Cut | None] = lambda: None
        self.delay: Callable[[], float] = lambda: 0.0

    def config(self, **settings: Any) -> PsqlpyConfig:
        """A configuration that connects through here; two connections unless `settings` say otherwise."""
        given: dict[str, Any] = {"host": self.host, "port": self.port, "max_db_pool_size": 2}
        for name, libpq in (("db_name", "dbname"), ("username", "user"), ("password", "password")):
            if libpq in self._target:
                given[name] = self._target[libpq]
        return PsqlpyConfig(pool_config=given | settings)

    def black_hole(self) -> None:
        """Take everything and pass nothing on, in either direction, on old and new connections."""
        self._passing.clear()

    def pass_again(self) -> None:
        """End the black hole: what was held back goes on."""
        self._passing.set()

    def refuse(self, refusing: bool = True) -> None:
        """Cut every new connection at once, or no longer."""
        self._refusing = refusing

    def cut_all(self) -> int:
        """Cut the connections that are open now; how many."""
        lines = list(self._lines)
        for line in lines:
            line.cut()
        return len(lines)

    async def __aenter__(self) -> Self:
        """Listen."""
        if self._directory is not None:
            self.host, self.port = str(self._directory), 5432
            self._server = await asyncio.start_unix_server(self._serve, f"{self.host}/.s.PGSQL.{self.port}")
        else:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            self.host, self.port = self._server.sockets[0].getsockname()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop, when the last client has left."""
        self._server.close()
        self.pass_again()
        if error is not None:
            self.cut_all()
        await asyncio.wait_for(asyncio.gather(*self._tasks), LIMIT_SEC)

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._connect(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        host, port = self._target["host"], self._target["port"]
        try:
            if host.startswith("/"):
                back, on = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
            else:
                back, on = await asyncio.open_connection(host, int(port))
        except OSError:  # the server is down
            writer.transport.abort()
            return
        line = _Line(self, (reader, writer), (back, on))
        self._lines.add(line)
        try:
            await asyncio.gather(line.requests(), line.answers())
        finally:
            self._lines.discard(line)


class _Line:
    """One client's connection, and the one to the server that belongs to it."""

    def __init__(
        self,
        proxy: Proxy,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._proxy = proxy
        self._from_client, self._to_client = client
        self._from_server, self._to_server = server
        self._asked = 0  # requests that the server answers with a `Z`
        self._answered = -1  # the first `Z` ends the log-in
        self._withhold: tuple[int, Cut] | None = None

    def cut(self) -> None:
        """End both sides at once, unread data lost."""
        self._to_client.transport.abort()
        self._to_server.transport.abort()

    async def requests(self) -> None:
        """Pass on what the client sends, a request at a time."""
        head, request = b"", b""
        try:
            while True:
                length = await self._from_client.readexactly(4)
                body = await self._from_client.readexactly(int.from_bytes(length, "big") - 4)
                request += head + length + body
                if head in (b"S", b"H", b"Q", b"X", b"", b"p"):
                    await self._pass(head, request)
                    request = b""
                head = await self._from_client.readexactly(1)
        except (asyncio.IncompleteReadError, ConnectionError):  # the client has left, or was cut
            self._to_server.close()

    async def _pass(self, head: bytes, request: bytes) -> None:
        proxy = self._proxy
        fate = None
        if head in (b"S", b"H", b"Q"):
            proxy.counted += 1
            fate = proxy.fate() if head != b"H" else None
            seconds = proxy.delay()
            if seconds:
                await asyncio.sleep(seconds)
        await proxy._passing.wait()
        if fate is not None and self._withhold is None:
            proxy.cuts[fate] += 1
            if fate is Cut.BEFORE:
                self.cut()
                return
            if fate is not Cut.DURING:
                self._withhold = (self._asked, fate)
        self._asked += head in (b"S", b"Q")
        self._to_server.write(request)
        await self._to_server.drain()
        if fate is Cut.DURING and self._withhold is None:
            # The client's side only: the server has the whole request and will find nobody to answer to.
            self._to_client.transport.abort()

    async def answers(self) -> None:
        """Pass on what the server sends, a message at a time."""
        held = b""
        try:
            while True:
                head = await self._from_server.readexactly(1)
                length = await self._from_server.readexactly(4)
                message = head + length
                message += await self._from_server.readexactly(int.from_bytes(length, "big") - 4)
                await self._proxy._passing.wait()
                doomed = self._withhold is not None and self._withhold[0] == self._answered
                if doomed:
                    held += message
                else:
                    self._to_client.write(message)
                    await self._to_client.drain()
                if head == b"Z":
                    if doomed:
                        break
                    self._answered += 1
        except (asyncio.IncompleteReadError, ConnectionError):  # the server has left, or was cut
            pass
        else:
            if self._withhold is not None and self._withhold[1] is Cut.WITHIN:
                self._to_client.write(held[: len(held) // 2])
                self._to_client.close()
                self._to_server.transport.abort()
                return
            self.cut()
        self._to_client.close()
