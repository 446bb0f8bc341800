"""Events and states, sealed anew."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Final

from adk_psqlpy import _native
from adk_psqlpy.admin.reseal.rows import KEY, Resealing, Values, Work
from adk_psqlpy.seal.seal import Seal
from adk_psqlpy.sessions.sealed_events import HIDDEN, opened_event, sealed_event
from adk_psqlpy.sql import Tables, event_columns
from adk_psqlpy.sql.reseal import SealedTable

_LEAD: Final = "\ufdd0seal1:"
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


def tables_of(tables: Tables, seal: Seal) -> list[Work]:
    """The tables of one store."""
    session = (*KEY, ("id", "varchar"))
    of_session = (*KEY, ("session_id", "varchar"))
    state = (("state", "jsonb"),)
    revision = ("revision", "bigint")
    sessions = SealedTable(tables.sessions, session, (*state, ("initial_state", "jsonb")), merged=True)
    log = SealedTable(tables.state_log, (*of_session, revision), (("delta", "jsonb"),), merged=True)
    users = SealedTable(tables.user_states, KEY, state, merged=True)
    apps = SealedTable(tables.app_states, KEY[:1], state, merged=True)

    def of(scope: _Scope) -> Resealing:
        def again(key: tuple[Any, ...], values: Values) -> Awaitable[Values | None]:
            app_name, user_id, session_id = (*key, "", "")[:3]
            if scope is not _SESSION:
                session_id = ""
            return _states(seal, scope, (app_name, user_id, session_id), values)

        return again

    return [
        Work(
            "events",
            SealedTable(tables.events, (*of_session, ("id", "varchar")), _EVENT),
            lambda key, values: _event(seal, key, values),
        ),
        Work("states", sessions, of(_SESSION)),
        Work("states", log, of(_SESSION)),
        Work("states", users, of(_USER)),
        Work("states", apps, of(_APP)),
    ]


async def _event(seal: Seal, key: tuple[Any, ...], values: Values) -> Values | None:
    """An event's columns sealed with the current key; `None` if they have that key already."""
    app_name, user_id, session_id, event_id = key
    *columns, message = values
    key_id = await seal.current(app_name, user_id)
    present = [
        (value, form) for value, (_, form) in zip(columns, _EVENT[:-1], strict=True) if value is not None
    ]
    hidden = message is None or message == HIDDEN
    if hidden and all(_native.sealed_with(value, form=form) == key_id for value, form in present):
        return None
    whole: list[bytes | None] = [None] * len(event_columns.NAMES)
    places = [event_columns.NAMES.index(name) for name, _ in _EVENT]
    whole[0] = event_id.encode()
    for place, value in zip(places, values, strict=True):
        whole[place] = value
    session = (app_name, user_id, session_id)
    sealed = await sealed_event(seal, session, await opened_event(seal, session, event_id, whole))
    return tuple(sealed[place] for place in places)


async def _states(seal: Seal, scope: _Scope, key: tuple[str, str, str], values: Values) -> Values | None:
    """For each state, an object with the members to replace; `None` if there are none in any state."""
    key_id = await seal.current(key[0], key[1])
    changed = [await _members(seal, scope, key, value, key_id) for value in values]
    return tuple(changed) if any(changed) else None


async def _members(
    seal: Seal, scope: _Scope, key: tuple[str, str, str], value: bytes | None, key_id: str
) -> bytes | None:
    """The members to replace, sealed with the current key: those with another key, and plain ones to seal."""
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
    # `encode_state` splits keys by prefix. Every name gets the same prefix, so that none is taken for a key
    # of another scope. `encode_state` removes it again.
    encoded = _native.encode_state({f"app:{name}": each for name, each in opened.items()})
    assert encoded is not None, "what was decoded is JSON"
    plain = encoded[1]
    assert plain is not None, "there are names"
    key_id = await seal.current(key[0], key[1])  # again: the key may have been forgotten during the opening
    sealed = _native.seal_state(plain, key_id, within, scope=scope.name, patterns=["*"], plain=[])
    members = json.loads(sealed[1:])
    return b"\x01" + json.dumps({name: members[name] for name in names}).encode()


def _wanting(seal: Seal, prefix: str, value: bytes, key_id: str) -> list[str]:
    """The names of the members to replace. A sealed member stays sealed, whatever the patterns are."""
    current = f"{_LEAD}{key_id}:"
    found = []
    # Numbers are read as text, since Python refuses integers of more than 4,300 digits.
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
