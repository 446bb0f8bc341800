"""Finding out which services run on a server, by trying each construct that their statements use."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from psqlpy import Connection
from psqlpy.exceptions import Error

from adk_psqlpy.config import PsqlpyConfig
from adk_psqlpy.sql.features import Service, begin, constructs, end

_EVERY: tuple[Service, ...] = ("sessions", "memory", "artifacts")
_PREPARED = "prepared statements, kept by a pooler too"


@dataclass(frozen=True)
class Feature:
    """A construct that was tried, the services that need it, and why it fails (`None` if it works)."""

    name: str
    needed_by: tuple[Service, ...]
    problem: str | None


async def try_features(config: PsqlpyConfig) -> list[Feature]:
    """Try all constructs in a schema of their own, and drop the schema.

    The role must be allowed to make a schema.

    Raises:
        psqlpy.exceptions.Error: the server cannot be reached, or the schema or its tables were not made.
    """
    schema = f"adk_features_{secrets.token_hex(6)}"
    async with config.provide_connection() as connection:
        try:
            await connection.execute_batch(begin(schema))
            found = [
                Feature(each.name, each.needed_by, await _problem(_try(connection, each.batch, each.query)))
                for each in constructs(schema)
            ]
        finally:
            await connection.execute_batch(end(schema))
    found.append(Feature(_PREPARED, _EVERY, await _problem(_prepared(config))))
    found.append(Feature("pipelining", _EVERY, await _problem(_pipelined(config))))
    # No service depends on it: behind pgbouncer, statement timeouts are set within transactions.
    found.append(Feature("settings of a session", (), await _problem(_kept_settings(config))))
    return found


def services_that_run(features: list[Feature]) -> dict[Service, bool]:
    """Tell for each service whether everything that it needs works."""
    return {
        each: all(feature.problem is None for feature in features if each in feature.needed_by)
        for each in _EVERY
    }


async def _problem(attempt: Awaitable[None]) -> str | None:
    try:
        await attempt
    except Error as error:
        return str(error)
    return None


async def _try(connection: Connection, batch: str, query: str) -> None:
    if batch:
        await connection.execute_batch(batch)
        return
    rows = (await connection.fetch(query)).result(as_tuple=True)
    if rows != [(True,)]:
        raise Error(f"it gave {rows!r}")


async def _prepared(config: PsqlpyConfig) -> None:
    """Several clients each use their prepared statement while others hold the server's connections."""
    query = "SELECT $1::int + 1 AS n"
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(config.provide_connection()) for _ in range(2)]
        for number in range(6):
            for client in clients:
                await client.fetch(query, [number])
            holder, other = clients[number % 2], clients[(number + 1) % 2]
            await holder.execute_batch("BEGIN")
            await holder.fetch(query, [number])
            await other.fetch(query, [number])
            await holder.execute_batch("COMMIT")


async def _pipelined(config: PsqlpyConfig) -> None:
    async with config.provide_connection() as connection:
        answers = await asyncio.gather(
            *(connection.fetch("SELECT $1::int AS n", [number]) for number in range(20))
        )
        found = [answer.result(as_tuple=True)[0][0] for answer in answers]
        if found != list(range(20)):
            raise Error(f"the answers came as {found}")


async def _kept_settings(config: PsqlpyConfig) -> None:
    async with config.provide_connection() as mine, config.provide_connection() as other:
        await mine.execute_batch("SET adk_psqlpy.probe = '1'")
        query = "SELECT coalesce(current_setting('adk_psqlpy.probe', true), '')"
        for _ in range(5):
            for client, expected in ((other, ""), (mine, "1")):
                found = (await client.fetch(query)).result(as_tuple=True)[0][0]
                if found != expected:
                    raise Error("settings reach other clients, as behind a pooler in transaction mode")
