"""Functions that Citus delegates to the node of a user's rows, and that work on the shards there.

On that node Citus would plan every statement of a function for the distributed table, write it out as text for the
shard, and parse it again. That takes 0.2 ms of CPU for each statement. So a function has variants. The function that
is called finds out which shard has the user's rows. If the shard is on this node, it calls the shard's variant. The
statements of that variant name the tables of the shard, so PostgreSQL plans them once a connection. If the shard is
not on this node, because it was moved or split a moment ago, the function calls the variant `any`. The statements of
`any` name the distributed tables.

A function that writes to a shard without Citus first takes the lock on the shard's metadata that Citus takes for its
own writes. Then it looks for the shard. So moving a shard waits for these writes, and no write goes to a shard that
has moved away.

A rare statement needs no variants. It is put together at each call, for the tables of the shard (`ShardStatement`).

A function's name ends in a digest of its definition. So processes of two versions each find their own functions.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from adk_psqlpy.sql import event_columns
from adk_psqlpy.sql.names import quoted, split

# A quoted name between the marks, so that the operator `^@` marks nothing.
_MARKED: Final = re.compile(r'@((?:"\w+"\.)?"\w+")@')
_SHARE_LOCK: Final = 5
_MOVED: Final = """'the shard % was moved to another node meanwhile, so nothing was done', shard
                            USING HINT = 'Do it again.'"""


SENT_ARRAYS: Final = tuple((name, "bytea") for name in event_columns.ARRAYS)
"""The result columns of a function that reads events: `as_sent` of an array each."""


def as_sent(array: str) -> str:
    """An array in the binary format in which a server sends it, as bytea. The client gets the same bytes.

    Otherwise the node that is asked takes each value apart and puts it together again, JSON included.
    """
    return f"array_send({array})"


def on_shard(table: str) -> str:
    """The placeholder of a table (quoted) in a function's body. Each variant replaces it with its own table."""
    return f"@{table}@"


def hold_shards(table: str) -> str:
    """The name of the function that takes Citus' lock on shards. It is in the schema of `table`."""
    return _named(table, "hold_shards", "1")


def define_hold_shards(table: str) -> str:
    """A batch that creates that function. It runs with its owner's rights, since only the owner of a shard may take
    the lock.

    Every role may execute it: a role gets its rights from GRANT on tables, perhaps after this, and a check of them at each
    call would slow down all writes. So a role without any rights can make moves of shards wait. docs/scale.md says so, and
    how to revoke it. The batch does not undo that, since it does nothing if the function exists.
    """
    name = hold_shards(table)
    return f"""
    DO $function$ BEGIN
        IF to_regprocedure('{name}(bigint[])') IS NULL THEN
            CREATE FUNCTION {name}(shards bigint[]) RETURNS void
            LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
            BEGIN
                PERFORM lock_shard_metadata({_SHARE_LOCK}, shards);
            END
            $body$;
        END IF;
    END $function$;
    """


def _named(table: str, purpose: str, told: str) -> str:
    schema, _ = split("table", table)
    name = f'"adk_{purpose}_{told}"'
    return f'"{schema}".{name}' if schema else name


