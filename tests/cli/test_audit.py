"""The audit: each command that reads or erases a user's data leaves a row, which its owner alone changes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from psqlpy.exceptions import DatabaseError, Error

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from adk_psqlpy.admin.access import grant_access, revoke_access
from adk_psqlpy.admin.audit import digest_of, read_audit
from adk_psqlpy.admin.erase import erase_user
from servers import run_sql

from .support import conversation, running, user_says

if TYPE_CHECKING:
    from pathlib import Path

    from secured import Roles
    from servers import Database

pytestmark = pytest.mark.filterwarnings("ignore")
KEY = ("cafe", "alice", "s1")


@pytest.fixture
async def audited(store: PsqlpyADKStore, service: PsqlpySessionService) -> PsqlpyADKStore:
    """The tables with their audit, and two users' conversations."""
    await store.create_tables(audit=True)
    await conversation(service, user_says("A secret of Alice"), key=KEY)
    await conversation(service, user_says("Bob"), key=("cafe", "bob", "s2"))
    return store


async def deeds(config: PsqlpyConfig) -> list[tuple[Any, ...]]:
    """What was recorded, the oldest first."""
    rows = await read_audit(config)
    return [(row.action, row.of_app, row.of_user, row.of_session, row.details) for row in reversed(rows)]


async def test_every_command(audited: PsqlpyADKStore, config: PsqlpyConfig, dsn: str, tmp_path: Path) -> None:
    """Each one says whose data it was about; none says what was in it."""
    at = ("--dsn", dsn)
    expected: list[tuple[Any, ...]] = []

    async def after(*words: str, code: int = 0) -> None:
        done = await running(*words, *at)
        assert done.code == code, done.err
        assert await deeds(config) == expected

    await after("stats")  # which names no user
    await after("doctor")
    expected.append(("find-sessions", None, None, None, {"limit": 20}))
    await after("show")
    expected += [
        ("find-sessions", "cafe", "alice", "s1", {"limit": 10}),
        ("show", "cafe", "alice", "s1", {"last": None}),
    ]
    await after("show", "s1", "--app", "cafe", "--user", "alice")
    expected.append(("find-sessions", None, None, None, {"limit": 10}))
    await after("show", "nowhere", code=1)
    expected.append(("export", "cafe", "alice", None, {}))
    await after("export", str(tmp_path / "out.jsonl"), "--app", "cafe", "--user", "alice")
    expected.append(("export", None, None, None, {}))
    await after("export", str(tmp_path / "all.jsonl"))
    expected.append(("count-user", "cafe", "bob", None, {}))
    await after("erase-user", "cafe", "bob", "--dry-run")
    await after("prune", "--idle", "90d", "--dry-run")
    rules = {"idle": "90 days, 0:00:00", "apps": ["cafe"]}
    expected += [
        ("prune", None, None, None, {"rules": rules}),
        ("pruned", None, None, None, {}),
    ]
    await after("prune", "--idle", "90d", "--app", "cafe")
    bob = digest_of("cafe", "bob")
    expected[6] = ("count-user", "cafe", bob, None, {})
    expected += [
        ("count-user", "cafe", bob, None, {}),
        ("erase-user", "cafe", bob, None, {}),
        ("erased-user", "cafe", bob, None, {"rows": 2, "left": []}),
    ]
    await after("erase-user", "cafe", "bob", "--yes")
    row = (await read_audit(config))[0]
    ((who,),) = (await config.lanes.fetch("SELECT current_user::text", []),)
    assert (row.login, row.role) == (who[0], who[0])
    assert "secret" not in str(await deeds(config))


async def test_erased_users_are_a_digest(
    audited: PsqlpyADKStore, config: PsqlpyConfig, database: Database
) -> None:
    """Rows from before lose the user's id and his sessions'; who asks for the user still finds them."""
    for _ in range(2):
        assert (
            await running("show", "s1", "--app", "cafe", "--user", "alice", "--dsn", database.dsn)
        ).code == 0
    erased = await erase_user(config, "cafe", "alice")
    assert erased.left == {}
    ((row,),) = run_sql(database.dsn, "SELECT string_agg(a::text, ' ') AS everything FROM adk_audit AS a")
    assert "alice" not in row["everything"]
    assert "s1" not in row["everything"]
    found = await read_audit(config, app_name="cafe", user_id="alice")
    assert [each.action for each in found] == [
        *("erased-user", "erase-user"),
        *("show", "find-sessions", "show", "find-sessions"),
    ]
    assert await read_audit(config, app_name="cafe", user_id="bob") == []


