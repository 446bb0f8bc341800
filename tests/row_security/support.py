"""What the tests of row-level security share: services as a role, and all that a role can see."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adk_psqlpy import (
    PsqlpyADKStore,
    PsqlpyArtifactService,
    PsqlpyConfig,
    PsqlpyMemoryService,
    PsqlpySessionService,
)
from adk_psqlpy.credentials import PsqlpyCredentialService
from adk_psqlpy.seal import UserKeys
from keys import TestKeys, fresh_seal
from servers import run_sql

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# They tell of no user.
UNCONCERNED = {"adk_metadata", "adk_artifact_metadata", "adk_credentials_metadata", "adk_user_keys_metadata"}


@dataclass(frozen=True)
class Services:
    """All services of one role."""

    config: PsqlpyConfig
    store: PsqlpyADKStore
    sessions: PsqlpySessionService
    memory: PsqlpyMemoryService
    artifacts: PsqlpyArtifactService
    credentials: PsqlpyCredentialService
    keys: UserKeys


@asynccontextmanager
async def services_at(dsn: str) -> AsyncIterator[Services]:
    """The services on a pool of their own."""
    async with PsqlpyConfig({"dsn": dsn, "max_db_pool_size": 4}) as config:
        store = PsqlpyADKStore(config)
        yield Services(
            config,
            store,
            PsqlpySessionService(store, stale_policy="merge"),
            PsqlpyMemoryService(config),
            PsqlpyArtifactService(config),
            PsqlpyCredentialService(config, fresh_seal()),
            UserKeys(config, TestKeys("master")),
        )


async def make_all(services: Services) -> None:
    """The tables of all services, with all that can be asked for, under row-level security."""
    await services.store.create_tables(
        row_security=True, views=True, event_search=True, notify=True, audit=True
    )
    await services.memory.create_tables(row_security=True)
    await services.artifacts.create_tables(row_security=True)
    await services.credentials.create_tables(row_security=True)
    await services.keys.create_tables(row_security=True)


def relations(dsn: str) -> list[str]:
    """Every table and view in the schemas of users."""
    (rows,) = run_sql(
        dsn,
        """SELECT c.relname::text AS name FROM pg_class AS c
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relnamespace::regnamespace::text NOT IN
            ('pg_catalog', 'information_schema', 'pg_toast') ORDER BY 1""",
    )
    return [row["name"] for row in rows]


def seen_by(dsn: str, names: list[str]) -> dict[str, int]:
    """How many rows a role sees in each, without those where it sees none; -1 where it may not look."""
    told = ", ".join(f"has_table_privilege('{name}', 'SELECT') AS \"{name}\"" for name in names)
    ((allowed,),) = run_sql(dsn, f"SELECT {told}")
    counts = run_sql(dsn, *(f'SELECT count(*) AS n FROM "{name}"' for name in names if allowed[name]))
    found = {name: -1 for name in names if not allowed[name]}
    readable = (name for name in names if allowed[name])
    found.update({name: rows[0]["n"] for name, rows in zip(readable, counts, strict=True) if rows[0]["n"]})
    return found
