"""Asking the servers of a configuration without psqlpy, which tells neither who answers nor why a server
refuses.
"""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Mapping
from typing import Any

from adk_psqlpy.connections.knock import BUSY, sqlstate
from adk_psqlpy.connections.pooler import is_pgbouncer


def addresses(settings: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Each host with its port."""
    hosts, ports = settings["hosts"], settings["ports"]
    return list(zip(hosts, ports * len(hosts) if len(ports) == 1 else ports, strict=True))


async def is_busy(settings: Mapping[str, Any]) -> bool:
    """Whether a server says that it is starting, in recovery, or out of connections."""
    user, database = _login(settings)
    limit = min(settings["acquire_timeout_sec"], 1)
    refusals = await asyncio.gather(
        *(sqlstate(host, port, user, database, limit) for host, port in addresses(settings))
    )
    return any(refusal in BUSY for refusal in refusals)


async def is_pooler(settings: Mapping[str, Any]) -> bool | None:
    """Whether pgbouncer answers at one of the addresses; `None` if nobody answers."""
    user, database = _login(settings)
    tls = settings["ssl_mode"] != "disable"
    limit = min(settings["acquire_timeout_sec"], 2)
    answers = await asyncio.gather(
        *(
            is_pgbouncer(host, port, user, database, tls=tls, timeout_sec=limit)
            for host, port in addresses(settings)
        )
    )
    return None if all(answer is None for answer in answers) else any(answers)


def _login(settings: Mapping[str, Any]) -> tuple[str, str]:
    user = settings.get("username") or getpass.getuser()
    return user, settings.get("db_name") or user
