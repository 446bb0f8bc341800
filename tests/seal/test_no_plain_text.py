"""Every column of every table after every operation of the services: no secret can be read in any."""

from __future__ import annotations

import json
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.adk.auth.auth_credential import AuthCredential, AuthCredentialTypes, OAuth2Auth
from google.adk.memory.memory_entry import MemoryEntry
from google.genai import types

from adk_psqlpy import PsqlpyADKStore, PsqlpyArtifactService, PsqlpyMemoryService, PsqlpySessionService
from adk_psqlpy.credentials import PsqlpyCredentialService
from adk_psqlpy.seal import Seal, UserKeys
from adk_psqlpy.streaming.partials import Partials, Stream
from keys import TestKeys
from servers import run_sql
from where import makes_tables

from .support import SECRET, everything_stored, places_of, secret_event

if TYPE_CHECKING:
    from adk_psqlpy.config import PsqlpyConfig
    from servers import Database, Server

KEY: dict[str, Any] = {"app_name": "app", "user_id": "user", "session_id": "s"}
USER: dict[str, Any] = {"app_name": "app", "user_id": "user"}


@makes_tables
async def test_after_every_operation(config: PsqlpyConfig, database: Database, server: Server) -> None:
    """Sessions, memories, artifacts and credentials, sealed with users' keys in the same database."""
    seal = Seal(UserKeys(config, TestKeys("master")))
    store = PsqlpyADKStore(config, seal=seal, tables_on_first_use=True)
    sessions = PsqlpySessionService(store, stale_policy="merge")
    memory = PsqlpyMemoryService(config, seal=seal)
    artifacts = PsqlpyArtifactService(config, seal=seal)
    credentials = PsqlpyCredentialService(config, seal)
    looked = 0

    def look(operation: str) -> None:
        nonlocal looked
        looked += 1
        assert places_of(SECRET, database.dsn) == set(), operation

    state = {"own": SECRET, "user:own": SECRET, "app:own": {"deep": [SECRET]}, "temp:own": SECRET}
    session = await sessions.create_session(**KEY, state=state)
    look("create_session")
    stale = await sessions.get_session(**KEY)
    assert stale is not None
    for number in range(3):
        await sessions.append_event(session, secret_event(number))
        look("append_event")
    await sessions.append_event(stale, secret_event(7))
    look("append_event, merged")
    await sessions.append_event(session, secret_event(8, error_message=f"{SECRET} " * 500))
    look("append_event, a long text")
    await store.update_session_state("app", "user", "s", {"k": SECRET, "user:k": SECRET, "app:k": SECRET})
    look("update_session_state")
    read = await sessions.get_session(**KEY)
    assert read is not None
    await sessions.list_sessions(app_name="app")

    fork = await sessions.fork_session(session, at_seq=3)
    look("fork_session")
    assert fork.events == session.events[:3]

    partials, stream = Partials(store), Stream("invocation", "agent", "")
    await partials.put(("app", "user", "s"), stream, f"{SECRET} so far", error=f"{SECRET} went wrong")
    look("a streamed text")
    (shown,) = json.loads((await partials.read(("app", "user", "s"))).json)
    assert (shown["text"], shown["error"]) == (f"{SECRET} so far", f"{SECRET} went wrong")

    await memory.add_session_to_memory(read)
    look("add_session_to_memory")
    entry = MemoryEntry(
        content=types.Content(parts=[types.Part(text=f"{SECRET} remembered")]),
        custom_metadata={"note": SECRET},
        timestamp=f"when {SECRET}",
    )
    await memory.add_memory(**USER, memories=[entry])
    look("add_memory")
    found = await memory.search_memory(**USER, query=f"remembered {SECRET}")
    assert len(found.memories) > 1
    assert any(each.timestamp == f"when {SECRET}" for each in found.memories)
    await memory.delete_memory(**USER, memory_id=found.memories[0].id)
    look("delete_memory")

    for name, part in {
        "text.txt": types.Part(text=f"{SECRET} in a text"),
        "small.bin": types.Part.from_bytes(data=SECRET.encode() * 3, mime_type="x/y"),
        "large.bin": types.Part.from_bytes(data=SECRET.encode() * 300_000, mime_type="x/y"),
        "named.bin": types.Part(inline_data=types.Blob(data=b"x", mime_type="x/y", display_name=SECRET)),
        "file": types.Part(file_data=types.FileData(file_uri=f"gs://{SECRET}", mime_type="x/y")),
    }.items():
        for _ in range(2):
            await artifacts.save_artifact(
                **KEY, filename=name, artifact=part, custom_metadata={"note": SECRET}
            )
            look("save_artifact")
        assert await artifacts.load_artifact(**KEY, filename=name) == part
        (described, _) = await artifacts.list_artifact_versions(**KEY, filename=name)
        assert described.custom_metadata == {"note": SECRET}
    await artifacts.delete_artifact(**KEY, filename="small.bin")
    look("delete_artifact")
    await artifacts.purge(timedelta(0))
    look("purge")

    oauth2 = OAuth2Auth(access_token=SECRET, refresh_token=SECRET, client_secret=SECRET)
    await credentials.save(
        "app", "user", "key", AuthCredential(auth_type=AuthCredentialTypes.OAUTH2, oauth2=oauth2)
    )
    look("save_credential")

    # The search itself finds what is there.
    assert places_of("event-1", database.dsn) >= {("adk_events", "id"), ("adk_memories", "id")}
    assert len(everything_stored(database.dsn)) > 60
    assert looked == 25
    dump = _dump(server, database)
    for form in (SECRET, SECRET.encode().hex()):
        assert form.lower() not in dump.lower()
    assert "event-1" in dump


def _dump(server: Server, database: Database) -> str:
    """What pg_dump writes; where none is as new as the server, every value, and the files of the database.

    An older pg_dump refuses a newer server, and the embedded server's wheel may bring none.
    """
    (version,) = run_sql(database.dsn, "SELECT current_setting('server_version_num')::int / 10000 AS major")
    places = [Path(getattr(server, "bin", "/nonexistent")), *Path("/usr/lib/postgresql").glob("*/bin")]
    for program in (place / "pg_dump" for place in places):
        if program.exists() and _major(program) >= version[0]["major"]:
            return subprocess.run([program, database.dsn], capture_output=True, check=True, text=True).stdout
    where = """SELECT current_setting('data_directory') || '/base/' || oid AS folder
        FROM pg_database WHERE datname = current_database()"""
    _, (row,) = run_sql(database.dsn, "CHECKPOINT", where)
    files = [path.read_bytes().decode("latin-1") for path in Path(row["folder"]).iterdir()]
    assert any("event-1" in text for text in files), "these are not the files of the database"
    return "\n".join([*files, *("\n".join(values) for values in everything_stored(database.dsn).values())])


def _major(program: Path) -> int:
    told = subprocess.run([program, "--version"], capture_output=True, check=True, text=True).stdout
    return int(told.split()[2].partition(".")[0])
