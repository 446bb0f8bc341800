"""`adk-psqlpy doctor --features`: which services run on a server."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from psqlpy.exceptions import Error

from adk_psqlpy import PsqlpyConfig
from adk_psqlpy.admin.features import services_that_run, try_features
from adk_psqlpy.cli import main
from servers import Database, run_sql

SCHEMAS = "SELECT nspname::text AS name FROM pg_namespace WHERE nspname LIKE 'adk\\_features%'"


async def test_all_works_on_this_server(config: PsqlpyConfig, database: Database) -> None:
    """On PostgreSQL itself every construct works, and nothing is left of the attempt."""
    features = await try_features(config)
    assert {each.name: each.problem for each in features if each.problem is not None} == {}
    assert len(features) == len({each.name for each in features}) > 10
    assert services_that_run(features) == {"sessions": True, "memory": True, "artifacts": True}
    assert run_sql(database.dsn, SCHEMAS) == [[]]


async def test_a_role_that_may_not(database: Database) -> None:
    """Without the right to make a schema, the error says so, and nothing is left."""
    role = f"{database.name}_reader"
    run_sql(database.dsn, f"CREATE ROLE {role} LOGIN")
    try:
        dsn = database.server.database_dsn(database.name, user=role)
        async with PsqlpyConfig({"dsn": dsn, "max_db_pool_size": 4}) as config:
            with pytest.raises(Error, match="permission denied"):
                await try_features(config)
    finally:
        run_sql(database.dsn, f"DROP ROLE {role}")
    assert run_sql(database.dsn, SCHEMAS) == [[]]


def test_the_verb(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each construct, one for each service, and the exit code says whether all run."""
    assert main(["doctor", "--features", "--dsn", database.dsn]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3:] == ["sessions: runs here", "memory: runs here", "artifacts: runs here"]
    assert all(line.endswith("  works") for line in lines[:-3])


def test_the_commands_of_the_page(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    """What docs/scale.md says to type works here; to distribute needs a cluster, and is told so."""
    page = (Path(__file__).parents[2] / "docs" / "scale.md").read_text(encoding="utf-8")
    lines = re.findall(r"^```sh\n(.*)\n```$", page, re.MULTILINE)
    commands = [[*shlex.split(line)[:-1], database.dsn] for line in lines]
    assert [each[1] for each in commands] == ["distribute", "doctor"]
    assert [main(each[1:]) for each in commands] == [1, 0]
    assert "no extension citus" in capsys.readouterr().err