@dataclass(frozen=True)
class Function:
    """A function that runs on the node of a user. One of its parameters has the user id.

    Attributes:
        table: one of the co-located tables, as the caller names it.
        body: PL/pgSQL. In a shard's variant, tables in `on_shard()` are the tables of the shard.
        by: the name of the parameter with the user id.
        over_group: the body handles a part of the given arrays, which has users of one shard only. Its first
            result column is the `place` in that part.
        on_tables: the body of the variant `any`, if it is another one.
        nested: whether there is also a function `nested_name`, which Citus delegates when another function calls it.
    """

    table: str
    purpose: str
    parameters: tuple[tuple[str, str], ...]
    returns: tuple[tuple[str, str], ...]
    body: str
    by: str = "usr"
    volatility: str = "VOLATILE"
    over_group: bool = False
    on_tables: str | None = None
    nested: bool = False

    @property
    def name(self) -> str:
        """The quoted name of the function, in the schema of the table."""
        return self._variant("")

    @property
    def nested_name(self) -> str:
        """The quoted name of the function for calls by other functions. It needs the variant of the shard."""
        return self._variant("_nested")

    @property
    def has_variant(self) -> str:
        """A condition in PL/pgSQL: whether the user's shard has a variant. A shard that was split has none."""
        return f"to_regproc(format('{self._variant('_%s')}', {self._shard_of % f'p_{self.by}'})) IS NOT NULL"

    @property
    def _made_of(self) -> tuple[object, ...]:
        """What the name tells apart."""
        given = (self.table, self.parameters, self.returns, self.body, self.volatility)
        return given if self.on_tables is None else (*given, self.on_tables)

    def _variant(self, which: str) -> str:
        told = hashlib.sha256(repr(self._made_of).encode()).hexdigest()[:10]
        return _named(self.table, self.purpose, told + which)

    @property
    def call(self) -> str:
        """A statement that only calls the function, with `$1...` for its parameters."""
        return self.call_with([f"${place}" for place in range(1, len(self.parameters) + 1)])

    def call_with(self, values: list[str]) -> str:
        """As `call`, with these SQL values as arguments. Some may be NULL."""
        columns = ", ".join(f'"{name}"' for name, _ in self.returns)
        given = zip(values, self.parameters, strict=True)
        arguments = ", ".join(f"{value}::{kind}" for value, (_, kind) in given)
        return f"SELECT {columns} FROM {self.name}({arguments})"

    @property
    def definition(self) -> str:
        """A batch that creates and distributes the function if it is missing, and the missing variants of shards."""
        variants, anywhere, own = "", "", self.body
        if self._tables:
            own = self._dispatch
            anywhere = "" if self.over_group else self._create(self._variant("_any"), self._on_tables)
            variants = f"""
            FOR home IN
                SELECT shardid FROM pg_dist_shard WHERE logicalrelid = '{quoted(self.table)}'::regclass
            LOOP
                made := format('{self._variant("_%s")}', home.shardid);
                IF to_regproc(made) IS NULL THEN
                    body := $shard$ {self._create("@function@", self.body)} $shard$;
                    body := replace(body, '@function@', made);{self._put_shard_names("body", "home.shardid")}
                    EXECUTE body;
                END IF;
            END LOOP;"""
        return f"""
        DO $function$
        DECLARE
            home record;
            made text;
            body text;
        BEGIN
            {variants}
            {self._make(anywhere + self._create(self.name, own))}{self._make_nested()}
        END $function$;
        """

    @property
    def local_definition(self) -> str:
        """A batch that creates the function on every node if it is missing. It runs on the node that is asked."""
        return f"""
        DO $function$ BEGIN
            IF to_regprocedure('{self._signature(self.name)}') IS NULL THEN
                {self._create(self.name, self.body)}
            END IF;
        END $function$;
        """

    def _signature(self, name: str) -> str:
        return f"{name}({', '.join(kind for _, kind in self.parameters)})"

    def _make_nested(self) -> str:
        # Within a transaction, and so within a function, Citus delegates only calls that it is forced to. On the
        # other node it refuses the statements of the variant `any` then. A connection on which the planning of a
        # statement failed delegates nothing any more (Citus counts its depth wrongly), so `any` is called here.
        if not self.nested:
            return ""
        elsewhere = f"""IF current_setting('application_name') ^@ 'citus_internal' THEN
                            RAISE EXCEPTION {_MOVED};
                        END IF;
                        variant := '{self._variant("_any")}';"""
        create = self._create(self.nested_name, self._dispatch_one(elsewhere))
        return self._make(create, ", force_delegation => true", self.nested_name)

    @property
    def _tables(self) -> list[str]:
        """The tables, quoted, that the body names with `on_shard()`."""
        return list(dict.fromkeys(_MARKED.findall(self.body)))

    def _make(self, create: str, options: str = "", name: str | None = None) -> str:
        """PL/pgSQL that executes `create`, which creates the function, and distributes it, unless it exists."""
        signature = self._signature(name or self.name)
        return f"""
            IF to_regprocedure('{signature}') IS NULL THEN
                {create}
                PERFORM create_distributed_function(
                    '{signature}'::regprocedure, 'p_{self.by}', colocate_with => '{quoted(self.table)}'{options}
                );
            END IF;"""

    def _put_shard_names(self, text: str, shard: str) -> str:
        """PL/pgSQL that puts the names of the tables' shards into the variable `text`. `shard` is the user's shard of
        `table`, as an SQL expression. A reference table has one shard only."""
        return "".join(
            f"""
                    {text} := replace({text}, '{on_shard(table)}', (
                        SELECT shard_name(t.logicalrelid, t.shardid)
                        FROM pg_dist_shard AS t JOIN pg_dist_shard AS own ON own.shardid = {shard}
                        WHERE t.logicalrelid = '{table}'::regclass
                            AND (t.shardminvalue IS NULL OR t.shardminvalue = own.shardminvalue)
                    ));"""
            for table in self._tables
        )

    @staticmethod
    def _elsewhere(shard: str) -> str:
        """A condition: this shard is on another node."""
        return f"""EXISTS (
                        SELECT FROM pg_dist_placement AS p JOIN pg_dist_local_group AS own ON p.groupid <> own.groupid
                        WHERE p.shardid = {shard}
                    )"""

    def _hold(self, shards: str) -> str:
        """PL/pgSQL that holds shards until the transaction ends, in a function that writes."""
        return f"PERFORM {hold_shards(self.table)}({shards});" if self.volatility == "VOLATILE" else ""

    @property
    def _on_tables(self) -> str:
        return _MARKED.sub(r"\1", self.body if self.on_tables is None else self.on_tables)

    def _create(self, name: str, body: str) -> str:
        given = ", ".join(f"p_{name} {kind}" for name, kind in self.parameters)
        columns = ", ".join(f'"{name}" {kind}' for name, kind in self.returns)
        return f"""
                CREATE FUNCTION {name}({given}) RETURNS TABLE ({columns})
                LANGUAGE plpgsql {self.volatility} AS $body$
                #variable_conflict use_column
                {body}
                $body$;"""

    @property
    def _dispatch(self) -> str:
        if self.over_group:
            return self._dispatch_group
        return self._dispatch_one(f"variant := '{self._variant('_any')}';")

    @property
    def _shard_of(self) -> str:
        return f"get_shard_id_for_distribution_column('{quoted(self.table)}', %s)"

    def _dispatch_one(self, elsewhere: str) -> str:
        arguments = ", ".join(f"${place}" for place in range(1, len(self.parameters) + 1))
        return f"""
                DECLARE
                    shard bigint := {self._shard_of % f"p_{self.by}"};
                    variant text := format('{self._variant("_%s")}', shard);
                BEGIN
                    {self._hold("ARRAY[shard]")}
                    IF to_regproc(variant) IS NULL OR {self._elsewhere("shard")} THEN
                        {elsewhere}
                    END IF;
                    RETURN QUERY EXECUTE 'SELECT * FROM ' || variant || '({arguments})'
                    USING {", ".join(f"p_{name}" for name, _ in self.parameters)};
                END"""

    @property
    def _dispatch_group(self) -> str:
        """Calls the variant of each shard with that shard's part of the arrays. Parts are smallest if the arrays are
        in the order of shards. Parts may overlap, since a variant finds no rows for users of other shards. Users whose
        shards are not on this node get no result."""
        arrays = [name for name, kind in self.parameters if kind.endswith("[]")]
        arguments = ", ".join(
            f"${place}" if kind.endswith("[]") else "NULL"
            for place, (_, kind) in enumerate(self.parameters, start=1)
        )
        columns = ", ".join(f'"{name}"' for name, _ in self.returns[1:])
        shard = self._shard_of % "u.usr"
        return f"""
                DECLARE
                    part record;
                    variant text;
                BEGIN
                    {self._hold(f"ARRAY(SELECT DISTINCT {shard} FROM unnest(p_usr) AS u (usr) ORDER BY 1)")}
                    FOR part IN
                        SELECT s.shard, min(s.number) AS first, max(s.number) AS last
                        FROM (
                            SELECT {shard} AS shard, u.number FROM unnest(p_usr) WITH ORDINALITY AS u (usr, number)
                        ) AS s
                        WHERE NOT {self._elsewhere("s.shard")}
                        GROUP BY s.shard
                    LOOP
                        variant := format('{self._variant("_%s")}', part.shard);
                        IF to_regproc(variant) IS NOT NULL THEN
                            RETURN QUERY EXECUTE format(
                                'SELECT place + %s, {columns} FROM %s({arguments})', part.first - 1, variant
                            )
                            USING {", ".join(f"p_{name}[part.first:part.last]" for name in arrays)};
                        END IF;
                    END LOOP;
                END"""