async def test_searches_in_all_apps_are_erased_too(
    audited: PsqlpyADKStore, config: PsqlpyConfig, database: Database
) -> None:
    """A row may name the user without an app, and a session only together with its user."""
    at = ("--dsn", database.dsn)
    for words in (
        ("show", "s1"),  # a session, of whichever user
        ("show", "s1", "--app", "cafe"),
        ("show", "s1", "--user", "alice"),  # of any app
        ("show", "--user", "alice"),
        ("show", "--user", "bob"),
        ("erase-user", "cafe", "alice", "--dry-run"),
    ):
        done = await running(*words, *at)
        assert done.code == 0, (words, done.err)
    before = [deed[:4] for deed in await deeds(config)]
    assert before == [
        ("find-sessions", None, None, None),
        ("show", *KEY),
        ("find-sessions", "cafe", None, None),
        ("show", *KEY),
        ("find-sessions", None, "alice", "s1"),
        ("show", *KEY),
        ("find-sessions", None, "alice", None),
        ("find-sessions", None, "bob", None),
        ("count-user", "cafe", "alice", None),
    ]
    of_alice = await read_audit(config, app_name="cafe", user_id="alice")
    assert [row.action for row in of_alice] == [deed[0] for deed in reversed(before) if deed[2] == "alice"]
    assert (await erase_user(config, "cafe", "alice")).left == {}
    ((row,),) = run_sql(database.dsn, "SELECT string_agg(a::text, ' ') AS everything FROM adk_audit AS a")
    for gone in ("alice", "s1"):
        assert gone not in row["everything"]
    # Whoever knows the id still finds the rows; others keep theirs.
    after = await read_audit(config, app_name="cafe", user_id="alice")
    assert [row.action for row in after] == ["erased-user", "erase-user", *(row.action for row in of_alice)]
    assert {row.of_app for row in after} == {"cafe", None}
    for app in ("cafe", "elsewhere"):
        (row_of_bob,) = await read_audit(config, app_name=app, user_id="bob")
        assert (row_of_bob.of_app, row_of_bob.of_user) == (None, "bob")
    # What was about all apps was about each.
    of_app = [each.action for each in await read_audit(config, app_name="elsewhere")]
    assert of_app == ["find-sessions"] * 4


async def test_a_service_only_adds(audited: PsqlpyADKStore, database: Database, roles: Roles) -> None:
    """Its role adds rows about what it does, as itself and now; it reads, changes and deletes none."""
    config = audited.config
    assert isinstance(config, PsqlpyConfig)
    role = roles.make("service")
    await grant_access(config, role=role, app_name="cafe")
    async with PsqlpyConfig({"dsn": roles.dsn(role)}) as bound:
        assert (await erase_user(bound, "cafe", "alice")).rows["adk_sessions"] == 1
        for statement in (
            "SELECT count(*) FROM adk_audit",
            "UPDATE adk_audit SET of_user = NULL",
            "DELETE FROM adk_audit",
            "TRUNCATE adk_audit",
            "INSERT INTO adk_audit (action, role) VALUES ('x', 'somebody')",
            "INSERT INTO adk_audit (action, login) VALUES ('x', 'somebody')",
            "INSERT INTO adk_audit (action, time) VALUES ('x', 'epoch')",
            "INSERT INTO adk_audit (action, client) VALUES ('x', '10.0.0.1')",
            "INSERT INTO adk_audit (action, id) OVERRIDING SYSTEM VALUE VALUES ('x', 1)",
            "INSERT INTO adk_audit (action) VALUES ('x') RETURNING id",
            "DROP TABLE adk_audit",
        ):
            with pytest.raises(Error, match=r"permission denied|must be owner"):
                run_sql(roles.dsn(role), statement)
        with pytest.raises(Error, match="permission denied"):
            await read_audit(bound)
    rows = await read_audit(config, app_name="cafe", user_id="alice")
    assert [(row.action, row.login) for row in rows] == [("erased-user", role), ("erase-user", role)]
    given = [(row.action, row.of_app, row.details) for row in await read_audit(config, app_name="cafe")]
    assert ("grant", "cafe", {"role": role}) in given
    await revoke_access(config, role=role, app_name="cafe")
    assert (await read_audit(config))[0].action == "revoke"
    with pytest.raises(Error, match="permission denied"):
        run_sql(roles.dsn(role), "INSERT INTO adk_audit (action) VALUES ('x')")


