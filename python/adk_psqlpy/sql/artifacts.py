"""The statements of artifacts, each one round trip and atomic by itself.

They follow the rules of `sql.statements`, and take locks in one order: blob, content, artifact. Every save
that uses a content increments its `uses`, in the statement that adds the version. A content is deleted only
if its `uses` is the same as in the statement's snapshot. So a save that comes in between is noticed, either
by its version or by the count, and bytes that a version needs are never deleted.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from adk_psqlpy.sql.artifact_tables import USER_SCOPE, ArtifactTables
from adk_psqlpy.sql.recorded import read_metadata

STALE_UPLOADS: Final = 8
"""The most abandoned uploads that a new upload clears away, so that a save does not wait long for the garbage
of others.
"""

_KEY: Final = "app_name = $1 AND user_id = $2 AND session_id = $3 AND name_hash = $4"


@dataclass(frozen=True)
class ArtifactStatements:
    """The statements for one set of tables.

    `$1 $2` are always app and user. For an artifact, `$3 $4` are the session (`USER_SCOPE` for the user's
    own) and the hash of the name. For a blob, `$3` is its id.
    """

    tables: ArtifactTables

    # Tables.

    @cached_property
    def version(self) -> str:
        """The server's version number, and the metadata table if it is there: `$1` its name."""
        return "SELECT current_setting('server_version_num')::int, to_regclass($1)::text"

    @cached_property
    def metadata(self) -> str:
        """What is recorded about the tables: keys and values."""
        return read_metadata(self.tables.metadata)

    # Saving: each statement returns the new version, and writes all of it or nothing. `$5` the name as it was
    # given, `$6` the time, `$7` MIME type, `$8` the part without its bytes, `$9` custom metadata, and where
    # there are bytes, `$10` their hash, `$11` their size.

    @cached_property
    def save_reference(self) -> str:
        """A part without bytes of its own."""
        return f"""
        WITH {self._next_version("")}, {self._add_version("NULL", "NULL")}
        SELECT version FROM v
        """

    @cached_property
    def save_one_chunk(self) -> str:
        """`$12` a new blob id, `$13` the bytes. They are stored unless the user has the same content already."""
        t = self.tables
        return f"""
        WITH c AS (
            {self._use_content("VALUES ($1, $2, $10::bytea, $12::uuid, $11::bigint, 1)")}
        ), b AS (
            INSERT INTO {t.blobs} (app_name, user_id, blob_id, published, create_time)
            SELECT $1, $2, c.blob_id, true, $6 FROM c WHERE c.blob_id = $12
        ), k AS (
            INSERT INTO {t.chunks} (app_name, user_id, blob_id, number, data)
            SELECT $1, $2, c.blob_id, 0, $13 FROM c WHERE c.blob_id = $12
        ), {self._next_version("FROM c")}, {self._add_version("$10", "$11")}
        SELECT version FROM v
        """

    @cached_property
    def save_known(self) -> str:
        """For a content that is stored already. If it is not, nothing is written and there is no row."""
        return f"""
        WITH c AS (
            UPDATE {self.tables.contents} SET uses = uses + 1
            WHERE app_name = $1 AND user_id = $2 AND hash = $10
            RETURNING blob_id
        ), {self._next_version("FROM c")}, {self._add_version("$10", "$11")}
        SELECT version FROM v
        """

    @cached_property
    def save_uploaded(self) -> str:
        """`$12` the blob that was uploaded. It is published, or dropped if the same content was stored
        meanwhile.

        If the blob does not exist any more, nothing is written and there is no row.
        """
        t = self.tables
        return f"""
        WITH mine AS (
            SELECT blob_id FROM {t.blobs}
            WHERE app_name = $1 AND user_id = $2 AND blob_id = $12 AND NOT published
            FOR UPDATE
        ), c AS (
            {self._use_content("SELECT $1, $2, $10::bytea, mine.blob_id, $11::bigint, 1 FROM mine")}
        ), p AS (
            UPDATE {t.blobs} AS b SET published = true
            FROM c WHERE b.app_name = $1 AND b.user_id = $2 AND b.blob_id = $12 AND c.blob_id = $12
        ), d AS (
            DELETE FROM {t.blobs} AS b
            USING c WHERE b.app_name = $1 AND b.user_id = $2 AND b.blob_id = $12 AND c.blob_id <> $12
        ), {self._next_version("FROM c")}, {self._add_version("$10", "$11")}
        SELECT version FROM v
        """

    def _use_content(self, rows: str) -> str:
        """Adds a content, or counts one more use of the equal one that is stored, and returns its blob."""
        return f"""INSERT INTO {self.tables.contents} AS stored (app_name, user_id, hash, blob_id, size, uses)
            {rows}
            ON CONFLICT (app_name, user_id, hash) DO UPDATE SET uses = stored.uses + 1
            RETURNING blob_id"""

    def _next_version(self, source: str) -> str:
        """CTE `n`: the next number of this name, from 0. The lock of the row makes racing saves take turns."""
        return f"""n AS (
            INSERT INTO {self.tables.names} AS stored (app_name, user_id, session_id, name_hash, filename, versions)
            SELECT $1, $2, $3, $4::bytea, $5::text, 1 {source}
            ON CONFLICT (app_name, user_id, session_id, name_hash) DO UPDATE
                SET versions = stored.versions + 1, filename = excluded.filename
            RETURNING versions - 1 AS version
        )"""

    def _add_version(self, content: str, size: str) -> str:
        """CTE `v`: the version's row."""
        return f"""v AS (
            INSERT INTO {self.tables.artifacts} (app_name, user_id, session_id, name_hash, filename, version,
                create_time, mime_type, part, custom_metadata, hash, size)
            SELECT $1, $2, $3, $4, $5, n.version, $6, $7, $8::jsonb, $9::jsonb, {content}, {size} FROM n
            RETURNING version
        )"""

    # Uploading.

    @cached_property
    def begin_upload(self) -> str:
        """`$4` the time, `$5` the time before which an unpublished upload counts as abandoned.

        It clears away some of the user's abandoned uploads, except for those that another statement has
        locked. It may be repeated.
        """
        blobs = self.tables.blobs
        return f"""
        WITH stale AS (
            SELECT blob_id FROM {blobs}
            WHERE app_name = $1 AND user_id = $2 AND NOT published AND create_time < $5
            ORDER BY create_time LIMIT {STALE_UPLOADS} FOR UPDATE SKIP LOCKED
        ), d AS (
            DELETE FROM {blobs} AS b USING stale
            WHERE b.app_name = $1 AND b.user_id = $2 AND b.blob_id = stale.blob_id
        )
        INSERT INTO {blobs} (app_name, user_id, blob_id, published, create_time) VALUES ($1, $2, $3, false, $4)
        ON CONFLICT DO NOTHING
        """

    @cached_property
    def upload_chunk(self) -> str:
        """`$4` the chunk's number, `$5` its bytes. There is no row if the upload was cleared away. It may be
        repeated.

        Because of the lock, whoever deletes the blob waits until this chunk is committed. Then the foreign
        key's cascade deletes the chunk, too.
        """
        t = self.tables
        return f"""
        WITH b AS (
            SELECT blob_id FROM {t.blobs}
            WHERE app_name = $1 AND user_id = $2 AND blob_id = $3 AND NOT published
            FOR KEY SHARE
        ), k AS (
            INSERT INTO {t.chunks} (app_name, user_id, blob_id, number, data)
            SELECT $1, $2, b.blob_id, $4::int, $5::bytea FROM b
            ON CONFLICT DO NOTHING
        )
        SELECT true FROM b
        """

    # Loading.

    @cached_property
    def load(self) -> str:
        """`$5` a version, NULL for the newest: the part without its bytes, size (NULL: it has none), blob, and
        first chunk, hash. All chunks but the last are as long as the first."""
        t = self.tables
        return f"""
        SELECT v.part, v.size, c.blob_id, k.data, v.hash
        FROM (
            SELECT part, size, hash FROM {t.artifacts}
            WHERE {_KEY} AND ($5::bigint IS NULL OR version = $5)
            ORDER BY version DESC LIMIT 1
        ) AS v
        LEFT JOIN {t.contents} AS c ON c.app_name = $1 AND c.user_id = $2 AND c.hash = v.hash
        LEFT JOIN {t.chunks} AS k
            ON k.app_name = $1 AND k.user_id = $2 AND k.blob_id = c.blob_id AND k.number = 0
        """

    @cached_property
    def load_chunk(self) -> str:
        """`$4` the chunk's number. There is no row if the blob was deleted."""
        return f"""
        SELECT data FROM {self.tables.chunks}
        WHERE app_name = $1 AND user_id = $2 AND blob_id = $3 AND number = $4
        """

    @cached_property
    def list_names(self) -> str:
        """`$3` a session (`USER_SCOPE` for none): the owner of each artifact, and its name as last given."""
        return f"""
        SELECT session_id, filename FROM {self.tables.names}
        WHERE app_name = $1 AND user_id = $2 AND session_id IN ('{USER_SCOPE}', $3)
        """

    @cached_property
    def list_versions(self) -> str:
        """The numbers, in order."""
        return f"SELECT version FROM {self.tables.artifacts} WHERE {_KEY} ORDER BY version"

    @cached_property
    def describe_versions(self) -> str:
        """Number, time, MIME type and custom metadata of each version, in order."""
        return f"""
        SELECT version, create_time, mime_type, custom_metadata FROM {self.tables.artifacts}
        WHERE {_KEY} ORDER BY version
        """

    @cached_property
    def describe_version(self) -> str:
        """The same of one: `$5` its number, NULL for the newest."""
        return f"""
        SELECT version, create_time, mime_type, custom_metadata FROM {self.tables.artifacts}
        WHERE {_KEY} AND ($5::bigint IS NULL OR version = $5)
        ORDER BY version DESC LIMIT 1
        """

    # Deleting.

    @cached_property
    def delete(self) -> str:
        """Deletes an artifact, its versions by the foreign key. No row where there was none.

        Returns the hashes of its versions as an array, and the number of versions that were added while this
        waited. A statement does not see what was added after it began, so their hashes are not in the array.
        """
        t = self.tables
        return f"""
        WITH n AS (DELETE FROM {t.names} WHERE {_KEY} RETURNING versions)
        SELECT n.versions - seen.versions AS unseen, seen.hashes
        FROM n, (
            SELECT count(*) AS versions, array_agg(DISTINCT hash) FILTER (WHERE hash IS NOT NULL) AS hashes
            FROM {t.artifacts} WHERE {_KEY}
        ) AS seen
        """

    @cached_property
    def collect(self) -> str:
        """`$3` hashes, NULL for all of the user's contents: deletes those contents that no version has.

        Gives how many and how many bytes.
        """
        return self._collect(
            "c.app_name = $1 AND c.user_id = $2 AND ($3::bytea[] IS NULL OR c.hash = ANY ($3::bytea[]))"
        )

    @cached_property
    def collect_all(self) -> str:
        """The same for all users of all apps. No parameters."""
        return self._collect("true")

    @cached_property
    def collect_portion(self) -> str:
        """The same, of at most `$1` contents."""
        return self._collect("true", "LIMIT $1")

    def _collect(self, condition: str, limit: str = "") -> str:
        t = self.tables
        return f"""
        WITH unused AS MATERIALIZED (
            SELECT c.app_name, c.user_id, c.hash, c.uses FROM {t.contents} AS c
            WHERE {condition} AND NOT EXISTS (
                SELECT FROM {t.artifacts} AS v
                WHERE v.app_name = c.app_name AND v.user_id = c.user_id AND v.hash = c.hash
            ) {limit}
        ), gone AS (
            DELETE FROM {t.contents} AS c USING unused AS u
            WHERE c.app_name = u.app_name AND c.user_id = u.user_id AND c.hash = u.hash AND c.uses = u.uses
            RETURNING c.app_name, c.user_id, c.blob_id, c.size
        ), b AS (
            DELETE FROM {t.blobs} AS b USING gone AS g
            WHERE b.app_name = g.app_name AND b.user_id = g.user_id AND b.blob_id = g.blob_id
        )
        SELECT count(*), coalesce(sum(size), 0)::bigint FROM gone
        """

    @cached_property
    def clear_uploads(self) -> str:
        """`$1` a time: deletes unpublished uploads from before it, and returns their number."""
        return f"""
        WITH d AS (DELETE FROM {self.tables.blobs} WHERE NOT published AND create_time < $1 RETURNING blob_id)
        SELECT count(*) FROM d
        """
