"""Sources that old releases write, in a throwaway environment: google-adk 1.21 (schema v0), SQLSpec 0.30.

The environment is made once from the package index, in target/, and used again (two minutes the first time).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from adk_psqlpy.admin.migrate import MigrationOptions, TableNames, migrate
from servers import Database, run_sql

if TYPE_CHECKING:
    from google.adk.sessions import Session

    from adk_psqlpy import PsqlpyConfig, PsqlpySessionService

ROOT = Path(__file__).parents[2]
WRITERS = Path(__file__).parent / "writers"
RELEASES = ("google-adk==1.21.0", "sqlspec==0.30.0", "aiosqlite", "asyncpg", "greenlet")
LIMIT_SEC = 600


@pytest.fixture(scope="module")
def old_python() -> str:
    """The interpreter of an environment with the old releases."""
    folder = ROOT / "target" / "old-releases"
    stamp = folder / "made"
    if not stamp.exists() or stamp.read_text() != "\n".join(RELEASES):
        shutil.rmtree(folder, ignore_errors=True)
        for command in (
            [sys.executable, "-m", "venv", str(folder)],
            [
                str(folder / "bin" / "python"),
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                *RELEASES,
            ],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_SEC)
            if done.returncode != 0:
                pytest.skip(f"old releases could not be installed: {done.stderr[-300:]}")
        # The compiled parts of this wheel fail ('LifecycleDispatcher' has no attribute ...). The Python
        # files beside them do.
        for module in folder.glob("lib/*/site-packages/sqlspec/**/*.so"):
            module.unlink()
        stamp.write_text("\n".join(RELEASES))
    return str(folder / "bin" / "python")


def written(python: str, program: str, url: str) -> list[dict[str, Any]]:
    """Let a writer write; what it reads of it."""
    done = subprocess.run(
        [python, str(WRITERS / program), url], capture_output=True, text=True, check=False, timeout=LIMIT_SEC
    )
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout.splitlines()[-1]))


def assert_within(old: Any, new: Any, where: str) -> None:
    """All that the old release read is in what ours reads; newer fields may stand beside it."""
    if isinstance(old, dict):
        assert isinstance(new, dict), where
        for name, value in old.items():
            # An old release shows no tools as an empty list.
            if name == "long_running_tool_ids":
                assert (new.get(name) or []) == value, where
            else:
                assert name in new, f"{where}.{name}"
                assert_within(value, new[name], f"{where}.{name}")
    elif isinstance(old, list):
        assert len(new) == len(old), where
        for place, (one, other) in enumerate(zip(old, new, strict=True)):
            assert_within(one, other, f"{where}[{place}]")
    else:
        assert (type(new), new) == (type(old), old), where


def assert_as_before(read: dict[str, Any], session: Session | None) -> None:
    """A session as the old release read it."""
    assert session is not None
    assert session.state == read["state"]
    assert session.last_update_time == read["last_update_time"]
    events = [event.model_dump(mode="json", exclude_none=True) for event in session.events]
    assert_within(read["events"], events, read["id"])


@pytest.mark.parametrize("database_of", ["sqlite", "postgresql"])
async def test_google_adk_with_pickles(
    old_python: str,
    place: Path,
    database: Database,
    target: PsqlpyConfig,
    ours: PsqlpySessionService,
    database_of: str,
) -> None:
    """Schema v0 as it was really written: every event is read as the old service reads it."""
    url = f"sqlite+aiosqlite:///{place}/old.db"
    if database_of == "postgresql":
        url = database.dsn.replace("postgresql://", "postgresql+asyncpg://")
    read = written(old_python, "adk_v0.py", url)
    report = await migrate(url, target)
    assert "schema v0" in report.source
    assert report.problems == []
    assert report.complete
    assert (report.sessions.copied, report.events.copied) == (4, 24)
    for each in read:
        session = await ours.get_session(app_name="cafe", user_id=each["user_id"], session_id=each["id"])
        assert_as_before(each, session)


async def test_sqlspec_with_a_column_a_field(
    old_python: str, database: Database, target: PsqlpyConfig
) -> None:
    """Its tables have the names of ours, so ours get others; app: and user: keys go to their scopes."""
    from adk_psqlpy import PsqlpyADKStore, PsqlpySessionService

    read = written(old_python, "sqlspec_columns.py", database.dsn)
    with pytest.raises(ValueError, match="adk-psqlpy did not make"):
        await migrate(database.dsn, target)
    report = await migrate(
        database.dsn, target, MigrationOptions(names=TableNames("ours.adk_sessions", "ours.adk_events"))
    )
    assert "a column a field" in report.source
    assert report.problems == []
    assert report.complete
    assert (report.sessions.copied, report.events.copied, report.states.copied) == (4, 24, 3)
    assert any("3 values of app: keys" in text for text in report.differences)
    service = PsqlpySessionService(PsqlpyADKStore(target, "ours.adk_sessions", "ours.adk_events"))
    newest = max(read, key=lambda each: each["last_update_time"])
    for each in read:
        # Each session had an app: key of its own; now there is one, of the session that was updated last.
        each["state"]["app:made"] = newest["state"]["app:made"]
        session = await service.get_session(app_name="cafe", user_id=each["user_id"], session_id=each["id"])
        assert_as_before(each, session)
    assert await service.get_user_state(app_name="cafe", user_id="ada") == {"made": "ada"}


async def test_a_pickle_of_an_old_layout_with_a_foreign_class(
    old_python: str, database: Database, target: PsqlpyConfig
) -> None:
    """The same guard for SQLSpec's pickles."""
    import os
    import pickle

    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, ("/nowhere/at/all",)

    written(old_python, "sqlspec_columns.py", database.dsn)
    run_sql(
        database.dsn, f"UPDATE adk_events SET actions = '\\x{pickle.dumps(Evil()).hex()}' WHERE id = 'e1-2'"
    )
    report = await migrate(
        database.dsn, target, MigrationOptions(names=TableNames("ours.adk_sessions", "ours.adk_events"))
    )
    assert (report.sessions.copied, report.sessions.left_out) == (3, 1)
    assert "posix.mkdir" in report.problems[0].reason
