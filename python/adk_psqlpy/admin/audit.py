"""The audit: what is recorded of reads and erasures, where the table is there, and read again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from psqlpy.exceptions import DatabaseError, Error

from adk_psqlpy.checks import whole
from adk_psqlpy.config import PsqlpyConfig
from adk_psqlpy.connections.lanes import lanes_of
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.sql import Tables
from adk_psqlpy.sql.audit import COLUMNS, AuditStatements


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One deed.

    `login` is who was logged in, `role` as whom it was done (another one after SET ROLE), `client` the
    address that it came from (`None`: a Unix socket), all as the server knows them. `of_user` is what
    `digest_of` gives once the user was erased.
    """

    time: datetime
    login: str
    role: str
    client: str | None
    action: str
    of_app: str | None
    of_user: str | None
    of_session: str | None
    details: dict[str, Any]


def digest_of(app_name: str, user_id: str) -> str:
    """What stands for an erased user: whoever knows the id finds the rows, and the rows do not tell the id.

    An id that can be guessed can be tried.
    """
    return f"sha256:{hashlib.sha256(f'{app_name}/{user_id}'.encode()).hexdigest()}"


class Audit:
    """The audit of one set of tables. All of it does nothing where the table is not there."""

    def __init__(self, config: PsqlpyConfig, tables: Tables) -> None:
        """Nothing is asked yet."""
        self._lanes = lanes_of(config)
        self._tables = tables
        self._sql = AuditStatements(tables)
        self._state: tuple[bool, bool] | None = None

    async def record(
        self,
        action: str,
        app_name: str | None = None,
        user_id: str | None = None,
        session_id: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a row, before the deed is done.

        Raises:
            psqlpy.exceptions.DatabaseError: the table is there, and the row could not be added. Then the deed
                is not to be done.
        """
        if not (await self._present())[0]:
            return
        given = [action, app_name, user_id, session_id, json.dumps(dict(details or {}), default=str)]
        try:
            await self._lanes.fetch(self._sql.add, given, repeat=Repeat.AFTER_FAILURE)
        except Error as error:
            raise DatabaseError(
                f"{action} was not done, since it could not be recorded in {self._tables.audit}: {error}. If "
                f"this role may do it, let it add rows: GRANT INSERT ({', '.join(COLUMNS)}) ON "
                f"{self._tables.audit}"
            ) from error

    async def forget(self, app_name: str, user_id: str) -> None:
        """Put a digest in the place of an erased user's id, and take his sessions' ids away.

        Nothing where the role may not change rows, as a service's may not.
        """
        there, may_change = await self._present()
        if there and may_change:
            given = [app_name, user_id, digest_of(app_name, user_id)]
            await self._lanes.fetch(self._sql.forget, given, repeat=Repeat.AFTER_FAILURE)

    async def _present(self) -> tuple[bool, bool]:
        if self._state is None:
            ((there, may_change),) = await self._lanes.fetch(
                self._sql.present, [self._tables.audit], repeat=Repeat.READ
            )
            self._state = there, may_change
        return self._state


async def read_audit(
    config: PsqlpyConfig,
    session_table: str = "adk_sessions",
    *,
    app_name: str | None = None,
    user_id: str | None = None,
    limit: int = 100,
) -> list[AuditRow]:
    """What was recorded, the newest first; of one app, and of one user of it, erased or not.

    Raises:
        ValueError: a name or `limit` is not possible, or a user is given without an app.
        psqlpy.exceptions.Error: there is no audit, or this role may not read it.
    """
    whole("limit", limit, 1_000_000)
    if user_id is not None and app_name is None:
        raise ValueError("user_id is given without app_name: a user belongs to an app")
    tables = Tables(session_table, "adk_events")
    digest = None if user_id is None or app_name is None else digest_of(app_name, user_id)
    rows = await lanes_of(config).fetch(
        AuditStatements(tables).read, [app_name, user_id, digest, limit], kind="list", repeat=Repeat.READ
    )
    names = [each.name for each in fields(AuditRow)]
    return [AuditRow(**dict(zip(names, [*row[:-1], json.loads(row[-1])], strict=True))) for row in rows]
