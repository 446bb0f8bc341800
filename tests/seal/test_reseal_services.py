"""Memories, artifacts, credentials and streamed texts, sealed anew, and rows that are added meanwhile."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from google.adk.auth.auth_credential import AuthCredential, AuthCredentialTypes, OAuth2Auth
from google.adk.memory.memory_entry import MemoryEntry
from google.genai import types

from adk_psqlpy import PsqlpyADKStore, PsqlpyArtifactService, PsqlpyConfig, PsqlpyMemoryService
from adk_psqlpy.admin.reseal import Resealed, reseal
from adk_psqlpy.cli import main
from adk_psqlpy.credentials import PsqlpyCredentialService
from adk_psqlpy.seal import Seal, new_key
from adk_psqlpy.streaming.partials import Partials, Stream
from keys import TestKeys, fresh_seal
from where import makes_tables

from .support import SECRET, Sealed, places_of, secret_event
from .test_reseal import keys_used
from .test_sessions import KEY, a_session

if TYPE_CHECKING:
    from servers import Database

# On a cluster `reseal` leaves distributed artifacts as they are, and memories are to be made with the seal.
pytestmark = makes_tables
USER: dict[str, Any] = {"app_name": "app", "user_id": "user"}
STREAM = Stream("invocation", "agent", "")
SESSION = ("app", "user", "s")
LARGE = SECRET.encode() * 250_000  # three chunks
PARTS = {
    "text.txt": types.Part(text=f"{SECRET} in a text"),
    "large.bin": types.Part.from_bytes(data=LARGE, mime_type="x/y"),
    "the same.bin": types.Part.from_bytes(data=LARGE, mime_type="x/z"),
    "user:empty": types.Part.from_bytes(data=b"", mime_type="x/y"),
    "file": types.Part(file_data=types.FileData(file_uri=f"gs://{SECRET}", mime_type="x/y")),
}


@dataclass
class Services:
    """All services of one seal on the same tables."""

    config: PsqlpyConfig
    seal: Seal | None

    def __post_init__(self) -> None:
        self.store = PsqlpyADKStore(self.config, seal=self.seal)
        self.artifacts = PsqlpyArtifactService(self.config, seal=self.seal)
        self.memory = PsqlpyMemoryService(self.config, seal=self.seal)
        self.partials = Partials(self.store)
        self.credentials = None if self.seal is None else PsqlpyCredentialService(self.config, self.seal)

    async def check(self) -> None:
        """Everything of `fill` is there, and found."""
        for name, part in PARTS.items():
            assert await self.artifacts.load_artifact(**KEY, filename=name) == part, name
            (first, *_) = await self.artifacts.list_artifact_versions(**KEY, filename=name)
            assert first.custom_metadata == {"note": SECRET}
        found = await self.memory.search_memory(**USER, query='"remembered words" 記')
        assert [each.id for each in found.memories] == ["entry"]
        assert found.memories[0].timestamp == f"when {SECRET}"
        assert found.memories[0].custom_metadata == {"note": SECRET}
        assert len((await self.memory.search_memory(**USER, query="content")).memories) == 2
        (shown,) = json.loads((await self.partials.read(SESSION)).json)
        assert (shown["text"], shown["error"]) == (f"{SECRET} so far", SECRET)
        assert self.credentials is not None
        assert await self.credentials.load("app", "user", "key") == credential(1)

    async def fill(self) -> None:
        """A few of each."""
        for name, part in PARTS.items():
            for _ in range(2):
                metadata = {"note": SECRET}
                await self.artifacts.save_artifact(
                    **KEY, filename=name, artifact=part, custom_metadata=metadata
                )
        entry = MemoryEntry(
            id="entry",
            content=types.Content(parts=[types.Part(text=f"{SECRET} remembered words 記憶")]),
            custom_metadata={"note": SECRET},
            timestamp=f"when {SECRET}",
        )
        await self.memory.add_memory(**USER, memories=[entry])
        events = [secret_event(number) for number in range(3)]
        await self.memory.add_events_to_memory(**USER, events=events)
        await self.memory.delete_memory(**USER, memory_id="event-2")
        await self.partials.put(SESSION, STREAM, f"{SECRET} so far", error=SECRET)
        assert self.credentials is not None
        await self.credentials.save("app", "user", "key", credential(1))


def credential(number: int) -> AuthCredential:
    """A credential with a secret."""
    oauth2 = OAuth2Auth(access_token=f"{SECRET} {number}", client_secret=SECRET)
    return AuthCredential(auth_type=AuthCredentialTypes.OAUTH2, oauth2=oauth2)


async def test_after_a_rotation(sealed: Sealed) -> None:
    """Everything is read, and found, with the new key alone; the contents that are equal stay one."""
    config: Any = sealed.store.config
    await a_session(sealed)
    await Services(config, fresh_seal("test-1")).fill()
    done = await reseal(config, fresh_seal("test-1", "test-2"), portion=2)
    assert (done.memories, done.artifacts, done.contents) == (3, 10, 3)
    assert (done.credentials, done.texts, done.left) == (1, 1, ())
    assert keys_used(sealed.database) == {"test-2"}
    new = Services(config, fresh_seal("test-2"))
    await new.check()
    assert places_of(SECRET, sealed.database.dsn) == set()
    # Equal content that is saved with the new key is the same; the old blobs are gone.
    await new.artifacts.save_artifact(**KEY, filename="again", artifact=PARTS["large.bin"])
    (counted,) = sealed.sql(
        """SELECT (SELECT count(*) FROM adk_artifact_contents) AS contents,
        (SELECT count(*) FROM adk_artifact_blobs WHERE published) AS blobs,
        (SELECT count(*) FROM adk_artifact_blobs) AS all_blobs,
        (SELECT count(*) FROM adk_artifact_chunks) AS chunks,
        (SELECT max(uses) FROM adk_artifact_contents) AS uses"""
    )
    assert counted == {"contents": 3, "blobs": 3, "all_blobs": 3, "chunks": 5, "uses": 5}
    # A delete counts as before: with the last version the content goes.
    for name in ("large.bin", "the same.bin", "again"):
        await new.artifacts.delete_artifact(**KEY, filename=name)
    assert len(sealed.sql("SELECT hash FROM adk_artifact_contents")) == 2
    assert (await reseal(config, fresh_seal("test-1", "test-2"))).plus(seen=-20) == Resealed()


async def test_a_hash_of_the_current_key(sealed: Sealed) -> None:
    """The key went back during a save: the chunk has an old key, and the hash the current one."""

    class Turning(TestKeys):
        turns: ClassVar = ["test-2", "test-2", "test-2", "test-1"]  # metadata, hash, part, chunk

        async def current(self, app_name: str, user_id: str) -> str:
            return self.turns.pop(0)

    config: Any = sealed.store.config
    turning = Services(config, Seal(Turning("test-1", "test-2"), cache_sec=0))
    await turning.artifacts.save_artifact(**KEY, filename="a", artifact=PARTS["text.txt"])
    assert Turning.turns == []
    (before,) = sealed.sql("SELECT encode(hash, 'escape') AS hash FROM adk_artifacts")
    done = await reseal(config, fresh_seal("test-1", "test-2"))
    assert (done.contents, done.artifacts) == (1, 0)
    assert sealed.sql("SELECT encode(hash, 'escape') AS hash FROM adk_artifact_contents") == [before]
    assert len(sealed.sql("SELECT 1 AS one FROM adk_artifact_blobs WHERE published")) == 1
    assert len(sealed.sql("SELECT 1 AS one FROM adk_artifact_blobs")) == 1
    read = Services(config, fresh_seal("test-2"))
    assert await read.artifacts.load_artifact(**KEY, filename="a") == PARTS["text.txt"]


async def test_when_sealing_begins(sealed: Sealed) -> None:
    """Plain artifacts and texts become sealed ones; plain memories are left, and told."""
    config: Any = sealed.store.config
    await a_session(sealed, events=0)
    plain = Services(config, None)
    for name, part in PARTS.items():
        await plain.artifacts.save_artifact(
            **KEY, filename=name, artifact=part, custom_metadata={"note": SECRET}
        )
    await plain.partials.put(SESSION, STREAM, f"{SECRET} so far", error=SECRET)
    await plain.memory.add_events_to_memory(**USER, events=[secret_event(0)])
    done = await reseal(config, fresh_seal("test-1"))
    assert (done.artifacts, done.contents, done.texts, done.memories) == (5, 3, 1, 0)
    assert done.left == ("adk_memories: it was made without a seal",)
    assert {table for table, _ in places_of(SECRET, sealed.database.dsn)} == {"adk_memories"}
    now = Services(config, fresh_seal("test-1"))
    for name, part in PARTS.items():
        assert await now.artifacts.load_artifact(**KEY, filename=name) == part


async def test_it_ends_while_rows_are_added(sealed: Sealed) -> None:
    """A row behind all others is added for each that was looked at: those are not waited for."""
    await a_session(sealed)
    added = 0

    def add(_: Resealed) -> None:
        nonlocal added
        added += 1
        assert added < 50, "it goes on as long as rows are added"
        sealed.sql(
            f"""INSERT INTO adk_events (app_name, user_id, session_id, id, seq)
            VALUES ('app', 'user', 's', 'later-{added}', {100 + added})"""
        )

    config: Any = sealed.store.config
    done = await reseal(config, fresh_seal("test-1", "test-2"), portion=1, progress=add)
    assert done.events == 3


async def test_writers_lose_nothing(config: PsqlpyConfig, database: Database) -> None:
    """Eight writers of all four, and two rotations with `reseal` under way."""
    ring = TestKeys("k0")
    await PsqlpyADKStore(config, seal=Seal(ring)).create_tables()
    first = Services(config, Seal(ring))
    await first.artifacts.create_tables()
    await first.memory.create_tables()
    written = [0] * 8
    rounds = 10
    shared = types.Part.from_bytes(data=LARGE, mime_type="x/y")

    async def write(number: int) -> None:
        # Two writers are one user, so that they save the same contents at once.
        user: dict[str, Any] = {"app_name": "app", "user_id": f"u{number // 2}"}
        own = Services(config, Seal(ring, cache_sec=0.1))
        key = ("app", user["user_id"], f"s{number}")
        await own.store.create_session(*key)
        assert own.credentials is not None
        while written[number] < rounds:
            count = written[number]
            await own.artifacts.save_artifact(**user, session_id=key[2], filename="shared", artifact=shared)
            small = types.Part(text=f"{number} {count}")
            await own.artifacts.save_artifact(**user, session_id=key[2], filename="small", artifact=small)
            said = types.Content(parts=[types.Part(text=f"word{count} of writer{number}")])
            await own.memory.add_memory(**user, memories=[MemoryEntry(id=f"{number}-{count}", content=said)])
            await own.credentials.save("app", user["user_id"], f"key-{number}", credential(count))
            await own.partials.put(key, STREAM, f"text {count}")
            written[number] += 1

    async def rotate() -> None:
        for number in (1, 2):
            while sum(written) < len(written) * rounds * number / 3:  # noqa: ASYNC110 - of all writers
                await asyncio.sleep(0.01)
            ring.ids.append(f"k{number}")
            await reseal(config, Seal(ring, cache_sec=0.1), portion=3)

    await asyncio.gather(rotate(), *map(write, range(8)))
    await reseal(config, Seal(ring))
    await first.artifacts.purge()
    assert keys_used(database) == {"k2"}
    ring.lost = {"k0", "k1"}
    last = Services(config, Seal(ring))
    assert last.credentials is not None
    for number in range(8):
        user: dict[str, Any] = {"app_name": "app", "user_id": f"u{number // 2}"}
        scope: dict[str, Any] = user | {"session_id": f"s{number}"}
        for version in range(rounds):
            loaded = await last.artifacts.load_artifact(**scope, filename="shared", version=version)
            assert loaded == shared
            small = await last.artifacts.load_artifact(**scope, filename="small", version=version)
            assert small == types.Part(text=f"{number} {version}")
        found = await last.memory.search_memory(**user, query=f"writer{number}", limit=100)
        assert len(found.memories) == rounds
        stored = await last.credentials.load("app", user["user_id"], f"key-{number}")
        assert stored == credential(rounds - 1)
        (shown,) = json.loads((await last.partials.read(("app", user["user_id"], scope["session_id"]))).json)
        assert shown["text"] == f"text {rounds - 1}"


async def test_the_command_tells_what_is_left(
    sealed: Sealed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table of plain memories."""
    await PsqlpyMemoryService(sealed.store.config).create_tables()  # type: ignore[arg-type]
    monkeypatch.setenv("KEYS", new_key("cli"))
    arguments: list[Any] = ["reseal", "--keys-variable", "KEYS", "--dsn", sealed.database.dsn]
    assert await asyncio.to_thread(main, arguments) == 0
    told = capsys.readouterr()
    assert "left as it is: adk_memories: it was made without a seal" in told.err
