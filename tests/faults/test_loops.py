"""Event loops: several one after another, uvloop, and a process that forked."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Callable

import pytest

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from servers import Database

from .deadlines import until
from .ledger import Findings, Ledger, compare
from .quiet import settled, whole
from .workload import Writer, create_sessions

Seen = Callable[[str, int, Findings], None]


def service_on(dsn: str, pool_size: int = 4) -> PsqlpySessionService:
    """A service that belongs to no loop yet."""
    return PsqlpySessionService(PsqlpyADKStore(PsqlpyConfig({"dsn": dsn, "max_db_pool_size": pool_size})))


@pytest.mark.parametrize("rounds", [4, pytest.param(60, marks=pytest.mark.torture)])
@pytest.mark.parametrize("factory", ["asyncio", "uvloop"])
def test_one_loop_after_another(
    database: Database, ledger: Ledger, seen: Seen, rounds: int, factory: str
) -> None:
    """Each loop ends amid appends, which it cancels; the next one goes on with the service."""
    new_loop = pytest.importorskip("uvloop").new_event_loop if factory == "uvloop" else asyncio.new_event_loop
    service = service_on(database.dsn)

    async def first() -> list[str]:
        await service.store.create_tables()
        return await create_sessions(service, 6)

    async def work(number: int) -> None:
        writers = [Writer(service, ledger, f"l{number}.{name}", [ids[name]]) for name in range(6)]
        for writer in writers:
            asyncio.ensure_future(writer.run(lambda: True)).add_done_callback(ended)

        async def under_way() -> bool:
            return sum(writer.appended for writer in writers) > 6

        await until(under_way, 60, "some appends")
        await asyncio.sleep(random.uniform(0.0, 0.05))  # in the middle of something

    def ended(task: asyncio.Task[None]) -> None:
        assert task.cancelled() or task.exception() is None

    async def last() -> Findings:
        await settled(database)
        findings = await compare(service, Ledger.read(ledger.path), database.dsn)
        await whole(service, database)
        return findings

    def in_a_loop(what: Callable[[], object]) -> object:
        loop = new_loop()
        try:
            return loop.run_until_complete(what())
        finally:
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()

    ids = in_a_loop(first)
    assert isinstance(ids, list)
    for number in range(rounds):
        in_a_loop(lambda number=number: work(number))
    findings = in_a_loop(last)
    assert isinstance(findings, Findings)
    assert findings.acknowledged > 6 * rounds
    seen(f"event loop ended amid appends, {factory}", rounds, findings)


async def test_uvloop_under_faults(database: Database) -> None:
    """The same cuts and cancellations under uvloop, in a process of its own."""
    pytest.importorskip("uvloop")
    program = [sys.executable, "-c", UVLOOP, database.dsn]
    done = await asyncio.to_thread(
        subprocess.run, program, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "32 events, 8 sessions"), done.stderr


UVLOOP = """
import asyncio, sys, uvloop
from google.adk.events.event import Event
from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
async def main():
    config = PsqlpyConfig({"dsn": sys.argv[1], "max_db_pool_size": 3})
    async with PsqlpySessionService(PsqlpyADKStore(config)) as service:
        await service.store.create_tables()
        sessions = [await service.create_session(app_name="a", user_id="u") for _ in range(8)]
        for turns in range(4):
            events = [Event(author="agent") for _ in sessions]
            tasks = [asyncio.ensure_future(service.append_event(*each)) for each in zip(sessions, events)]
            for _ in range(3 * turns):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await asyncio.gather(*(service.append_event(*each) for each in zip(sessions, events)))
        found = [await service.get_session(app_name="a", user_id="u", session_id=s.id) for s in sessions]
        assert found == sessions
        print(sum(len(s.events) for s in found), "events,", len(found), "sessions")
uvloop.run(main())
"""

FORK = """
import asyncio, os, sys
from google.adk.events.event import Event
from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
service = PsqlpySessionService(PsqlpyADKStore(PsqlpyConfig({"dsn": sys.argv[1], "max_db_pool_size": 2})))
async def append(create):
    if create:
        await service.store.create_tables()
        session = await service.create_session(app_name="a", user_id="u", session_id="s")
    else:
        session = await service.get_session(app_name="a", user_id="u", session_id="s")
    await service.append_event(session, Event(author="agent"))
    return len(session.events)
async def main():
    return await asyncio.wait_for(append(True), 10)
if sys.argv[2] == "used":
    print("parent", asyncio.run(main()), flush=True)
pid = os.fork()
if pid == 0:
    try:
        print("child", asyncio.run(asyncio.wait_for(append(sys.argv[2] != "used"), 10)))
    except RuntimeError as error:
        print("child", error)
    sys.stdout.flush()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
print("parent", asyncio.run(asyncio.wait_for(append(False), 10)))
"""


@pytest.mark.parametrize(
    ("when", "lines"),
    [
        ("used", ["parent 1", "child this process was forked after psqlpy", "parent 2"]),
        ("unused", ["child 1", "parent 2"]),
    ],
)
async def test_fork(database: Database, when: str, lines: list[str]) -> None:
    """In the child of a process that used the service an error says so; it does not hang, and the parent's
    connections are left alone. Where the parent had not used it, the child may."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, database.dsn, when],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    given = done.stdout.splitlines()
    assert [line[: len(start)] for line, start in zip(given, lines, strict=True)] == lines
