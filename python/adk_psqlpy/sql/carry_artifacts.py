"""The statements that carry artifacts: versions with the number and time that they had."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from typing_extensions import override

from adk_psqlpy.sql.artifacts import ArtifactStatements

_VERSION_COLUMNS: Final = "v.version, v.create_time, v.part, v.custom_metadata, v.hash"


@dataclass(frozen=True)
class CarryArtifactStatements(ArtifactStatements):
    """The service's statements, but a save has the version's number as its last parameter.

    If the number is taken, the statement fails and writes nothing. The second writer then looks again.
    """

    @cached_property
    @override
    def save_reference(self) -> str:
        """`$10` the number."""
        return super().save_reference.replace(_NUMBER, "$10")

    @cached_property
    @override
    def save_one_chunk(self) -> str:
        """`$14` the number."""
        return super().save_one_chunk.replace(_NUMBER, "$14")

    @cached_property
    @override
    def save_known(self) -> str:
        """`$12` the number."""
        return super().save_known.replace(_NUMBER, "$12")

    @cached_property
    @override
    def save_uploaded(self) -> str:
        """`$13` the number."""
        return super().save_uploaded.replace(_NUMBER, "$13")

    @override
    def _next_version(self, source: str) -> str:
        """CTE `n`: the given number. The next save gets a number that is higher than all others."""
        return f"""n AS (
            INSERT INTO {self.tables.names} AS stored (app_name, user_id, session_id, name_hash, filename, versions)
            SELECT $1, $2, $3, $4::bytea, $5::text, {_NUMBER}::bigint + 1 {source}
            ON CONFLICT (app_name, user_id, session_id, name_hash) DO UPDATE
                SET versions = greatest(stored.versions, excluded.versions), filename = excluded.filename
            RETURNING {_NUMBER}::bigint AS version
        )"""

    @cached_property
    def known(self) -> str:
        """`$1` to `$4` an artifact: number, time, part without its bytes, metadata and hash of each version."""
        return f"""
        SELECT {_VERSION_COLUMNS} FROM {self.tables.artifacts} AS v
        WHERE v.app_name = $1 AND v.user_id = $2 AND v.session_id = $3 AND v.name_hash = $4
        """

    @cached_property
    def count(self) -> str:
        """`$1 $2` an app and a user, NULL for all: how many versions there are."""
        return f"""
        SELECT count(*) FROM {self.tables.artifacts}
        WHERE ($1::text IS NULL OR app_name = $1) AND ($2::text IS NULL OR user_id = $2)
        """

    @cached_property
    def page(self) -> str:
        """`$1 $2` as `count`, `$3` to `$7` the last key seen, `$8` how many: key, file name, columns."""
        return f"""
        SELECT v.app_name, v.user_id, v.session_id, v.name_hash, v.filename, {_VERSION_COLUMNS}
        FROM {self.tables.artifacts} AS v
        WHERE (v.app_name, v.user_id, v.session_id, v.name_hash, v.version)
                > ($3::varchar, $4::varchar, $5::varchar, $6::bytea, $7::bigint)
            AND ($1::text IS NULL OR v.app_name = $1) AND ($2::text IS NULL OR v.user_id = $2)
        ORDER BY v.app_name, v.user_id, v.session_id, v.name_hash, v.version LIMIT $8
        """


_NUMBER: Final = "$version"
