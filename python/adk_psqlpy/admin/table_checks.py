"""The checks of `doctor` for the tables: whether they exist, are up to date, complete, and vacuumed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from adk_psqlpy.admin.doctor import Finding
from adk_psqlpy.connections.binary import arrays
from adk_psqlpy.connections.lanes import Lanes, Row
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.sql import INDEX_SETS, READING, SCHEMA_VERSION, IndexSet, Statements, Tables, health
from adk_psqlpy.sql.artifact_tables import SCHEMA_VERSION as ARTIFACT_VERSION
from adk_psqlpy.sql.artifact_tables import ArtifactTables
from adk_psqlpy.sql.artifacts import ArtifactStatements
from adk_psqlpy.sql.catalog import present
from adk_psqlpy.sql.memory import MEMORY_SCHEMA_VERSION, MemoryStatements, MemoryTable

_DEAD_ROWS = 10_000
_OLD_IDS = 1_000_000_000
_UPDATES = 10_000


async def of_tables(
    lanes: Lanes, tables: Tables, memories: MemoryTable, artifacts: ArtifactTables
) -> list[Finding]:
    """Check whether the tables exist, their version, indexes and rights, and the state of VACUUM.

    Raises:
        psqlpy.exceptions.Error: the server could not be asked.
    """
    groups = {
        "sessions": [
            *(tables.sessions, tables.events, tables.app_states, tables.user_states),
            *(tables.metadata, tables.state_log, tables.forks),
        ],
        "memories": [memories.memories],
        "artifacts": [
            *(artifacts.artifacts, artifacts.names, artifacts.contents, artifacts.blobs),
            *(artifacts.chunks, artifacts.metadata),
        ],
    }
    wanted = [name for names in groups.values() for name in names]
    there = {name for (name,) in await _ask(lanes, present(len(wanted)), *wanted)}
    recorded: dict[str, dict[str, str]] = {}
    if tables.metadata in there:
        recorded["sessions"] = dict(await _ask(lanes, Statements(tables).metadata))
    if memories.memories in there:
        recorded["memories"] = dict(
            await _ask(lanes, MemoryStatements(memories, None).recorded, memories.name)
        )
    if artifacts.metadata in there:
        recorded["artifacts"] = dict(await _ask(lanes, ArtifactStatements(artifacts).metadata))
    known = {"sessions": SCHEMA_VERSION, "memories": MEMORY_SCHEMA_VERSION, "artifacts": ARTIFACT_VERSION}
    findings = [
        finding
        for kind, names in groups.items()
        if (finding := _group(kind, names, there, recorded.get(kind, {}), known[kind])) is not None
    ]
    ours = [name for name in wanted if name in there]
    if not ours:
        return findings
    index_set = recorded.get("sessions", {}).get("index_set", READING)
    findings.append(await _indexes(lanes, tables, ours, cast(IndexSet, index_set)))
    findings.append(await _rights(lanes, ours))
    upkeep = await _ask(lanes, health.UPKEEP, _texts(ours))
    findings.append(_vacuum(upkeep))
    hot = _hot(next((row for row in upkeep if row[0] == tables.sessions), None), index_set)
    return [*findings, *([hot] if hot is not None else [])]


def _group(
    kind: str, names: Sequence[str], there: set[str], recorded: dict[str, str], known: int
) -> Finding | None:
    check = f"tables of {kind}"
    missing = [name for name in names if name not in there]
    if len(missing) == len(names):
        if kind != "sessions":
            return None  # not used here
        return Finding(
            check,
            "note",
            f"there are none beside {names[0]}",
            "await store.create_tables() makes them (services of a psqlpy:// URI do on first use). If they "
            "should exist, check the database and --session-table",
        )
    stored = int(recorded.get("schema_version", 0))
    if stored > known:
        return Finding(
            check,
            "todo",
            f"schema version {stored} is newer than {known}, the newest that this package knows",
            "upgrade adk-psqlpy",
        )
    if stored < known:
        return Finding(
            check,
            "todo",
            f"schema version {stored} is behind {known}",
            "call await create_tables() of the service (as the owner of the tables)",
        )
    if missing:
        return Finding(
            check,
            "todo",
            f"half a schema: {', '.join(missing)} missing",
            "restore them from a backup; create_tables() does not make dropped tables again",
        )
    return Finding(check, "ok", f"schema version {stored}, {len(names)} table{'s' if len(names) > 1 else ''}")


async def _indexes(lanes: Lanes, tables: Tables, ours: Sequence[str], index_set: IndexSet) -> Finding:
    rows = await _ask(lanes, health.INDEXES, _texts(ours))
    text = f"{len(rows)} indexes, those of sessions for {index_set}"
    invalid = [name for name, _, _, valid, _ in rows if not valid]
    keyed = {table.replace('"', "") for _, _, table, _, primary in rows if primary}
    unkeyed = [table for table in ours if table.replace('"', "") not in keyed]
    bare = {name for _, name, _, _, _ in rows}
    expected = (
        health.expected_indexes(tables, index_set)
        if index_set in INDEX_SETS and {tables.sessions, tables.events, tables.forks} <= set(ours)
        else {}
    )
    missing = {name: made for name, made in expected.items() if name not in bare}
    if unkeyed:
        return Finding(
            "indexes",
            "todo",
            f"without a primary key: {', '.join(unkeyed)}; appends can fail or be doubled",
            "restore the tables from a backup, or add the keys as sql/migrations.py has them",
        )
    if invalid:
        return Finding(
            "indexes",
            "todo",
            f"invalid, so every write updates them and no read uses them: {', '.join(invalid)}",
            "; ".join(f"REINDEX INDEX CONCURRENTLY {name}" for name in invalid),
        )
    if missing:
        return Finding("indexes", "todo", f"missing: {', '.join(missing)}", "; ".join(missing.values()))
    return Finding("indexes", "ok", text)


async def _rights(lanes: Lanes, ours: Sequence[str]) -> Finding:
    rows = await _ask(lanes, health.PRIVILEGES, _texts(ours))
    if not rows:
        return Finding("rights", "ok", "the role may read and write all tables")
    lacking = sorted({privilege for _, privilege in rows})
    details = tuple(f"{privilege} on {name}" for name, privilege in rows)
    if "SELECT" not in lacking:
        return Finding(
            "rights", "note", "the role only reads", "services need INSERT, UPDATE and DELETE too", details
        )
    return Finding(
        "rights",
        "todo",
        f"the role lacks {', '.join(lacking)} on some tables",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON these tables to it",
        details,
    )


def _vacuum(rows: Sequence[Row]) -> Finding:
    size = sum(row[8] for row in rows)
    text = f"{size:,} bytes in {len(rows)} tables, {sum(row[2] for row in rows):,} dead rows"
    off = [row[0] for row in rows if row[7]]
    if off:
        return Finding(
            "vacuum",
            "todo",
            f"autovacuum is off for {', '.join(off)}",
            "; ".join(f"ALTER TABLE {name} RESET (autovacuum_enabled)" for name in off),
        )
    old = [row[0] for row in rows if row[6] > _OLD_IDS]
    if old:
        return Finding(
            "vacuum",
            "todo",
            f"transaction ids of {', '.join(old)} are old: the server stops before they wrap around",
            "; ".join(f"VACUUM (FREEZE) {name}" for name in old),
        )
    bloated = [row for row in rows if row[2] > _DEAD_ROWS and row[2] > row[1] * 0.2]
    if bloated:
        return Finding(
            "vacuum",
            "todo",
            "bloat: " + ", ".join(f"{row[0]} has {row[2]:,} dead rows beside {row[1]:,}" for row in bloated),
            "; ".join(f"VACUUM (ANALYZE) {row[0]}" for row in bloated)
            + ", and a smaller autovacuum_vacuum_scale_factor; neither helps beside an old transaction",
        )
    return Finding("vacuum", "ok", text)


def _hot(row: Row | None, index_set: str) -> Finding | None:
    """The share of heap-only updates of sessions: these write to no index, and leave nothing for VACUUM."""
    if row is None or row[3] < _UPDATES:
        return None
    share = row[4] / row[3]
    text = f"{share:.0%} of {row[3]:,} updates of sessions"
    if index_set == READING:
        return Finding(
            "heap-only updates",
            "note",
            text,
            'each append writes to all indexes over sessions: create_tables(index_set="appending"), unless '
            "pages of long lists and `state @>` have to be fast",
        )
    if share < 0.5:
        return Finding(
            "heap-only updates",
            "todo",
            text,
            "look for an index of your own over update_time, revision or state, and for old transactions",
        )
    return Finding("heap-only updates", "ok", text)


async def _ask(lanes: Lanes, sql: str, *parameters: Any) -> list[Row]:
    return await lanes.fetch(sql, list(parameters), kind="list", repeat=Repeat.READ)


def _texts(values: Sequence[str]) -> Any:
    return arrays(("text",), ([value.encode()] for value in values))[0]
