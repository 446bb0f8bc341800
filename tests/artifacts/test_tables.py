"""The tables: what is made, under which names, by whom, and the arguments that are refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.adk.errors.input_validation_error import InputValidationError
from google.genai import types
from psqlpy.exceptions import NotSupportedError

from adk_psqlpy import PsqlpyConfig
from adk_psqlpy.artifacts import PsqlpyArtifactService
from adk_psqlpy.sql.artifact_tables import MIGRATIONS, SCHEMA_VERSION
from servers import Database, run_sql
from where import FIRST_USE, makes_tables, on_cluster, one_server

from .support import KEY, TABLES, content, count, counts, png

ALL = {*TABLES, "adk_artifact_chunks", "adk_artifact_metadata"}
TEXT = types.Part(text="x")


def tables(dsn: str) -> set[str]:
    """Every table, as schema.name outside `public`."""
    ((*rows,),) = run_sql(
        dsn,
        """SELECT CASE schemaname WHEN 'public' THEN '' ELSE schemaname || '.' END || tablename AS name
           FROM pg_tables WHERE schemaname !~ '^(pg_|information_schema|citus|columnar)'""",
    )
    return {row["name"] for row in rows}


def recorded(dsn: str, table: str = "adk_artifact_metadata") -> dict[str, str]:
    """What the metadata table says."""
    return {row["key"]: row["value"] for row in run_sql(dsn, f"SELECT key, value FROM {table}")[0]}


@one_server(FIRST_USE)
async def test_they_are_made_on_first_use(config: PsqlpyConfig, database: Database) -> None:
    """Any method does it, in many tasks at once too."""
    service = PsqlpyArtifactService(config)
    assert tables(database.dsn) == set()
    assert await asyncio.gather(*(service.list_artifact_keys(**KEY) for _ in range(8))) == [[]] * 8
    assert tables(database.dsn) == ALL
    assert recorded(database.dsn) == {
        "schema_version": str(SCHEMA_VERSION),
        "artifact_table": "adk_artifacts",
        "key_length": "128",
    }
    assert len(MIGRATIONS) == SCHEMA_VERSION


async def test_making_them_again_changes_nothing(service: PsqlpyArtifactService, database: Database) -> None:
    """Nor does another service's first use."""
    await service.save_artifact(**KEY, filename="a", artifact=TEXT)
    await service.create_tables()
    await PsqlpyArtifactService(service.config).create_tables()
    assert await service.load_artifact(**KEY, filename="a") == TEXT


async def test_what_people_query(service: PsqlpyArtifactService, database: Database) -> None:
    """`adk_artifacts` says of each version what it is, in plain columns."""
    await service.save_artifact(
        **KEY, filename="a.png", artifact=png(content(1000)), custom_metadata={"from": {"tool": "draw"}}
    )
    await service.save_artifact(**KEY, filename="user:b", artifact=TEXT)
    ((*rows,),) = run_sql(
        database.dsn,
        """SELECT app_name, user_id, session_id, filename, version, mime_type, size,
                  custom_metadata #>> '{from,tool}' AS tool
           FROM adk_artifacts ORDER BY create_time""",
    )
    first = {"app_name": "app", "user_id": "user", "session_id": "s", "filename": "a.png", "version": 0}
    assert rows[0] == first | {"mime_type": "image/png", "size": 1000, "tool": "draw"}
    second = {"session_id": "", "filename": "user:b", "mime_type": "text/plain", "size": 1, "tool": None}
    assert rows[1] == first | second


@makes_tables
@pytest.mark.parametrize(
    ("table", "prefix"),
    [("files", "file"), ("agents.adk_artifacts", "agents.adk_artifact"), ("Pictures_of", "Pictures_of")],
)
async def test_other_names(config: PsqlpyConfig, database: Database, table: str, prefix: str) -> None:
    """The other five are named after the first, in its schema, which is made if it is missing."""
    service = PsqlpyArtifactService(config, table)
    if on_cluster():  # elsewhere the first use makes them
        await service.create_tables(distributed=True)
    assert await service.save_artifact(**KEY, filename="a", artifact=png(content(3_000_000))) == 0
    assert await service.load_artifact(**KEY, filename="a") == png(content(3_000_000))
    suffixes = ("names", "contents", "blobs", "chunks", "metadata")
    assert tables(database.dsn) == {table, *(f"{prefix}_{suffix}" for suffix in suffixes)}
    await service.delete_artifact(**KEY, filename="a")


async def test_two_services_beside_each_other(config: PsqlpyConfig, database: Database) -> None:
    """Two tables in one database share nothing, nor with the sessions' tables."""
    first, second = PsqlpyArtifactService(config), PsqlpyArtifactService(config, "other_artifacts")
    if on_cluster():
        await second.create_tables(distributed=True)
    await first.save_artifact(**KEY, filename="a", artifact=TEXT)
    assert await second.load_artifact(**KEY, filename="a") is None
    assert await second.save_artifact(**KEY, filename="a", artifact=TEXT) == 0


@pytest.mark.parametrize("table", ["", "a b", 'a"', "1a", "a" * 60, "a.b.c", "é", None, 3])
def test_names_that_are_no_table_names(config: PsqlpyConfig, table: Any) -> None:
    """Refused when the service is made."""
    with pytest.raises(ValueError, match="artifact_table"):
        PsqlpyArtifactService(config, table)


