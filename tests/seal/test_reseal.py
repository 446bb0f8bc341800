"""Sealing anew: after a rotation, when sealing begins, and while agents work."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import TYPE_CHECKING, Any

import psqlpy
import pytest
from google.adk.sessions.base_session_service import GetSessionConfig

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from adk_psqlpy.admin.reseal import reseal
from adk_psqlpy.cli import main
from adk_psqlpy.errors import MissingKeyError
from adk_psqlpy.seal import Seal, new_key
from adk_psqlpy.sql.reseal import SealedTable
from keys import TestKeys, fresh_seal

from .support import SECRET, Sealed, everything_stored, places_of, secret_event
from .test_sessions import KEY, STATE, a_session, service_with

if TYPE_CHECKING:
    from servers import Database

WRITERS = 32


def keys_used(database: Database) -> set[str]:
    """The ids of keys in all values of the database."""
    found = set()
    for values in everything_stored(database.dsn).values():
        for value in values:
            text = bytes.fromhex(value[2:]).decode("utf-8", "replace") if value.startswith("\\x") else value
            found |= {part.partition(":")[0] for part in text.split("\ufdd0seal1:")[1:]}
    return found - {"", '"'}


async def test_after_a_rotation(sealed: Sealed) -> None:
    """Everything has the new key, the old one can go, and nothing else is different."""
    session = await a_session(sealed)
    await sealed.store.update_session_state("app", "user", "s", {"k": SECRET, "user:k": 1, "app:k": [1.5]})
    before = await sealed.service.get_session(**KEY)
    done = await reseal(sealed.store.config, fresh_seal("test-1", "test-2"), portion=2)  # type: ignore[arg-type]
    assert (done.events, done.states) == (3, 4)
    assert keys_used(sealed.database) == {"test-2"}
    after = await service_with(sealed, fresh_seal("test-2")).get_session(**KEY)
    assert after is not None
    assert before is not None
    assert (after.events, after.state) == (session.events, before.state)
    again = await reseal(sealed.store.config, fresh_seal("test-1", "test-2"))  # type: ignore[arg-type]
    assert (again.events, again.states) == (0, 0)


async def test_when_sealing_begins(sealed: Sealed) -> None:
    """Plain rows become sealed ones; state that stays plain stays."""
    plain = service_with(sealed, None)
    session = await plain.create_session(**KEY, state=dict(STATE))
    for number in range(3):
        await plain.append_event(session, secret_event(number))
    assert places_of(SECRET, sealed.database.dsn) != set()
    await reseal(sealed.store.config, fresh_seal("test-1"))  # type: ignore[arg-type]
    assert places_of(SECRET, sealed.database.dsn) == set()
    read = await sealed.service.get_session(**KEY)
    assert read is not None
    assert read.events == session.events


async def test_a_key_that_is_missing(sealed: Sealed) -> None:
    """It stops there and says which; nothing is lost."""
    session = await a_session(sealed)
    with pytest.raises(MissingKeyError, match=r"session 's' .*event 'event-0', column actions: .*'test-1'"):
        await reseal(sealed.store.config, fresh_seal("test-2"))  # type: ignore[arg-type]
    read = await sealed.service.get_session(**KEY)
    assert read is not None
    assert read.events == session.events


async def test_a_state_that_is_busy(sealed: Sealed) -> None:
    """What was written after the state was read stays; the other members have the new key."""
    session = await sealed.service.create_session(**KEY, state={"kept": 1, "changed": 1})
    await sealed.store.update_session_state("app", "user", "s", {"changed": 2})
    tables = SealedTable('"adk_sessions"', (("app_name", "varchar"),), (("state", "jsonb"),), merged=True)
    rows = sealed.sql("SELECT state FROM adk_sessions")
    read = json.dumps(rows[0]["state"])
    await sealed.store.update_session_state("app", "user", "s", {"changed": 1.0, "new": 1})
    # As the statement is sent by somebody who read before that.
    anew = '{"kept": "anew", "changed": "anew", "gone": "anew"}'
    statement = tables.rewrite.replace("$1", "'app'").replace("$2", f"'{read}'").replace("$3", f"'{anew}'")
    sealed.sql(statement)
    (stored,) = sealed.sql("SELECT state FROM adk_sessions")
    assert set(stored["state"]) == {"kept", "changed", "new"}
    assert stored["state"]["kept"] == "anew"
    assert session.state == {"kept": 1, "changed": 1}
    sealed.sql("UPDATE adk_sessions SET state = state - 'kept'")
    found = await sealed.service.get_session(**KEY)
    assert found is not None
    assert found.state == {"changed": 1.0, "new": 1}
    assert isinstance(found.state["changed"], float)


async def test_it_waits_for_a_row_that_is_being_written(sealed: Sealed, database: Database) -> None:
    """A writer holds the row while it is sealed anew: both changes are there afterwards."""
    await sealed.service.create_session(**KEY, state={"a": SECRET, "b": 1})
    second = fresh_seal("test-1", "test-2")
    writer = await psqlpy.connect(dsn=database.dsn)
    await writer.execute("BEGIN")
    await writer.execute("""UPDATE adk_sessions SET state = state || '{"c": 3}'""")
    working = asyncio.create_task(reseal(sealed.store.config, second))  # type: ignore[arg-type]
    while not await asyncio.to_thread(database.waiting_for_locks):  # noqa: ASYNC110 - the server tells it
        await asyncio.sleep(0.01)
    await writer.execute("COMMIT")
    writer.close()
    await working
    found = await service_with(sealed, second).get_session(**KEY)
    assert found is not None
    assert found.state == {"a": SECRET, "b": 1, "c": 3}
    (stored,) = sealed.sql("SELECT state FROM adk_sessions")
    assert all(":test-2:" in str(stored["state"][name]) for name in "ab")


async def test_what_is_sealed_stays_sealed(sealed: Sealed) -> None:
    """Patterns that are narrower than those of the store take no seal off."""
    await sealed.service.create_session(**KEY, state={"a": SECRET, "user:b": SECRET, "app:c": SECRET})
    narrow = Seal(TestKeys("test-1", "test-2"), state=("other",))
    await reseal(sealed.store.config, narrow)  # type: ignore[arg-type]
    assert places_of(SECRET, sealed.database.dsn) == set()
    assert keys_used(sealed.database) == {"test-2"}


async def test_twice_at_once_and_cut_off(sealed: Sealed) -> None:
    """Two with different keys, one of them cancelled after its first portion; then once more."""
    session = await a_session(sealed)
    read = asyncio.Event()
    keys = ("test-1", "test-2", "test-3")
    config: Any = sealed.store.config
    cut = asyncio.create_task(
        reseal(config, fresh_seal("test-1", "test-3", "test-2"), portion=1, progress=lambda _: read.set())
    )
    other = asyncio.create_task(reseal(config, fresh_seal(*keys), portion=1))
    await read.wait()
    cut.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cut
    await other
    await asyncio.gather(*(reseal(config, fresh_seal(*keys)) for _ in range(2)))
    assert keys_used(sealed.database) == {"test-3"}
    found = await service_with(sealed, fresh_seal("test-3")).get_session(**KEY)
    assert found is not None
    assert found.events == session.events


@pytest.mark.parametrize("events", [8, pytest.param(60, marks=pytest.mark.torture)])
async def test_writers_and_readers_lose_nothing(
    config: PsqlpyConfig, database: Database, events: int
) -> None:
    """32 of each, each with a seal of its own, while keys are rotated and everything is sealed anew.

    Keys are rotated when a quarter, a half and three quarters of the events are there. Writers stop at a
    number: 64 tasks on one processor could append faster than one goes over the table. The short form reads
    the newest events only: whole histories are the square of the events.
    """
    ring = TestKeys("k0")
    await PsqlpyADKStore(config, seal=Seal(ring)).create_tables()
    appended = [0] * WRITERS
    rotating = True
    newest = GetSessionConfig(num_recent_events=10) if events < 100 else None

    def service() -> PsqlpySessionService:
        # A short memory, so that each notices rotations.
        return PsqlpySessionService(PsqlpyADKStore(config, seal=Seal(ring, cache_sec=0.2)))

    async def write(number: int) -> None:
        own = service()
        session = await own.create_session(
            app_name="app", user_id=f"u{number}", session_id="s", state={"first": number}
        )
        while appended[number] < events:
            count = appended[number]
            delta = {f"k{count % 3}": count, "user:n": count, f"app:n{number}": count}
            await own.append_event(session, secret_event(count, actions={"state_delta": delta}))
            appended[number] += 1

    async def read(number: int) -> None:
        own = service()
        while rotating:
            before = appended[number]
            found = await own.get_session(app_name="app", user_id=f"u{number}", session_id="s", config=newest)
            if found is None or not found.events:
                assert before == 0
                continue
            last = int(found.events[-1].id.removeprefix("event-"))
            assert before <= last + 1 <= appended[number] + 1
            first = 0 if newest is None else max(0, last - 9)
            assert [event.id for event in found.events] == [f"event-{n}" for n in range(first, last + 1)]
            assert found.state["first"] == number
            assert found.state["user:n"] >= last

    async def rotate() -> None:
        nonlocal rotating
        try:
            for number in range(1, 4):
                while sum(appended) < WRITERS * events * number / 4:  # noqa: ASYNC110 - of all writers
                    await asyncio.sleep(0.01)
                ring.ids.append(f"k{number}")
                await reseal(config, Seal(ring, cache_sec=0.2), portion=200)
        finally:
            rotating = False

    numbers = range(WRITERS)
    await asyncio.gather(rotate(), *map(write, numbers), *map(read, numbers))
    await reseal(config, Seal(ring))
    assert keys_used(database) == {"k3"}
    ring.lost = {"k0", "k1", "k2"}
    for number in numbers:
        found = await service().get_session(app_name="app", user_id=f"u{number}", session_id="s")
        assert found is not None
        count = appended[number]
        assert [event.id for event in found.events] == [f"event-{n}" for n in range(count)]
        kept = {f"k{n % 3}": n for n in range(count)} | {"first": number, "user:n": count - 1}
        apps = {f"app:n{each}": appended[each] - 1 for each in numbers}
        assert found.state == kept | apps


async def test_the_command(
    sealed: Sealed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`adk-psqlpy reseal`, with keys of the environment."""
    plain = service_with(sealed, None)
    session = await plain.create_session(**KEY, state={"a": 1})
    await plain.append_event(session, secret_event(0))
    monkeypatch.setenv("KEYS", new_key("cli"))
    arguments: list[Any] = ["reseal", "--keys-variable", "KEYS", "--dsn", sealed.database.dsn]
    assert await asyncio.to_thread(main, arguments) == 0
    # The session with its initial state, its user's and its app's state.
    assert capsys.readouterr().out.startswith(
        "looked at 4 rows; sealed anew: 1 events, 3 states, 0 memories,"
    )
    assert keys_used(sealed.database) == {"cli"}
    monkeypatch.setenv("KEYS", "")
    assert await asyncio.to_thread(main, arguments) == 2
    assert "the environment variable KEYS is not set" in capsys.readouterr().err.replace("\n", " ")
    arguments[1:3] = ["--key-file", "/nowhere/keys"]
    assert await asyncio.to_thread(main, arguments) == 2
    assert "/nowhere/keys" in capsys.readouterr().err


