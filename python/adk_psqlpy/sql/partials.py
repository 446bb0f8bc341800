"""The table of texts that agents are streaming at the moment, and its statements.

It is UNLOGGED: it writes no WAL, and a crash empties it. Nothing is lost then that the final event does not
    bring.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from adk_psqlpy.sql.distribution import distribute
from adk_psqlpy.sql.migrate import migrate
from adk_psqlpy.sql.tables import Tables

_STREAM = "app_name, user_id, session_id, invocation_id, author, branch"


def create_partials(tables: Tables, key_length: int) -> str:
    """A batch that makes the table if it is missing."""
    key = f"varchar({key_length})"
    table = f"""
    CREATE UNLOGGED TABLE {tables.partials} (
        app_name {key} NOT NULL,
        user_id {key} NOT NULL,
        session_id {key} NOT NULL,
        invocation_id text NOT NULL,
        author text NOT NULL,
        branch text NOT NULL,
        content text NOT NULL,
        error text,
        version bigint NOT NULL,
        event_id text,
        update_time timestamptz NOT NULL,
        PRIMARY KEY ({_STREAM}),
        FOREIGN KEY (app_name, user_id, session_id)
            REFERENCES {tables.sessions} (app_name, user_id, id) ON DELETE CASCADE
    ) WITH (fillfactor = 50);
    """
    return migrate(tables.metadata, [], [table], {}, prefix="partials.")


def distribute_partials(tables: Tables) -> str:
    """A batch that distributes the table, which exists, as the session table is distributed. Again is harmless."""
    return distribute(tables.metadata, [tables.sessions, tables.partials], [], [], prefix="partials.")


@dataclass(frozen=True)
class PartialStatements:
    """The statements for one set of tables. `$1 $2 $3` are app, user and session id where nothing else is said.

    Of `distributed` tables, the one that looks for changes names the users, so that Citus asks only their shards.
    """

    tables: Tables
    distributed: bool = False

    @cached_property
    def put(self) -> str:
        """`$4 $5 $6` invocation, author and branch, `$7` the text so far, `$8` an error (NULL: none), `$9` a
        version that grows with each write, `$10` now. Nothing where there is no such session, or a later
        version is stored already."""
        t = self.tables
        return f"""
        INSERT INTO {t.partials} AS stored ({_STREAM}, content, error, version, update_time)
        SELECT s.app_name, s.user_id, s.id, $4, $5, $6, $7, $8, $9, $10 FROM {t.sessions} AS s
        WHERE s.app_name = $1 AND s.user_id = $2 AND s.id = $3
        ON CONFLICT ({_STREAM}) DO UPDATE SET content = excluded.content, error = excluded.error,
            version = excluded.version, event_id = NULL, update_time = excluded.update_time
        WHERE stored.version < excluded.version
        """

    @cached_property
    def finish(self) -> str:
        """`$4 $5 $6` invocation, author and branch, `$7` the id of the event that takes the text's place: from
        when that event is stored, the text is not shown any more."""
        return f"""
        UPDATE {self.tables.partials} SET event_id = $7
        WHERE app_name = $1 AND user_id = $2 AND session_id = $3 AND invocation_id = $4 AND author = $5 AND branch = $6
        """

    @cached_property
    def clear(self) -> str:
        """`$4` an invocation, `$5` a time: deletes the texts of that invocation, and texts that are older
        than that time.
        """
        return f"""
        DELETE FROM {self.tables.partials}
        WHERE app_name = $1 AND user_id = $2 AND session_id = $3 AND (invocation_id = $4 OR update_time < $5)
        """

    def _shown(self, key: str, user: str = "p.user_id") -> str:
        """The texts of a session that no stored event has replaced. If `user` is the user himself, Citus sees that it
        is all on one shard."""
        t = self.tables
        return f"""{t.partials} AS p WHERE {key} AND (p.event_id IS NULL OR NOT EXISTS (
            SELECT FROM {t.events} AS e WHERE e.app_name = p.app_name AND e.user_id = {user}
                AND e.session_id = p.session_id AND e.id = p.event_id))"""

    @property
    def _token(self) -> str:
        """A token that changes with each text and each version of it."""
        each = "concat_ws('/', p.invocation_id, p.author, p.branch, p.version)"
        return f"coalesce(string_agg({each}, ' ' ORDER BY p.invocation_id, p.author, p.branch), '')"

    @cached_property
    def changed(self) -> str:
        """An array each of app names, user ids, session ids and tokens: the places (from 1) of the sessions whose
        texts have another token."""
        key = "p.app_name = g.app_name AND p.user_id = g.user_id AND p.session_id = g.session_id"
        given = """unnest($1::varchar[], $2::varchar[], $3::varchar[], $4::text[])
            WITH ORDINALITY AS g (app_name, user_id, session_id, token, place)"""
        if self.distributed:
            # Citus refuses a subquery for each element of an array.
            named = "p.app_name = ANY($1::varchar[]) AND p.user_id = ANY($2::varchar[]) AND p.session_id = ANY($3::varchar[])"
            return f"""
            SELECT g.place FROM {given} LEFT JOIN (
                SELECT p.app_name, p.user_id, p.session_id, {self._token} AS token
                FROM {self._shown(named, "p.user_id AND e.user_id = ANY($2::varchar[])")}
                GROUP BY p.app_name, p.user_id, p.session_id
            ) AS p ON {key}
            WHERE g.token != coalesce(p.token, '')
            """
        return f"""
        SELECT g.place FROM {given}
        WHERE g.token != (SELECT {self._token} FROM {self._shown(key)})
        """

    @cached_property
    def read(self) -> str:
        """One row: the token, and the texts as a JSON array, the oldest first."""
        key = "p.app_name = $1 AND p.user_id = $2 AND p.session_id = $3"
        text = (
            "jsonb_build_object('invocation_id', p.invocation_id, 'author', p.author, 'branch', p.branch, "
            "'text', p.content, 'error', p.error)"
        )
        return f"""
        SELECT {self._token}, coalesce(jsonb_agg({text} ORDER BY p.update_time, p.author), '[]')::text
        FROM {self._shown(key, "$2")}
        """
