"""`adk-psqlpy grant` and `revoke`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig
from adk_psqlpy.admin.access import Access, list_access
from cli.support import running

if TYPE_CHECKING:
    from secured import Roles
    from servers import Database

pytestmark = pytest.mark.filterwarnings("ignore")


async def test_given_listed_and_taken_back(config: PsqlpyConfig, database: Database, roles: Roles) -> None:
    """In words and as JSON; what is refused ends with exit code 1, and bad usage with 2."""
    await PsqlpyADKStore(config).create_tables()
    role, at = roles.make("shop"), ("--dsn", database.dsn)
    done = await running("grant", role, "shop", *at)
    assert (done.code, done.out) == (0, f"{role} sees and writes the rows of app shop\n")
    done = await running("grant", role, "other", "--user", "ada", "--json", *at)
    assert (done.code, done.json) == (0, [{"role": role, "app_name": "other", "user_id": "ada"}])
    listed = await running("grant", *at)
    assert listed.code == 0
    assert [line.split() for line in listed.out.splitlines()][-2:] == [
        [role, "other", "ada"],
        [role, "shop", "(all)"],
    ]
    done = await running("revoke", role, "other", "--user", "ada", *at)
    assert (done.code, done.out) == (0, f"{role} no longer sees the rows of user ada of app other\n")
    assert await list_access(config) == [Access(role, "shop")]
    refused = await running("grant", "postgres", "shop", *at)
    assert refused.code == 1
    assert "would not bind the role 'postgres': it is a superuser" in refused.err
    for words in ((role,), ("--user", "u"), (role, "")):
        assert (await running("grant", *words, *at)).code == 2, words
    assert (await running("revoke", role, *at)).code == 2
