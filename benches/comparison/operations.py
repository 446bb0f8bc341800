"""What is timed: each operation gives callables to time, after it looked at what they return."""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from google.adk.sessions.base_session_service import GetSessionConfig

import make_shapes
from comparison.pgbench import Pgbench
from comparison.services import (
    ADK,
    APP,
    BARE,
    OURS,
    STATE,
    USER,
    Bare,
    Opened,
    copy_sessions,
    fill,
    filled,
    run_sql,
)

Sample = Callable[[int], Awaitable[list[float]]]
WRITERS, EACH = 32, 8

_numbers = itertools.count(1)


@dataclass
class Context:
    """Everything that is open."""

    opened: dict[str, Opened]
    bare: Bare
    pgbench: Pgbench | None
    # (operation, peer) -> what was wrong with the answer, empty for nothing
    wrong: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def ours(self) -> Opened:
        return self.opened[OURS]


@dataclass(frozen=True)
class Operation:
    """A row of the table. `prepare` makes, for each peer, what gives the seconds (or rates) of n calls."""

    key: str
    title: str
    prepare: Callable[[Context, str], Awaitable[dict[str, Sample]]]
    calls: int
    unit: str = "ms"

    @property
    def higher_is_better(self) -> bool:
        return self.unit != "ms"


async def _timed(calls: Sequence[Callable[[], Awaitable[Any]]]) -> list[float]:
    taken = []
    for call in calls:
        start = time.perf_counter()
        result = await call()
        taken.append(time.perf_counter() - start)
        del result
    return taken


def _repeat(call: Callable[[], Awaitable[Any]]) -> Sample:
    async def sample(count: int) -> list[float]:
        return await _timed([call] * count)

    return sample


def _check(context: Context, operation: str, key: str, right: bool, complaint: str) -> None:
    """A wrong answer of ours ends the run; a rival's is noted."""
    if right:
        return
    assert key not in (OURS, BARE), f"{operation}: {complaint}"
    context.wrong[operation, key] = complaint


# Reading.

LENGTHS = (100, 5_000, 100_000)
"""Of the histories whose last events are read."""


def _get(count: int, last: int | None = None) -> Callable[[Context, str], Awaitable[dict[str, Sample]]]:
    config = GetSessionConfig(num_recent_events=last) if last else None
    session_id = f"read-{count}"

    async def prepare(context: Context, operation: str) -> dict[str, Sample]:
        expected = filled(session_id, count, last)
        samples = {}
        for key, opened in context.opened.items():
            # All of them first: statistics that change between two reads make plans anew.
            for each in LENGTHS if last else (count,):
                if not await _exists(opened, f"read-{each}"):
                    await fill(opened, f"read-{each}", each)
                    await run_sql(opened.dsn, f"VACUUM ANALYZE {opened.peer.events}")
            call = _reader(opened, session_id, config)
            session = await call()
            right = session.events == expected and session.state == STATE
            _check(context, operation, key, right, _difference(session.events, expected))
            samples[key] = _repeat(call)
        (statement,) = await context.bare.record(_reader(context.ours, session_id, config))
        rows = await context.bare.replay(statement)
        size = sum(len(value) for row in rows for value in row if isinstance(value, bytes))
        _check(context, operation, BARE, size > 200 * (last or count), f"{size} bytes only")
        return {**samples, BARE: _repeat(lambda: context.bare.replay(statement))}

    return prepare


def _reader(opened: Opened, session_id: str, config: Any = None) -> Callable[[], Awaitable[Any]]:
    return lambda: opened.service.get_session(
        app_name=APP, user_id=USER, session_id=session_id, config=config
    )


async def _exists(opened: Opened, session_id: str) -> bool:
    query = f"SELECT 1 AS found FROM {opened.peer.sessions} WHERE id = '{session_id}'"
    return bool(await run_sql(opened.dsn, query))


def _difference(found: list[Any], expected: list[Any]) -> str:
    if len(found) != len(expected):
        return f"{len(found)} events instead of {len(expected)}"
    for index, (one, other) in enumerate(zip(found, expected, strict=True)):
        if one.id != other.id:
            return f"event {index} is {one.id} instead of {other.id}"
        if one != other:
            return f"event {index} differs in its fields"
    return "the state differs"


