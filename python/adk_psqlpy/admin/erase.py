"""Erasing a user: deleting every row in the tables of all services, then searching for what is left as a
proof.
"""

from __future__ import annotations

from dataclasses import dataclass

from psqlpy.exceptions import DatabaseError

from adk_psqlpy.admin.audit import Audit, digest_of
from adk_psqlpy.admin.shards import is_distributed
from adk_psqlpy.admin.tables import present_tables
from adk_psqlpy.checks import check_names
from adk_psqlpy.config import PsqlpyConfig
from adk_psqlpy.connections.binary import arrays
from adk_psqlpy.connections.lanes import lanes_of
from adk_psqlpy.connections.retry import Repeat
from adk_psqlpy.sql import Tables
from adk_psqlpy.sql import erase as sql
from adk_psqlpy.sql.artifact_tables import ArtifactTables
from adk_psqlpy.sql.credentials import CredentialTable
from adk_psqlpy.sql.memory import MemoryTable
from adk_psqlpy.sql.user_keys import UserKeyTable


@dataclass(frozen=True, slots=True)
class Erased:
    """What was there of a user, and what is left.

    `rows` is the number of rows that each table had before. `searched` lists the tables that were searched
    afterwards: every table in the same schemas with the columns `app_name` and `user_id`. `left` is the
    number of rows that this search found, by table. A table that is in `left` and not in `rows` does not
    belong to this package. `mentions` lists keys of the app's state whose values contain the user's id. App
    state belongs to no user, so it is not deleted: look at those values.
    """

    app_name: str
    user_id: str
    rows: dict[str, int]
    left: dict[str, int]
    searched: list[str]
    mentions: list[str]

    @property
    def total(self) -> int:
        """The number of rows that the user had."""
        return sum(self.rows.values())


async def find_user(
    config: PsqlpyConfig,
    app_name: str,
    user_id: str,
    session_table: str = "adk_sessions",
    events_table: str = "adk_events",
    *,
    memory_table: str = "adk_memories",
    artifact_table: str = "adk_artifacts",
    credential_table: str = "adk_credentials",
    key_table: str = "adk_user_keys",
) -> dict[str, int]:
    """Count the user's rows in each existing table of sessions, memory, artifacts, credentials and keys.

    Raises:
        ValueError: a name or an id is not possible.
        psqlpy.exceptions.Error: no such table is there, or the server could not be asked.
    """
    check_names(app_name=app_name, user_id=user_id)
    tables = Tables(session_table, events_table)
    names = await _present(config, tables, memory_table, artifact_table, credential_table, key_table)
    await Audit(config, tables).record("count-user", app_name, user_id)
    rows = await lanes_of(config).fetch(sql.count(names.all), [app_name, user_id], repeat=Repeat.READ)
    return _by_table(names, rows)


async def erase_user(
    config: PsqlpyConfig,
    app_name: str,
    user_id: str,
    session_table: str = "adk_sessions",
    events_table: str = "adk_events",
    *,
    memory_table: str = "adk_memories",
    artifact_table: str = "adk_artifacts",
    credential_table: str = "adk_credentials",
    key_table: str = "adk_user_keys",
) -> Erased:
    """Delete every row of a user in an app, and search all tables for what is left.

    This includes the user's credentials. It also includes the user's wrapped keys, where `UserKeys` keeps
    them in this database. What was sealed with those keys can then not be opened any more, also not in a
    backup, unless the backup holds the keys. `UserKeys.erase` erases keys that are kept elsewhere.

    The deletion is one transaction: everything is deleted or nothing is. A row that is left was written
    meanwhile, or it is in a table that does not belong to this package. In the first case, stop what writes
    for this user, and call this again. Deleted data stays in backups, in the write-ahead log, and on disk
    until VACUUM has run.

    Where there is an audit, it is told before and afterwards, and its earlier rows of the user get a digest
    in the place of his id (docs/audit.md).

    Raises:
        ValueError: a name or an id is not possible.
        psqlpy.exceptions.Error: no such table is there, or the server could not be asked or did not allow it.
    """
    check_names(app_name=app_name, user_id=user_id)
    tables = Tables(session_table, events_table)
    names = await _present(config, tables, memory_table, artifact_table, credential_table, key_table)
    lanes, him = lanes_of(config), [app_name, user_id]
    audit, digest = Audit(config, tables), digest_of(app_name, user_id)
    await audit.record("erase-user", app_name, digest)
    counted = None
    if await is_distributed(lanes, tables.metadata):
        # Citus may execute the deletions of one statement before it counts.
        counted = await lanes.fetch(sql.count(names.all), him, repeat=Repeat.READ)
    rows = await lanes.fetch(sql.erase(names), him, repeat=Repeat.AFTER_FAILURE)
    known = arrays(("text",), ([table.encode()] for table in names.all))
    searched = [table for (table,) in await lanes.fetch(sql.NAMING_USERS, known, repeat=Repeat.READ)]
    found = await lanes.fetch(sql.count(searched), him, repeat=Repeat.READ)
    mentions = []
    if await present_tables(config, tables.app_states):
        mentions = [key for (key,) in await lanes.fetch(sql.mentioned(tables), him, repeat=Repeat.READ)]
    erased = Erased(
        app_name,
        user_id,
        _by_table(names, rows if counted is None else counted),
        {searched[place]: count for place, count in found if count},
        searched,
        mentions,
    )
    await audit.forget(app_name, user_id)
    await audit.record(
        "erased-user", app_name, digest, details={"rows": erased.total, "left": list(erased.left)}
    )
    return erased


async def _present(
    config: PsqlpyConfig,
    tables: Tables,
    memory_table: str,
    artifact_table: str,
    credential_table: str,
    key_table: str,
) -> sql.Owned:
    """The tables that are there."""
    owned = sql.owned(
        tables,
        MemoryTable(memory_table),
        ArtifactTables(artifact_table),
        CredentialTable(credential_table),
        UserKeyTable(key_table),
    )
    there = owned.among(await present_tables(config, *owned.all))
    if not there.deleted:
        raise DatabaseError(
            "this connection's search path has none of the tables of sessions, memory and artifacts: "
            "check the database and the names of the tables"
        )
    return there


def _by_table(names: sql.Owned, rows: list[tuple[int, int]]) -> dict[str, int]:
    return {names.all[place].replace('"', ""): count for place, count in rows}
