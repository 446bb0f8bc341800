"""Where the PostgreSQL server is, and the one pool of connections to it."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import Any, Final

from psqlpy import Connection, ConnectionPool
from psqlpy.exceptions import Error

from adk_psqlpy.checks import positive_seconds
from adk_psqlpy.connections import libpq, options
from adk_psqlpy.connections.addresses import is_busy, is_pooler
from adk_psqlpy.connections.dsn import Secret, redact
from adk_psqlpy.connections.embedded import EmbeddedServer
from adk_psqlpy.connections.failures import explain, explain_timeout, password_of
from adk_psqlpy.connections.keys import TARGET_KEYS, key_table
from adk_psqlpy.connections.knock import says_busy
from adk_psqlpy.connections.lanes import Lanes
from adk_psqlpy.connections.lease import GRACE_SEC, Lease
from adk_psqlpy.connections.passwords import AGAIN_SEC, PasswordSource, source_of
from adk_psqlpy.connections.pool import keep_of_parent, make_pool, refuse_after_fork
from adk_psqlpy.connections.replica import PrimaryOnly, Reads, Replica
from adk_psqlpy.connections.retry import RetryPolicy
from adk_psqlpy.connections.sources import LaneSettings
from adk_psqlpy.errors import PoolTimeoutError
from adk_psqlpy.telemetry import PoolStatus, Telemetry

logger: Final = logging.getLogger("adk_psqlpy")

__all__ = ["PsqlpyConfig", "redact"]


class PsqlpyConfig:
    """Connection settings of PostgreSQL, and the pool made from them.

    `pool_config` takes these keys; all of them are optional:

    {table}

    If no key says where the server is, the environment is read when the object is made: `DATABASE_URL`, or
    else libpq's `PGHOST` `PGPORT` `PGUSER` `PGPASSWORD` `PGDATABASE` (with `PGSSLMODE` `PGSSLROOTCERT`
    `PGAPPNAME` `PGOPTIONS` `PGCONNECT_TIMEOUT` `PGTARGETSESSIONATTRS`). If the environment names no server
    either, `create_pool` starts an embedded one. If a key says where the server is, the environment is not
    read at all.

    TLS, as psqlpy 0.13 does it (tried against a real server):

    - no `ssl_mode` and no `ca_file`: plain text, whatever the server offers. A `ca_file` alone means
      verify-full.
    - `require`: TLS or an error. The certificate is checked only if there is a `ca_file`.
    - `verify-full`, `verify-ca`: TLS or an error. Root and host name are checked, for verify-ca too. Both
      need a `ca_file`. psqlpy's own modes of these names fall back to plain text when a server, or somebody
      in between, refuses TLS. So psqlpy is asked for `require` with the `ca_file`, which does not fall back.
    - `prefer`, `allow`: only with a `ca_file`. Checked TLS if the server offers it, plain text otherwise.
    - client certificates: a `ValueError`, because psqlpy has none.
    - a host that is a directory (a Unix socket) speaks no TLS, as in libpq.

    The pool is made once, on first use. It may be used by several event loops, one after another. After
    `os.fork` a child makes a pool of its own if the parent had made none. Otherwise psqlpy would hang, and a
    `RuntimeError` says so.
    """

    def __init__(
        self,
        pool_config: Mapping[str, Any] | None = None,
        *,
        embedded: EmbeddedServer | None = None,
        replica: Mapping[str, Any] | None = None,
        replica_staleness_sec: float = 1.0,
    ) -> None:
        """Check the settings; nothing is connected or started yet.

        Args:
            pool_config: see above.
            embedded: an embedded server of one's own choice.
            replica: the `pool_config` of a streaming standby of the same server, which then answers lists,
                searches and artifacts. It names one host, since each standby has its own lag.
            replica_staleness_sec: a read on the replica contains everything that anybody had written this
                many seconds before it began. It always contains what this configuration has written
                (`connections.replica`).

        Raises:
            ValueError: a key is unknown, of the wrong type, out of range, or asks for what psqlpy cannot do;
                or it says where a server is, and `embedded` is given too.
        """
        given = options.read_pool_config({} if pool_config is None else pool_config)
        named = [name for name in TARGET_KEYS if name in given]
        if embedded is not None and named:
            raise ValueError(
                f"pool_config: {', '.join(named)} and embedded name two servers: leave one of them out"
            )
        self._own_server = embedded
        target: dict[str, Any] | None = {}
        if embedded is not None:
            target = None
        elif not named:
            target = libpq.read_environment(os.environ)
        self._wants_embedded = target is None
        self._given = given if target is None else target | given
        self._settings = options.settle(self._given)
        self._passwords = None if self._wants_embedded else source_of(self._settings)
        if self._passwords is not None:
            self._settings.pop("password", None)
        self._asked = False
        self._renewal: asyncio.Task[None] | None = None
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._pool: ConnectionPool | None = None
        self._embedded: EmbeddedServer | None = None
        self._cleaning: set[asyncio.Task[None]] = set()
        self._reached = False
        self._pooled: bool | None = None
        self.lane_settings = LaneSettings(
            limit=self._settings["max_db_pool_size"],
            retry=RetryPolicy(total_sec=self._settings["retry_sec"]),
            timeouts_sec={
                kind: self._settings[name]
                for kind, name in options.STATEMENT_TIMEOUTS.items()
                if name in self._settings
            },
        )
        self.lanes = Lanes(self)
        hosts, ports = self._settings["hosts"], self._settings["ports"]
        self.telemetry = Telemetry(
            namespace=self._settings.get("db_name"),
            address=None if self._wants_embedded else ",".join(hosts),
            port=ports[0] if len(set(ports)) == 1 else None,
        )
        self.telemetry.watch(self)
        self.replica = None if replica is None else _replica_config(replica)
        staleness_sec = positive_seconds("replica_staleness_sec", replica_staleness_sec)
        self.reads: Reads = (
            PrimaryOnly(self.lanes)
            if self.replica is None
            else Replica(self.lanes, self.replica.lanes, staleness_sec)
        )

    def __repr__(self) -> str:
        """Show the settings, the password as stars."""
        where = "embedded server, " if self._wants_embedded else ""
        return (
            f"PsqlpyConfig({where}{', '.join(f'{name}={value!r}' for name, value in self._shown().items())})"
        )

    def _shown(self) -> dict[str, Any]:
        hidden = ("hosts", "ports") if self._wants_embedded else ()
        return {name: value for name, value in self._settings.items() if name not in hidden}

    async def create_pool(self) -> ConnectionPool:
        """Return the pool, made by the first call; any number of tasks may call at once.

        No connection is opened yet: psqlpy does that when one is asked for. Without a server configured, this
        starts the embedded one (about a second, in a thread).

        Raises:
            ImportError: no server is configured and the extra `[embedded]` is not installed.
            RuntimeError: this process was forked from one that had used psqlpy already.
        """
        self._forget_parent()
        if self._passwords is not None and time.monotonic() >= self._passwords.renew_at:
            await self._renew(self._passwords)
        if self._pool is not None:
            return self._pool
        if self._wants_embedded:
            return await asyncio.to_thread(self._open)
        if self._passwords is not None and not self._asked:
            self._take(await self._passwords.get())
        return self._open()

    def _take(self, password: Secret | None) -> None:
        """Log in with this password from now on."""
        with self._lock:
            self._asked = True
            settings = {name: value for name, value in self._settings.items() if name != "password"}
            self._settings = settings if password is None else settings | {"password": password}

    async def _renew(self, passwords: PasswordSource) -> None:
        """Have the next password asked for, and wait for it only where the one at hand has expired."""
        loop = asyncio.get_running_loop()
        if self._renewal is None or self._renewal.done() or self._renewal.get_loop() is not loop:
            self._renewal = loop.create_task(self._ask_again(passwords, self._pool))
            self._renewal.add_done_callback(partial(_told_of_failure, passwords))
        if time.monotonic() >= passwords.expires_at:
            await asyncio.shield(self._renewal)

    async def _ask_again(self, passwords: PasswordSource, pool: ConnectionPool | None) -> None:
        known = self._settings.get("password")
        password = await passwords.get()
        if self._pool is pool and password != known:
            self._replace(pool, password)

    def _replace(self, pool: ConnectionPool | None, password: Secret | None) -> None:
        """Log in with another password: the next connection makes a new pool.

        The old pool gives up its idle connections. Those in use go on: a server asks for a password at login
        only.
        """
        self._take(password)
        with self._lock:
            self._pool = None
        if pool is not None:
            pool.close()

    async def _password_changed(self, pool: ConnectionPool) -> bool:
        """Whether there is another password than a pool was refused with: then there is a new pool."""
        if self._passwords is None:
            return False
        known = self._settings.get("password")
        password = await self._passwords.get()
        if self._pool is not pool:  # somebody else has noticed, or it was closed
            return True
        if password == known:
            return False
        self._replace(pool, password)
        return True

    def _forget_parent(self) -> None:
        """Notice a fork, and do not touch what the parent opened."""
        pid = os.getpid()
        if pid != self._pid:
            if self._pool is not None:
                keep_of_parent(self._pool)
            self._pid, self._pool, self._embedded = pid, None, None
            self._lock, self._cleaning = threading.Lock(), set()
            self._reached, self._renewal = False, None
        refuse_after_fork()

    def _open(self) -> ConnectionPool:
        with self._lock:
            if self._pool is None:
                if self._wants_embedded:
                    if self._embedded is None:
                        self._embedded = (self._own_server or EmbeddedServer()).start()
                    where = options.read_pool_config({"dsn": self._embedded.dsn})
                    self._settings = options.settle(where | self._given)
                self._pool = make_pool(self._settings)
            return self._pool

    async def close_pool(self) -> None:
        """Close the pool and its idle connections. It may be called again.

        An embedded server that this configuration started is stopped. Connections in use keep working until
        they are given back. A later `create_pool` makes a new pool.
        """
        if self._pid != os.getpid():  # the parent's
            return
        loop = asyncio.get_running_loop()
        here = {task for task in self._cleaning if task.get_loop() is loop}
        if here:
            await asyncio.wait(here, timeout=GRACE_SEC)
        self.lanes.close()
        with self._lock:
            pool, self._pool = self._pool, None
            server, self._embedded = self._embedded, None
        if pool is not None:
            pool.close()
        if self.replica is not None:
            await self.replica.close_pool()
        if server is not None:
            await asyncio.to_thread(server.stop)

    async def __aenter__(self) -> PsqlpyConfig:
        """Make the pool."""
        await self.create_pool()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the pool."""
        await self.close_pool()

    def provide_connection(self) -> AbstractAsyncContextManager[Connection]:
        """Return an async context manager that lends one connection exclusively.

        On any way out of the block, cancellation included, an open transaction is rolled back. Settings
        (`SET`, `SET ROLE`), cursors, LISTENs, advisory locks and temporary tables are dropped. Then the
        connection goes back to the pool. That takes one round trip (0.17 ms on a Unix socket). If a statement
        still runs in the server because its await was cancelled, the clean-up goes on in the background after
        a quarter of a second, and the pool gets the connection when it is free.

        Keep no transaction or cursor object of the connection beyond the block: psqlpy holds the connection
        back for it.

        Raises (on entry):
            psqlpy.exceptions.BaseConnectionPoolError: no connection could be made; the message says to where.
            PoolTimeoutError: there was none within `acquire_timeout_sec`.
            RuntimeError: as `create_pool`; or the same manager is entered a second time.
        """
        return Lease(self._acquire_for_user, self._cleaning)

    async def _acquire_for_user(self) -> Connection:
        await self.create_pool()
        if not self.has_room():
            self.lanes.make_room()
        return await self.acquire()

    def has_room(self) -> bool:
        """Whether the pool has a connection, or may open one, that nobody waits for."""
        if self._pool is None:
            return True
        status = self._pool.status()
        return status.max_size - status.size + status.available > status.waiting

    def pool_status(self) -> PoolStatus | None:
        """psqlpy's status of the pool; `None` if there is no pool yet."""
        return self._pool.status() if self._pool is not None else None

    def give_back(self, connection: Connection) -> None:
        """Give a connection back to the pool as it is."""
        connection.close()

    async def acquire(self) -> Connection:
        """Take a connection out of the pool. All connections are taken here, and errors are explained here.

        Raises:
            psqlpy.exceptions.BaseConnectionPoolError: no connection could be made; the message says to where.
            PoolTimeoutError: there was none within `acquire_timeout_sec`.
        """
        for again in (True, False):
            pool = await self.create_pool()
            try:
                return await self._connection_of(pool)
            except PoolTimeoutError:
                raise
            except Error:
                if not (again and await self._password_changed(pool)):
                    raise
        raise AssertionError("the second try returned or raised")

    async def _connection_of(self, pool: ConnectionPool) -> Connection:
        """A connection of this pool, or an error that says why there is none."""
        try:
            connection = await asyncio.wait_for(
                pool.connection(), timeout=self._settings["acquire_timeout_sec"]
            )
        except asyncio.TimeoutError:
            raise PoolTimeoutError(explain_timeout(self._settings, pool)) from None
        except Error as error:
            text = str(error)
            explained = type(error)(explain(self._settings, text))
            password = password_of(self._settings)
            if password and password in text:
                raise explained from None
            raise explained from error
        self._reached = True
        return connection

    async def may_pass(self, failure: BaseException) -> bool:
        """Whether this failure to connect is worth another try.

        It is if these settings have led to a server before, or if a server says that it is starting, in
        recovery, or has no connection left. A wrong password or port at the first try is an error at once.
        """
        return self._reached or says_busy(str(failure)) or await is_busy(self._settings)

    async def behind_pooler(self) -> bool:
        """Whether pgbouncer answers at one of the addresses. Asked where there are statement timeouts, until
        somebody answers."""
        if self._pooled is None:
            self._pooled = await is_pooler(self._settings)
        return True if self._pooled is None else self._pooled  # True works in either case


