"""Searching the text of events: the tables beside the events, and their statements.

Clients make the words (`memory.words`), after the append and not within it. `event_marks` says up to which
`seq` a session's events have words. Comparing it with the session's revision finds events without words,
including those of older processes and copied or imported ones. If SQL edits an event's content, a trigger
deletes its words and moves the mark back.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Final

from adk_psqlpy.sql.memory import COMMON
from adk_psqlpy.sql.migrate import LOCK
from adk_psqlpy.sql.reading import ReadStatements
from adk_psqlpy.sql.tables import Tables

PORTION_SESSIONS: Final = 20
"""How many sessions get words in one statement."""

PORTION_EVENTS: Final = 200
"""How many events of each of them."""

_KEY: Final = "app_name, user_id, session_id"


def create_event_search(tables: Tables, key_length: int, language: str) -> str:
    """A batch that makes the tables, the index and the trigger, and records the language. It does nothing if
    they exist.
    """
    key = f"varchar({key_length})"
    trigger = tables.index(tables.events_table, "edited")
    function = tables.in_schema_of(tables.events_table, trigger)
    return f"""
    SET LOCAL client_min_messages = warning;
    SELECT pg_advisory_xact_lock({LOCK});
    SET LOCAL lock_timeout = '5s';
    DO $search$ BEGIN
        IF EXISTS (SELECT FROM {tables.metadata} WHERE key = 'event_search') THEN
            RETURN;
        END IF;
        CREATE TABLE {tables.event_words} (
            app_name {key} NOT NULL,
            user_id {key} NOT NULL,
            session_id {key} NOT NULL,
            event_id {key} NOT NULL,
            timestamp timestamptz NOT NULL,
            words tsvector NOT NULL,
            PRIMARY KEY ({_KEY}, event_id),
            FOREIGN KEY ({_KEY}, event_id) REFERENCES {tables.events} ({_KEY}, id) ON DELETE CASCADE
        );
        CREATE INDEX {tables.index(tables.event_words_table, "words")} ON {tables.event_words}
            USING gin ((ARRAY[app_name || '/' || user_id]), words);
        CREATE INDEX {tables.index(tables.event_words_table, "newest")} ON {tables.event_words}
            (app_name, user_id, timestamp);
        CREATE TABLE {tables.event_marks} (
            app_name {key} NOT NULL,
            user_id {key} NOT NULL,
            session_id {key} NOT NULL,
            indexed bigint NOT NULL,
            PRIMARY KEY ({_KEY}),
            FOREIGN KEY ({_KEY}) REFERENCES {tables.sessions} (app_name, user_id, id) ON DELETE CASCADE
        ) WITH (fillfactor = 80);
        CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $function$ BEGIN
            UPDATE {tables.event_marks} AS m SET indexed = least(m.indexed, NEW.seq - 1)
                WHERE m.app_name = NEW.app_name AND m.user_id = NEW.user_id AND m.session_id = NEW.session_id;
            DELETE FROM {tables.event_words} AS w WHERE w.app_name = NEW.app_name AND w.user_id = NEW.user_id
                AND w.session_id = NEW.session_id AND w.event_id = NEW.id;
            RETURN NULL;
        END $function$;
        CREATE TRIGGER {trigger} AFTER UPDATE OF content ON {tables.events} FOR EACH ROW
            WHEN (OLD.content IS DISTINCT FROM NEW.content) EXECUTE FUNCTION {function}();
        INSERT INTO {tables.metadata} (key, value) VALUES ('event_search', '{language}');
    END $search$;
    """


def drop_event_search(tables: Tables) -> str:
    """A batch that removes all of it."""
    trigger = tables.index(tables.events_table, "edited")
    return f"""
    SET LOCAL client_min_messages = warning;
    SELECT pg_advisory_xact_lock({LOCK});
    SET LOCAL lock_timeout = '5s';
    DROP TRIGGER IF EXISTS {trigger} ON {tables.events};
    DROP FUNCTION IF EXISTS {tables.in_schema_of(tables.events_table, trigger)}();
    DROP TABLE IF EXISTS {tables.event_words}, {tables.event_marks};
    DELETE FROM {tables.metadata} WHERE key = 'event_search';
    """


@dataclass(frozen=True)
class EventSearchStatements(ReadStatements):
    """The statements for one set of tables."""

    @cached_property
    def knows_language(self) -> str:
        """`$1 $2` schema (NULL for the search path) and name: whether there is this text search configuration."""
        return """
        SELECT EXISTS (
            SELECT FROM pg_ts_config AS c JOIN pg_namespace AS n ON n.oid = c.cfgnamespace
            WHERE c.cfgname = $2::text
                AND CASE WHEN $1::text IS NULL THEN pg_ts_config_is_visible(c.oid) ELSE n.nspname = $1::text END
        )
        """

    @cache  # noqa: B019 - a store has one of these, for as long as it lives
    def portion(self, *, app: bool, user: bool) -> str:
        """`$1` the app (`app`), `$2` the user (`user`): the next events that may lack words.

        One row for each event of up to `PORTION_SESSIONS` sessions, and one for a session without events: app, user and
        session id, create_time, revision, mark (NULL: none), event id (NULL: no event), `seq`, version of the row,
        and the text parts that are no thoughts. Sessions whose mark is at their revision are not there.
        """
        t = self.tables
        where = ("s.app_name = $1 AND " if app else "") + ("s.user_id = $2 AND " if user else "")
        return f"""
        SELECT s.app_name, s.user_id, s.id, s.create_time, s.revision, s.indexed, e.id, e.seq, e.version, e.said
        FROM (
            SELECT s.app_name, s.user_id, s.id, s.create_time, s.revision, m.indexed
            FROM {t.sessions} AS s LEFT JOIN {t.event_marks} AS m
                ON m.app_name = s.app_name AND m.user_id = s.user_id AND m.session_id = s.id
            WHERE {where}s.revision > coalesce(m.indexed, 0)
            LIMIT {PORTION_SESSIONS}
        ) AS s LEFT JOIN LATERAL (
            SELECT e.id, e.seq, e.xmin::text AS version, (
                SELECT string_agg(part ->> 'text', ' ' ORDER BY place)
                FROM jsonb_array_elements(CASE jsonb_typeof(e.content -> 'parts') WHEN 'array' THEN e.content -> 'parts' END)
                    WITH ORDINALITY AS p (part, place)
                WHERE jsonb_typeof(part) = 'object' AND part ->> 'thought' IS DISTINCT FROM 'true'
            ) AS said
            FROM {t.events} AS e
            WHERE e.app_name = s.app_name AND e.user_id = s.user_id AND e.session_id = s.id AND e.seq > coalesce(s.indexed, 0)
            ORDER BY e.seq LIMIT {PORTION_EVENTS}
        ) AS e ON true
        """

    @cached_property
    def begin(self) -> str:
        """An array each of apps, users and session ids: marks at 0 for those that have none."""
        t = self.tables
        return f"""
        INSERT INTO {t.event_marks} ({_KEY}, indexed)
        SELECT s.app_name, s.user_id, s.id, 0 FROM (
            SELECT s.app_name, s.user_id, s.id
            FROM unnest($1::varchar[], $2::varchar[], $3::varchar[]) AS g (app_name, user_id, session_id)
            JOIN {t.sessions} AS s ON s.app_name = g.app_name AND s.user_id = g.user_id AND s.id = g.session_id
            FOR KEY SHARE OF s SKIP LOCKED
        ) AS s
        ORDER BY s.app_name, s.user_id, s.id
        ON CONFLICT DO NOTHING
        """

    @cached_property
    def give_words(self) -> str:
        """`$1` language; of sessions an array each of `$2` apps, `$3` users, `$4` ids, `$5` create_times, `$6` marks
        as read, `$7` marks to set; of events an array each of `$8` apps, `$9` users, `$10` sessions, `$11` ids,
        `$12` `seq`s, `$13` versions, `$14` words. Gives how many events have got words, and how many marks have moved.

        An event that was edited since it was read gets no words, and its session's mark stays before it. The
        same holds for an event that somebody is editing, and for sessions that others are deleting or
        indexing. This statement waits for no lock that they hold, so it cannot deadlock with them. Only
        whoever holds a session's mark gives words to its events, beginning where the mark was when it was
        read.
        """
        t = self.tables
        return f"""
        WITH g AS MATERIALIZED (
            SELECT * FROM unnest($2::varchar[], $3::varchar[], $4::varchar[], $5::timestamptz[], $6::bigint[],
                $7::bigint[]) AS g (app_name, user_id, session_id, create_time, was, mark)
        ), free AS MATERIALIZED (
            SELECT m.app_name, m.user_id, m.session_id FROM g JOIN {t.event_marks} AS m
                ON m.app_name = g.app_name AND m.user_id = g.user_id AND m.session_id = g.session_id
            WHERE m.indexed = g.was
            FOR NO KEY UPDATE OF m SKIP LOCKED
        ), s AS MATERIALIZED (
            SELECT s.app_name, s.user_id, s.id, g.was, g.mark
            FROM g JOIN {t.sessions} AS s ON s.app_name = g.app_name AND s.user_id = g.user_id AND s.id = g.session_id
            JOIN free AS f ON f.app_name = s.app_name AND f.user_id = s.user_id AND f.session_id = s.id
            WHERE s.create_time = g.create_time
            FOR KEY SHARE OF s SKIP LOCKED
        ), given AS MATERIALIZED (
            SELECT * FROM unnest($8::varchar[], $9::varchar[], $10::varchar[], $11::varchar[], $12::bigint[],
                $13::text[], $14::text[]) AS g (app_name, user_id, session_id, id, seq, version, words)
        ), held AS MATERIALIZED (
            SELECT e.app_name, e.user_id, e.session_id, e.id, e.timestamp, g.seq, g.words
            FROM s JOIN given AS g ON g.app_name = s.app_name AND g.user_id = s.user_id AND g.session_id = s.id
            JOIN {t.events} AS e ON e.app_name = g.app_name AND e.user_id = g.user_id
                AND e.session_id = g.session_id AND e.id = g.id
            WHERE e.xmin::text = g.version
            FOR SHARE OF e SKIP LOCKED
        ), w AS (
            INSERT INTO {t.event_words} ({_KEY}, event_id, timestamp, words)
            SELECT {_KEY}, id, timestamp, to_tsvector($1::text::regconfig, words) FROM held WHERE words != ''
            ORDER BY app_name, user_id, session_id, id
            ON CONFLICT DO NOTHING
            RETURNING event_id
        ), missed AS (
            SELECT g.app_name, g.user_id, g.session_id, min(g.seq) AS seq FROM given AS g
            WHERE NOT EXISTS (SELECT FROM held AS h WHERE h.app_name = g.app_name AND h.user_id = g.user_id
                AND h.session_id = g.session_id AND h.id = g.id)
            GROUP BY g.app_name, g.user_id, g.session_id
        ), m AS (
            UPDATE {t.event_marks} AS stored SET indexed = reached.mark
            FROM (
                SELECT s.app_name, s.user_id, s.id, s.was, least(s.mark, missed.seq - 1) AS mark
                FROM s LEFT JOIN missed ON missed.app_name = s.app_name AND missed.user_id = s.user_id
                    AND missed.session_id = s.id
            ) AS reached
            WHERE stored.app_name = reached.app_name AND stored.user_id = reached.user_id
                AND stored.session_id = reached.id AND reached.mark > reached.was
            RETURNING 1
        )
        SELECT (SELECT count(*) FROM w), (SELECT count(*) FROM m)
        """

    @cache  # noqa: B019 - a store has one of these, for as long as it lives
    def search(self, *, user: bool) -> str:
        """`$1` app, `$2` language, `$3` terms, `$4` what must not be there (one query, or the empty text), `$5` how
        many, `$6 $7` the earliest time and the one that ends the window (NULL for none), `$8` user (`user`).

        One row of arrays: user ids, session ids, `seq`s, scores, and the columns of the events, the best first.
        Ranked as memories are (`MemoryStatements.search`): by BM25 over the events of this search's scope, and
        words that stand in more than `COMMON` events find none by themselves.
        """
        t = self.tables
        fields = "m.user_id, m.session_id, m.event_id, m.timestamp, m.words"
        scope = "m.app_name = $1"
        indexed = scope
        if user:
            scope += " AND m.user_id = $8"
            indexed = f"{scope} AND ARRAY[app_name || '/' || user_id] @> ARRAY[$1::text || '/' || $8::text]"
        allowed = """($6::timestamptz IS NULL OR m.timestamp >= $6) AND ($7::timestamptz IS NULL OR m.timestamp < $7)
            AND ($4 = '' OR NOT m.words @@ (SELECT to_tsquery($2::text::regconfig, $4)))"""
        found = f"""
            SELECT e.*, r.score FROM (
                SELECT * FROM ranked ORDER BY score DESC, timestamp DESC, event_id LIMIT $5
            ) AS r JOIN {t.events} AS e ON e.app_name = $1 AND e.user_id = r.user_id
                AND e.session_id = r.session_id AND e.id = r.event_id
            ORDER BY r.score DESC, r.timestamp DESC, r.event_id"""
        further = [f"array_agg(e.{name}) AS {name}s" for name in ("user_id", "session_id", "seq", "score")]
        return f"""
        WITH terms AS MATERIALIZED (
            SELECT row_number() OVER () AS n, query
            FROM (SELECT DISTINCT to_tsquery($2::text::regconfig, given) AS query FROM unnest($3::text[]) AS given) AS d
            WHERE numnode(query) > 0
        ), found AS MATERIALIZED (
            SELECT terms.n, m.* FROM terms CROSS JOIN LATERAL (
                SELECT {fields} FROM {t.event_words} AS m
                WHERE {indexed} AND m.words @@ terms.query AND {allowed}
                LIMIT {COMMON + 1}
            ) AS m
        ), counted AS MATERIALIZED (
            SELECT n, query, many FROM (SELECT n, count(*) AS many FROM found GROUP BY n) AS c JOIN terms USING (n)
        ), newest AS (
            SELECT {fields} FROM {t.event_words} AS m
            WHERE {scope} AND {allowed} AND (SELECT max(many) FROM counted) > {COMMON}
            ORDER BY m.timestamp DESC LIMIT {COMMON}
        ), candidates AS MATERIALIZED (
            SELECT DISTINCT ON (user_id, session_id, event_id) user_id, session_id, event_id, timestamp, words,
                length(words) AS size
            FROM (
                SELECT {fields.replace("m.", "f.")} FROM found AS f JOIN counted USING (n) WHERE many <= {COMMON}
                UNION ALL
                SELECT m.* FROM newest AS m
                WHERE EXISTS (SELECT FROM counted AS c WHERE c.many > {COMMON} AND m.words @@ c.query)
            ) AS m ORDER BY user_id, session_id, event_id
        ), weighed AS MATERIALIZED (
            SELECT query, ln(1 + (greatest(total, max(many) OVER ()) - many + 0.5) / (many + 0.5)) AS weight, usual
            FROM counted, (SELECT count(*) AS total, avg(size) AS usual FROM candidates) AS c
        ), ranked AS (
            SELECT c.user_id, c.session_id, c.event_id, c.timestamp,
                (SELECT sum(weight * ts_rank(c.words, query) / (1 + 0.7 * c.size / usual))
                 FROM weighed WHERE c.words @@ query)::float8 AS score
            FROM candidates AS c
        )
        {self._aggregated(found, *further)}
        """
