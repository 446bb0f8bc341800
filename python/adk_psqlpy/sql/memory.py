"""The memory table: its migrations and statements, in the manner of `migrations` and `statements`.

A deleted memory stays as a row without content, so that adding its session again does not bring it back
(ADK's in-memory service keeps the ids of such events).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Final

from adk_psqlpy.sql.migrate import migrate
from adk_psqlpy.sql.names import quoted, split

COMMON: Final = 1_000
"""A word that more than this many of a user's memories contain does not find memories by itself. It counts
for the memories that rarer words find, and for this many of the newest memories.

Measured with 50,000 memories of one user and a sentence of 13 words, 9 of them in up to all of the memories:
0.07 s; without this bound 0.8 s; with ts_rank_cd over all matches 2.9 s.
"""

_LONGEST_NAME: Final = 48  # so that the names of the indexes fit into 63 bytes
# An index of pgvector holds vectors of up to 2,000 numbers, or up to 4,000 of half the precision.
_INDEXED, _INDEXED_HALF = 2_000, 4_000


@dataclass(frozen=True)
class MemoryTable:
    """The table of one memory service, and `<prefix>metadata` beside it, where its versions are recorded.

    `adk_memories` has `adk_metadata` beside it, which it shares with the tables of the session service.

    Raises:
        ValueError: the name is not a plain identifier, or longer than 48 bytes.
    """

    memory_table: str

    def __post_init__(self) -> None:
        _, name = split("memory_table", self.memory_table)
        if len(name) > _LONGEST_NAME:
            raise ValueError(
                f"memory_table {self.memory_table!r} has {len(name)} characters; at most {_LONGEST_NAME} leave "
                "room for the names of its indexes"
            )
        split(f"the name derived from memory_table {self.memory_table!r}", self._metadata)
        if self._metadata == self.memory_table:
            raise ValueError(f"memory_table must not be {self.memory_table!r}: its metadata table is")

    @property
    def name(self) -> str:
        """The table's name without its schema."""
        return split("memory_table", self.memory_table)[1]

    @property
    def memories(self) -> str:
        """The table, quoted."""
        return quoted(self.memory_table)

    @property
    def metadata(self) -> str:
        """The table that records the schema version, quoted."""
        return quoted(self._metadata)

    @property
    def _metadata(self) -> str:
        prefix = self.memory_table.removesuffix("memories")
        return f"{prefix}_metadata" if prefix == self.memory_table else f"{prefix}metadata"

    @property
    def schema(self) -> str | None:
        """The schema, quoted, if one is named."""
        schema = split("memory_table", self.memory_table)[0]
        return f'"{schema}"' if schema else None

    def index(self, suffix: str) -> str:
        """The quoted name of an index."""
        return f'"idx_{self.name}_{suffix}"'


def text_search_configuration(language: str) -> tuple[str | None, str]:
    """Schema and name of a text search configuration. Raises ValueError for anything else."""
    return split("language", language)


def _first_table(table: MemoryTable, key_length: int) -> str:
    """Memories, by app and user.

    The index over words contains the user as well. So for a common word, the index itself combines the list
    of all users' memories with the list of this user's. (Without an extension, a GIN index takes no varchar,
    but arrays of text.)
    """
    key = f"varchar({key_length})"
    return f"""
    CREATE TABLE {table.memories} (
        app_name {key} NOT NULL,
        user_id {key} NOT NULL,
        session_id {key} NOT NULL,
        id {key} NOT NULL,
        author text,
        timestamp timestamptz NOT NULL,
        timestamp_text text,
        content jsonb,
        custom_metadata jsonb NOT NULL DEFAULT '{{}}',
        words tsvector,
        create_time timestamptz NOT NULL,
        expire_time timestamptz,
        PRIMARY KEY (app_name, user_id, id, session_id)
    );
    CREATE INDEX {table.index("words")}
        ON {table.memories} USING gin ((ARRAY[app_name || '/' || user_id]), words);
    CREATE INDEX {table.index("newest")}
        ON {table.memories} (app_name, user_id, timestamp);
    CREATE INDEX {table.index("expiry")}
        ON {table.memories} (expire_time) WHERE expire_time IS NOT NULL;
    """


