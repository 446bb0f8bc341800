"""The target's disk runs full: the migration stops and says so; what is there is whole, and it goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from google.adk.sessions.sqlite_session_service import SqliteSessionService

from adk_psqlpy import PsqlpyADKStore, PsqlpyConfig, PsqlpySessionService
from adk_psqlpy.admin.migrate import MigrationStoppedError, migrate
from faults.test_disk import fill as take
from faults.test_disk import small_disk
from servers import BinaryServer, run_sql, wheel_binaries

from .support import assert_same_sessions, model_said
from .test_killed import WHOLE

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_full_disk(place: Path) -> None:
    """Large events until no page can be added."""
    service = SqliteSessionService(str(place / "session.db"))
    for number in range(40):
        session = await service.create_session(app_name="shop", user_id="u", session_id=f"s{number:02}")
        for turn in range(10):
            text = f"{number} {turn} ".join(str(each * 7919 % 10_007) for each in range(20_000))
            await service.append_event(session, model_said(text[:100_000], timestamp=2e9 + turn))
    with small_disk(64) as disk, BinaryServer(wheel_binaries()) as server:
        tablespace = disk / "tablespace"
        tablespace.mkdir()
        server.own(tablespace)
        tablespace.chmod(0o700)
        run_sql(
            server.dsn,
            f"CREATE TABLESPACE tiny LOCATION '{tablespace}'",
            "CREATE DATABASE tiny TABLESPACE tiny",
        )
        dsn = server.database_dsn("tiny")
        async with PsqlpyConfig({"dsn": dsn}) as target:
            store = PsqlpyADKStore(target)
            await store.create_tables()
            take(disk / "filler", leave=6_000_000)
            with pytest.raises(MigrationStoppedError, match="No space left on device") as stopped:
                await migrate(place / "session.db", target)
            assert stopped.value.report.sessions.copied < 40
            ((row,),) = run_sql(dsn, WHOLE)
            assert row["partial"] == 0
            assert row["sessions"] == stopped.value.report.sessions.copied
            (disk / "filler").unlink()
            report = await migrate(place / "session.db", target)
            assert report.complete
            assert await assert_same_sessions(service, PsqlpySessionService(store), apps=("shop",)) == 400
        run_sql(server.dsn, "DROP DATABASE tiny WITH (FORCE)", "DROP TABLESPACE tiny")
