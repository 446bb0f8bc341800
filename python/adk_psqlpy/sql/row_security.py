"""Row-level security: which rows a role may see and write.

Each table has one policy for each app, for the roles of that app (`CREATE POLICY ... TO role`). So the role that a
service logged in with decides which rows it sees. No statement that the service sends can change that. The app's name
is a constant in the policy. It adds one comparison of texts to a statement. That comparison is leakproof, so the
statement keeps its indexes.

The table `adk_access`, in the schema of the tables, records which role has which app, or which user of it. The policies
are made from it. Roles of one user share one policy, which looks the user up in `adk_access`. There may be many such
roles, and ids of users should not be in a catalog that everybody can read. A role sees only its own rows of
`adk_access`, and may not write it.

Policies do not bind owners, superusers and roles with BYPASSRLS (PostgreSQL's manual, 5.9). FORCE ROW LEVEL SECURITY is
not used: the owner runs migrations and the administration, and could switch it off.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from adk_psqlpy.sql.artifact_tables import ArtifactTables
from adk_psqlpy.sql.audit import COLUMNS as AUDIT_COLUMNS
from adk_psqlpy.sql.credentials import CredentialTable
from adk_psqlpy.sql.memory import MemoryTable
from adk_psqlpy.sql.migrate import LOCK
from adk_psqlpy.sql.tables import Tables
from adk_psqlpy.sql.user_keys import UserKeyTable
from adk_psqlpy.sql.views import Views

ACCESS: Final = "adk_access"
"""The table of roles, in the schema of the tables. If it exists, tables that are made later are secured too."""

POLICIES: Final = "adk_"
"""The prefix of the names of the package's policies."""

LOCK_SEC: Final = 5
"""How long a change waits for transactions that have locked a table. After that it fails, and changes nothing."""

# Quoted, since the input of regrole is read as an identifier.
_ME: Final = "quote_ident(current_user)::regrole"


@dataclass(frozen=True)
class Secured:
    """The tables of one service. Names are quoted. Tables that do not exist are skipped.

    Args:
        anchor: the table whose schema has `adk_access`.
        by_user: tables with `app_name` and `user_id`.
        by_app: tables with `app_name` only, which the users of the app share.
        read: tables without data of users. A role may read them.
        views: views with `security_invoker`. They show a role the rows that the tables show it.
        audit: the table to which a role may add rows. It may not read or change them.
    """

    anchor: str
    by_user: Sequence[str]
    by_app: Sequence[str] = ()
    read: Sequence[str] = ()
    views: Sequence[str] = ()
    audit: Sequence[str] = ()

    @property
    def tables(self) -> list[str]:
        """The tables that have policies."""
        return [*self.by_user, *self.by_app]


def of_sessions(tables: Tables) -> Secured:
    """The tables of sessions, with those of streamed texts and of the words of events."""
    by_user = [*tables.by_user, tables.partials, tables.event_words, tables.event_marks]
    views = list(Views(tables).names.values())
    return Secured(tables.sessions, by_user, [tables.app_states], [tables.metadata], views, [tables.audit])


def of_memories(table: MemoryTable) -> Secured:
    """The table of memories."""
    return Secured(table.memories, [table.memories], read=[table.metadata])


def of_artifacts(tables: ArtifactTables) -> Secured:
    """The tables of artifacts."""
    return Secured(tables.artifacts, tables.by_user, read=[tables.metadata])


def of_credentials(table: CredentialTable) -> Secured:
    """The table of tools' credentials."""
    return Secured(table.credentials, [table.credentials], read=[table.metadata])


def of_user_keys(table: UserKeyTable) -> Secured:
    """The table of users' keys."""
    return Secured(table.keys, [table.keys], read=[table.metadata])


STATE: Final = f"""
    WITH t AS (
        SELECT given.name, given.place, c.relrowsecurity, c.relnamespace, ARRAY(
            SELECT p.polname FROM pg_policy AS p WHERE p.polrelid = c.oid AND starts_with(p.polname, '{POLICIES}') ORDER BY 1
        ) AS policies
        FROM unnest($1::text[]) WITH ORDINALITY AS given (name, place) JOIN pg_class AS c ON c.oid = to_regclass(given.name)
    ), anchor AS (SELECT relnamespace, policies FROM t WHERE place = 1)
    SELECT to_regclass(anchor.relnamespace::regnamespace::text || '.{ACCESS}') IS NOT NULL, coalesce((
        SELECT string_agg(t.name, ', ' ORDER BY t.place) FROM t
        WHERE NOT t.relrowsecurity OR t.policies IS DISTINCT FROM anchor.policies
    ), '')
    FROM anchor
    """