MEMORY_MIGRATIONS: Final[tuple[Callable[[MemoryTable, int], str], ...]] = (_first_table,)
"""The migrations in order; the first one makes version 1."""

MEMORY_SCHEMA_VERSION: Final = len(MEMORY_MIGRATIONS)
"""The version that this package reads and writes."""


def create_memory_table(
    table: MemoryTable, key_length: int, language: str, dimensions: int | None, *, sealed: bool = False
) -> str:
    """A batch that brings a database of any version to `MEMORY_SCHEMA_VERSION` (`sql.migrate`).

    With `dimensions`, a missing column and index of vectors are added; the extension must exist.
    """
    made_with = {"key_length": str(key_length), "language": language}
    if sealed:
        made_with["sealed"] = "1"
    if dimensions is not None:
        made_with["dimensions"] = str(dimensions)
    return migrate(
        table.metadata,
        [] if table.schema is None else [table.schema],
        [migration(table, key_length) for migration in MEMORY_MIGRATIONS],
        made_with,
        prefix=f"{table.name}.",
        further="" if dimensions is None else _add_vectors(table, dimensions),
    )


def _add_vectors(table: MemoryTable, dimensions: int) -> str:
    index = ""
    if dimensions <= _INDEXED_HALF:
        kind = "vector" if dimensions <= _INDEXED else "halfvec"
        index = f"""
            CREATE INDEX {table.index("embedding")} ON {table.memories}
                USING hnsw (({_vector("embedding", dimensions)}) {kind}_cosine_ops);"""
    return f"""
    DO $vectors$ BEGIN
        IF NOT EXISTS (SELECT FROM {table.metadata} WHERE key = '{table.name}.dimensions') THEN
            ALTER TABLE {table.memories} ADD COLUMN embedding vector({dimensions});{index}
        END IF;
    END $vectors$;
    """


def _vector(value: str, dimensions: int) -> str:
    """A vector in the form of the index."""
    return f"{value}::halfvec({dimensions})" if _INDEXED < dimensions <= _INDEXED_HALF else value