async def test_what_cannot_be_recorded_is_not_done(
    audited: PsqlpyADKStore, config: PsqlpyConfig, database: Database, roles: Roles
) -> None:
    """A role with all rights but this one sees nothing and erases nothing."""
    role = roles.make("reader")
    run_sql(database.dsn, f"GRANT SELECT, DELETE ON ALL TABLES IN SCHEMA public TO {role}")
    done = await running("show", "s1", "--app", "cafe", "--user", "alice", "--dsn", roles.dsn(role))
    assert done.code == 1
    assert "was not done, since it could not be recorded" in done.err
    told = re.sub(r"\s+", " ", done.err).strip()
    assert "secret" not in done.out
    async with PsqlpyConfig({"dsn": roles.dsn(role)}) as bound:
        with pytest.raises(DatabaseError, match="erase-user was not done"):
            await erase_user(bound, "cafe", "alice")
    assert await audited.get_session(*KEY) is not None
    # The advice works as it stands, with a role in the place of `role`.
    advised = re.search(r"GRANT INSERT \(.*\) ON \S+ TO role$", told)
    assert advised
    run_sql(database.dsn, f"{advised[0].removesuffix('role')}{role}")
    done = await running("show", "s1", "--app", "cafe", "--user", "alice", "--dsn", roles.dsn(role))
    assert done.code == 0, done.err


async def test_an_audit_of_its_own_owner(
    audited: PsqlpyADKStore, config: PsqlpyConfig, database: Database, roles: Roles
) -> None:
    """Given to another role, it is out of reach of whoever owns the data, who may still add to it."""
    auditor, owner = roles.make("auditor"), roles.make("owner")
    tables = [
        row["t"]
        for row in run_sql(
            database.dsn, "SELECT tablename::text AS t FROM pg_tables WHERE schemaname = 'public'"
        )[0]
    ]
    run_sql(
        database.dsn,
        *(f"ALTER TABLE {table} OWNER TO {auditor if table == 'adk_audit' else owner}" for table in tables),
        f"GRANT INSERT (action, of_app, of_user, of_session, details) ON adk_audit TO {owner}",
    )
    async with PsqlpyConfig({"dsn": roles.dsn(owner)}) as owning:
        assert (await erase_user(owning, "cafe", "alice")).left == {}
        await PsqlpyADKStore(owning).create_tables(audit=True)
    for statement in ("DELETE FROM adk_audit", "UPDATE adk_audit SET of_user = 'x'", "SELECT FROM adk_audit"):
        with pytest.raises(Error, match="permission denied"):
            run_sql(roles.dsn(owner), statement)
    assert len(await read_audit(config, app_name="cafe", user_id="alice")) == 2


async def test_nothing_is_recorded_where_nobody_asked(
    store: PsqlpyADKStore, service: PsqlpySessionService, config: PsqlpyConfig, dsn: str
) -> None:
    """Without the table everything goes on as ever."""
    await conversation(service, user_says("x"), key=KEY)
    assert (await running("show", "s1", "--dsn", dsn)).code == 0
    await erase_user(config, "cafe", "alice")
    with pytest.raises(Error, match="adk_audit"):
        await read_audit(config)


async def test_bad_input(config: PsqlpyConfig) -> None:
    for wrong in ({"limit": 0}, {"limit": True}, {"user_id": "u"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            await read_audit(config, **wrong)
    with pytest.raises(ValueError, match="session_table"):
        await read_audit(config, "a b")
