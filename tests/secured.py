"""Roles for tests of row-level security: made, given an app, and dropped at the end."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from adk_psqlpy import PsqlpyADKStore, PsqlpyArtifactService, PsqlpyConfig, PsqlpyMemoryService
from adk_psqlpy.admin.access import grant_access
from servers import run_sql, with_database

if TYPE_CHECKING:
    from collections.abc import Sequence

    from servers import Database


CONTRACT_APPS = (
    *("", "%", "a", "a/u", "a1", "a2", "A", "app", "app2", "b", "no", "nowhere", "other"),
    *("Aber", "A@b.c", "A" + "x" * 127, "A b"),
    "Ä\u0041\u0308 日本 \U0001f469\u200d\U0001f680 \u202eabc \"'\\%s{}$1",
)
"""The apps of the contract suite."""


@dataclass
class Roles:
    """Roles of one test's database; `name` is unique on the server."""

    database: Database
    made: list[str] = field(default_factory=list)

    def name(self, suffix: str) -> str:
        """The role's name."""
        return f"{self.database.name}_{suffix}"

    def make(self, suffix: str, options: str = "LOGIN") -> str:
        """Make a role; gives its name."""
        name = self.name(suffix)
        quoted = name.replace('"', '""')
        run_sql(self.database.dsn, f'CREATE ROLE "{quoted}" {options}')
        self.made.append(name)
        return name

    def dsn(self, role: str) -> str:
        """The database's URL for a role."""
        return with_database(self.database.dsn, self.database.name, user=role)

    def drop(self) -> None:
        """Drop them, with what they were given."""
        for name in self.made:
            quoted = name.replace('"', '""')
            run_sql(self.database.dsn, f'DROP OWNED BY "{quoted}" CASCADE', f'DROP ROLE "{quoted}"')
        self.made.clear()


def secured_dsn(roles: Roles, apps: Sequence[str]) -> str:
    """Make the tables of sessions, memories and artifacts, and a role of these apps; gives the role's URL."""
    role = roles.make("service")

    async def secure() -> None:
        async with PsqlpyConfig({"dsn": roles.database.dsn, "max_db_pool_size": 2}) as config:
            await PsqlpyADKStore(config).create_tables(row_security=True)
            await PsqlpyMemoryService(config).create_tables(row_security=True)
            await PsqlpyArtifactService(config).create_tables(row_security=True)
            # Policies are made from this table: once for all of them, by the grant of the last one.
            async with config.provide_connection() as connection:
                for app in apps[:-1]:
                    await connection.execute(f"INSERT INTO adk_access VALUES ('{role}', $1)", [app])
            await grant_access(config, role=role, app_name=apps[-1])

    # A thread of its own: here a loop may be running.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(secure())).result()
    return roles.dsn(role)
