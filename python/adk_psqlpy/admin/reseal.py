"""Sealing what is stored with the current key: after a rotation, or when sealing begins."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from adk_psqlpy import _native
from adk_psqlpy.admin.tables import require_tables
from adk_psqlpy.config import PsqlpyConfig
from adk_psqlpy.connections.binary import parameter, raw
from adk_psqlpy.connections.lanes import Decoders, lanes_of
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.seal.seal import Seal
from adk_psqlpy.sql import Tables
from adk_psqlpy.sql.reseal import SealedTable

_LEAD: Final = "\ufdd0seal1:"
_AT_ONCE: Final = 16
_KEY: Final = (("app_name", "varchar"), ("user_id", "varchar"))
_EVENT: Final = (
    *(("actions", "bytea"), ("content", "jsonb"), ("extra", "jsonb")),
    *(("grounding_metadata", "jsonb"), ("custom_metadata", "jsonb"), ("error_message", "varchar")),
)


@dataclass(frozen=True, slots=True)
class _Scope:
    """A scope of state: its name in the crate, and the prefix of its keys."""

    name: str
    prefix: str


_SESSION: Final = _Scope("session state", "")
_APP: Final = _Scope("app state", "app:")
_USER: Final = _Scope("user state", "user:")

Values = tuple[bytes | None, ...]
Resealing = Callable[[tuple[Any, ...], Values], Awaitable["Values | None"]]


@dataclass(frozen=True, slots=True)
class Resealed:
    """How many rows were looked at, and how many were written anew."""

    seen: int = 0
    events: int = 0
    states: int = 0

    def plus(self, **more: int) -> Resealed:
        """With more of these."""
        return replace(self, **{name: getattr(self, name) + value for name, value in more.items()})


async def reseal(
    config: PsqlpyConfig,
    seal: Seal,
    session_table: str = "adk_sessions",
    events_table: str = "adk_events",
    *,
    portion: int = 500,
    progress: Callable[[Resealed], None] | None = None,
) -> Resealed:
    """Seal events and state with the current key, those that are plain or have another key; give how many.

    Each row is one statement. An event that somebody else changed meanwhile is read again. Of a state, only
    those members are replaced that are still what was read, in the row as it is by then. So agents may work
    while this runs, it may run twice at once, and it may be cut off and begun anew at any time.

    Begin when all processes seal with the current key, which is `Seal.cache_sec` after the rotation. When it
    is done, the other keys are needed for memories, artifacts and credentials only, which this leaves alone.
    A member of a state that is sealed stays sealed, also where the patterns of `seal` do not name it.

    Args:
        config: the server.
        seal: the keys: the current one, and those that values are sealed with.
        session_table, events_table: names of tables.
        portion: how many rows are read at a time.
        progress: called after each portion with what was done so far.

    Raises:
        MissingKeyError: the ring does not have a key that a value is sealed with; what comes before it in the
            order of keys is done.
        SealError: a value does not open.
        ValueError: `portion` is not 1 or more.
        psqlpy.exceptions.Error: tables are missing, or the server could not be asked or did not allow it.
    """
    if isinstance(portion, bool) or not isinstance(portion, int) or portion < 1:
        raise ValueError(f"portion must be an integer of 1 or more, not {portion!r}")
    seal.forget()
    tables = Tables(session_table, events_table)
    await require_tables(config, tables)
    session = (*_KEY, ("id", "varchar"))
    of_session = (*_KEY, ("session_id", "varchar"))
    state = (("state", "jsonb"),)
    work: list[tuple[str, SealedTable, Resealing]] = [
        (
            "events",
            SealedTable(tables.events, (*of_session, ("id", "varchar")), _EVENT),
            lambda key, values: _event(seal, key, values),
        ),
        (
            "states",
            SealedTable(tables.sessions, session, (*state, ("initial_state", "jsonb")), merged=True),
            lambda key, values: _states(seal, _SESSION, (key[0], key[1], key[2]), values),
        ),
        (
            "states",
            SealedTable(
                tables.state_log, (*of_session, ("revision", "bigint")), (("delta", "jsonb"),), merged=True
            ),
            lambda key, values: _states(seal, _SESSION, (key[0], key[1], key[2]), values),
        ),
        (
            "states",
            SealedTable(tables.user_states, _KEY, state, merged=True),
            lambda key, values: _states(seal, _USER, (key[0], key[1], ""), values),
        ),
        (
            "states",
            SealedTable(tables.app_states, _KEY[:1], state, merged=True),
            lambda key, values: _states(seal, _APP, (key[0], "", ""), values),
        ),
    ]
    done = Resealed()
    for what, table, resealing in work:
        async for seen, written in _go_over(config, table, resealing, portion):
            done = done.plus(seen=seen, **{what: written})
            if progress is not None:
                progress(done)
    return done


async def _go_over(config: PsqlpyConfig, table: SealedTable, resealing: Resealing, portion: int) -> Any:
    """Rows looked at and rows written, a portion at a time."""
    lanes = lanes_of(config)
    decoders: Decoders = {name: raw for name, _ in table.columns}
    width = len(table.key)
    last: list[Any] = [-1 if kind == "bigint" else "" for _, kind in table.key]
    turns = asyncio.Semaphore(_AT_ONCE)

    async def rewrite(row: tuple[Any, ...]) -> bool:
        async with turns:
            key = list(row[:width])
            while True:
                values = row[width:]
                sealed = await resealing(tuple(key), values)
                if sealed is None:
                    return False
                parameters = [*key, *map(parameter, values), *map(parameter, sealed)]
                if await lanes.fetch(table.rewrite, parameters, repeat=Repeat.AFTER_FAILURE):
                    return True
                # It was deleted, or another one that seals anew was faster, perhaps with another key.
                rows = await lanes.fetch(table.row, key, decoders, kind="list", repeat=Repeat.READ)
                if not rows:
                    return False
                row = rows[0]

    while True:
        rows = await lanes.fetch(table.page, [*last, portion], decoders, kind="list", repeat=Repeat.READ)
        if not rows:
            return
        written = await asyncio.gather(*(rewrite(row) for row in rows))
        last = list(rows[-1][:width])
        yield len(rows), sum(written)
        if len(rows) < portion:  # what comes behind them from now on is sealed by its writers
            return


async def _event(seal: Seal, key: tuple[Any, ...], values: Values) -> Values | None:
    """An event's columns sealed with the current key; `None` where they are."""
    app_name, user_id, session_id, event_id = key
    *columns, message = values
    key_id = await seal.current(app_name, user_id)
    names = [name for name, _ in _EVENT[:-1]]
    forms = [kind for _, kind in _EVENT[:-1]]
    present = [(value, form) for value, form in zip(columns, forms, strict=True) if value is not None]
    hidden = message is None or message.decode() == _LEAD
    if hidden and all(_native.sealed_with(value, form=form) == key_id for value, form in present):
        return None
    opened: list[bytes | None] = []
    for name, form, value in zip(names, forms, columns, strict=True):
        if value is None:
            opened.append(None)
            continue
        place = ("event", app_name, user_id, [session_id.encode(), event_id.encode(), name.encode()])
        whose = f"session {session_id!r} of user {user_id!r} in app {app_name!r}"
        told = f"{whose}, event {event_id!r}, column {name}"
        opened.append(await _opened(seal, value, place, form, told))
    whole: list[bytes | None] = [None] * len(_native.EVENT_COLUMNS)
    order = [name for name, _ in _native.EVENT_COLUMNS]
    whole[0] = event_id.encode()
    for name, value in zip(names, opened, strict=True):
        whole[order.index(name)] = value
    # A message that is hidden in `extra` already stays there.
    plain_message = message if message is not None and not hidden else None
    whole[order.index("error_message")] = plain_message
    # `opening` may have waited for the ring, and the key may have been forgotten meanwhile.
    key_id = await seal.current(app_name, user_id)
    sealed = _native.seal_event(whole, key_id, (seal.keys, app_name, user_id, session_id))
    new_message = message if plain_message is None else sealed[order.index("error_message")]
    return (*(sealed[order.index(name)] for name in names), new_message)


