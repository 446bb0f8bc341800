"""The output of verbs: text and tables for people at a terminal, plain lines for pipes, JSON for programs."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, TextIO

if TYPE_CHECKING:
    from rich.console import Console

# Control characters other than line breaks and tabs. In stored text they could move a terminal's cursor, set
# its title, or worse. Characters that change the direction of the text around them count as well.
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    r"""Text from a database as it can be shown on any terminal: control characters escaped (`\x1b`)."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def write(text: str = "") -> None:
    """Write a line."""
    sys.stdout.write(f"{text}\n")


def note(text: str) -> None:
    """Write a line to standard error, beside the result: about progress, or what is left."""
    sys.stderr.write(f"{text}\n")


def write_json(value: Any, *, indent: int | None = 2) -> None:
    """Write one JSON document: times and the like as text, NaN and infinities as null."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, default=str)
    if "NaN" in text or "Infinity" in text:
        plain = json.loads(text, parse_constant=lambda _: None)
        text = json.dumps(plain, indent=indent, ensure_ascii=False)
    write(text)


def console(stream: TextIO | None = None) -> Console:
    """A rich console on standard output: plain if that is not a terminal, or if `NO_COLOR` is set."""
    from rich.console import Console

    return Console(file=stream or sys.stdout, highlight=False, soft_wrap=True)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> None:
    """Write a table, with numbers aligned to the right.

    On a terminal it has lines, and is folded to the terminal's width. Elsewhere it is plain text in columns,
    which is not folded.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    numbers = [_is_number(place, cells) for place in range(len(columns))]
    if sys.stdout.isatty():
        _rich_table(columns, cells, numbers, title)
        return
    if title:
        write(title)
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for line in (columns, *cells):
        padded = (
            text.rjust(width) if number else text.ljust(width)
            for text, width, number in zip(line, widths, numbers, strict=True)
        )
        write("  ".join(padded).rstrip())


def _rich_table(columns: Sequence[str], cells: list[list[str]], numbers: list[bool], title: str) -> None:
    from rich.table import Table
    from rich.text import Text

    grid = Table(title=title or None, title_justify="left", title_style="bold", header_style="dim")
    for name, number in zip(columns, numbers, strict=True):
        grid.add_column(name, overflow="fold", justify="right" if number else "left")
    for line in cells:
        grid.add_row(*map(Text, line))
    console().print(grid, soft_wrap=False)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return printable(str(value)).replace("\n", " ")


def _is_number(place: int, cells: list[list[str]]) -> bool:
    texts = [line[place] for line in cells if line[place]]
    return bool(texts) and all(re.fullmatch(r"-?[\d,]+(\.\d+)?( \w+|%)?", text) for text in texts)
