"""A key ring with a separate key for each user. The keys are in a table, sealed with a master key."""

from __future__ import annotations

import secrets
from datetime import datetime, timezone
from typing import Any, Final

from psqlpy.extra_types import CustomType

from adk_psqlpy import _native
from adk_psqlpy.checks import LONGEST_KEY, check_identifier, whole
from adk_psqlpy.config import PsqlpyConfig
from adk_psqlpy.connections import binary
from adk_psqlpy.connections.lanes import Decoders, Row, lanes_of
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.connections.sources import Kind
from adk_psqlpy.errors import MissingKeyError
from adk_psqlpy.seal.rings import KEY_BYTES, KeyRing
from adk_psqlpy.seal.seal import Seal
from adk_psqlpy.single_table import make_table
from adk_psqlpy.sql.row_security import of_user_keys
from adk_psqlpy.sql.user_keys import SCHEMA_VERSION, UserKeyStatements, UserKeyTable, create_user_keys

_DECODERS: Final[Decoders] = {"wrapped": binary.raw}


class UserKeys:
    """A key ring with keys for each user of each app. A key is made when it is first needed.

    The keys are random. The key table holds them, each sealed with a key of `master`. `erase` deletes the
    rows of a user's keys. After that, nothing that was sealed for this user can be read. The same is true
    for backups of the data, unless they also contain the key table. If erasure has to be final, keep the key
    table in another database, and delete the backups of that database sooner (docs/security.md).

    Args:
        config: where the key table is. It may be another database than that of the data.
        master: the ring of the keys that seal users' keys.
        key_table: the table, with its schema if it is not on the search path. It is made on first use.
        key_length: the longest app name or user id in characters. Use the value of the stores and services
            that use the ring.
    """

    def __init__(
        self,
        config: PsqlpyConfig,
        master: KeyRing,
        key_table: str = "adk_user_keys",
        *,
        key_length: int = 128,
    ) -> None:
        self.config = config
        self.table = UserKeyTable(key_table)
        self.key_length = whole("key_length", key_length, LONGEST_KEY)
        self._master = Seal(master)
        self._sql = UserKeyStatements(self.table)
        self._lanes = lanes_of(config)
        self._created = False

    def __repr__(self) -> str:
        return f"UserKeys({self.table.name!r}, master={self._master.ring!r})"

    async def create_tables(self, *, row_security: bool = False) -> None:
        """Make the key table. Safe to call from many processes; the first use of the ring does it too.

        Args:
            row_security: whether roles see only what `adk_psqlpy.admin.access.grant_access` gave them
                (docs/security.md). It stays so.
        """
        batch, secured = create_user_keys(self.table, self.key_length), of_user_keys(self.table)
        await make_table(self._lanes, self.table, SCHEMA_VERSION, batch, secured, row_security=row_security)
        self._created = True

    async def key(self, key_id: str) -> bytes:
        """A user's key, unwrapped.

        Raises:
            MissingKeyError: the key was erased, or never existed.
            SealError: the wrapped key was changed, or was wrapped with another master key.
        """
        rows = await self._run(self._sql.key, [key_id], Repeat.READ)
        if not rows:
            raise MissingKeyError(f"the table {self.table.keys} has no key {key_id!r}: its user was erased")
        app_name, user_id, wrapped = rows[0]
        return await self._unwrapped(key_id, app_name, user_id, wrapped)

    async def current(self, app_name: str, user_id: str) -> str:
        """The id of the user's newest key; the first call makes one."""
        rows = await self._run(self._sql.current, [app_name, user_id], Repeat.READ)
        if not rows:
            await self._add(self._sql.add_first, app_name, user_id)
            # Another process may have added the first key at the same time, so read which one is stored.
            rows = await self._run(self._sql.current, [app_name, user_id], Repeat.READ)
        if not rows:
            raise MissingKeyError(f"the keys of user {user_id!r} of app {app_name!r} were erased just now")
        return str(rows[0][0])

    async def key_ids(self, app_name: str, user_id: str) -> list[str]:
        """The ids of all keys of a user, the newest first."""
        rows = await self._run(self._sql.of_user, [app_name, user_id], Repeat.READ)
        return [str(key_id) for (key_id,) in rows]

    async def rotate(self, app_name: str, user_id: str) -> str:
        """Give a user a new key and return its id. New values are sealed with it; older values stay readable.

        Other processes, and the `Seal`s of this process, use the new key after their `cache_sec`.
        """
        self._check(app_name=app_name, user_id=user_id)
        rows: list[Row] = []
        while not rows:  # another process added a key at the same time
            rows = await self._add(self._sql.add_next, app_name, user_id)
        return str(rows[0][0])

    async def erase(self, app_name: str, user_id: str) -> int:
        """Delete a user's keys and return their number. What was sealed with them cannot be opened again.

        The user's rows stay. Delete them as well, since reading them raises `MissingKeyError`. A `Seal` that
        remembers the keys can still use them for its `cache_sec`.

        Raises:
            ValueError: `user_id` is empty: that is the key of the app's own state.
        """
        self._check(app_name=app_name, user_id=user_id)
        if not user_id:
            raise ValueError("user_id must not be empty: that is the key of the app's own state")
        return len(await self._run(self._sql.erase, [app_name, user_id], Repeat.AFTER_FAILURE))

    async def rewrap(self, *, portion: int = 1_000) -> int:
        """Seal users' keys that have an old master key with the current master key. Return their number.

        Afterwards the old master key may be deleted. The call may be stopped and repeated.
        """
        self._master.forget()
        last, done = "", 0
        while rows := await self._run(self._sql.page, [last, portion], Repeat.READ):
            for key_id, app_name, user_id, wrapped in rows:
                master_id = await self._master.current(app_name, user_id)
                if _native.sealed_with(wrapped, form="bytea") != master_id:
                    key = await self._unwrapped(key_id, app_name, user_id, wrapped)
                    again = await self._wrapped(key_id, app_name, user_id, key)
                    parameters = [key_id, CustomType(wrapped), CustomType(again)]
                    done += len(await self._run(self._sql.rewrap, parameters, Repeat.AFTER_FAILURE))
            last = rows[-1][0]
        return done

    async def _add(self, sql: str, app_name: str, user_id: str) -> list[Row]:
        key_id = secrets.token_hex(16)
        wrapped = await self._wrapped(key_id, app_name, user_id, secrets.token_bytes(KEY_BYTES))
        now = datetime.now(timezone.utc)
        return await self._run(
            sql, [app_name, user_id, key_id, CustomType(wrapped), now], Repeat.AFTER_FAILURE
        )

    async def _wrapped(self, key_id: str, app_name: str, user_id: str, key: bytes) -> bytes:
        master_id = await self._master.current(app_name, user_id)
        place = ("user key", app_name, user_id, [key_id.encode()])
        return _native.seal_value(key, self._master.keys, master_id, place, form="bytea")

    async def _unwrapped(self, key_id: str, app_name: str, user_id: str, wrapped: bytes) -> bytes:
        told = f"the key {key_id!r} of user {user_id!r} in app {app_name!r}"
        place = ("user key", app_name, user_id, [key_id.encode()])
        return await self._master.opening(
            lambda: _native.open_value(wrapped, self._master.keys, place, form="bytea", told=told)
        )

    async def _run(self, sql: str, parameters: list[Any], repeat: Repeat) -> list[Row]:
        if not self._created:
            await self.create_tables()
        kind: Kind = "read" if repeat is Repeat.READ else "write"
        return await self._lanes.fetch(sql, parameters, _DECODERS, kind=kind, repeat=repeat)

    def _check(self, **identifiers: str) -> None:
        for name, value in identifiers.items():
            check_identifier(name, value, self.key_length, "UserKeys")