"""`$1` the tables that should have policies, quoted, the anchor first. Gives whether `adk_access` exists, and which of
the existing tables have no row-level security or other policies than the anchor. No row if the anchor does not exist."""


def secure(secured: Secured, *, wanted: bool, change: str = "") -> str:
    """A batch that makes `adk_access`, the policies of the existing tables, and the grants of the roles.

    Readers and writers of a table whose policies have to change wait for it, since making a policy locks the table as
    ALTER TABLE does. It does not lock the other tables.

    Args:
        secured: the tables.
        wanted: whether to make `adk_access` if it is missing. If not, the batch does nothing without `adk_access`.
        change: PL/pgSQL that changes `adk_access` before the policies are made. The variable `access` has its name.
    """
    return f"""
    SET LOCAL client_min_messages = warning;
    SELECT pg_advisory_xact_lock({LOCK});
    SET LOCAL lock_timeout = '{LOCK_SEC}s';
    DO $secure$
    DECLARE
        access text := {_access(secured.anchor)};
        secured text; shared boolean; wanted text; complete boolean; policy name; change text; roles text;
    BEGIN
        IF access IS NULL OR (to_regclass(access) IS NULL AND NOT {str(wanted).lower()}) THEN
            RETURN;
        END IF;
        {_refuse_distributed(secured.tables)}
        IF to_regclass(access) IS NULL THEN
            EXECUTE format($sql$
                CREATE TABLE %1$s (
                    role regrole NOT NULL,
                    app_name text NOT NULL,
                    user_id text,
                    UNIQUE NULLS NOT DISTINCT (role, app_name, user_id)
                );
                COMMENT ON TABLE %1$s IS 'Which role is for which app, or for which user of it (NULL: all).';
                ALTER TABLE %1$s ENABLE ROW LEVEL SECURITY;
                CREATE POLICY {POLICIES}own ON %1$s FOR SELECT USING (role = {_ME});
            $sql$, access);
        END IF;
        -- Forget dropped roles: a later role may get the same OID.
        EXECUTE format('DELETE FROM %s WHERE role NOT IN (SELECT oid FROM pg_roles)', access);
        {change}
        {_policies(secured)}
        {_grants(secured)}
    END $secure$;
    """


def _access(anchor: str) -> str:
    """The name of `adk_access` in the schema of a table; NULL if the table does not exist."""
    return (
        f"(SELECT c.relnamespace::regnamespace::text || '.{ACCESS}' FROM pg_class AS c "
        f"WHERE c.oid = to_regclass('{anchor}'))"
    )


def _texts(names: Iterable[str]) -> str:
    return f"ARRAY[{', '.join(_quoted(name) for name in names)}]::text[]"


def _quoted(name: str) -> str:
    return f"'{name}'"


def _refuse_distributed(tables: Iterable[str]) -> str:
    names = ", ".join(f"to_regclass('{table}')" for table in tables)
    return f"""
        IF to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL THEN
            IF EXISTS (SELECT FROM pg_catalog.pg_dist_partition WHERE logicalrelid IN ({names})) THEN
                RAISE EXCEPTION 'row-level security is for one server, and these tables are distributed';
            END IF;
        END IF;"""


# Conditions are spelled as PostgreSQL shows them (`pg_get_expr`), but for line breaks. So they can be compared with those
# of existing policies. If a version of PostgreSQL shows them in another way, policies are only made more often.
_OF_APP: Final = "((app_name)::text = %%L::text)"
_OWN_ACCESS: Final = (
    "((a.role)::oid = ((quote_ident((CURRENT_USER)::text))::regrole)::oid) AND (a.user_id IS NOT NULL)"
)
_SHARED_OF_USER: Final = f"((app_name)::text IN ( SELECT a.app_name FROM %1$s a WHERE ({_OWN_ACCESS})))"
_OF_USER: Final = (
    "(((app_name)::text, (user_id)::text) IN "
    f"( SELECT a.app_name, a.user_id FROM %1$s a WHERE ({_OWN_ACCESS})))"
)
_ONE_LINE: Final = "regexp_replace({}, '[[:space:]]+', ' ', 'g')"


