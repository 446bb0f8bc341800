"""Fixtures of the reads' suite: a store that keeps histories, and one that reads everything each time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from adk_psqlpy.sessions.stored import Version
from servers import Database, run_sql

if TYPE_CHECKING:
    from google.adk.events.event import Event

    from adk_psqlpy.sessions.stored import StoredSession

KEY = ("app", "user", "s")


@dataclass
class Reads:
    """A store that keeps what it reads, beside one that does not; both on the same tables."""

    store: PsqlpyADKStore
    plain: PsqlpyADKStore
    dsn: str
    counted: list[tuple[int, int]] = field(default_factory=list)
    """Of each read: how many events were kept, and how many the server sent."""

    async def create(self, events: list[Event] | None = None, key: tuple[str, str, str] = KEY) -> None:
        """A session with these events, appended through the other store."""
        assert await self.plain.create_session(*key, {"made": True}) is not None
        await self.append(events or [], key)

    async def append(self, events: list[Event], key: tuple[str, str, str] = KEY) -> None:
        """Append as another process would."""
        last = await self.plain.last_event(*key)
        assert last is not None
        version = last[0]
        for number, event in enumerate(events, start=version.revision):
            expected = Version(number, version.create_time)
            assert await self.plain.append_event(*key, event, expected=expected)

    async def read(self, key: tuple[str, str, str] = KEY) -> StoredSession | None:
        """Read, and compare with a full read: objects, and the text that they dump to."""
        found, full = await self.store.get_session(*key), await self.plain.get_session(*key)
        assert found == full
        if found is not None and full is not None:
            assert dumped(found.events) == dumped(full.events)
        return found

    def sql(self, *statements: str) -> None:
        """Change something as a person with psql does: `revision` is not touched."""
        run_sql(self.dsn, *statements)

    @property
    def last(self) -> tuple[int, int]:
        """Kept and sent events of the last read."""
        return self.counted[-1]


def dumped(events: list[Event]) -> list[str]:
    """What tells events apart that are equal: the order of keys, integers and floats."""
    return [event.model_dump_json() for event in events]


def observed_reads(store: PsqlpyADKStore, plain: PsqlpyADKStore, dsn: str) -> Reads:
    """The two, with the reads of the first one counted."""
    reads = Reads(store, plain, dsn)
    record = store._telemetry.record_history

    def counting(*, kept: int, sent: int) -> None:
        reads.counted.append((kept, sent))
        record(kept=kept, sent=sent)

    store._kept_reads._telemetry = type("Counting", (), {"record_history": staticmethod(counting)})()
    return reads


@pytest.fixture
async def reads(config: PsqlpyConfig, database: Database) -> Reads:
    """Both stores on an empty database."""
    plain = PsqlpyADKStore(config, history_cache_bytes=0)
    await plain.create_tables()
    store = PsqlpyADKStore(config)
    await store.create_tables()
    return observed_reads(store, plain, database.dsn)


@pytest.fixture
def service(reads: Reads) -> PsqlpySessionService:
    """A service on the store that keeps histories."""
    return PsqlpySessionService(reads.store)