def _list(
    count: int, keys: tuple[str, ...] | None = None
) -> Callable[[Context, str], Awaitable[dict[str, Sample]]]:
    user = f"lists-{count}"

    async def prepare(context: Context, operation: str) -> dict[str, Sample]:
        samples = {}
        expected = {f"{user}-{n}" for n in range(1, count + 1)}
        for key in keys or context.opened:
            if (opened := context.opened.get(key)) is None:
                continue
            await copy_sessions(opened, user, count)
            await run_sql(opened.dsn, f"VACUUM ANALYZE {opened.peer.sessions}")
            call = _lister(opened, user)
            listed = (await call()).sessions
            right = {s.id for s in listed} == expected and all(s.state == STATE for s in listed)
            _check(context, operation, key, right, "other sessions or states")
            samples[key] = _repeat(call)
        (statement,) = await context.bare.record(_lister(context.ours, user))
        return {**samples, BARE: _repeat(lambda: context.bare.replay(statement))}

    return prepare


def _lister(opened: Opened, user: str) -> Callable[[], Awaitable[Any]]:
    return lambda: opened.service.list_sessions(app_name=APP, user_id=user)


async def _user_state(context: Context, operation: str) -> dict[str, Sample]:
    samples = {}
    for key, opened in context.opened.items():
        await opened.service.create_session(app_name=APP, user_id="stateful", session_id="s", state=STATE)
        call = _state_reader(opened)
        _check(context, operation, key, await call() == {"name": "Ada"}, "another state")
        samples[key] = _repeat(call)
    (statement,) = await context.bare.record(_state_reader(context.ours))
    return {**samples, BARE: _repeat(lambda: context.bare.replay(statement))}


def _state_reader(opened: Opened) -> Callable[[], Awaitable[Any]]:
    return lambda: opened.service.get_user_state(app_name=APP, user_id="stateful")


async def _round_trip(context: Context, operation: str) -> dict[str, Sample]:
    (connection, *_) = context.bare.connections
    assert (await connection.fetch("SELECT 1 AS one")).result() == [{"one": 1}], operation
    return {BARE: _repeat(lambda: connection.fetch("SELECT 1 AS one"))}


# Writing.


async def _create(context: Context, operation: str) -> dict[str, Sample]:
    def creator(opened: Opened) -> Callable[[], Awaitable[Any]]:
        return lambda: opened.service.create_session(
            app_name=APP, user_id="creator", session_id=f"created-{next(_numbers)}", state=STATE
        )

    samples = {}
    for key, opened in context.opened.items():
        _check(context, operation, key, (await creator(opened)()).state == STATE, "another state")
        samples[key] = _repeat(creator(opened))

    async def bare(count: int) -> list[float]:
        statements = [(await context.bare.record(creator(context.ours)))[0] for _ in range(count)]
        await run_sql(context.ours.dsn, "DELETE FROM adk_sessions WHERE user_id = 'creator'")
        calls = [partial(context.bare.replay, statement) for statement in statements]
        taken = await _timed(calls)
        assert (
            len(await run_sql(context.ours.dsn, "SELECT 1 FROM adk_sessions WHERE user_id = 'creator'"))
            == count
        )
        return taken

    return {**samples, BARE: bare}


async def _appends(opened: Opened, count: int) -> tuple[str, list[Callable[[], Awaitable[Any]]]]:
    """Appends to a new session, one after another."""
    session_id = f"append-{next(_numbers)}"
    session = await opened.service.create_session(
        app_name=APP, user_id=USER, session_id=session_id, state=STATE
    )
    events = make_shapes.mixed(count)
    for event in events:
        event.id = f"{session_id}-{event.id}"
    return session_id, [partial(opened.service.append_event, session, event) for event in events]


async def _appended(opened: Opened, session_id: str) -> int:
    query = f"SELECT count(*)::int4 AS count FROM {opened.peer.events} WHERE session_id = '{session_id}'"
    return int((await run_sql(opened.dsn, query))[0]["count"])


async def _bare_appends(context: Context, count: int) -> tuple[str, list[Any]]:
    """The statements of appends to a session which is then put back to what it was before them."""
    session_id, calls = await _appends(context.ours, count)
    key = f"id = '{session_id}' AND user_id = '{USER}'"
    keep = f"kept_{next(_numbers)}"
    await run_sql(context.ours.dsn, f"CREATE UNLOGGED TABLE {keep} AS SELECT * FROM adk_sessions WHERE {key}")
    statements = [(await context.bare.record(call))[0] for call in calls]
    await run_sql(
        context.ours.dsn,
        f"DELETE FROM adk_sessions WHERE {key}",
        f"INSERT INTO adk_sessions SELECT * FROM {keep}",
        f"DROP TABLE {keep}",
    )
    return session_id, statements


