"""docs/tables.md and the drawings: every table and column there is, with its type, and none that is not."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from adk_psqlpy import PsqlpyADKStore, PsqlpyArtifactService, PsqlpyConfig, PsqlpyMemoryService
from servers import run_sql

if TYPE_CHECKING:
    from servers import Database

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGE = (DOCS / "tables.md").read_text(encoding="utf-8")


def described() -> dict[str, dict[str, str]]:
    """Each table's columns and their types, in the order of the page."""
    return {
        table: dict(re.findall(r"^\| `(\w+)` \| `([\w() ]+)` \|", text, re.MULTILINE))
        for table, text in re.findall(r"^## (adk_\w+)\n(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL)
    }


async def stored(database: Database) -> dict[str, dict[str, str]]:
    """The same as the database has it."""
    async with PsqlpyConfig(pool_config={"dsn": database.dsn}) as config:
        for owner in (PsqlpyADKStore(config), PsqlpyMemoryService(config), PsqlpyArtifactService(config)):
            await owner.create_tables()
    (rows,) = run_sql(
        database.dsn,
        """SELECT c.relname::text AS table, a.attname::text AS column,
               replace(replace(format_type(a.atttypid, a.atttypmod), 'character varying', 'varchar'),
                   'timestamp with time zone', 'timestamptz') AS type
           FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
           WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace
               AND a.attnum > 0 AND NOT a.attisdropped
           ORDER BY c.relname, a.attnum""",
    )
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        found.setdefault(row["table"], {})[row["column"]] = row["type"]
    return found


async def test_the_page_has_every_table_and_column(database: Database) -> None:
    """A migration that adds one adds its line."""
    there, page = await stored(database), described()
    assert page.keys() == there.keys()
    for table, columns in there.items():
        assert page[table] == columns, table


async def test_the_indexes_are_there(database: Database) -> None:
    """Those that the page names, of either set."""
    await stored(database)
    async with PsqlpyConfig(pool_config={"dsn": database.dsn}) as config:
        await PsqlpyADKStore(config).create_tables(index_set="appending")
    names = set(re.findall(r"`(idx_adk_\w+)`", PAGE))
    source = (ROOT / "python/adk_psqlpy/sql/indexes.py").read_text(encoding="utf-8")
    (rows,) = run_sql(
        database.dsn, "SELECT indexname::text AS name FROM pg_indexes WHERE schemaname = 'public'"
    )
    there = {row["name"] for row in rows}
    gone = {name for name in names if name not in there}
    assert gone == {"idx_adk_sessions_app_user", "idx_adk_sessions_update_time", "idx_adk_sessions_state"}
    assert all(f'"{name.removeprefix("idx_adk_sessions_")}"' in source for name in gone)


def test_the_drawing_shows_what_there_is() -> None:
    """Names and keys in it are those of the page, and the files are what the script draws."""
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import drawings
    finally:
        sys.path.remove(str(ROOT / "tools"))
    page = described()
    for table, (_, _, columns) in drawings.TABLES.items():
        assert {column.removeprefix("*") for column in columns} <= page[table].keys(), table
        (key,) = re.findall(rf"^## {table}\n.*?Key: `([\w, \n]+)`", PAGE, re.MULTILINE | re.DOTALL)[:1]
        assert [column[1:] for column in columns if column.startswith("*")] == re.split(r",\s+", key), table
    for name, draw in drawings.DRAWINGS.items():
        assert draw().svg() == (DOCS / name).read_text(encoding="utf-8"), f"python tools/drawings.py ({name})"


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.svg")), ids=lambda path: path.name)
def test_a_drawing_needs_no_network(path: Path) -> None:
    """Neither a script nor a font nor a picture from elsewhere."""
    text = path.read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\"]+", text)) <= {"http://www.w3.org/2000/svg"}
    assert "<script" not in text
