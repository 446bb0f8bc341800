"""Turning rows into events and state, and back, sealed if the store seals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.adk.events.event import Event

from adk_psqlpy import _native
from adk_psqlpy.connections.lanes import Row
from adk_psqlpy.seal.seal import Seal
from adk_psqlpy.sessions.state import ScopedState
from adk_psqlpy.sessions.stored import StoredSession

Key = tuple[str, str, str]


class Values:
    """Decodes and encodes for one store. Keys are app name, user id, session id.

    Every method that reads raises `SealError` if a sealed value cannot be opened, or if the store has no
    seal. The error names session, event and column.
    """

    def __init__(self, seal: Seal | None) -> None:
        self._seal = seal

    async def events(self, key: Key, chunks: Sequence[Row], place: str) -> list[Event]:
        """The events of the chunks of `Statements.get_session`."""
        if (seal := self._seal) is None:
            return _native.decode_events(*chunks, place=place)
        scope = (seal.keys, *key)
        return await seal.opening(lambda: _native.decode_events(*chunks, place=place, seal=scope))

    async def state(
        self, key: Key, session: bytes, app: bytes | None, user: bytes | None, place: str
    ) -> dict[str, Any]:
        """The state as ADK shows it, of the three scopes."""
        if (seal := self._seal) is None:
            return _native.decode_state(session, app, user, place=place)
        scope = (seal.keys, *key)
        return await seal.opening(lambda: _native.decode_state(session, app, user, place=place, seal=scope))

    async def shared_state(
        self, app_name: str, user_id: str | None, state: bytes, place: str
    ) -> dict[str, Any]:
        """The state of an app (`user_id=None`) or a user, keys without prefix."""
        kind = "app state" if user_id is None else "user state"
        if (seal := self._seal) is None:
            return _native.decode_shared_state(state, scope=kind, place=place)
        scope = (seal.keys, app_name, user_id or "", "")
        return await seal.opening(
            lambda: _native.decode_shared_state(state, scope=kind, place=place, seal=scope)
        )

    async def sessions(self, app_name: str, row: Row, beside: bytes | None) -> list[StoredSession]:
        """The sessions of a row of `Statements.list_sessions`; `beside`: the app's state, if it lacks it."""
        *sessions, app, users, states = row
        app = app or beside
        arrays, place = tuple(sessions), f"sessions of app {app_name!r}"
        if (seal := self._seal) is None:
            listed = _native.decode_sessions(arrays, app, (users, states), place=place)
        else:
            scope = (seal.keys, app_name, "", "")
            listed = await seal.opening(
                lambda: _native.decode_sessions(arrays, app, (users, states), place=place, seal=scope)
            )
        return [
            StoredSession(app_name, user, identity, state, create_time, update_time, revision)
            for user, identity, state, create_time, update_time, revision in listed
        ]

    async def sealed_event(self, key: Key, columns: list[bytes | None]) -> list[bytes | None]:
        """An event's columns as they are stored."""
        if (seal := self._seal) is None:
            return columns
        key_id = await seal.current(key[0], key[1])
        return _native.seal_event(columns, key_id, (seal.keys, *key))

    async def sealed_state(self, key: Key, state: ScopedState) -> ScopedState:
        """A state, or a delta of one, as it is stored."""
        if (seal := self._seal) is None:
            return state
        app_name, user_id, _ = key
        return ScopedState(
            await self._sealed(seal, key, "session state", state.session, user_id),
            await self._sealed(seal, (app_name, "", ""), "app state", state.app, ""),
            await self._sealed(seal, key, "user state", state.user, user_id),
        )

    async def _sealed(
        self, seal: Seal, key: Key, scope: str, value: bytes | None, user_id: str
    ) -> bytes | None:
        if value is None:
            return None
        key_id = await seal.current(key[0], user_id)
        return _native.seal_state(
            value,
            key_id,
            (seal.keys, *key),
            scope=scope,
            patterns=seal.state_patterns,
            plain=seal.plain_state_patterns,
        )


def place_of(app_name: str, user_id: str, session_id: str) -> str:
    """The name of a session in messages."""
    return f"session {session_id!r} of user {user_id!r} in app {app_name!r}"
