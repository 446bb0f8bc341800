"""Credentials of tools, sealed anew."""

from __future__ import annotations

from typing import Any

from adk_psqlpy import _native
from adk_psqlpy.admin.reseal.rows import KEY, Values, Work
from adk_psqlpy.admin.reseal.values import resealed
from adk_psqlpy.credentials.service import sealed_place, told_place
from adk_psqlpy.seal.seal import Seal
from adk_psqlpy.sql.credentials import CredentialTable
from adk_psqlpy.sql.reseal import SealedTable


def table_of(table: CredentialTable, seal: Seal) -> Work:
    """The table of one credential service. Leases stay, since the credentials are the same."""
    key = (*KEY, ("credential_key", "varchar"))
    sealed = SealedTable(table.credentials, key, (("credential", "jsonb"),))
    return Work("credentials", sealed, lambda key, values: _again(seal, key, values))


async def _again(seal: Seal, key: tuple[Any, ...], values: Values) -> Values | None:
    (credential,) = values
    assert credential is not None, "the column is NOT NULL"
    app_name, user_id, _ = key
    if _native.sealed_with(credential, form="jsonb") == await seal.current(app_name, user_id):
        return None
    given = list(key)
    return (await resealed(seal, credential, sealed_place(given), "jsonb", told_place(given)),)