def _policies(secured: Secured) -> str:
    """Gives each table the policies that follow from `adk_access`, unless it has exactly these.

    ALTER TABLE and CREATE POLICY wait for all who use a table. A role of one user may read, but not write, what the users
    of the app share.
    """
    return f"""
        FOR secured, shared IN
            SELECT name, name = ANY ({_texts(secured.by_app)}) FROM unnest({_texts(secured.tables)}) AS name
            WHERE to_regclass(name) IS NOT NULL
        LOOP
            wanted := format($sql$
                SELECT '{POLICIES}app_' || left(md5(a.app_name), 16) AS name, '*' AS command,
                    array_agg(DISTINCT a.role::oid ORDER BY a.role::oid) AS roles, format('{_OF_APP}', a.app_name) AS condition
                FROM %1$s AS a WHERE a.user_id IS NULL GROUP BY a.app_name
                UNION ALL
                SELECT '{POLICIES}user', %2$L, array_agg(DISTINCT a.role::oid ORDER BY a.role::oid), %3$L
                FROM %1$s AS a WHERE a.user_id IS NOT NULL HAVING count(*) > 0
                $sql$, access, CASE WHEN shared THEN 'r' ELSE '*' END,
                format(CASE WHEN shared THEN $sql${_SHARED_OF_USER}$sql$ ELSE $sql${_OF_USER}$sql$ END, access::regclass));
            EXECUTE format($sql$
                WITH wanted AS (
                    SELECT name, command, roles, {_ONE_LINE.format("condition")}, true, true FROM (%1$s) AS w
                ), there AS (
                    SELECT p.polname::text, p.polcmd::text, ARRAY(SELECT oid FROM unnest(p.polroles) AS oid ORDER BY oid),
                        {_ONE_LINE.format("pg_get_expr(p.polqual, p.polrelid)")}, p.polwithcheck IS NULL, p.polpermissive
                    FROM pg_policy AS p
                    WHERE p.polrelid = to_regclass(%2$L) AND starts_with(p.polname, '{POLICIES}')
                )
                SELECT c.relrowsecurity
                    AND NOT EXISTS (TABLE wanted EXCEPT ALL TABLE there) AND NOT EXISTS (TABLE there EXCEPT ALL TABLE wanted)
                FROM pg_class AS c WHERE c.oid = to_regclass(%2$L)
                $sql$, wanted, secured) INTO complete;
            CONTINUE WHEN complete;
            EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', secured);
            FOR policy IN SELECT p.polname FROM pg_policy AS p
                WHERE p.polrelid = to_regclass(secured) AND starts_with(p.polname, '{POLICIES}')
            LOOP
                EXECUTE format('DROP POLICY %I ON %s', policy, secured);
            END LOOP;
            FOR change IN EXECUTE format($sql$
                SELECT format('CREATE POLICY %%I ON %%s FOR %%s TO %%s USING %%s', name, %2$L,
                    CASE command WHEN 'r' THEN 'SELECT' ELSE 'ALL' END,
                    (SELECT string_agg(oid::regrole::text, ', ') FROM unnest(roles) AS oid), condition)
                FROM (%1$s) AS w
                $sql$, wanted, secured)
            LOOP
                EXECUTE change;
            END LOOP;
        END LOOP;"""


def _grants(secured: Secured) -> str:
    """Grants the roles of `adk_access` the rights to the tables that they need."""
    every = f"{_texts((*secured.tables, *secured.read, *secured.views))} || access"
    return f"""
        FOR secured, roles IN EXECUTE format($sql$
            SELECT DISTINCT c.relnamespace::regnamespace::text, a.role::text
            FROM %1$s AS a, unnest(%2$L::text[]) AS name JOIN pg_class AS c ON c.oid = to_regclass(name)
            WHERE NOT has_schema_privilege(a.role, c.relnamespace, 'USAGE')
            $sql$, access, {every})
        LOOP
            EXECUTE format('GRANT USAGE ON SCHEMA %s TO %s', secured, roles);
        END LOOP;
        FOR secured, roles IN EXECUTE format($sql$
            SELECT name, string_agg(DISTINCT a.role::text, ', ') FROM %1$s AS a, unnest(%2$L::text[]) AS name
            WHERE to_regclass(name) IS NOT NULL AND (a.user_id IS NOT NULL OR name <> %3$L) GROUP BY name
            $sql$, access, {every}, access)
        LOOP
            EXECUTE format('GRANT %s ON %s TO %s', CASE WHEN secured = ANY ({_texts(secured.tables)})
                THEN 'SELECT, INSERT, UPDATE, DELETE' ELSE 'SELECT' END, secured, roles);
        END LOOP;
        FOR secured, roles IN EXECUTE format($sql$
            SELECT name, string_agg(DISTINCT a.role::text, ', ') FROM %1$s AS a, unnest(%2$L::text[]) AS name
            WHERE to_regclass(name) IS NOT NULL GROUP BY name
            $sql$, access, {_texts(secured.audit)})
        LOOP
            EXECUTE format('GRANT INSERT ({", ".join(AUDIT_COLUMNS)}) ON %s TO %s', secured, roles);
        END LOOP;"""


