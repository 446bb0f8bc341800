"""Moving data in and out: from the storage of ADK and SQLSpec into adk-psqlpy's tables, and out as JSON
Lines.

`migrate` and `export` are the functions behind the commands; `migrate` also reads an export. Sources
(`sources/`) make one stream of records (`records`) of what they find. Writers (`states`, `sessions`,
`memories`, `artifacts`) store the records in the target, and compare those that exist.
"""

from adk_psqlpy.admin.migrate.export import ExportReport, export, load_export
from adk_psqlpy.admin.migrate.records import Counts, Problem
from adk_psqlpy.admin.migrate.report import (
    MigrationProgress,
    MigrationReport,
    MigrationStoppedError,
    Tally,
)
from adk_psqlpy.admin.migrate.run import MigrationOptions, migrate
from adk_psqlpy.admin.migrate.sources import SourceError, SourceOptions
from adk_psqlpy.admin.table_names import TableNames

__all__ = [
    "Counts",
    "ExportReport",
    "MigrationOptions",
    "MigrationProgress",
    "MigrationReport",
    "MigrationStoppedError",
    "Problem",
    "SourceError",
    "SourceOptions",
    "TableNames",
    "Tally",
    "export",
    "load_export",
    "migrate",
]
