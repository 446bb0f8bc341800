"""Artifacts: the names of their tables, and the migrations that make them.

Six tables (names for `artifact_table="adk_artifacts"`), each key beginning with `app_name, user_id`:

- `adk_artifacts`: one row for each version, with its description and the hash of its bytes.
- `adk_artifact_names`: one row for each artifact, with the number of versions saved. A save locks it to get
  the next number.
- `adk_artifact_contents`: one row for each distinct content of a user in an app, with the blob that holds its
  bytes.
- `adk_artifact_blobs`: one row for each upload, published or not. Deleting it deletes its chunks.
- `adk_artifact_chunks`: the bytes.
- `adk_artifact_metadata`: the schema version, and the settings that the tables were made with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from adk_psqlpy.sql.migrate import migrate
from adk_psqlpy.sql.names import quoted, split

USER_SCOPE: Final = ""
"""The `session_id` of artifacts that belong to the user. ADK refuses it as a session's id."""


@dataclass(frozen=True)
class ArtifactTables:
    """The six tables of one artifact service; the other five are named after `artifact_table`, in its schema.

    Raises:
        ValueError: the name is not a plain identifier, or a derived one is longer than 63 bytes.
    """

    artifact_table: str

    def __post_init__(self) -> None:
        split("artifact_table", self.artifact_table)
        for suffix in ("names", "contents", "blobs", "chunks", "metadata"):
            split(f"the name derived from artifact_table {self.artifact_table!r}", self._beside(suffix))

    @cached_property
    def artifacts(self) -> str:
        """The table of versions, quoted."""
        return quoted(self.artifact_table)

    @cached_property
    def names(self) -> str:
        """The table of artifacts, quoted."""
        return quoted(self._beside("names"))

    @cached_property
    def contents(self) -> str:
        """The table of contents, quoted."""
        return quoted(self._beside("contents"))

    @cached_property
    def blobs(self) -> str:
        """The table of uploads, quoted."""
        return quoted(self._beside("blobs"))

    @cached_property
    def chunks(self) -> str:
        """The table of bytes, quoted."""
        return quoted(self._beside("chunks"))

    @cached_property
    def metadata(self) -> str:
        """The table that records the schema version, quoted."""
        return quoted(self._beside("metadata"))

    @property
    def by_user(self) -> list[str]:
        """The tables that have a `user_id`, quoted. Tables that others refer to come first."""
        return [self.names, self.artifacts, self.blobs, self.contents, self.chunks]

    @property
    def schema(self) -> str | None:
        """The schema that is named, quoted."""
        schema, _ = split("artifact_table", self.artifact_table)
        return None if schema is None else f'"{schema}"'

    def _beside(self, suffix: str) -> str:
        return f"{self.artifact_table.removesuffix('s')}_{suffix}"


def _first_tables(t: ArtifactTables, key_length: int) -> str:
    """All six.

    A file name may be longer than an index entry (2,704 bytes), so keys hold its SHA-256. The bytes are
    stored EXTERNAL: most artifacts are compressed already, and pglz would read every byte for nothing.
    """
    key = f"varchar({key_length}) NOT NULL"
    return f"""
    CREATE TABLE {t.names} (
        app_name {key},
        user_id {key},
        session_id {key},
        name_hash bytea NOT NULL,
        filename text NOT NULL,
        versions bigint NOT NULL,
        PRIMARY KEY (app_name, user_id, session_id, name_hash)
    ) WITH (fillfactor = 80);

    CREATE TABLE {t.artifacts} (
        app_name {key},
        user_id {key},
        session_id {key},
        name_hash bytea NOT NULL,
        filename text NOT NULL,
        version bigint NOT NULL,
        create_time timestamptz NOT NULL,
        mime_type text,
        size bigint,
        hash bytea,
        part jsonb NOT NULL,
        custom_metadata jsonb NOT NULL,
        PRIMARY KEY (app_name, user_id, session_id, name_hash, version),
        FOREIGN KEY (app_name, user_id, session_id, name_hash) REFERENCES {t.names} ON DELETE CASCADE
    );
    CREATE INDEX ON {t.artifacts} (app_name, user_id, hash);

    CREATE TABLE {t.blobs} (
        app_name {key},
        user_id {key},
        blob_id uuid NOT NULL,
        published boolean NOT NULL,
        create_time timestamptz NOT NULL,
        PRIMARY KEY (app_name, user_id, blob_id)
    );
    CREATE INDEX ON {t.blobs} (app_name, user_id, create_time) WHERE NOT published;

    CREATE TABLE {t.contents} (
        app_name {key},
        user_id {key},
        hash bytea NOT NULL,
        blob_id uuid NOT NULL,
        size bigint NOT NULL,
        uses bigint NOT NULL,
        PRIMARY KEY (app_name, user_id, hash)
    ) WITH (fillfactor = 80);

    CREATE TABLE {t.chunks} (
        app_name {key},
        user_id {key},
        blob_id uuid NOT NULL,
        number integer NOT NULL,
        data bytea NOT NULL,
        PRIMARY KEY (app_name, user_id, blob_id, number),
        FOREIGN KEY (app_name, user_id, blob_id) REFERENCES {t.blobs} ON DELETE CASCADE
    );
    ALTER TABLE {t.chunks} ALTER COLUMN data SET STORAGE EXTERNAL;
    """


MIGRATIONS: Final[tuple[Callable[[ArtifactTables, int], str], ...]] = (_first_tables,)
"""The migrations in order; the first one makes version 1. Never change one that was released."""

SCHEMA_VERSION: Final = len(MIGRATIONS)
"""The version that this package reads and writes."""


def create_tables(tables: ArtifactTables, key_length: int) -> str:
    """A batch that brings a database of any version to `SCHEMA_VERSION` (`sql.migrate`)."""
    migrations = [migration(tables, key_length) for migration in MIGRATIONS]
    schemas = [] if tables.schema is None else [tables.schema]
    return migrate(tables.metadata, schemas, migrations, made_with(tables, key_length))


def made_with(tables: ArtifactTables, key_length: int) -> dict[str, str]:
    """The settings that `adk_artifact_metadata` records beside the schema version."""
    return {
        "artifact_table": tables.artifact_table.rpartition(".")[2],
        "key_length": str(key_length),
    }
