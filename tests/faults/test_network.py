"""The network between service and server: cut at every moment of a statement, slow, silent, refusing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.events.event import Event
from psqlpy.exceptions import Error

from adk_psqlpy import PsqlpyADKStore, PsqlpySessionService
from proxy import Cut, Proxy
from servers import Database
from where import on_cluster

from .deadlines import within
from .ledger import Findings, Ledger, compare
from .quiet import settled, whole
from .workload import create_sessions, under_load, writers_of

Seen = Callable[[str, int, Findings], None]


RETRY_SEC = pytest.mark.parametrize("retry_sec", [0, 15])
"""Whether callers repeat what failed, or the service does."""


@RETRY_SEC
@pytest.mark.parametrize("cut", Cut)
async def test_one_cut_in_an_append(database: Database, cut: Cut, retry_sec: int) -> None:
    """One append, cut once: the same call again, or the service's own retry, leaves it stored once."""
    async with Proxy(database.dsn) as line, line.config(retry_sec=retry_sec) as config:
        service = PsqlpySessionService(PsqlpyADKStore(config))
        await service.store.create_tables()
        session = await service.create_session(app_name="app", user_id="user-0", session_id="s")
        await service.append_event(session, Event(author="user"))  # the statement is prepared now
        fates = iter([cut])
        line.fate = lambda: next(fates, None)
        event = Event(author="agent")
        if retry_sec == 0:
            with pytest.raises(Error):
                await within(10, service.append_event(session, event))
        assert await within(10, service.append_event(session, event)) is event
        assert line.cuts == {cut: 1}
        found = await service.get_session(app_name="app", user_id="user-0", session_id="s")
        assert found == session
        assert [each.id for each in session.events][1:] == [event.id]
        await service.close()


@pytest.mark.parametrize("cut", Cut)
async def test_one_cut_in_a_create(database: Database, cut: Cut) -> None:
    """The service's own retry gives the session, whether the first attempt made it or not; to a caller who
    repeats it himself, the id may be taken."""
    state = {"k": 1, "user:k": 2, "app:k": 3}
    async with Proxy(database.dsn) as line, line.config() as config:
        service = PsqlpySessionService(PsqlpyADKStore(config))
        await service.store.create_tables()
        await service.create_session(app_name="app", user_id="u", session_id="prepared")
        fates = iter([cut])
        line.fate = lambda: next(fates, None)
        key = {"app_name": "app", "user_id": "u", "session_id": "s"}
        created = await within(10, service.create_session(**key, state=state))  # type: ignore[arg-type]
        assert line.cuts == {cut: 1}
        assert created.state == state
        assert await service.get_session(**key) == created
        await within(10, service.append_event(created, Event(author="user")))
        with pytest.raises(AlreadyExistsError):
            await service.create_session(**key)


@pytest.mark.parametrize("cut", Cut)
async def test_one_cut_in_a_delete(database: Database, cut: Cut) -> None:
    """The service's own retry ends with the session deleted."""
    async with Proxy(database.dsn) as line, line.config() as config:
        service = PsqlpySessionService(PsqlpyADKStore(config))
        await service.store.create_tables()
        for name in ("prepared", "s"):
            await service.create_session(app_name="app", user_id="u", session_id=name)
        await service.delete_session(app_name="app", user_id="u", session_id="prepared")
        fates = iter([cut])
        line.fate = lambda: next(fates, None)
        await within(10, service.delete_session(app_name="app", user_id="u", session_id="s"))
        assert line.cuts == {cut: 1}
        assert await service.get_session(app_name="app", user_id="u", session_id="s") is None


@pytest.mark.parametrize("cut", Cut)
async def test_one_cut_in_a_change_of_state(database: Database, cut: Cut) -> None:
    """`update_session_state` has no event to be told by, so it is sent once: an error, and the delta is there
    whole or not at all."""
    async with Proxy(database.dsn) as line, line.config() as config:
        store = PsqlpyADKStore(config)
        await store.create_tables()
        await store.create_session("app", "u", "s")
        await store.update_session_state("app", "u", "s", {"prepared": 1})
        fates = iter([cut])
        line.fate = lambda: next(fates, None)
        with pytest.raises(Error):
            await within(10, store.update_session_state("app", "u", "s", {"k": 1, "user:k": 2, "app:k": 3}))
        assert line.cuts == {cut: 1}
        await settled(database)
        found = await store.get_session("app", "u", "s")
        assert found is not None
        before, after = ({"prepared": 1}, 1), ({"prepared": 1, "k": 1, "user:k": 2, "app:k": 3}, 2)
        expected = {Cut.BEFORE: [before], Cut.DURING: [before, after]}.get(cut, [after])
        if on_cluster() and cut is not Cut.BEFORE:
            # While one node waits for another, it notices that the client has gone, and rolls back.
            expected = [before, after]
        assert (found.state, found.revision) in expected


