"""Looking up sessions for people, who know an id, or only that the session is recent."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from adk_psqlpy.sql.artifact_tables import ArtifactTables
from adk_psqlpy.sql.tables import Tables


@dataclass(frozen=True)
class InspectStatements:
    """The statements for one set of tables."""

    tables: Tables

    @cached_property
    def find(self) -> str:
        """`$1` a session id, `$2` an app, `$3` a user (each NULL for any), `$4` how many: the newest update first.

        App, user, id, revision, times of creation and last update. An id without its app and user is looked for in
        the whole table.
        """
        return f"""
        SELECT app_name, user_id, id, revision, create_time, update_time FROM {self.tables.sessions}
        WHERE ($1::text IS NULL OR id = $1) AND ($2::text IS NULL OR app_name = $2)
            AND ($3::text IS NULL OR user_id = $3)
        ORDER BY update_time DESC, app_name, user_id, id LIMIT $4
        """

    @cached_property
    def event_counts(self) -> str:
        """`$1` apps, `$2` users, `$3` session ids, one of each a session: how many events each has, in that order."""
        return f"""
        SELECT (
            SELECT count(*) FROM {self.tables.events} AS e
            WHERE e.app_name = k.app_name AND e.user_id = k.user_id AND e.session_id = k.id
        ) FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS k (app_name, user_id, id, place)
        ORDER BY place
        """


def files(tables: ArtifactTables) -> str:
    """`$1 $2 $3` app, user, session: name, version, MIME type, bytes (NULL: a reference) and time of each version of
    the session's artifacts."""
    return f"""
    SELECT filename, version, mime_type, size, create_time FROM {tables.artifacts}
    WHERE app_name = $1 AND user_id = $2 AND session_id = $3 ORDER BY create_time, filename, version
    """
