"""All SQL of the package: the names of tables, the migrations that make them, and the statements."""

from adk_psqlpy.sql.migrations import MIGRATIONS, SCHEMA_VERSION, create_tables, made_with
from adk_psqlpy.sql.statements import Statements
from adk_psqlpy.sql.tables import Tables

__all__ = ["MIGRATIONS", "SCHEMA_VERSION", "Statements", "Tables", "create_tables", "made_with"]