def give(secured: Secured, role: str, app_name: str, user_id: str | None) -> str:
    """A batch that records that a role has an app, or one user of it, and makes the policies and grants."""
    user = "NULL" if user_id is None else _literal(user_id)
    change = f"""
        EXECUTE format('INSERT INTO %s (role, app_name, user_id) VALUES (%L, %L, %L) ON CONFLICT DO NOTHING',
            access, {_regrole(role)}, {_literal(app_name)}, {user});"""
    return secure(secured, wanted=True, change=change)


def take(secured: Secured, role: str, app_name: str, user_id: str | None) -> str:
    """A batch that takes back what `give` gave. A role without any access left also loses its rights to the tables."""
    user = "NULL" if user_id is None else _literal(user_id)
    names = _texts((*secured.tables, *secured.read, *secured.views, *secured.audit))
    change = f"""
        EXECUTE format('DELETE FROM %s WHERE role = %L::regrole AND app_name = %L AND user_id IS NOT DISTINCT FROM %L',
            access, {_regrole(role)}, {_literal(app_name)}, {user});
        FOR secured IN EXECUTE format($sql$
            SELECT name FROM unnest(%1$L::text[]) AS name WHERE to_regclass(name) IS NOT NULL
                AND NOT EXISTS (SELECT FROM %2$s WHERE role = %3$L::regrole)
            $sql$, {names} || access, access, {_regrole(role)})
        LOOP
            EXECUTE format('REVOKE ALL ON %s FROM %s', secured, {_regrole(role)});
        END LOOP;"""
    return secure(secured, wanted=False, change=change)


def _regrole(role: str) -> str:
    return f"quote_ident({_literal(role)})::regrole"


def _literal(text: str) -> str:
    """A text as an SQL expression that does not depend on `standard_conforming_strings`.

    A batch takes no parameters, and an app's name may have quotes and dollar signs. Base64 has neither.
    """
    return f"convert_from(decode('{b64encode(text.encode()).decode()}', 'base64'), 'UTF8')"


LISTED: Final = """
    SELECT r.rolname::text, a.app_name, a.user_id FROM {access} AS a JOIN pg_roles AS r ON r.oid = a.role ORDER BY 1, 2, 3
    """