WAYS = {"--keys": "env:KEYS", "--key-file": "/nowhere/keys", "--keys-variable": "KEYS"}


@pytest.mark.parametrize("given", [*itertools.combinations(WAYS, 2), tuple(WAYS)], ids="".join)
async def test_keys_given_twice(
    sealed: Sealed,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: tuple[str, ...],
) -> None:
    """None of them is ignored: the command refuses, and names those that were given."""
    monkeypatch.setenv("KEYS", new_key("cli"))
    options = [part for option in given for part in (option, WAYS[option])]
    assert await asyncio.to_thread(main, ["reseal", *options, "--dsn", sealed.database.dsn]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert f"{', '.join(given)} each say where the keys are: give one of them" in told


async def test_the_variable_if_no_keys_are_given(
    sealed: Sealed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`ADK_PSQLPY_KEYS`, as of the other verbs."""
    await service_with(sealed, None).create_session(**KEY, state={"a": 1})
    monkeypatch.setenv("ADK_PSQLPY_KEYS", new_key("cli"))
    assert await asyncio.to_thread(main, ["reseal", "--dsn", sealed.database.dsn]) == 0
    assert keys_used(sealed.database) == {"cli"}
    monkeypatch.delenv("ADK_PSQLPY_KEYS")
    assert await asyncio.to_thread(main, ["reseal", "--dsn", sealed.database.dsn]) == 2
    assert "the environment variable ADK_PSQLPY_KEYS is not set" in " ".join(capsys.readouterr().err.split())