@dataclass(frozen=True)
class ShardStatement(Function):
    """A function that executes its body on the shard. The body is one statement, with `$1...` for the parameters.

    The statement is planned at each call. The call is delegated in a transaction too, where Citus otherwise executes a
    function on the coordinator (`force_delegation`). Behind pgbouncer a statement with a limit is a transaction. That is
    possible since the statement leaves the tables of other shards and nodes alone.

    Attributes:
        elsewhere: what happens if the shard is not on the node. `True`: the statement is executed for the
            distributed tables. `False`: the call fails. Use `False` for statements that Citus would refuse, or that
            are meant for one shard.
    """

    elsewhere: bool = True

    @property
    def _made_of(self) -> tuple[object, ...]:
        return *super()._made_of, "force_delegation"

    @property
    def definition(self) -> str:
        """A batch that creates and distributes the function if it is missing."""
        on_tables = "".join(
            f"""
                        statement := replace(statement, '{on_shard(table)}', '{table}');"""
            for table in self._tables
        )
        moved = f"""
                        RAISE EXCEPTION {_MOVED};"""
        body = f"""
                DECLARE
                    shard bigint := {self._shard_of % f"p_{self.by}"};
                    statement text := $statement$ {self.body} $statement$;
                BEGIN
                    {self._hold("ARRAY[shard]")}
                    IF NOT {self._elsewhere("shard")} THEN{self._put_shard_names("statement", "shard")}
                    ELSE{on_tables if self.elsewhere else moved}
                    END IF;
                    RETURN QUERY EXECUTE statement USING {", ".join(f"p_{name}" for name, _ in self.parameters)};
                END"""
        return f"""
        DO $function$ BEGIN
            {self._make(self._create(self.name, body), ", force_delegation => true")}
        END $function$;
        """