@pytest.mark.parametrize("length", [0, -1, 1025, True, "128", None, 1.5])
def test_key_lengths_that_are_refused(config: PsqlpyConfig, length: Any) -> None:
    """Out of range, or no integer."""
    with pytest.raises(ValueError, match="key_length"):
        PsqlpyArtifactService(config, key_length=length)


@makes_tables
async def test_another_key_length(config: PsqlpyConfig, database: Database) -> None:
    """Tables are made with it; a service with another one is refused, by name."""
    service = PsqlpyArtifactService(config, key_length=300)
    if on_cluster():
        await service.create_tables(distributed=True)
    key = KEY | {"user_id": "ü" * 300}
    await service.save_artifact(**key, filename="a", artifact=TEXT)
    assert await service.load_artifact(**key, filename="a") == TEXT
    too_long = r"301 characters, and at most 300 .*PsqlpyArtifactService\(key_length"
    with pytest.raises(InputValidationError, match=too_long):
        await service.load_artifact(**KEY | {"user_id": "ü" * 301}, filename="a")
    with pytest.raises(ValueError, match="key_length='300'"):
        await PsqlpyArtifactService(config).load_artifact(**KEY, filename="a")


async def test_tables_of_a_newer_version(service: PsqlpyArtifactService, database: Database) -> None:
    """Refused, by name, before anything is read or written."""
    run_sql(database.dsn, "UPDATE adk_artifact_metadata SET value = '99' WHERE key = 'schema_version'")
    with pytest.raises(NotSupportedError, match="schema version 99"):
        await PsqlpyArtifactService(service.config).list_artifact_keys(**KEY)


LONG = "x" * 4097


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"filename": LONG}, "4,097 characters"),
        ({"filename": "user:" + LONG}, "4,097 characters"),
        ({"filename": None}, "filename must be a str"),
        ({"filename": ["a"]}, "filename must be a str"),
        ({"filename": "a\0"}, "U\\+0000"),
        ({"user_id": 3}, "user_id must be a str"),
        ({"app_name": "\ud800"}, "lone surrogate"),
        ({"session_id": b"s"}, "session_id must be a str"),
        ({"session_id": "s" * 129}, "129 characters"),
        ({"artifact": "text"}, "must be a Part or a dict"),
        ({"artifact": None}, "must be a Part or a dict"),
        ({"artifact": {"noSuchField": 1}}, "noSuchField"),
        ({"artifact": png(b"").model_copy(update={"inline_data": types.Blob()})}, "must contain data"),
        (
            {"artifact": types.Part(inline_data=types.Blob(mime_type="a\0b", data=b"x"))},
            "MIME type 'a.x00b'",
        ),
        ({"custom_metadata": ["a"]}, "custom_metadata must be a dict"),
        ({"custom_metadata": {"f": object()}}, "custom_metadata cannot be stored"),
    ],
)
async def test_arguments_that_are_refused(
    service: PsqlpyArtifactService, database: Database, arguments: dict[str, Any], words: str
) -> None:
    """A ValueError that names the argument, before anything is sent."""
    with pytest.raises(ValueError, match=words):
        await service.save_artifact(**{**KEY, "filename": "a", "artifact": TEXT, **arguments})
    assert counts(database.dsn) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize("version", ["0", 1.0, True, [0]])
async def test_versions_that_are_no_numbers(service: PsqlpyArtifactService, version: Any) -> None:
    """Refused; a number that is none of a version is `None` in the contract."""
    for method in (service.load_artifact, service.get_artifact_version):
        with pytest.raises(InputValidationError, match="version must be an integer"):
            await method(**KEY, filename="a", version=version)


@pytest.mark.parametrize("age", [-1, 60, None, "1 day"])
async def test_ages_that_are_refused(service: PsqlpyArtifactService, age: Any) -> None:
    """`purge` takes a timedelta."""
    with pytest.raises(ValueError, match="older_than must be a timedelta"):
        await service.purge(age)


async def test_the_longest_names(service: PsqlpyArtifactService, database: Database) -> None:
    """4,096 characters of four bytes each, which no index of PostgreSQL could hold."""
    names = ["𝄞" * 4095 + last for last in "ab"]
    for name in names:
        await service.save_artifact(**KEY, filename=name, artifact=types.Part(text=name))
    assert await service.list_artifact_keys(**KEY) == names
    for name in names:
        assert await service.load_artifact(**KEY, filename=name) == types.Part(text=name)


async def test_sessions_come_and_go(service: PsqlpyArtifactService, database: Database) -> None:
    """As in ADK's services, deleting a session leaves its artifacts."""
    from adk_psqlpy import PsqlpyADKStore, PsqlpySessionService

    store = PsqlpyADKStore(service.config)
    await store.create_tables()
    sessions = PsqlpySessionService(store)
    await sessions.create_session(app_name="app", user_id="user", session_id="s")
    await service.save_artifact(**KEY, filename="a", artifact=TEXT)
    await sessions.delete_session(app_name="app", user_id="user", session_id="s")
    assert await service.load_artifact(**KEY, filename="a") == TEXT
    assert count(database.dsn, "adk_artifacts") == 1
