"""Writers, indexers, and SQL that edits and deletes, at once: a search finds what is stored, nothing else."""

from __future__ import annotations

import asyncio
import json
import random

import pytest
from google.adk.errors import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.genai import types

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from servers import Database, run_sql
from where import SEARCHES, one_server

pytestmark = one_server(SEARCHES)

ANN = {"app_name": "app", "user_id": "ann"}
IDS = ("s0", "s1", "s2", "s3")
WORDS = tuple(f"word{number}" for number in range(12))


def spoken(chance: random.Random) -> Event:
    """An event of three of the words."""
    text = " ".join(chance.sample(WORDS, 3))
    return Event(author="user", content=types.Content(role="user", parts=[types.Part(text=text)]))


async def write(service: PsqlpySessionService, chance: random.Random, rounds: int) -> None:
    for _ in range(rounds):
        key = ANN | {"session_id": chance.choice(IDS)}
        session = await service.get_session(**key)
        try:
            if session is None:
                await service.create_session(**key)
            elif chance.random() < 0.03:
                await service.delete_session(**key)
            elif chance.random() < 0.1:
                await service.store.update_session_state(*key.values(), {"a": 1})
            else:
                await service.append_event(session, spoken(chance))
        except (StaleSessionError, SessionNotFoundError, AlreadyExistsError):
            continue


async def edit(config: PsqlpyConfig, chance: random.Random, rounds: int) -> None:
    """Redact and remove with SQL, in transactions that stay open for a while."""
    for _ in range(rounds):
        content = json.dumps({"role": "user", "parts": [{"text": " ".join(chance.sample(WORDS, 2))}]})
        pick = "id = (SELECT id FROM adk_events ORDER BY random() LIMIT 1)"
        async with config.provide_connection() as connection, connection.transaction() as transaction:
            if chance.random() < 0.3:
                await transaction.execute(f"DELETE FROM adk_events WHERE {pick}")
            else:
                await transaction.execute(
                    f"UPDATE adk_events SET content = $1::text::jsonb WHERE {pick}", [content]
                )
            await asyncio.sleep(chance.uniform(0, 0.02))  # others meet the open transaction


async def search(service: PsqlpySessionService, chance: random.Random, rounds: int) -> None:
    for _ in range(rounds):
        if chance.random() < 0.2:
            await service.store.index_events()
        await service.search_events(**ANN, query=chance.choice(WORDS), limit=1_000)


@pytest.mark.parametrize("seed", range(2))
async def test_everything_at_once(database: Database, seed: int) -> None:
    chance = random.Random(seed)
    config = PsqlpyConfig({"dsn": database.dsn, "max_db_pool_size": 8})
    async with config:
        services = [PsqlpySessionService(PsqlpyADKStore(config)) for _ in range(3)]
        await services[0].store.create_tables(event_search=True)
        await asyncio.wait_for(
            asyncio.gather(
                *(write(each, chance, 150) for each in services),
                *(search(each, chance, 60) for each in services),
                edit(config, chance, 60),
            ),
            120,
        )
        for session_id in IDS:  # so that there is something to find, whatever was deleted last
            key = ANN | {"session_id": session_id}
            held = await services[0].get_session(**key) or await services[0].create_session(**key)
            for _ in range(5):
                await services[0].append_event(held, spoken(chance))
        # As the server has it: what is searched is compared with that, and no other read.
        stored: dict[str, list[str]] = {}
        query = "SELECT id, content -> 'parts' -> 0 ->> 'text' AS said FROM adk_events"
        for row in run_sql(database.dsn, query)[0]:
            for word in row["said"].split():
                stored.setdefault(word, []).append(row["id"])
        assert sum(map(len, stored.values())) >= 60
        for word in WORDS:
            hits = await services[1].search_events(**ANN, query=word, limit=1_000)
            assert sorted(hit.event.id for hit in hits) == sorted(stored.get(word, [])), word
