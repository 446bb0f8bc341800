"""The constructs that the statements need from a server, to be tried in a schema that is dropped again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Service = Literal["sessions", "memory", "artifacts"]
_ALL: Final[tuple[Service, ...]] = ("sessions", "memory", "artifacts")


@dataclass(frozen=True)
class Construct:
    """A construct, with its name in PostgreSQL's manual, and what uses it.

    It is either a batch, which fails if the server does not have the construct, or a query, whose single
    value is true if the server has it.
    """

    name: str
    needed_by: tuple[Service, ...]
    batch: str = ""
    query: str = ""


def begin(schema: str) -> str:
    """Makes the schema, with two tables like those of sessions and events."""
    return f"""
    CREATE SCHEMA {schema};
    CREATE TABLE {schema}.parent (
        app_name varchar(128) NOT NULL, user_id varchar(128) NOT NULL, id varchar(128) NOT NULL,
        state jsonb NOT NULL DEFAULT '{{}}', update_time timestamptz NOT NULL DEFAULT now(),
        revision bigint NOT NULL DEFAULT 0, PRIMARY KEY (app_name, user_id, id)
    );
    CREATE TABLE {schema}.child (
        app_name varchar(128) NOT NULL, user_id varchar(128) NOT NULL, parent_id varchar(128) NOT NULL,
        id varchar(128) NOT NULL, seq bigint NOT NULL, content jsonb, data bytea,
        PRIMARY KEY (app_name, user_id, parent_id, id)
    );
    INSERT INTO {schema}.parent (app_name, user_id, id) VALUES ('a', 'u', 's');
    """


def end(schema: str) -> str:
    """Drops the schema and all in it."""
    return f"DROP SCHEMA IF EXISTS {schema} CASCADE"


def constructs(schema: str) -> list[Construct]:
    """All constructs. Each leaves the tables unchanged, or can be run after any other."""
    parent, child = f"{schema}.parent", f"{schema}.child"
    key = "app_name = 'a' AND user_id = 'u' AND id = 's'"
    return [
        Construct(
            "chained data-modifying WITH",
            _ALL,
            query=(
                f"""WITH held AS (SELECT revision FROM {parent} WHERE {key} FOR NO KEY UPDATE), e AS (
                    INSERT INTO {child} SELECT 'a', 'u', 's', 'e', held.revision + 1, '{{}}' FROM held
                    ON CONFLICT DO NOTHING RETURNING seq
                ), s AS (
                    UPDATE {parent} SET revision = e.seq, state = state || '{{"k": 1}}' FROM e WHERE {key}
                    RETURNING revision
                ) SELECT revision = 1 AS good FROM s"""
            ),
        ),
        Construct(
            "FOR NO KEY UPDATE SKIP LOCKED",
            ("sessions", "artifacts"),
            query=(
                f"""WITH free AS MATERIALIZED (SELECT id FROM {parent} FOR NO KEY UPDATE SKIP LOCKED)
                SELECT count(*) = 1 FROM free"""
            ),
        ),
        Construct(
            "unnest of several arrays WITH ORDINALITY, jsonb[] among them",
            ("sessions", "memory"),
            query=(
                """SELECT count(*) = 2 AND max(place) = 2 FROM unnest(ARRAY['a', 'b']::varchar[],
                ARRAY['{}', NULL]::jsonb[], ARRAY[now(), NULL]) WITH ORDINALITY AS g (a, b, c, place)"""
            ),
        ),
        Construct(
            "INSERT ON CONFLICT DO UPDATE, jsonb merged",
            _ALL,
            query=(
                f"""WITH s AS (
                    INSERT INTO {parent} AS stored (app_name, user_id, id, state) VALUES ('a', 'u', 's', '{{"m": 2}}')
                    ON CONFLICT (app_name, user_id, id) DO UPDATE SET state = stored.state || excluded.state
                    RETURNING state
                ) SELECT state @> '{{"m": 2}}' FROM s"""
            ),
        ),
        Construct(
            "array_agg in LATERAL, of jsonb and timestamptz",
            ("sessions",),
            query=(
                f"""SELECT cardinality(e.states) = 1 FROM (SELECT 1) AS one LEFT JOIN LATERAL (
                    SELECT array_agg(s.state) AS states, array_agg(s.update_time) AS times
                    FROM (SELECT * FROM {parent} ORDER BY id) AS s
                ) AS e ON true"""
            ),
        ),
        Construct(
            "a foreign key ON DELETE CASCADE over several columns",
            ("sessions", "artifacts"),
            batch=f"""CREATE TABLE {schema}.referring (app_name varchar, user_id varchar, id varchar,
                FOREIGN KEY (app_name, user_id, id) REFERENCES {parent} ON DELETE CASCADE)""",
        ),
        Construct(
            'an index with COLLATE "C"',
            ("sessions",),
            batch=f'CREATE INDEX ON {parent} (app_name COLLATE "C", user_id COLLATE "C", update_time)',
        ),
        Construct(
            "a partial GIN index over jsonb",
            ("sessions",),
            batch=f"CREATE INDEX ON {parent} USING gin (state) WHERE state != '{{}}'",
        ),
        Construct(
            "a GIN index over an array of text and a tsvector",
            ("memory",),
            batch=f"""CREATE TABLE {schema}.words (app_name varchar, user_id varchar, words tsvector);
            CREATE INDEX ON {schema}.words USING gin ((ARRAY[app_name || '/' || user_id]), words)""",
        ),
        Construct(
            "text search: to_tsvector, to_tsquery, ts_rank",
            ("memory",),
            query=("SELECT ts_rank(to_tsvector('simple', 'a word'), to_tsquery('simple', 'word')) > 0"),
        ),
        Construct(
            "bytea with STORAGE EXTERNAL",
            ("artifacts",),
            batch=f"ALTER TABLE {child} ALTER COLUMN data SET STORAGE EXTERNAL",
        ),
        Construct(
            "fillfactor",
            _ALL,
            batch=f"CREATE TABLE {schema}.filled (id bigint PRIMARY KEY) WITH (fillfactor = 80)",
        ),
        Construct(
            "DDL of several statements in one transaction, in DO blocks",
            _ALL,
            batch=f"""DO $$ BEGIN
                CREATE TABLE {schema}.made (id bigint);
                ALTER TABLE {schema}.made ADD COLUMN further jsonb;
            END $$""",
        ),
        Construct("pg_advisory_xact_lock", _ALL, batch="SELECT pg_advisory_xact_lock(4711)"),
    ]
