"""All SQL of the package: the names of tables, the migrations that make them, and the statements.

`reading` and `statements` are those of the store. Each other file has the statements of one feature, and is
named after it.
"""

from adk_psqlpy.sql.indexes import INDEX_SETS, LOCK_SEC, IndexSet, change_indexes
from adk_psqlpy.sql.migrations import MIGRATIONS, READING, SCHEMA_VERSION, create_tables, made_with
from adk_psqlpy.sql.statements import Statements
from adk_psqlpy.sql.tables import Tables

__all__ = [
    "INDEX_SETS",
    "LOCK_SEC",
    "MIGRATIONS",
    "READING",
    "SCHEMA_VERSION",
    "IndexSet",
    "Statements",
    "Tables",
    "change_indexes",
    "create_tables",
    "made_with",
]
