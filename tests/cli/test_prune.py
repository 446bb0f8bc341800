"""`adk-psqlpy prune`: what goes, what stays, and that nobody waits for it."""

from __future__ import annotations

import asyncio
import signal
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from google.genai import types

from adk_psqlpy import PsqlpyArtifactService, PsqlpyConfig, PsqlpyMemoryService, PsqlpySessionService
from adk_psqlpy.admin.prune import Pruned, Rules, prune
from servers import run_sql
from where import one_server

from .support import LIMIT_SEC, agent_says, conversation, process, running, user_says

if TYPE_CHECKING:
    from google.adk.sessions.session import Session

pytestmark = pytest.mark.filterwarnings("ignore")
NOW = datetime.now(timezone.utc)
DAY = timedelta(days=1)


async def written(service: PsqlpySessionService, days_ago: int, *key: str, events: int = 2) -> Session:
    """A session whose events, one invocation a pair, are that old."""
    at = (NOW - days_ago * DAY).timestamp()
    says = (user_says, agent_says)
    return await conversation(
        service,
        *(says[n % 2](f"event {n}", timestamp=at + n, invocation_id=f"i{n // 2}") for n in range(events)),
        key=key,
    )


def sessions(dsn: str) -> list[str]:
    return [
        row["id"] for row in run_sql(dsn, "SELECT id FROM adk_sessions ORDER BY app_name, user_id, id")[0]
    ]


def events(dsn: str, session: str) -> list[int]:
    query = f"SELECT seq FROM adk_events WHERE session_id = '{session}' ORDER BY seq"
    return [row["seq"] for row in run_sql(dsn, query)[0]]


# --- sessions ---


@pytest.fixture
async def aged(service: PsqlpySessionService) -> PsqlpySessionService:
    """Sessions of two users and two apps, by age in days."""
    for user in ("alice", "bob"):
        for days in (1, 10, 100):
            await written(service, days, "cafe", user, f"{user}-{days}")
    await written(service, 100, "desk", "alice", "desk-100")
    return service


@pytest.mark.parametrize(
    ("rules", "stay"),
    [
        (Rules(idle=30 * DAY), ["alice-1", "alice-10", "bob-1", "bob-10"]),
        (Rules(idle=30 * DAY, apps=["cafe"]), ["alice-1", "alice-10", "bob-1", "bob-10", "desk-100"]),
        (Rules(idle=5 * DAY, keep_sessions=2), ["alice-1", "alice-10", "bob-1", "bob-10", "desk-100"]),
        (Rules(keep_sessions=1), ["alice-1", "bob-1", "desk-100"]),
        (
            Rules(idle=5 * DAY, keep_sessions=9),
            ["alice-1", "alice-10", "alice-100", "bob-1", "bob-10", "bob-100", "desk-100"],
        ),
    ],
)
async def test_idle_sessions(
    rules: Rules, stay: list[str], aged: PsqlpySessionService, config: PsqlpyConfig, dsn: str
) -> None:
    before = sessions(dsn)
    trial = await prune(config, rules, dry_run=True)
    assert sessions(dsn) == before, "a trial deletes nothing"
    done = await prune(config, rules)
    assert sessions(dsn) == stay
    assert done == trial == Pruned(sessions=7 - len(stay), session_events=2 * (7 - len(stay)))
    assert await prune(config, rules) == Pruned(), "again, there is nothing to do"


@pytest.mark.parametrize("portion", [1, 3, 1000])
async def test_any_portion_does_the_same(
    portion: int, aged: PsqlpySessionService, config: PsqlpyConfig, dsn: str
) -> None:
    done = await prune(config, Rules(idle=5 * DAY), portion=portion)
    assert (done.sessions, sessions(dsn)) == (5, ["alice-1", "bob-1"])


