"""`adk-psqlpy erase-user`: every trace of one user, and of nobody else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from google.adk.auth.auth_credential import AuthCredential, AuthCredentialTypes
from google.genai import types

from adk_psqlpy import PsqlpyArtifactService, PsqlpyConfig, PsqlpyMemoryService, PsqlpySessionService
from adk_psqlpy.admin.erase import erase_user, find_user
from adk_psqlpy.credentials import PsqlpyCredentialService
from adk_psqlpy.seal import Seal, UserKeys
from adk_psqlpy.sql.partials import create_partials
from keys import TestKeys
from servers import run_sql

from .support import CTRL_C, agent_says, changes, conversation, running, user_says

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.filterwarnings("ignore")
OWNERS = [("cafe", "alice"), ("cafe", "bob"), ("desk", "alice")]


@pytest.fixture
async def everything(service: PsqlpySessionService, config: PsqlpyConfig, dsn: str) -> PsqlpySessionService:
    """All that can be stored, of three users, two of whom have one name."""
    memory, artifacts = PsqlpyMemoryService(config), PsqlpyArtifactService(config)
    await memory.create_tables()
    await artifacts.create_tables()
    await service.store.create_tables(event_search=True)
    credentials = PsqlpyCredentialService(config, Seal(UserKeys(config, TestKeys("master"))))
    await config.lanes.batch(create_partials(service.store.tables, 128))
    for app, user in OWNERS:
        for n in range(2):
            session = await conversation(
                service,
                user_says(f"I am {user}"),
                agent_says("Hello", actions=changes(user_seen=n, app_newest=user)),
                key=(app, user, f"s{n}"),
            )
            await service.store.update_session_state(app, user, session.id, {"x": 1})
            await memory.add_session_to_memory(session)
            await credentials.save(
                app, user, f"tool{n}", AuthCredential(auth_type=AuthCredentialTypes.API_KEY)
            )
            run_sql(
                dsn,
                f"""INSERT INTO adk_partials (app_name, user_id, session_id, invocation_id, author, branch,
                    content, version, update_time)
                VALUES ('{app}', '{user}', 's{n}', 'i', 'agent', '', 'Hel', 1, now())""",
            )
            for name in ("note.txt", "user:all.txt"):
                await artifacts.save_artifact(
                    app_name=app,
                    user_id=user,
                    session_id=session.id,
                    filename=name,
                    artifact=types.Part.from_bytes(data=user.encode() * (n + 1), mime_type="text/plain"),
                )
    await service.store.index_events()
    return service


def rows_of(dsn: str, app: str, user: str) -> dict[str, int]:
    """What a person with SQL finds of a user, in any table that names users."""
    tables = run_sql(
        dsn,
        """SELECT c.table_name::text AS name FROM information_schema.columns AS c
        JOIN information_schema.tables AS t USING (table_schema, table_name)
        WHERE table_schema = 'public' AND column_name = 'user_id' AND table_type = 'BASE TABLE'""",
    )[0]
    names = [row["name"] for row in tables]
    found = run_sql(
        dsn,
        *(
            f"SELECT count(*)::int4 AS n FROM {name} WHERE app_name = '{app}' AND user_id = '{user}'"
            for name in names
        ),
    )
    return {name: rows[0]["n"] for name, rows in zip(names, found, strict=True)}


async def test_every_trace_of_the_user_and_nothing_else(
    everything: PsqlpySessionService, config: PsqlpyConfig, dsn: str
) -> None:
    before = {owner: rows_of(dsn, *owner) for owner in OWNERS}
    erased = await erase_user(config, "cafe", "alice")
    assert erased.rows == before["cafe", "alice"]
    assert erased.rows["adk_events"] == 4
    assert erased.rows["adk_state_log"] == erased.rows["adk_partials"] == erased.rows["adk_credentials"] == 2
    assert erased.rows["adk_user_keys"] == 1
    assert erased.rows["adk_event_words"] == 4
    assert erased.total == sum(before["cafe", "alice"].values())
    assert erased.left == {}
    assert {each.removeprefix("public.") for each in erased.searched} == set(before["cafe", "alice"])
    assert set(rows_of(dsn, "cafe", "alice").values()) == {0}
    for owner in OWNERS[1:]:
        assert rows_of(dsn, *owner) == before[owner]
    assert (await erase_user(config, "cafe", "alice")).total == 0


async def test_the_app_state_is_told_of_not_changed(
    everything: PsqlpySessionService, config: PsqlpyConfig
) -> None:
    await everything.store.update_session_state(
        "cafe", "bob", "s0", {"app:deep": [{"of": ["alice"]}], "app:longer": "alice's"}
    )
    erased = await erase_user(config, "cafe", "alice")
    assert erased.mentions == ["deep"]
    assert (await everything.store.get_app_state("cafe"))["deep"] == [{"of": ["alice"]}]


async def test_all_of_it_or_nothing(everything: PsqlpySessionService, config: PsqlpyConfig, dsn: str) -> None:
    """A table that refuses at the end keeps everything."""
    run_sql(
        dsn,
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN RAISE EXCEPTION ''not allowed''; END'",
        "CREATE TRIGGER no BEFORE DELETE ON adk_artifact_names FOR EACH ROW EXECUTE FUNCTION no()",
    )
    before = rows_of(dsn, "cafe", "alice")
    failed = await running("erase-user", "cafe", "alice", "--yes", "--dsn", dsn)
    assert failed.code == 1
    assert "not allowed" in failed.err
    assert rows_of(dsn, "cafe", "alice") == before


async def test_a_row_that_is_left_is_told(everything: PsqlpySessionService, dsn: str) -> None:
    run_sql(
        dsn,
        'CREATE TABLE "Feed back" (app_name text, user_id text)',
        "INSERT INTO \"Feed back\" VALUES ('cafe', 'alice'), ('cafe', 'bob')",
    )
    done = await running("erase-user", "cafe", "alice", "--yes", "--dsn", dsn)
    assert done.code == 1
    assert 'public."Feed back"     1' in done.out
    assert "Stop what writes for this user, and run this again." in done.out


async def test_while_the_user_talks(everything: PsqlpySessionService, config: PsqlpyConfig, dsn: str) -> None:
    """Appends and an erasure at once: no deadlock; what is left once writers stopped goes by a second run."""
    sessions = [
        await everything.get_session(app_name="cafe", user_id="alice", session_id=f"s{n}") for n in range(2)
    ]

    async def talk(session: Any) -> None:
        for n in range(30):
            await everything.append_event(session, user_says("x", actions=changes(user_n=n, app_n=n)))

    talking = [asyncio.create_task(talk(session)) for session in sessions]
    await asyncio.sleep(0)
    await erase_user(config, "cafe", "alice")
    outcomes = await asyncio.gather(*talking, return_exceptions=True)
    assert not any("deadlock" in str(outcome) for outcome in outcomes)
    assert (await erase_user(config, "cafe", "alice")).left == {}
    assert set(rows_of(dsn, "cafe", "alice").values()) == {0}


async def test_without_memories_and_artifacts(service: PsqlpySessionService, dsn: str) -> None:
    await conversation(service, user_says("x"), key=("cafe", "alice", "s"))
    done = await running("erase-user", "cafe", "alice", "--yes", "--dsn", dsn, "--json")
    assert done.code == 0
    assert done.json["rows"] == {
        "adk_sessions": 1,
        "adk_user_states": 0,
        "adk_events": 1,
        "adk_state_log": 0,
        "adk_forks": 0,
    }
    assert done.json["left"] == {}


async def test_the_verb_asks(everything: PsqlpySessionService, dsn: str) -> None:
    before = rows_of(dsn, "cafe", "alice")
    refused = await running("erase-user", "cafe", "alice", "--dsn", dsn)
    assert refused.code == 2
    assert "no terminal to ask on: say --yes" in refused.err
    trial = await running("erase-user", "cafe", "alice", "--dry-run", "--dsn", dsn)
    assert trial.code == 0
    assert "adk_events" in trial.out
    assert rows_of(dsn, "cafe", "alice") == before
    done = await running("erase-user", "cafe", "alice", "--yes", "--dsn", dsn)
    assert done.code == 0
    assert f"deleted {sum(before.values())} rows of user alice in app cafe" in done.out
    assert "no row names this user" in done.out
    nobody = await running("erase-user", "cafe", "alice", "--dsn", dsn)
    assert nobody.code == 0, "nothing to ask about"


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1), ("", 1), (CTRL_C, 130)])
async def test_on_a_terminal(
    answer: str,
    code: int,
    everything: PsqlpySessionService,
    dsn: str,
    terminal: Callable[..., tuple[int, str]],
) -> None:
    got, shown = await asyncio.to_thread(terminal, answer, "erase-user", "cafe", "alice", "--dsn", dsn)
    assert got == code, shown
    assert "Delete all of this for user 'alice' in app 'cafe'?" in shown
    assert (rows_of(dsn, "cafe", "alice")["adk_sessions"] == 0) == (code == 0)


@pytest.mark.parametrize(("app", "user"), [("", "alice"), ("cafe", ""), ("cafe", "x" * 2000)])
async def test_ids_that_cannot_be(app: str, user: str, dsn: str) -> None:
    refused = await running("erase-user", app, user, "--yes", "--dsn", dsn)
    assert refused.code == 2


async def test_no_tables(dsn: str) -> None:
    missing = await running("erase-user", "cafe", "alice", "--yes", "--dsn", dsn)
    assert missing.code == 1
    assert "none of the tables" in missing.err


async def test_counts_alone(everything: PsqlpySessionService, config: PsqlpyConfig, dsn: str) -> None:
    assert await find_user(config, "cafe", "alice") == rows_of(dsn, "cafe", "alice")
