"""The checks of `doctor` for stored data and current load: histories, states, transactions."""

from __future__ import annotations

from typing import Final

from adk_psqlpy.admin.doctor import Finding, Status
from adk_psqlpy.connections.lanes import Lanes
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.sql import Tables, health
from adk_psqlpy.sql.catalog import present

LONG: Final = 5_000
"""A session with at least this many writes is worth a note."""

LARGE: Final = 100_000
"""A state of at least this many stored bytes is worth a note. Ten times as many need doing."""

OLD_SEC: Final = 600
"""A transaction that is open for at least this many seconds has held up VACUUM for too long."""

_KEPT_LOG: Final = 2**30


async def of_load(lanes: Lanes, tables: Tables, *, in_recovery: bool) -> list[Finding]:
    """Look for long histories, large states, old transactions and forgotten replication slots.

    Raises:
        psqlpy.exceptions.Error: the server could not be asked.
    """
    wanted = [tables.sessions, tables.user_states, tables.app_states]
    there = await lanes.fetch(present(len(wanted)), wanted, repeat=Repeat.READ)
    findings = []
    if len(there) == len(wanted):
        findings += [await _histories(lanes, tables), await _states(lanes, tables)]
    findings.append(await _transactions(lanes))
    if not in_recovery:
        findings += await _slots(lanes)
    return findings


async def _histories(lanes: Lanes, tables: Tables) -> Finding:
    rows = await lanes.fetch(health.longest_histories(tables), [], kind="list", repeat=Repeat.READ)
    if not rows:
        return Finding("longest history", "ok", "there is no session yet")
    details = tuple(f"{writes:,} writes: {app} / {user} / {identity}" for app, user, identity, writes in rows)
    longest = rows[0][3]
    if longest < LONG:
        return Finding("longest history", "ok", f"{longest:,} writes", None, details)
    return Finding(
        "longest history",
        "note",
        f"{longest:,} writes, session {rows[0][2]} of {rows[0][0]}",
        "read only the newest events (GetSessionConfig(num_recent_events=...)), or delete old ones: "
        "adk-psqlpy prune --keep-events N",
        details,
    )


async def _states(lanes: Lanes, tables: Tables) -> Finding:
    rows = await lanes.fetch(health.largest_states(tables), [], kind="list", repeat=Repeat.READ)
    if not rows:
        return Finding("largest state", "ok", "there is none yet")
    details = tuple(f"{size:,} bytes: {kind} {owner}" for kind, owner, size in rows)
    kind, owner, largest = rows[0]
    if largest < LARGE:
        return Finding("largest state", "ok", f"{largest:,} bytes as stored, of a {kind}", None, details)
    status: Status = "todo" if largest >= 10 * LARGE else "note"
    return Finding(
        "largest state",
        status,
        f"{largest:,} bytes as stored, of {kind} {owner}",
        "each change writes all of it again: keep files in artifacts, and long lists in tables of your own",
        details,
    )


async def _transactions(lanes: Lanes) -> Finding:
    rows = await lanes.fetch(health.TRANSACTIONS, [], repeat=Repeat.READ)
    if not rows:
        return Finding("oldest transaction", "ok", "none is open")
    details = tuple(
        f"{seconds:,.0f} s: {kind} {name}, {application}, {state}"
        for kind, name, application, state, seconds in rows
    )
    kind, name, application, state, seconds = rows[0]
    if seconds < OLD_SEC:
        return Finding("oldest transaction", "ok", f"{seconds:,.0f} s", None, details)
    end = f"ROLLBACK PREPARED '{name}'" if kind == "prepared" else f"SELECT pg_terminate_backend({name})"
    return Finding(
        "oldest transaction",
        "todo",
        f"open for {seconds:,.0f} s: {kind} {name} of {application}, {state}. VACUUM has to wait for it",
        f"end it if nobody needs it ({end}), and set idle_in_transaction_session_timeout",
        details,
    )


async def _slots(lanes: Lanes) -> list[Finding]:
    rows = await lanes.fetch(health.SLOTS, [], repeat=Repeat.READ)
    kept = [(name, size) for name, size in rows if size is not None and size > _KEPT_LOG]
    if not kept:
        return []
    return [
        Finding(
            "replication slots",
            "todo",
            "; ".join(
                f"nobody reads the slot {name}, and the server keeps {size:,} bytes of log for it"
                for name, size in kept
            ),
            "start what should read it, or SELECT pg_drop_replication_slot(...), before the disk is full",
        )
    ]
