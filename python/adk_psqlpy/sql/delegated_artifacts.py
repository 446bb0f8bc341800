"""The writing statements of artifacts as functions for distributed tables, as in `sql.delegated`.

Each call is one transaction, so the rules of `sql.artifacts` hold. Locks are taken in the order blob, content,
artifact. A save increments `uses` in the transaction that adds the version.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from adk_psqlpy.sql.artifacts import STALE_UPLOADS, ArtifactStatements
from adk_psqlpy.sql.distribution import digest
from adk_psqlpy.sql.functions import Function

_OWNER: Final = (("app", "varchar"), ("usr", "varchar"))
_NAME: Final = (*_OWNER, ("session", "varchar"), ("name_hash", "bytea"))
_ROW: Final = (
    *_NAME,
    ("filename", "text"),
    ("at", "timestamptz"),
    ("mime_type", "text"),
    ("part", "jsonb"),
    ("metadata", "jsonb"),
)
_CONTENT: Final = (*_ROW, ("hash", "bytea"), ("size", "bigint"))
_BLOB: Final = ("blob", "uuid")

_MINE: Final = "app_name = p_app AND user_id = p_usr"
_NAMED: Final = f"{_MINE} AND session_id = p_session AND name_hash = p_name_hash"
_VERSION: Final = (("version", "bigint"),)


@dataclass(frozen=True)
class DelegatedArtifactStatements(ArtifactStatements):
    """The statements for distributed tables: those that write for one user are calls of functions."""

    @property
    def functions(self) -> list[str]:
        """The batches that create the functions."""
        made = (self._reference, self._one_chunk, self._known, self._uploaded)
        return [
            each.definition for each in (*made, self._begin, self._chunk, self._delete, self._collect_some)
        ]

    @cached_property
    def version_of_functions(self) -> str:
        """The recorded value of `functions` if the tables and these functions are distributed."""
        return digest((*self.functions, *self.tables.by_user))

    @cached_property
    def save_reference(self) -> str:
        """As `ArtifactStatements.save_reference`."""
        return self._reference.call

    @cached_property
    def save_one_chunk(self) -> str:
        """As `ArtifactStatements.save_one_chunk`."""
        return self._one_chunk.call

    @cached_property
    def save_known(self) -> str:
        """As `ArtifactStatements.save_known`."""
        return self._known.call

    @cached_property
    def save_uploaded(self) -> str:
        """As `ArtifactStatements.save_uploaded`."""
        return self._uploaded.call

    @cached_property
    def begin_upload(self) -> str:
        """As `ArtifactStatements.begin_upload`."""
        return self._begin.call

    @cached_property
    def upload_chunk(self) -> str:
        """As `ArtifactStatements.upload_chunk`."""
        return self._chunk.call

    @cached_property
    def delete(self) -> str:
        """As `ArtifactStatements.delete`. It misses no hash, since it locks the artifact before it reads them."""
        return self._delete.call

    @cached_property
    def collect(self) -> str:
        """As `ArtifactStatements.collect`."""
        return self._collect_some.call

    # The functions.

    def _function(
        self,
        purpose: str,
        parameters: tuple[tuple[str, str], ...],
        returns: tuple[tuple[str, str], ...],
        body: str,
    ) -> Function:
        return Function(self.tables.artifact_table, purpose, parameters, returns, body)

    @cached_property
    def _reference(self) -> Function:
        body = f"BEGIN {self._add_version_row('NULL', 'NULL')} END"
        return self._function("save_reference", _ROW, _VERSION, body)

    @cached_property
    def _one_chunk(self) -> Function:
        t = self.tables
        body = f"""
            DECLARE used uuid;
            BEGIN
                {self._count_use()}
                IF used = p_blob THEN
                    INSERT INTO {t.blobs} (app_name, user_id, blob_id, published, create_time)
                    VALUES (p_app, p_usr, p_blob, true, p_at);
                    INSERT INTO {t.chunks} (app_name, user_id, blob_id, number, data)
                    VALUES (p_app, p_usr, p_blob, 0, p_data);
                END IF;
                {self._add_version_row("p_hash", "p_size")}
            END"""
        return self._function("save_one_chunk", (*_CONTENT, _BLOB, ("data", "bytea")), _VERSION, body)

    @cached_property
    def _known(self) -> Function:
        body = f"""
            BEGIN
                UPDATE {self.tables.contents} SET uses = uses + 1 WHERE {_MINE} AND hash = p_hash;
                IF NOT FOUND THEN
                    RETURN;
                END IF;
                {self._add_version_row("p_hash", "p_size")}
            END"""
        return self._function("save_known", _CONTENT, _VERSION, body)

    @cached_property
    def _uploaded(self) -> Function:
        blobs = self.tables.blobs
        body = f"""
            DECLARE used uuid;
            BEGIN
                PERFORM FROM {blobs} WHERE {_MINE} AND blob_id = p_blob AND NOT published FOR UPDATE;
                IF NOT FOUND THEN
                    RETURN;
                END IF;
                {self._count_use()}
                IF used = p_blob THEN
                    UPDATE {blobs} SET published = true WHERE {_MINE} AND blob_id = p_blob;
                ELSE
                    DELETE FROM {blobs} WHERE {_MINE} AND blob_id = p_blob;
                END IF;
                {self._add_version_row("p_hash", "p_size")}
            END"""
        return self._function("save_uploaded", (*_CONTENT, _BLOB), _VERSION, body)

    def _count_use(self) -> str:
        """Adds a content. If an equal one exists, increments its `uses` instead. `used` is the blob of the content."""
        return f"""
                INSERT INTO {self.tables.contents} AS stored (app_name, user_id, hash, blob_id, size, uses)
                VALUES (p_app, p_usr, p_hash, p_blob, p_size, 1)
                ON CONFLICT (app_name, user_id, hash) DO UPDATE SET uses = stored.uses + 1
                RETURNING blob_id INTO used;"""

    def _add_version_row(self, content: str, size: str) -> str:
        """Takes the next version number of this name, inserts the version's row, and returns the number."""
        t = self.tables
        return f"""
                INSERT INTO {t.names} AS stored (app_name, user_id, session_id, name_hash, filename, versions)
                VALUES (p_app, p_usr, p_session, p_name_hash, p_filename, 1)
                ON CONFLICT (app_name, user_id, session_id, name_hash) DO UPDATE
                    SET versions = stored.versions + 1, filename = excluded.filename
                RETURNING versions - 1 INTO version;
                INSERT INTO {t.artifacts} (app_name, user_id, session_id, name_hash, filename, version, create_time,
                    mime_type, part, custom_metadata, hash, size)
                VALUES (p_app, p_usr, p_session, p_name_hash, p_filename, version, p_at, p_mime_type, p_part,
                    p_metadata, {content}, {size});
                RETURN NEXT;"""

    @cached_property
    def _begin(self) -> Function:
        blobs = self.tables.blobs
        body = f"""
            DECLARE stale record;
            BEGIN
                FOR stale IN
                    SELECT blob_id FROM {blobs}
                    WHERE {_MINE} AND NOT published AND create_time < p_before
                    ORDER BY create_time LIMIT {STALE_UPLOADS} FOR UPDATE SKIP LOCKED
                LOOP
                    DELETE FROM {blobs} WHERE {_MINE} AND blob_id = stale.blob_id;
                END LOOP;
                INSERT INTO {blobs} (app_name, user_id, blob_id, published, create_time)
                VALUES (p_app, p_usr, p_blob, false, p_at) ON CONFLICT DO NOTHING;
            END"""
        times = (("at", "timestamptz"), ("before", "timestamptz"))
        return self._function("begin_upload", (*_OWNER, _BLOB, *times), (("begun", "boolean"),), body)

    @cached_property
    def _chunk(self) -> Function:
        t = self.tables
        body = f"""
            BEGIN
                PERFORM FROM {t.blobs} WHERE {_MINE} AND blob_id = p_blob AND NOT published FOR KEY SHARE;
                IF NOT FOUND THEN
                    RETURN;
                END IF;
                INSERT INTO {t.chunks} (app_name, user_id, blob_id, number, data)
                VALUES (p_app, p_usr, p_blob, p_number, p_data) ON CONFLICT DO NOTHING;
                stored := true;
                RETURN NEXT;
            END"""
        chunk = (("number", "int"), ("data", "bytea"))
        return self._function("upload_chunk", (*_OWNER, _BLOB, *chunk), (("stored", "boolean"),), body)

    @cached_property
    def _delete(self) -> Function:
        t = self.tables
        body = f"""
            BEGIN
                PERFORM FROM {t.names} WHERE {_NAMED} FOR UPDATE;
                IF NOT FOUND THEN
                    RETURN;
                END IF;
                SELECT array_agg(DISTINCT a.hash) FILTER (WHERE a.hash IS NOT NULL) INTO hashes
                FROM {t.artifacts} AS a WHERE {_NAMED};
                DELETE FROM {t.names} WHERE {_NAMED};
                unseen := 0;
                RETURN NEXT;
            END"""
        return self._function("delete_artifact", _NAME, (("unseen", "bigint"), ("hashes", "bytea[]")), body)

    @cached_property
    def _collect_some(self) -> Function:
        t = self.tables
        body = f"""
            DECLARE unused record;
            BEGIN
                contents := 0;
                content_bytes := 0;
                FOR unused IN
                    SELECT c.hash, c.uses, c.blob_id, c.size FROM {t.contents} AS c
                    WHERE c.app_name = p_app AND c.user_id = p_usr AND (p_hashes IS NULL OR c.hash = ANY (p_hashes))
                        AND NOT EXISTS (
                            SELECT FROM {t.artifacts} AS v
                            WHERE v.app_name = c.app_name AND v.user_id = c.user_id AND v.hash = c.hash
                        )
                LOOP
                    DELETE FROM {t.contents} WHERE {_MINE} AND hash = unused.hash AND uses = unused.uses;
                    IF FOUND THEN
                        DELETE FROM {t.blobs} WHERE {_MINE} AND blob_id = unused.blob_id;
                        contents := contents + 1;
                        content_bytes := content_bytes + unused.size;
                    END IF;
                END LOOP;
                RETURN NEXT;
            END"""
        counted = (("contents", "bigint"), ("content_bytes", "bigint"))
        return self._function("collect_contents", (*_OWNER, ("hashes", "bytea[]")), counted, body)