async def _opened(
    seal: Seal, value: bytes, place: tuple[str, str, str, list[bytes]], form: str, told: str
) -> bytes:
    return await seal.opening(lambda: _native.open_value(value, seal.keys, place, form=form, told=told))


async def _states(seal: Seal, scope: _Scope, key: tuple[str, str, str], values: Values) -> Values | None:
    """For each state, an object of the members that are to be other ones; `None` where there are none."""
    key_id = await seal.current(key[0], key[1])
    changed = [await _members(seal, scope, key, value, key_id) for value in values]
    return tuple(changed) if any(changed) else None


async def _members(
    seal: Seal, scope: _Scope, key: tuple[str, str, str], value: bytes | None, key_id: str
) -> bytes | None:
    """The members that are sealed with another key, or are plain and should not be, as sealed now."""
    if value is None:
        return None
    names = _wanting(seal, scope.prefix, value, key_id)
    if not names:
        return None
    within = (seal.keys, *key)
    place = f"session {key[2]!r} of user {key[1]!r} in app {key[0]!r}, {scope.name}"
    opened = await seal.opening(
        lambda: _native.decode_shared_state(value, scope=scope.name, place=place, seal=within)
    )
    # One prefix for all scopes: it is taken off again, and no name is taken for one of another scope.
    encoded = _native.encode_state({f"app:{name}": each for name, each in opened.items()})
    assert encoded is not None, "what was decoded is JSON"
    plain = encoded[1]
    assert plain is not None, "there are names"
    key_id = await seal.current(key[0], key[1])  # again, as above
    sealed = _native.seal_state(plain, key_id, within, scope=scope.name, patterns=["*"], plain=[])
    members = json.loads(sealed[1:])
    return b"\x01" + json.dumps({name: members[name] for name in names}).encode()


def _wanting(seal: Seal, prefix: str, value: bytes, key_id: str) -> list[str]:
    """The names of those members. What is sealed already stays sealed, whatever the patterns are."""
    current = f"{_LEAD}{key_id}:"
    found = []
    # Numbers stay text: Python refuses those of more than 4,300 digits.
    for name, each in json.loads(value[1:], parse_int=str, parse_float=str).items():
        if isinstance(each, str) and each.startswith(_LEAD):
            if not each.startswith(current):
                found.append(name)
            continue
        full = prefix + name
        if _is_like(full, seal.state_patterns) and not _is_like(full, seal.plain_state_patterns):
            found.append(name)
    return found


def _is_like(name: str, patterns: list[str]) -> bool:
    return any(
        re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name, re.DOTALL) for pattern in patterns
    )