WAYS_AROUND: Final = f"""
    WITH tables AS (
        SELECT c.oid, c.relname, c.relowner, c.relnamespace FROM unnest($2::text[]) AS name
        JOIN pg_class AS c ON c.oid = to_regclass(name)
    ), access AS (
        SELECT DISTINCT c.oid, c.relowner FROM pg_class AS c JOIN tables AS t ON t.relnamespace = c.relnamespace
        WHERE c.relname = '{ACCESS}'
    ), him AS (SELECT oid, rolname FROM pg_roles WHERE rolname = $1::text),
    becomes AS (
        SELECT r.oid, r.rolname, r.rolsuper, r.rolbypassrls, r.rolcreaterole, r.rolreplication,
            CASE WHEN r.oid = him.oid THEN 'it' ELSE format('it is a member of %I, which', r.rolname) END AS who
        FROM him JOIN pg_roles AS r ON pg_has_role(him.oid, r.oid, 'MEMBER')
    )
    SELECT reason FROM (
        SELECT 1 AS place, who || ' is a superuser' AS reason FROM becomes WHERE rolsuper
        UNION ALL SELECT 2, who || ' has BYPASSRLS' FROM becomes WHERE rolbypassrls
        UNION ALL SELECT 3, who || ' has CREATEROLE, and can give itself other roles' FROM becomes WHERE rolcreaterole
        UNION ALL SELECT 4, who || ' has REPLICATION, and can copy the whole server' FROM becomes WHERE rolreplication
        UNION ALL SELECT 5, who || ' can read or write files of the server' FROM becomes
            WHERE rolname IN ('pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program')
        UNION ALL SELECT 6, format('%s owns %s', b.who, string_agg(quote_ident(t.relname), ', ' ORDER BY t.relname))
            FROM becomes AS b JOIN (
                SELECT relname, relowner FROM tables UNION ALL SELECT '{ACCESS}', relowner FROM access
            ) AS t ON t.relowner = b.oid GROUP BY b.who
        UNION ALL SELECT 7, format('it may create objects in the schema %s, and so put its own in the place of others',
                t.relnamespace::regnamespace)
            FROM him, (SELECT DISTINCT relnamespace FROM tables) AS t
            WHERE has_schema_privilege(him.oid, t.relnamespace, 'CREATE')
        UNION ALL SELECT 8, format('it has the privilege %s, which policies do not limit, on %s', privilege,
                string_agg(quote_ident(t.relname), ', ' ORDER BY t.relname))
            FROM him, tables AS t, unnest(ARRAY['TRUNCATE', 'TRIGGER']) AS privilege
            WHERE has_table_privilege(him.oid, t.oid, privilege) GROUP BY privilege
        UNION ALL SELECT 9, format('it may write to {ACCESS}') FROM him, access AS a
            WHERE has_table_privilege(him.oid, a.oid, 'INSERT') OR has_table_privilege(him.oid, a.oid, 'UPDATE')
    ) AS r ORDER BY place, reason
    """
"""`$1` a role, `$2` quoted names of tables. Gives the reasons why policies do not bind the role, one in each row. Every
kind of membership counts, since any is enough for SET ROLE."""

SUBJECTS: Final = f"""
    SELECT DISTINCT r.rolname::text
    FROM pg_policy AS p CROSS JOIN unnest(p.polroles) AS subject (oid)
    JOIN pg_roles AS r ON r.oid = subject.oid OR (pg_has_role(r.oid, subject.oid, 'MEMBER') AND NOT r.rolsuper)
    WHERE p.polrelid IN (SELECT to_regclass(name) FROM unnest($1::text[]) AS name)
        AND starts_with(p.polname, '{POLICIES}') AND subject.oid <> 0
    ORDER BY 1
    """
"""`$1` quoted names of tables. Gives the roles that their policies name, and the members of these roles."""

ENTANGLED: Final = f"""
    WITH subjects AS (
        SELECT DISTINCT subject.oid FROM pg_policy AS p CROSS JOIN unnest(p.polroles) AS subject (oid)
        WHERE p.polrelid IN (SELECT to_regclass(name) FROM unnest($2::text[]) AS name)
            AND starts_with(p.polname, '{POLICIES}') AND subject.oid <> 0
    ), him AS (SELECT oid, EXISTS (SELECT FROM subjects AS s WHERE s.oid = r.oid) AS mapped FROM pg_roles AS r WHERE rolname = $1::text),
    others AS (
        SELECT o.oid, o.rolname FROM him, subjects AS s JOIN pg_roles AS o ON o.oid = s.oid WHERE o.oid <> him.oid
    ), above AS (
        SELECT o.rolname FROM him, others AS o WHERE pg_has_role(him.oid, o.oid, 'MEMBER')
    )
    SELECT format('it is a member of %I, which is for something else', rolname) FROM above
    WHERE $3::boolean OR (SELECT mapped FROM him) OR (SELECT count(*) FROM above) > 1
    UNION ALL
    SELECT format('%I, which is for something else, is a member of it', o.rolname)
    FROM him, others AS o WHERE $3::boolean AND pg_has_role(o.oid, him.oid, 'MEMBER')
    """
"""`$1` a role, `$2` quoted names of tables, `$3` whether the role is to get policies of its own. Gives the reasons why the
role would see the rows of several roles, one in each row. A role that is a member of only one role with policies is an
ordinary login of that role."""

ROLE_EXISTS: Final = "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1::text), current_user::text"
"""`$1` a role. Gives whether it exists, and the current role."""


def access_of(anchor: str) -> str:
    """One row: the name of `adk_access` in the schema of a table (NULL without that table), and whether it exists."""
    return f"SELECT {_access(anchor)}, to_regclass({_access(anchor)}) IS NOT NULL"
