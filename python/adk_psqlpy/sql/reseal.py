"""Statements that go over sealed tables, a portion at a time, and write values anew."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from adk_psqlpy.sql.artifact_tables import ArtifactTables


@dataclass(frozen=True)
class SealedTable:
    """A table with sealed columns.

    `key` and `columns` are names and types: those of the primary key, whose order is followed, and those
    that may be sealed. The columns of a `merged` table are states, which writers change member by member.
    `derived` are columns that are written and never read: a name, and an expression of a parameter, `{}`.
    """

    table: str
    key: tuple[tuple[str, str], ...]
    columns: tuple[tuple[str, str], ...]
    merged: bool = False
    derived: tuple[tuple[str, str], ...] = ()

    @cached_property
    def ends(self) -> str:
        """`$1` how many rows: the key of each row of that number, in the order of keys, and of the last one."""
        names = ", ".join(f'"{name}"' for name, _ in self.key)
        return f"""
        SELECT {names} FROM (
            SELECT {names}, row_number() OVER by_key AS place, lead(1) OVER by_key IS NULL AS is_last
            FROM {self.table} WINDOW by_key AS (ORDER BY {names})
        ) AS t WHERE place % $1::bigint = 0 OR is_last ORDER BY {names}
        """

    @cached_property
    def page(self) -> str:
        """The key of the last row seen, then that of an end: the rows up to there, key and columns."""
        names = ", ".join(f'"{name}"' for name, _ in self.key)
        width = len(self.key)
        seen = ", ".join(f"${place}::{kind}" for place, (_, kind) in enumerate(self.key, start=1))
        end = ", ".join(f"${width + place}::{kind}" for place, (_, kind) in enumerate(self.key, start=1))
        columns = "".join(f', "{name}"' for name, _ in self.columns)
        return f"""
        SELECT {names}{columns} FROM {self.table}
        WHERE ({names}) > ({seen}) AND ({names}) <= ({end}) ORDER BY {names}
        """

    @cached_property
    def row(self) -> str:
        """A key: its row, key and columns, if it is still there."""
        names = ", ".join(f'"{name}"' for name, _ in (*self.key, *self.columns))
        return f"SELECT {names} FROM {self.table} WHERE {self._is_key}"

    @cached_property
    def rewrite(self) -> str:
        """A key, the columns as they were read, the columns as they are to be, and what others are derived of:
        the row is written anew.

        It changes nothing, and gives no row, where somebody changed these columns meanwhile. In a merged
        table the new columns hold members, which replace those that are still what was read; PostgreSQL
        computes this from the row as it is once it is locked, so a busy row needs no second try.
        """
        first = len(self.key) + 1
        width = len(self.columns)
        places = [
            (name, kind, f"${first + place}::{kind}", f"${first + width + place}::{kind}")
            for place, (name, kind) in enumerate(self.columns)
        ]
        if self.merged:
            change = ", ".join(_merge(name, old, new) for name, _, old, new in places)
            where = self._is_key
        else:
            last = first + 2 * width
            derived = [
                f'"{name}" = {expression.format(f"${place}")}'
                for place, (name, expression) in enumerate(self.derived, start=last)
            ]
            change = ", ".join([*(f'"{name}" = {new}' for name, _, _, new in places), *derived])
            unchanged = [f'"{name}" IS NOT DISTINCT FROM {old}' for name, _, old, _ in places]
            where = " AND ".join([self._is_key, *unchanged])
        return f'UPDATE {self.table} AS t SET {change} WHERE {where} RETURNING "{self.key[0][0]}"'

    @property
    def _is_key(self) -> str:
        return " AND ".join(f'"{name}" = ${place}' for place, (name, _) in enumerate(self.key, start=1))


def _merge(name: str, old: str, new: str) -> str:
    """A state with the members of `new`, where they are as in `old`.

    They are compared as text: 1 and 1.0 are equal as jsonb, and are not the same to Python.
    """
    return f"""
        "{name}" = CASE WHEN t."{name}" IS NULL OR {new} IS NULL THEN t."{name}" ELSE (
            SELECT coalesce(jsonb_object_agg(m.key,
                CASE WHEN {new} ? m.key AND ({old} -> m.key)::text = m.value::text
                THEN {new} -> m.key ELSE m.value END), '{{}}')
            FROM jsonb_each(t."{name}") AS m) END"""


@dataclass(frozen=True)
class SealedContents:
    """The statements that store contents of artifacts anew. `$1 $2` are app and user throughout.

    They take locks in the order that `sql.artifacts` says.
    """

    tables: ArtifactTables

    @cached_property
    def versions(self) -> str:
        """`$3` a hash: each version of that content, and the content's uses, blob and size with it.

        Uses, blob, size; session, hash of the name, file name, version and part.
        """
        t = self.tables
        return f"""
        SELECT c.uses, c.blob_id, c.size, v.session_id, v.name_hash, v.filename, v.version, v.part
        FROM {t.contents} AS c
            JOIN {t.artifacts} AS v ON v.app_name = c.app_name AND v.user_id = c.user_id AND v.hash = c.hash
        WHERE c.app_name = $1 AND c.user_id = $2 AND c.hash = $3
        """

    @cached_property
    def leads(self) -> str:
        """`$3` a blob: what each of its chunks begins with, in order. An envelope's lead is shorter."""
        return f"""
        SELECT substr(data, 1, 128) AS data FROM {self.tables.chunks}
        WHERE app_name = $1 AND user_id = $2 AND blob_id = $3 ORDER BY number
        """

    @cached_property
    def replace(self) -> str:
        """`$3` a hash, `$4` the content's uses as they were read, `$5` the hash that it gets, `$6` the blob that it
        gets, and an array each of its versions: `$7` sessions, `$8` hashes of names, `$9` numbers, `$10` parts.

        The content and its versions get the new hash, and the old blob goes. If there is a content of the new
        hash, with another blob, the versions get that one, and the new blob goes too. No row, and nothing
        done, where the content has another number of uses, so that there may be other versions; or where the
        new blob was cleared away.
        """
        t = self.tables
        return f"""
        WITH mine AS MATERIALIZED (
            SELECT blob_id FROM {t.blobs}
            WHERE app_name = $1 AND user_id = $2 AND blob_id = $6::uuid AND NOT published
            FOR UPDATE
        ), old AS MATERIALIZED (
            SELECT c.blob_id, c.size, c.uses FROM {t.contents} AS c, mine
            WHERE c.app_name = $1 AND c.user_id = $2 AND c.hash = $3::bytea AND c.uses = $4::bigint
            FOR UPDATE OF c
        ), gone AS (
            DELETE FROM {t.contents} AS c USING old
            WHERE c.app_name = $1 AND c.user_id = $2 AND c.hash = $3 AND $3 <> $5::bytea
        ), kept AS (
            UPDATE {t.contents} AS c SET blob_id = $6 FROM old
            WHERE c.app_name = $1 AND c.user_id = $2 AND c.hash = $3 AND $3 = $5
            RETURNING c.blob_id
        ), added AS (
            INSERT INTO {t.contents} AS stored (app_name, user_id, hash, blob_id, size, uses)
            SELECT $1, $2, $5, $6, old.size, old.uses FROM old WHERE $3 <> $5
            ON CONFLICT (app_name, user_id, hash) DO UPDATE SET uses = stored.uses + excluded.uses
            RETURNING blob_id
        ), c AS MATERIALIZED (
            SELECT blob_id FROM kept UNION ALL SELECT blob_id FROM added
        ), p AS (
            UPDATE {t.blobs} AS b SET published = true FROM c
            WHERE b.app_name = $1 AND b.user_id = $2 AND b.blob_id = $6 AND c.blob_id = $6
        ), d AS (
            DELETE FROM {t.blobs} AS b USING c, old
            WHERE b.app_name = $1 AND b.user_id = $2
                AND (b.blob_id = old.blob_id OR (b.blob_id = $6 AND c.blob_id <> $6))
        ), v AS (
            UPDATE {t.artifacts} AS v SET hash = $5, part = n.part
            FROM c, unnest($7::varchar[], $8::bytea[], $9::bigint[], $10::jsonb[])
                AS n (session_id, name_hash, version, part)
            WHERE v.app_name = $1 AND v.user_id = $2 AND v.session_id = n.session_id AND v.name_hash = n.name_hash
                AND v.version = n.version AND v.hash = $3
        )
        SELECT true FROM c
        """
