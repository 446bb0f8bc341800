"""Which role has which access, and what would let a role go around its policies: questions to the catalogs."""

from __future__ import annotations

from typing import Final

from adk_psqlpy.sql.row_security import ACCESS, POLICIES

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
            r.oid = him.oid AS own,
            CASE WHEN r.oid = him.oid THEN 'it' ELSE format('it is a member of %I, which', r.rolname) END AS who
        FROM him JOIN pg_roles AS r ON pg_has_role(him.oid, r.oid, 'MEMBER')
    ), privileges AS (
        SELECT who, own, 7 AS place, format('may create objects in the schema %s, and so put its own in the place of others',
                t.relnamespace::regnamespace) AS reason
            FROM becomes AS b, (SELECT DISTINCT relnamespace FROM tables) AS t
            WHERE has_schema_privilege(b.oid, t.relnamespace, 'CREATE')
        UNION ALL SELECT who, own, 8, format('has the privilege %s, which policies do not limit, on %s', privilege,
                string_agg(quote_ident(t.relname), ', ' ORDER BY t.relname))
            FROM becomes AS b, tables AS t, unnest(ARRAY['TRUNCATE', 'TRIGGER']) AS privilege
            WHERE has_table_privilege(b.oid, t.oid, privilege) GROUP BY who, own, privilege
        UNION ALL SELECT who, own, 9, 'may write to {ACCESS}' FROM becomes AS b, access AS a
            WHERE has_table_privilege(b.oid, a.oid, 'INSERT') OR has_table_privilege(b.oid, a.oid, 'UPDATE')
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
        UNION ALL SELECT place, who || ' ' || reason FROM privileges AS p
            WHERE own OR NOT EXISTS (SELECT FROM privileges AS o WHERE o.own AND o.place = p.place AND o.reason = p.reason)
    ) AS r ORDER BY place, reason
    """
"""`$1` a role, `$2` quoted names of tables. Gives the reasons why policies do not bind the role, one in each row. Every
kind of membership counts, since any is enough for SET ROLE. A privilege that the role has itself, or inherits, is named
once, and not again for each role that it comes from."""

GIVEN: Final = f"""
    SELECT coalesce(bool_and(
        (NOT t.secured OR EXISTS (
            SELECT FROM pg_policy AS p WHERE p.polrelid = c.oid AND him.oid = ANY (p.polroles) AND p.polname =
                CASE WHEN $5::boolean THEN '{POLICIES}user' ELSE '{POLICIES}app_' || left(md5($4::text), 16) END
        ))
        AND has_schema_privilege(him.oid, c.relnamespace, 'USAGE') AND has_table_privilege(him.oid, c.oid, 'SELECT')
        AND (NOT t.secured OR (has_table_privilege(him.oid, c.oid, 'INSERT')
            AND has_table_privilege(him.oid, c.oid, 'UPDATE') AND has_table_privilege(him.oid, c.oid, 'DELETE')))
    ), false)
    FROM pg_roles AS him, (
        SELECT name, true FROM unnest($2::text[]) AS name
        UNION ALL SELECT name, false FROM unnest($3::text[]) AS name
        UNION ALL SELECT c.relnamespace::regnamespace::text || '.{ACCESS}', false
        FROM unnest($2::text[]) AS name JOIN pg_class AS c ON c.oid = to_regclass(name) WHERE $5::boolean
    ) AS t (name, secured) JOIN pg_class AS c ON c.oid = to_regclass(t.name)
    WHERE him.rolname = $1::text
    """
"""`$1` a role, `$2` quoted names of tables with policies, `$3` those that it may only read, `$4` an app, `$5` whether the
access is to one user of it. Gives whether the policies for that access name the role, and whether it has the rights."""

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
    SELECT format('it is a member of %I, which was granted other access', rolname) FROM above
    WHERE $3::boolean OR (SELECT mapped FROM him) OR (SELECT count(*) FROM above) > 1
    UNION ALL
    SELECT format('%I, which was granted other access, is a member of it', o.rolname)
    FROM him, others AS o WHERE $3::boolean AND pg_has_role(o.oid, him.oid, 'MEMBER')
    """
"""`$1` a role, `$2` quoted names of tables, `$3` whether the role is to get policies of its own. Gives the reasons why the
role would see the rows of several roles, one in each row. A role that is a member of only one role with policies is an
ordinary login of that role."""

ROLE_EXISTS: Final = "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1::text)"
"""`$1` a role. Gives whether it exists."""