@dataclass(frozen=True)
class MemoryStatements:
    """The statements for one memory table. `$1 $2` are app and user id where nothing else is said.

    `dimensions` is that of the table's vectors, `None` where it has none.
    """

    table: MemoryTable
    dimensions: int | None

    @cached_property
    def setting(self) -> str:
        """`$1` the metadata table, `$2 $3` schema (NULL for the search path) and name of the language.

        One row: the server's version number, whether the metadata table is there, whether the text search
        configuration is, the names of those on the search path, and whether pgvector is.
        """
        return """
        SELECT current_setting('server_version_num')::int, to_regclass($1) IS NOT NULL,
            EXISTS (
                SELECT FROM pg_ts_config AS c JOIN pg_namespace AS n ON n.oid = c.cfgnamespace
                WHERE c.cfgname = $3::text
                    AND CASE WHEN $2::text IS NULL THEN pg_ts_config_is_visible(c.oid) ELSE n.nspname = $2::text END
            ),
            (SELECT string_agg(cfgname, ', ' ORDER BY cfgname) FROM pg_ts_config WHERE pg_ts_config_is_visible(oid)),
            to_regtype('vector') IS NOT NULL
        """

    @cached_property
    def recorded(self) -> str:
        """`$1` the table's name: what is recorded about it, keys and values."""
        return f"""
        SELECT substr(key, length($1::text) + 2), value FROM {self.table.metadata}
        WHERE starts_with(key, $1::text || '.')
        """

    @cached_property
    def unknown(self) -> str:
        """`$3` a session, `$4` event ids: those that are neither stored for the session nor deleted anywhere."""
        return f"""
        SELECT n.id FROM unnest($4::text[]) AS n (id)
        WHERE NOT EXISTS (
            SELECT FROM {self.table.memories} AS m
            WHERE m.app_name = $1 AND m.user_id = $2 AND m.id = n.id AND (m.session_id = $3 OR m.content IS NULL)
        )
        """

    @cache  # noqa: B019 - a service has one of these, for as long as it lives
    def add(self, *, replace: bool) -> str:
        """`$3` session, `$4` language, `$5` now; then an array a column: `$6` ids, `$7` authors, `$8` times,
        `$9` times as text, `$10` contents, `$11` metadata, `$12` words, `$13` times of expiry, `$14` vectors as
        text where the table has them.

        Stored memories are not changed, and deleted ones stay deleted; with `replace` both are overwritten.
        Returns how many rows were written.
        """
        vectors = self.dimensions is not None
        columns = [
            "author",
            "timestamp",
            "timestamp_text",
            "content",
            "custom_metadata",
            "words",
            "expire_time",
        ]
        columns += ["create_time", *(["embedding"] if vectors else [])]
        conflict = "DO NOTHING"
        if replace:
            conflict = f"DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in columns)}"
        deleted = f"""WHERE NOT EXISTS (
                SELECT FROM {self.table.memories} AS m
                WHERE m.app_name = $1 AND m.user_id = $2 AND m.id = n.id AND m.content IS NULL
            )"""
        return f"""
        WITH written AS (
            INSERT INTO {self.table.memories} (app_name, user_id, session_id, id, {", ".join(columns)})
            SELECT $1::text, $2::text, $3::text, n.id, n.author, n.timestamp, n.timestamp_text, n.content, n.custom_metadata,
                to_tsvector($4::text::regconfig, n.words), n.expire_time, $5{", n.embedding::vector" if vectors else ""}
            FROM unnest($6::text[], $7::text[], $8::timestamptz[], $9::text[], $10::jsonb[], $11::jsonb[], $12::text[],
                $13::timestamptz[]{", $14::text[]" if vectors else ""})
                AS n (id, author, timestamp, timestamp_text, content, custom_metadata, words, expire_time{", embedding" if vectors else ""})
            {"" if replace else deleted}
            ON CONFLICT (app_name, user_id, id, session_id) {conflict}
            RETURNING id
        )
        SELECT count(*) FROM written
        """

    @cache  # noqa: B019 - a service has one of these, for as long as it lives
    def search(self, *, vectors: bool) -> str:
        """`$3` language, `$4` terms, `$5` what must not be there (one query, or the empty text), `$6` now, `$7` how
        many, `$8` metadata to be contained (NULL for any), `$9` the query's vector as text (`vectors`).

        Ranked as BM25 does (Robertson and Zaragoza 2009): the sum, over the terms that a memory holds, of
        `ln(1 + (all - n + 0.5) / (n + 0.5))`, where n memories hold the term and `all` hold any; times ts_rank of the
        term alone, which grows with its occurrences to at most 1.6 times that of one; over 1 + 0.7 x length /
        average length. All of this counts the memories of this user only, and up to `COMMON` of them. Equal ones:
        the newest first. docs/memory.md has this beside ts_rank and ts_rank_cd of the whole query.

        With a vector the two rankings are fused by their ranks: the sum of 1 / (60 + rank) (Cormack and others
        2009), over the 4 x `$7`, at least 50, best of each.
        """
        t = self.table.memories
        fields = "m.id, m.session_id, m.timestamp, m.words"
        mine = "m.app_name = $1 AND m.user_id = $2"
        allowed = """m.content IS NOT NULL AND (m.expire_time IS NULL OR m.expire_time > $6)
            AND ($8::jsonb IS NULL OR m.custom_metadata @> $8)
            AND ($5 = '' OR NOT m.words @@ (SELECT to_tsquery($3::text::regconfig, $5)))"""
        text = f"""
        WITH terms AS MATERIALIZED (
            SELECT row_number() OVER () AS n, query
            FROM (SELECT DISTINCT to_tsquery($3::text::regconfig, given) AS query FROM unnest($4::text[]) AS given) AS d
            WHERE numnode(query) > 0
        ), found AS MATERIALIZED (
            SELECT terms.n, m.* FROM terms CROSS JOIN LATERAL (
                SELECT {fields} FROM {t} AS m
                WHERE {mine} AND ARRAY[app_name || '/' || user_id] @> ARRAY[$1::text || '/' || $2::text]
                    AND m.words @@ terms.query AND {allowed}
                LIMIT {COMMON + 1}
            ) AS m
        ), counted AS MATERIALIZED (
            SELECT n, query, many FROM (SELECT n, count(*) AS many FROM found GROUP BY n) AS c JOIN terms USING (n)
        ), newest AS (
            SELECT {fields} FROM {t} AS m
            WHERE {mine} AND {allowed} AND (SELECT max(many) FROM counted) > {COMMON}
            ORDER BY m.timestamp DESC LIMIT {COMMON}
        ), candidates AS MATERIALIZED (
            SELECT DISTINCT ON (id, session_id) id, session_id, timestamp, words, length(words) AS size FROM (
                SELECT f.id, f.session_id, f.timestamp, f.words FROM found AS f JOIN counted USING (n)
                WHERE many <= {COMMON}
                UNION ALL
                SELECT m.* FROM newest AS m
                WHERE EXISTS (SELECT FROM counted AS c WHERE c.many > {COMMON} AND m.words @@ c.query)
            ) AS m ORDER BY id, session_id
        ), weighed AS MATERIALIZED (
            SELECT query, ln(1 + (greatest(total, max(many) OVER ()) - many + 0.5) / (many + 0.5)) AS weight, usual
            FROM counted, (SELECT count(*) AS total, avg(size) AS usual FROM candidates) AS c
        ), ranked AS (
            SELECT c.id, c.session_id, c.timestamp,
                (SELECT sum(weight * ts_rank(c.words, query) / (1 + 0.7 * c.size / usual)) FROM weighed WHERE c.words @@ query) AS score
            FROM candidates AS c
        )"""
        columns = "m.id, m.author, m.timestamp, m.timestamp_text, m.content, m.custom_metadata, m.session_id"
        own = f"{t} AS m ON {mine} AND m.id = r.id AND m.session_id = r.session_id"
        if not vectors:
            return f"""{text}
        SELECT {columns}
        FROM (SELECT * FROM ranked ORDER BY score DESC, timestamp DESC, id LIMIT $7) AS r JOIN {own}
        ORDER BY r.score DESC, r.timestamp DESC, r.id
        """
        assert self.dimensions is not None
        near = _vector("m.embedding", self.dimensions)
        given = _vector("$9::text::vector", self.dimensions)
        # The setting is made where the index gets the vector to compare with, which is before its scan
        # begins. With it, a scan goes on until it has found enough rows of this user (pgvector 0.8). It ends
        # with the statement's transaction.
        target = f"(SELECT {given} FROM set_config('hnsw.iterative_scan', 'relaxed_order', true))"
        return f"""{text}, near AS MATERIALIZED (
            SELECT m.id, m.session_id, m.timestamp, {near} <=> {target} AS distance FROM {t} AS m
            WHERE {mine} AND {allowed} AND m.embedding IS NOT NULL
            ORDER BY {near} <=> {target} LIMIT greatest(50, 4 * $7)
        ), fused AS (
            SELECT id, session_id, max(timestamp) AS timestamp, sum(1.0 / (60 + place)) AS score FROM (
                SELECT id, session_id, timestamp, row_number() OVER (ORDER BY score DESC, timestamp DESC, id) AS place
                FROM (SELECT * FROM ranked ORDER BY score DESC, timestamp DESC, id LIMIT greatest(50, 4 * $7)) AS best
                UNION ALL
                SELECT id, session_id, timestamp, row_number() OVER (ORDER BY distance, timestamp DESC, id) FROM near
            ) AS both_rankings
            GROUP BY id, session_id
        )
        SELECT {columns}
        FROM (SELECT * FROM fused ORDER BY score DESC, timestamp DESC, id LIMIT $7) AS r JOIN {own}
        ORDER BY r.score DESC, r.timestamp DESC, r.id
        """

    @cached_property
    def delete(self) -> str:
        """`$3` an id: empties the rows with that id, except for their keys and times."""
        embedding = "" if self.dimensions is None else ", embedding = NULL"
        return f"""
        UPDATE {self.table.memories}
        SET author = NULL, timestamp_text = NULL, content = NULL, custom_metadata = '{{}}', words = NULL{embedding}
        WHERE app_name = $1 AND user_id = $2 AND id = $3 AND content IS NOT NULL
        RETURNING id
        """

    @cached_property
    def purge(self) -> str:
        """`$1` now: deletes the expired rows of all apps and users, and returns their number."""
        return f"""
        WITH gone AS (DELETE FROM {self.table.memories} WHERE expire_time <= $1 RETURNING id)
        SELECT count(*) FROM gone
        """
