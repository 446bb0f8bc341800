"""Making psqlpy's pool from settings, and not using one after a fork."""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Mapping
from functools import cache
from typing import Any

from psqlpy import ConnectionPool, SslMode

from adk_psqlpy.connections.dsn import Secret, render_dsn
from adk_psqlpy.connections.keys import KEYS

# The process in which psqlpy first got a pool. Its worker threads do not survive a fork: in a child of that
# process every call hangs for ever (tried), so it is refused instead.
_driver_pid: int | None = None
# Pools of a parent process, kept for ever: dropping one could act on sockets shared with the parent.
_foreign: list[ConnectionPool] = []


def make_pool(settings: Mapping[str, Any]) -> ConnectionPool:
    """Make a pool, and note that this process has one.

    Args:
        settings: as `options.settle` gives them.
    """
    global _driver_pid
    pool = _pool_of(settings)
    _driver_pid = os.getpid()
    _let_the_driver_end()
    return pool


def keep_of_parent(pool: ConnectionPool) -> None:
    """Keep a pool that was made before a fork, untouched."""
    _foreign.append(pool)


def refuse_after_fork() -> None:
    """Refuse a child of a process that had used psqlpy.

    Raises:
        RuntimeError: this process is one.
    """
    if _driver_pid not in (None, os.getpid()):
        raise RuntimeError(
            "this process was forked after psqlpy had made a pool, and psqlpy's threads do not survive "
            "a fork: every call would hang. Make the first pool after the fork (gunicorn: in a worker, "
            "not under --preload; multiprocessing: the start method 'spawn' or 'forkserver')"
        )


@cache
def _let_the_driver_end() -> None:
    """Give psqlpy's threads a moment at exit.

    They release the objects of a finished call after its await has returned, and there is nothing to wait
    for. If the interpreter ends in between, it aborts ("PyGILState_Release: thread state must be current",
    pyo3-async-runtimes #40). Measured on 2 busy cores: 30 of 40 processes that ended right after an await
    aborted, 4 with a pause of 1 ms, none with 10.
    """
    atexit.register(time.sleep, 0.05)


def _pool_of(settings: Mapping[str, Any]) -> ConnectionPool:
    """Hand the settings to psqlpy.

    Nearly all go in a DSN: its keyword arguments drop keepalives=False. `ssl_mode` goes as an argument:
    psqlpy makes no TLS for one in the DSN.
    """
    parameters = {"host": ",".join(settings["hosts"]), "port": ",".join(map(str, settings["ports"]))}
    for name, value in settings.items():
        keyword = {"tcp_user_timeout_sec": "tcp_user_timeout"}.get(name, KEYS[name].libpq)
        if keyword is None or name in ("ssl_mode", "ca_file"):
            continue
        parameters[keyword] = _as_text(value)
    mode, ca_file = settings["ssl_mode"], settings.get("ca_file")
    if all(host.startswith("/") for host in settings["hosts"]):
        mode, ca_file = "disable", None
    recycling = settings.get("conn_recycling_method")
    return ConnectionPool(
        dsn=render_dsn(parameters),
        ssl_mode=SslMode.Require if mode.startswith("verify-") else KEYS["ssl_mode"].choices[mode],
        ca_file=ca_file,
        max_db_pool_size=settings["max_db_pool_size"],
        conn_recycling_method=KEYS["conn_recycling_method"].choices[recycling] if recycling else None,
    )


def _as_text(value: object) -> str:
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, bool):
        return str(int(value))
    return str(value)