@RETRY_SEC
@pytest.mark.parametrize("cuts", [40, pytest.param(2000, marks=pytest.mark.torture)])
async def test_cuts_at_random(
    database: Database, ledger: Ledger, seen: Seen, cuts: int, retry_sec: int
) -> None:
    """One request in eight is cut, at a random moment, on whichever connection, log-ins included."""
    async with Proxy(database.dsn) as line, line.config(max_db_pool_size=6, retry_sec=retry_sec) as config:
        service = PsqlpySessionService(PsqlpyADKStore(config))
        await service.store.create_tables()
        ids = await create_sessions(service, 8)
        writers = writers_of(service, ledger, ids, 16, repeats=retry_sec == 0)
        line.fate = lambda: random.choice(list(Cut)) if random.random() < 1 / 8 else None

        async def wait() -> None:
            while line.cuts.total() < cuts:  # noqa: ASYNC110 - the proxy has no event for it
                await asyncio.sleep(0.01)
            line.fate = lambda: None

        await under_load(writers, wait, bound=60 + cuts)
        assert set(line.cuts) == set(Cut)
        assert any(writer.errors for writer in writers) is (retry_sec == 0)
        await settled(database)
        findings = await compare(service, Ledger.read(ledger.path), database.dsn)
        who = "the service" if retry_sec else "callers"
        seen(
            f"connection cut before, during, within, after a request; {who} repeat",
            line.cuts.total(),
            findings,
        )
        await whole(service, database)


@pytest.mark.parametrize("rounds", [3, pytest.param(40, marks=pytest.mark.torture)])
async def test_the_network_goes_away_and_comes_back(
    database: Database, ledger: Ledger, seen: Seen, rounds: int
) -> None:
    """All connections are cut, new ones refused for a while; the network is slow at times."""
    async with Proxy(database.dsn) as line, line.config(max_db_pool_size=6) as config:
        service = PsqlpySessionService(PsqlpyADKStore(config))
        await service.store.create_tables()
        ids = await create_sessions(service, 8)
        cut = 0

        async def outages() -> None:
            nonlocal cut
            for _ in range(rounds):
                await asyncio.sleep(random.uniform(0.05, 0.3))  # load
                line.delay = lambda: random.expovariate(100)  # 10 ms on average
                await asyncio.sleep(random.uniform(0.05, 0.3))
                line.refuse()
                cut += line.cut_all()
                await asyncio.sleep(random.uniform(0.05, 0.3))
                line.refuse(False)
                line.delay = lambda: 0.0

        await under_load(writers_of(service, ledger, ids, 16), outages, bound=60 + 5 * rounds)
        assert cut >= rounds
        await settled(database)
        findings = await compare(service, Ledger.read(ledger.path), database.dsn)
        seen("network down for 50-300 ms, slow before that", rounds, findings)
        await whole(service, database)


async def test_a_black_hole(database: Database, ledger: Ledger) -> None:
    """Nothing comes back any more, and no connection breaks: a caller's own limit works, and so does the
    same event again when the network is back."""
    async with Proxy(database.dsn) as line, line.config(max_db_pool_size=4) as config:
        service = PsqlpySessionService(PsqlpyADKStore(config))
        await service.store.create_tables()
        sessions = [
            await service.create_session(app_name="app", user_id="user-0", session_id=f"s-{n}")
            for n in range(8)
        ]
        events = [Event(author="agent") for _ in sessions]
        line.black_hole()

        async def limited(number: int) -> None:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(service.append_event(sessions[number], events[number]), 0.3)

        await within(5, asyncio.gather(*map(limited, range(8))))
        line.pass_again()
        again = [
            service.append_event(session, event) for session, event in zip(sessions, events, strict=True)
        ]
        await within(10, asyncio.gather(*again))
        for session, event in zip(sessions, events, strict=True):
            found = await service.get_session(app_name="app", user_id="user-0", session_id=session.id)
            assert found == session
            assert [each.id for each in session.events] == [event.id]
        await whole(service, database)
