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


def take(services: Iterable[Secured], role: str, app_name: str, user_id: str | None) -> str:
    """A batch that takes back what `give` gave. It does nothing to a role that has no such access.

    If the role has no other access in a schema, it also loses its rights to the tables there.
    """
    services = list(services)
    user = "NULL" if user_id is None else _literal(user_id)
    change = f"""
        EXECUTE format('DELETE FROM %s WHERE role = %L::regrole AND app_name = %L AND user_id IS NOT DISTINCT FROM %L',
            access, {_regrole(role)}, {_literal(app_name)}, {user});"""
    # Several services may share one `adk_access`. So all rights are taken before the first row is deleted.
    rights = (_take_rights(secured, role, app_name, user) for secured in services)
    return "".join([*rights, *(secure(secured, wanted=False, change=change) for secured in services)])


def _take_rights(secured: Secured, role: str, app_name: str, user: str) -> str:
    """Takes the rights to the tables from a role whose only access this is. `user` is an SQL expression."""
    names = _texts((*secured.tables, *secured.read, *secured.views, *secured.audit))
    return f"""
    SELECT pg_advisory_xact_lock({LOCK});
    DO $take$
    DECLARE
        access text := {_access(secured.anchor)};
        secured text; last boolean;
    BEGIN
        IF to_regclass(access) IS NULL THEN
            RETURN;
        END IF;
        EXECUTE format($sql$
            SELECT bool_and(app_name = %2$L AND user_id IS NOT DISTINCT FROM %3$L) FROM %1$s WHERE role = %4$L::regrole
            $sql$, access, {_literal(app_name)}, {user}, {_regrole(role)}) INTO last;
        IF last IS NOT TRUE THEN
            RETURN;
        END IF;
        FOR secured IN SELECT name FROM unnest({names} || access) AS name WHERE to_regclass(name) IS NOT NULL
        LOOP
            EXECUTE format('REVOKE ALL ON %s FROM %s', secured, {_regrole(role)});
        END LOOP;
    END $take$;
    """


def _regrole(role: str) -> str:
    return f"quote_ident({_literal(role)})::regrole"


def _literal(text: str) -> str:
    """A text as an SQL expression that does not depend on `standard_conforming_strings`.

    A batch takes no parameters, and an app's name may have quotes and dollar signs. Base64 has neither.
    """
    return f"convert_from(decode('{b64encode(text.encode()).decode()}', 'base64'), 'UTF8')"


def access_of(anchor: str) -> str:
    """One row: the name of `adk_access` in the schema of a table (NULL without that table), and whether it exists."""
    return f"SELECT {_access(anchor)}, to_regclass({_access(anchor)}) IS NOT NULL"