async def _append(context: Context, operation: str) -> dict[str, Sample]:
    def sampler(opened: Opened) -> Sample:
        async def sample(count: int) -> list[float]:
            session_id, calls = await _appends(opened, count)
            taken = await _timed(calls)
            stored = await _appended(opened, session_id)
            _check(context, operation, opened.key, stored == count, f"{stored} of {count} events stored")
            return taken

        return sample

    async def bare(count: int) -> list[float]:
        session_id, statements = await _bare_appends(context, count)
        taken = await _timed([partial(context.bare.replay, statement) for statement in statements])
        assert await _appended(context.ours, session_id) == count
        return taken

    return {**{key: sampler(opened) for key, opened in context.opened.items()}, BARE: bare}


async def _append_32(context: Context, operation: str) -> dict[str, Sample]:
    """Events a second: each of 32 writers appends to a session of its own, one event after another."""

    async def rate(writers: Sequence[Sequence[Callable[[], Awaitable[Any]]]]) -> float:
        async def write(calls: Sequence[Callable[[], Awaitable[Any]]]) -> None:
            for call in calls:
                await call()

        start = time.perf_counter()
        await asyncio.gather(*map(write, writers))
        return sum(map(len, writers)) / (time.perf_counter() - start)

    def sampler(opened: Opened) -> Sample:
        async def sample(count: int) -> list[float]:
            rates = []
            for _ in range(count):
                prepared = [await _appends(opened, EACH) for _ in range(WRITERS)]
                rates.append(await rate([calls for _, calls in prepared]))
                stored = sum([await _appended(opened, session_id) for session_id, _ in prepared[:4]])
                _check(context, operation, opened.key, stored == 4 * EACH, f"{stored} of {4 * EACH} stored")
            return rates

        return sample

    async def bare(count: int) -> list[float]:
        rates = []
        lanes = len(context.bare.connections)
        for _ in range(count):
            prepared = [await _bare_appends(context, EACH) for _ in range(WRITERS)]
            writers = [
                [partial(context.bare.replay, statement, writer % lanes) for statement in statements]
                for writer, (_, statements) in enumerate(prepared)
            ]
            rates.append(await rate(writers))
            assert sum([await _appended(context.ours, each) for each, _ in prepared[:4]]) == 4 * EACH
        return rates

    samples: dict[str, Sample] = {key: sampler(opened) for key, opened in context.opened.items()}
    samples[BARE] = bare
    if context.pgbench is not None:
        samples["pgbench"] = context.pgbench.rates
    return samples


OPERATIONS = (
    Operation("round_trip", "one round trip (`SELECT 1`)", _round_trip, 20),
    Operation("create_session", "create_session", _create, 8),
    Operation("get_0", "get_session, 0 events", _get(0), 10),
    Operation("get_100", "get_session, 100 events", _get(100), 4),
    Operation("get_1000", "get_session, 1,000 events", _get(1_000), 2),
    Operation("last_20_of_100", "get_session, last 20 of 100", _get(100, 20), 8),
    Operation("last_20_of_5000", "get_session, last 20 of 5,000", _get(5_000, 20), 8),
    Operation("last_20_of_100000", "get_session, last 20 of 100,000", _get(100_000, 20), 8),
    Operation("append", "append_event", _append, 16),
    Operation("append_32", "append_event, 32 sessions at once", _append_32, 1, "events/s"),
    Operation("list_100", "list_sessions, 100", _list(100), 4),
    Operation("list_10000", "list_sessions, 10,000", _list(10_000, (OURS, ADK)), 1),
    Operation("user_state", "get_user_state", _user_state, 10),
)


async def measure(
    operation: Operation, context: Context, rounds: int, tick: Callable[[], None]
) -> dict[str, list[float]]:
    """Samples by peer: in each round every peer has a turn, each round another one first.

    A first round that warms connections and caches is not counted.
    """
    samples = await operation.prepare(context, operation.key)
    keys = list(samples)
    found: dict[str, list[float]] = {key: [] for key in keys}
    # Collections during a turn look at what the turn made, not at everything that was ever imported.
    gc.collect()
    gc.freeze()
    for number in range(rounds + 1):
        first = number % len(keys)
        for key in keys[first:] + keys[:first]:
            gc.collect()
            taken = await samples[key](operation.calls)
            if number:
                found[key] += taken
        tick()
    gc.unfreeze()
    scale = 1e3 if operation.unit == "ms" else 1
    return {key: [value * scale for value in values] for key, values in found.items()}
