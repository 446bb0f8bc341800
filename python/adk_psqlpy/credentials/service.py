"""ADK's credential service on a table of sealed credentials."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final

from google.adk.auth.auth_credential import AuthCredential
from google.adk.auth.credential_service.base_credential_service import BaseCredentialService
from psqlpy.extra_types import CustomType
from typing_extensions import override

from adk_psqlpy import _native
from adk_psqlpy.checks import LONGEST_KEY, check_identifier, whole
from adk_psqlpy.config import PsqlpyConfig
from adk_psqlpy.connections import binary
from adk_psqlpy.connections.lanes import Decoders, Row, lanes_of
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.connections.sources import Kind
from adk_psqlpy.seal.seal import Seal
from adk_psqlpy.single_table import make_table
from adk_psqlpy.sql.credentials import (
    LONGEST_NAME,
    SCHEMA_VERSION,
    CredentialStatements,
    CredentialTable,
    create_credentials,
)
from adk_psqlpy.sql.row_security import of_credentials

if TYPE_CHECKING:
    from google.adk.agents.callback_context import CallbackContext
    from google.adk.auth.auth_tool import AuthConfig

_DECODERS: Final[Decoders] = {"credential": binary.raw}
# The first and the longest pause between two reads while another caller refreshes the credential.
_PAUSE_SEC: Final = (0.05, 0.5)


class PsqlpyCredentialService(BaseCredentialService):
    """OAuth tokens and other credentials of tools in PostgreSQL, sealed, by app, user and credential key.

    ADK keeps credentials in memory, or in clear text in the session's state. This service keeps them over
    restarts, and other processes can read them.

    A refresh token that rotates can be used only once. ADK's `CredentialManager` loads a credential,
    refreshes it if it has expired, and saves it. So `load` gives an expired credential to one caller at a
    time. That caller holds a lease, which ends with the save or after `lease_sec`. Other callers, in any
    process, wait until then and get the new credential.

    Args:
        config: where the server is.
        seal: the keys that seal the credentials.
        credential_table: the table, with its schema if it is not on the search path. It is made on first use.
        key_length: the longest app name or user id, in characters. The table is made with it.
        lease_sec: how long a refresh may take before another process tries it.
        early_sec: a credential counts as expired this many seconds before it expires. ADK's refresher
            refreshes 60 seconds early.

    Every method raises `ValueError` for arguments that cannot be stored, `SealError` if a credential does not
    open, and `psqlpy.exceptions.Error` if the connection or the server fails.
    """

    def __init__(
        self,
        config: PsqlpyConfig,
        seal: Seal,
        credential_table: str = "adk_credentials",
        *,
        key_length: int = 128,
        lease_sec: float = 30.0,
        early_sec: float = 60.0,
    ) -> None:
        super().__init__()
        if not isinstance(seal, Seal):
            raise ValueError(f"seal must be a Seal, not {type(seal).__name__}: Seal(EnvironmentKeys())")
        if not lease_sec > 0:
            raise ValueError(f"lease_sec must be more than 0 seconds, not {lease_sec!r}")
        self.config = config
        self.seal = seal
        self.table = CredentialTable(credential_table)
        self.key_length = whole("key_length", key_length, LONGEST_KEY)
        self.lease_sec = lease_sec
        self.early_sec = early_sec
        self._sql = CredentialStatements(self.table)
        self._lanes = lanes_of(config)
        self._created = False

    async def create_tables(self, *, row_security: bool = False) -> None:
        """Make the table. Safe to call from many processes; the first use of the service does it too.

        Args:
            row_security: whether roles see only what `adk_psqlpy.admin.access.grant_access` gave them
                (docs/security.md). It stays so.
        """
        batch, secured = create_credentials(self.table, self.key_length), of_credentials(self.table)
        await make_table(self._lanes, self.table, SCHEMA_VERSION, batch, secured, row_security=row_security)
        self._created = True

    @override
    async def load_credential(
        self, auth_config: AuthConfig, callback_context: CallbackContext
    ) -> AuthCredential | None:
        """The credential of the context's app and user; `None` if there is none.

        An expired credential with a refresh token is given to one caller at a time. The other callers wait
        until that caller has saved the new one, or at most `lease_sec`.
        """
        return await self.load(*self._scope(auth_config, callback_context))

    @override
    async def save_credential(self, auth_config: AuthConfig, callback_context: CallbackContext) -> None:
        """Store `exchanged_auth_credential` in place of the earlier one; `None` deletes the earlier one."""
        await self.save(*self._scope(auth_config, callback_context), auth_config.exchanged_auth_credential)

    async def load(self, app_name: str, user_id: str, credential_key: str) -> AuthCredential | None:
        """See `load_credential`; for callers without an ADK context."""
        key = self._key(app_name, user_id, credential_key)
        pause, longest = _PAUSE_SEC
        while True:
            rows = await self._run(self._sql.load, key, Repeat.READ)
            if not rows:
                return None
            sealed, revision = rows[0]
            credential = await self._opened(key, sealed)
            if not self._needs_refresh(credential):
                return credential
            now = datetime.now(timezone.utc)
            until = now + timedelta(seconds=self.lease_sec)
            if await self._run(self._sql.lease, [*key, revision, now, until], Repeat.NEVER):
                return credential
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)

    async def save(
        self, app_name: str, user_id: str, credential_key: str, credential: AuthCredential | None
    ) -> None:
        """See `save_credential`; for callers without an ADK context."""
        key = self._key(app_name, user_id, credential_key)
        if credential is None:
            await self._run(self._sql.delete, key, Repeat.AFTER_FAILURE)
            return
        text = credential.model_dump_json(exclude_none=True, by_alias=True).encode()
        key_id = await self.seal.current(app_name, user_id)
        sealed = _native.seal_value(b"\x01" + text, self.seal.keys, key_id, sealed_place(key), form="jsonb")
        now = datetime.now(timezone.utc)
        await self._run(self._sql.save, [*key, CustomType(sealed), now], Repeat.AFTER_FAILURE)

    async def delete_user(self, app_name: str, user_id: str) -> int:
        """Delete all credentials of a user in an app. Return their number."""
        key = self._key(app_name, user_id, "-")
        ((gone,),) = await self._run(self._sql.delete_user, key[:2], Repeat.AFTER_FAILURE)
        return int(gone)

    def _needs_refresh(self, credential: AuthCredential) -> bool:
        oauth2 = credential.oauth2
        if oauth2 is None or not oauth2.refresh_token or oauth2.expires_at is None:
            return False
        return oauth2.expires_at <= time.time() + self.early_sec

    async def _opened(self, key: list[str], sealed: bytes) -> AuthCredential:
        told = told_place(key)
        plain = await self.seal.opening(
            lambda: _native.open_value(sealed, self.seal.keys, sealed_place(key), form="jsonb", told=told)
        )
        return AuthCredential.model_validate_json(plain[1:])

    async def _run(self, sql: str, parameters: list[Any], repeat: Repeat) -> list[Row]:
        if not self._created:
            await self.create_tables()
        kind: Kind = "read" if repeat is Repeat.READ else "write"
        return await self._lanes.fetch(sql, parameters, _DECODERS, kind=kind, repeat=repeat)

    def _scope(self, auth_config: AuthConfig, callback_context: CallbackContext) -> tuple[str, str, str]:
        context = callback_context._invocation_context
        return context.app_name, context.user_id, auth_config.credential_key or ""

    def _key(self, app_name: str, user_id: str, credential_key: str) -> list[str]:
        for name, value in (("app_name", app_name), ("user_id", user_id)):
            check_identifier(name, value, self.key_length, "PsqlpyCredentialService")
        if not isinstance(credential_key, str) or not 0 < len(credential_key) <= LONGEST_NAME:
            raise ValueError(
                f"auth_config.credential_key must be a text of 1 to {LONGEST_NAME} characters, not "
                f"{credential_key!r}"
            )
        return [app_name, user_id, credential_key]


def sealed_place(key: list[str]) -> tuple[str, str, str, list[bytes]]:
    """What a credential is bound to."""
    app_name, user_id, credential_key = key
    return "credential", app_name, user_id, [credential_key.encode()]


def told_place(key: list[str]) -> str:
    """A credential in an error message."""
    return f"credential {key[2]!r} of user {key[1]!r} in app {key[0]!r}"
