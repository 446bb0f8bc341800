"""The disk is full: appends fail, nothing is half written, and all works again when there is space."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from google.adk.events.event import Event
from google.genai import types
from psqlpy.exceptions import Error

from adk_psqlpy import PsqlpySessionService
from servers import Database, run_sql

from .crash import CrashServer
from .deadlines import within
from .ledger import Findings, Ledger, compare
from .quiet import settled, whole
from .workload import create_sessions, writers_of

Open = Callable[..., PsqlpySessionService]
MEGABYTE = 1_000_000
LARGE = types.Content(role="model", parts=[types.Part(text=os.urandom(100_000).hex())])


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """A file system of that size, if this user may mount one."""
    directory = Path(tempfile.mkdtemp(prefix="adk-disk-"))
    mount = shutil.which("mount")
    try:
        if mount is None or os.geteuid() != 0:
            pytest.skip("a file system of limited size needs root to mount it")
        done = subprocess.run(
            [mount, "-t", "tmpfs", "-o", f"size={megabytes}m", "none", directory],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            pytest.skip(f"no file system of limited size: {done.stderr.strip()}")
        try:
            yield directory
        finally:
            subprocess.run(["umount", "--lazy", directory], check=True)
    finally:
        directory.rmdir()


@pytest.fixture
def tiny_database(crash_server: CrashServer) -> Iterator[tuple[Database, Path]]:
    """A database on a disk of its own, with what is left of it taken by a file; WAL is elsewhere."""
    with small_disk(32) as disk:
        place = disk / "tablespace"
        place.mkdir()
        crash_server.own(place)
        place.chmod(0o700)
        run_sql(
            crash_server.dsn,
            f"CREATE TABLESPACE tiny LOCATION '{place}'",
            "CREATE DATABASE tiny TABLESPACE tiny",
        )
        yield Database("tiny", crash_server.database_dsn("tiny"), crash_server), disk / "filler"
        (disk / "filler").unlink(missing_ok=True)
        crash_server.up()
        run_sql(crash_server.dsn, "DROP DATABASE tiny WITH (FORCE)", "DROP TABLESPACE tiny")


def fill(filler: Path, leave: int) -> None:
    """Take all space but so many bytes."""
    free = shutil.disk_usage(filler.parent).free
    filler.write_bytes(bytes(free - leave))


async def test_a_full_disk(
    tiny_database: tuple[Database, Path],
    open_service: Open,
    ledger: Ledger,
    seen: Callable[[str, int, Findings], None],
) -> None:
    """Large events until no page can be added: an error each, and what was acknowledged stays."""
    database, filler = tiny_database
    service = open_service(database.dsn, 4)
    await service.store.create_tables()
    ids = await create_sessions(service, 4)
    writers = writers_of(service, ledger, ids, 4)
    sessions = [await writer.load(each) for writer, each in zip(writers, ids, strict=True)]
    refused: list[tuple[int, Event]] = []

    async def append(writer: int, event: Event) -> None:
        ledger.begun(sessions[writer], event)
        await within(30, service.append_event(sessions[writer], event))
        ledger.acknowledged(event)

    fill(filler, leave=MEGABYTE)
    for number in range(1, 200):
        writer = number % 4
        event = writers[writer].event(number, ids[writer])
        assert event.content is not None
        assert event.content.parts is not None
        event.content.parts += LARGE.parts or []
        try:
            await append(writer, event)
        except Error:
            refused.append((writer, event))
            if len(refused) == 12:
                break
    assert len(refused) == 12, "the disk never ran full"
    await settled(database)
    findings = await compare(service, Ledger.read(ledger.path), database.dsn)
    assert findings.of_those_stored == 0, "an append that failed was stored"
    findings.sound()
    filler.unlink()
    # The newest refused event of each session: the same call again. The others were given up.
    for writer, event in dict(refused).items():
        await within(30, service.append_event(sessions[writer], event))
        ledger.acknowledged(event)
    findings = await compare(service, Ledger.read(ledger.path), database.dsn)
    seen("disk full", len(refused), findings)
    await whole(service, database)