async def test_more_sessions_than_a_page(
    service: PsqlpySessionService, config: PsqlpyConfig, dsn: str
) -> None:
    run_sql(
        dsn,
        """INSERT INTO adk_sessions (app_name, user_id, id, update_time)
        SELECT 'app', 'user ' || n % 7, 's' || n, now() - interval '9 days'
        FROM generate_series(1, 2500) AS n""",
    )
    await written(service, 0, "app", "user 3", "new")
    assert (await prune(config, Rules(idle=DAY))).sessions == 2500
    assert sessions(dsn) == ["new"]


async def test_the_other_set_of_indexes(aged: PsqlpySessionService, config: PsqlpyConfig, dsn: str) -> None:
    await aged.store.create_tables(index_set="appending")
    await prune(config, Rules(idle=5 * DAY, keep_sessions=1))
    assert sessions(dsn) == ["alice-1", "bob-1", "desk-100"]


# --- events ---


@pytest.mark.parametrize(
    ("rules", "stay"),
    [
        (Rules(events=30 * DAY), []),
        (Rules(events=30 * DAY, keep_events=4), [7, 8, 9, 10]),
        (Rules(keep_events=4), [7, 8, 9, 10]),
        (Rules(keep_events=3), [7, 8, 9, 10]),  # not half of an invocation
        (Rules(keep_events=10), list(range(1, 11))),
        (Rules(keep_events=99), list(range(1, 11))),
        (Rules(events=1000 * DAY), list(range(1, 11))),
    ],
)
@pytest.mark.parametrize("portion", [1, 3, 1000])
async def test_old_events(
    rules: Rules, stay: list[int], portion: int, service: PsqlpySessionService, config: PsqlpyConfig, dsn: str
) -> None:
    await written(service, 100, "cafe", "alice", "old", events=10)
    trial = await prune(config, rules, dry_run=True)
    assert len(events(dsn, "old")) == 10
    assert await prune(config, rules, portion=portion) == trial == Pruned(events=10 - len(stay))
    assert events(dsn, "old") == stay
    assert sessions(dsn) == ["old"]


async def test_a_session_goes_on_after_its_old_events_went(
    service: PsqlpySessionService, config: PsqlpyConfig, dsn: str
) -> None:
    """Whoever holds the session from before may append; new events are read behind those left."""
    held = await written(service, 100, "cafe", "alice", "s", events=6)
    await prune(config, Rules(keep_events=2))
    await service.append_event(held, user_says("still here"))
    read = await service.get_session(app_name="cafe", user_id="alice", session_id="s")
    assert [event.content.parts[0].text for event in read.events] == ["event 4", "event 5", "still here"]
    assert events(dsn, "s") == [5, 6, 7]


async def test_events_by_age_end_at_the_age(
    service: PsqlpySessionService, config: PsqlpyConfig, dsn: str
) -> None:
    ages = (90, 80, 20, 1)
    await conversation(
        service,
        *(user_says("x", timestamp=(NOW - n * DAY).timestamp(), invocation_id=str(n)) for n in ages),
        key=("cafe", "alice", "s"),
    )
    await prune(config, Rules(events=30 * DAY))
    assert events(dsn, "s") == [3, 4]


# --- memories and artifacts ---


async def test_expired_memories(service: PsqlpySessionService, config: PsqlpyConfig, dsn: str) -> None:
    memory = PsqlpyMemoryService(config)
    await memory.create_tables()
    for app in ("cafe", "desk"):
        await memory.add_session_to_memory(await written(service, 1, app, "alice", app, events=4))
    run_sql(
        dsn,
        "UPDATE adk_memories SET expire_time = now() - interval '1 hour' "
        "WHERE id IN (SELECT id FROM adk_events WHERE seq <= 3)",
    )
    rules = Rules(expired_memories=True, apps=["cafe"])
    assert await prune(config, rules, dry_run=True) == Pruned(memories=3)
    assert await prune(config, rules, portion=2) == Pruned(memories=3)
    assert await prune(config, Rules(expired_memories=True)) == Pruned(memories=3)
    ((row),) = run_sql(dsn, "SELECT count(*)::int4 AS n FROM adk_memories")[0]
    assert row["n"] == 2


