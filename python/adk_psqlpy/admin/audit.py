"""The audit: records reads and erasures if its table exists, and reads what was recorded."""

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
    """One recorded action.

    The server fills three columns: `login` is the role that logged in, `role` the current role (another one
    after SET ROLE), and `client` the client's address (`None` for a Unix socket). Once the user is erased,
    `of_user` is the result of `digest_of`.
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
    """The digest that replaces an erased user's id.

    If you know the id, you can find the user's rows. The rows do not reveal the id, but somebody who guesses
    an id can test the guess.
    """
    return f"sha256:{hashlib.sha256(f'{app_name}/{user_id}'.encode()).hexdigest()}"


class Audit:
    """The audit of one set of tables. If its table does not exist, the methods do nothing."""

    def __init__(self, config: PsqlpyConfig, tables: Tables) -> None:
        """Does not ask the server yet."""
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
        """Add a row. Call it before the action.

        Raises:
            psqlpy.exceptions.DatabaseError: the table exists, but the row could not be added. The caller must
                not do the action then.
        """
        if not (await self._present())[0]:
            return
        given = [action, app_name, user_id, session_id, json.dumps(dict(details or {}), default=str)]
        try:
            await self._lanes.fetch(self._sql.add, given, repeat=Repeat.AFTER_FAILURE)
        except Error as error:
            raise DatabaseError(
                f"{action} was not done, since it could not be recorded in {self._tables.audit}: {error}. If "
                f"this role may do it, let it add rows, as the owner of the table: "
                f"GRANT INSERT ({', '.join(COLUMNS)}) ON {self._tables.audit} TO role"
            ) from error

    async def forget(self, app_name: str, user_id: str) -> None:
        """Replace an erased user's id by a digest, and delete the ids of the user's sessions. Rows without an
        app are changed too, since they hold the same id.

        It does nothing if the role may not change rows. The role of a service may not.
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
    """The recorded actions, the newest first: all, those of an app, or those of one user, erased or not.

    Actions that were not limited to an app, as an export of everything, are among those of each app. A search
    for a user's id in all apps is among the actions of that user in each app.

    Raises:
        ValueError: a name or `limit` is not valid, or a user is given without an app.
        psqlpy.exceptions.Error: the audit table does not exist, or this role may not read it.
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