# If a replica does not answer, the primary does, so these are short. Settings of the user take precedence.
_REPLICA_DEFAULTS: Final = {"retry_sec": 0, "acquire_timeout_sec": 2, "connect_timeout_sec": 2}


def _replica_config(given: Mapping[str, Any]) -> PsqlpyConfig:
    """The configuration of a replica. Raises ValueError if it does not name exactly one host."""
    settings = options.settle(options.read_pool_config(given))
    if not any(name in given for name in TARGET_KEYS):
        raise ValueError(
            "replica: it names no server: give it a dsn, or a host, as in pool_config "
            "(the environment's variables are the primary's)"
        )
    if len(settings["hosts"]) != 1:
        raise ValueError(
            f"replica: {len(settings['hosts'])} hosts are given, and each standby has its own lag: name one"
        )
    return PsqlpyConfig(_REPLICA_DEFAULTS | dict(given))


if PsqlpyConfig.__doc__:  # absent under -OO
    PsqlpyConfig.__doc__ = PsqlpyConfig.__doc__.replace("{table}", key_table("    "))


def _told_of_failure(passwords: PasswordSource, renewal: asyncio.Task[None]) -> None:
    """A password function that failed early is called again soon; the password at hand is good until then."""
    error = None if renewal.cancelled() else renewal.exception()
    if error is not None:
        passwords.renew_at = time.monotonic() + AGAIN_SEC
        # The error is the function's own, and may hold anything.
        logger.warning(
            "the password function of pool_config raised %s; it is called again in %.0f s",
            type(error).__name__,
            AGAIN_SEC,
        )