async def test_orphaned_artifacts(service: PsqlpySessionService, config: PsqlpyConfig, dsn: str) -> None:
    artifacts = PsqlpyArtifactService(config)
    await artifacts.create_tables()
    await written(service, 1, "cafe", "alice", "here")

    async def save(session: str | None, name: str, data: bytes) -> None:
        part = types.Part.from_bytes(data=data, mime_type="text/plain")
        await artifacts.save_artifact(
            app_name="cafe", user_id="alice", session_id=session, filename=name, artifact=part
        )

    await save("here", "a", b"shared")
    await save("gone", "b", b"shared")  # the same content: it stays
    await save("gone", "c", b"only here")
    await save("gone", "c", b"and here")
    await save("gone", "user:mine", b"the user's")
    rules = Rules(orphaned_artifacts=True)
    assert await prune(config, rules) == Pruned(), "they may have been saved before their session"
    run_sql(dsn, "UPDATE adk_artifacts SET create_time = now() - interval '2 days'")
    trial = await prune(config, rules, dry_run=True)
    assert (trial.artifacts, trial.versions) == (2, 3)
    assert await prune(config, rules, portion=1) == Pruned(
        artifacts=2, versions=3, contents=2, content_bytes=17
    )
    assert await artifacts.list_artifact_keys(app_name="cafe", user_id="alice", session_id="here") == [
        "a",
        "user:mine",
    ]
    part = await artifacts.load_artifact(app_name="cafe", user_id="alice", session_id="here", filename="a")
    assert part.inline_data.data == b"shared"
    ((row),) = run_sql(
        dsn,
        """SELECT (SELECT count(*) FROM adk_artifact_chunks)::int4 AS chunks,
            (SELECT count(*) FROM adk_artifact_blobs)::int4 AS blobs""",
    )[0]
    assert (row["chunks"], row["blobs"]) == (2, 2)


# --- beside others ---


async def test_a_session_that_somebody_writes_is_neither_waited_for_nor_deleted(
    aged: PsqlpySessionService, config: PsqlpyConfig, dsn: str
) -> None:
    async with config.provide_connection() as writer:
        await writer.execute("BEGIN")
        await writer.execute(
            "SELECT 1 FROM adk_sessions WHERE user_id = 'bob' AND id = 'bob-100' FOR NO KEY UPDATE"
        )
        done = await asyncio.wait_for(prune(config, Rules(idle=30 * DAY)), LIMIT_SEC)
        await writer.execute("COMMIT")
    assert done.sessions == 2
    assert "bob-100" in sessions(dsn)


async def test_a_session_written_after_it_was_found_stays(
    aged: PsqlpySessionService, config: PsqlpyConfig, dsn: str
) -> None:
    """Between a page and its deletion somebody says something."""

    def progress(done: Pruned) -> None:
        if done.sessions == 1:
            run_sql(
                dsn,
                "UPDATE adk_sessions SET revision = revision + 1, update_time = now() WHERE id LIKE '%-100'",
            )

    done = await prune(config, Rules(idle=30 * DAY), portion=1, progress=progress)
    assert done.sessions == 1
    assert len([each for each in sessions(dsn) if each.endswith("-100")]) == 2


async def test_writers_of_other_sessions_do_not_wait(
    service: PsqlpySessionService, config: PsqlpyConfig, dsn: str
) -> None:
    """While portions are deleted, each append to a session that stays is done; none fails."""
    for n in range(40):
        await written(service, 50, "cafe", "alice", f"old-{n}", events=4)
    kept = await written(service, 0, "cafe", "alice", "kept")
    pruning = asyncio.create_task(prune(config, Rules(idle=DAY), portion=4))
    appended = 0
    while not pruning.done():
        await service.append_event(kept, user_says("meanwhile"))
        appended += 1
    assert (await pruning).sessions == 40
    assert len(events(dsn, "kept")) == 2 + appended


async def test_several_machines_at_once(service: PsqlpySessionService, dsn: str) -> None:
    """Six pools prune sessions and events together: each session is counted once, and no deadlock comes."""
    for n in range(30):
        await written(service, 50 if n % 2 else 0, "cafe", f"user {n % 3}", f"s-{n:02}", events=10)
    rules = Rules(idle=DAY, keep_events=4)

    async def machine() -> Pruned:
        async with PsqlpyConfig({"dsn": dsn, "max_db_pool_size": 2}) as own:
            return await prune(own, rules, portion=7)

    done = await asyncio.gather(*(machine() for _ in range(6)))
    assert sum(each.sessions for each in done) == 15
    assert sum(each.session_events + each.events for each in done) >= 15 * 10
    assert len(sessions(dsn)) == 15
    assert all(len(events(dsn, session)) == 4 for session in sessions(dsn))


async def test_ctrl_c_leaves_whole_sessions(service: PsqlpySessionService, dsn: str) -> None:
    for n in range(60):
        await written(service, 50, "cafe", "alice", f"s-{n:02}", events=4)
    slow = process("prune", "--idle", "1d", "--portion", "4", "--pause", "0.05", "--dsn", dsn)
    try:

        async def begun() -> None:
            while len(await asyncio.to_thread(sessions, dsn)) == 60:
                assert slow.poll() is None, slow.stderr.read()

        await asyncio.wait_for(begun(), LIMIT_SEC)
        slow.send_signal(signal.SIGINT)
        out, err = await asyncio.to_thread(slow.communicate, timeout=LIMIT_SEC)
    finally:
        slow.kill()
    assert (slow.returncode, out) == (130, "")
    assert err.startswith("interrupted; deleted so far: ")
    left = sessions(dsn)
    assert 0 < len(left) < 60
    assert all(events(dsn, session) == [1, 2, 3, 4] for session in left)
    again = await running("prune", "--idle", "1d", "--dsn", dsn)
    assert again.code == 0
    assert sessions(dsn) == []


# --- the verb ---


async def test_what_the_verb_says(aged: PsqlpySessionService, dsn: str) -> None:
    trial = await running("prune", "--idle", "30d", "--dry-run", "--dsn", dsn)
    assert (trial.code, trial.out) == (0, "would delete 3 sessions with 6 events\n")
    done = await running("prune", "--idle", "30d", "--app", "cafe", "--dsn", dsn, "--json")
    assert done.json["sessions"] == 2
    assert done.json["dry_run"] is False
    assert (await running("prune", "--idle", "30d", "--dsn", dsn)).out == "deleted 1 session with 2 events\n"
    assert (await running("prune", "--idle", "30d", "--dsn", dsn)).out == "deleted nothing\n"


BAD: list[tuple[list[str], str]] = [
    ([], "say what to delete"),
    (["--idle", "90"], "'90' is no age: write 90d, 12h, 30m or 2w"),
    (["--idle", "0d"], "is no age"),
    (["--idle", "-3d"], "is no age"),
    (["--keep-sessions", "0"], "0 is not in the range"),
    (["--idle", "1d", "--portion", "0"], "0 is not in the range"),
    (["--idle", "1d", "--session-table", "a b"], "is not a table name"),
]


@pytest.mark.parametrize(("arguments", "said"), BAD)
async def test_bad_arguments(arguments: list[str], said: str, dsn: str) -> None:
    refused = await running("prune", *arguments, "--dsn", dsn)
    assert refused.code == 2
    assert said in refused.err


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"idle": timedelta(0)},
        {"idle": 90},
        {"events": -DAY},
        {"keep_sessions": 0},
        {"keep_events": True},
        {"idle": DAY, "apps": "cafe"},
    ],
)
def test_rules_that_are_none(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Rules(**given)


@one_server("tables are missing")
async def test_missing_tables_are_named(
    service: PsqlpySessionService, config: PsqlpyConfig, dsn: str
) -> None:
    missing = await running("prune", "--expired-memories", "--dsn", dsn)
    assert missing.code == 1
    assert 'no table "adk_memories"' in missing.err
    for arguments in (["--orphaned-artifacts"], ["--idle", "1d", "--session-table", "other_sessions"]):
        missing = await running("prune", *arguments, "--dsn", dsn)
        assert missing.code == 1
        assert "no table" in missing.err
