"""The drawings of docs/: `python tools/drawings.py` writes them; a test compares them with what it gives.

Plain SVG, so that the site needs no script. Text is as wide as its letters are many: good enough for boxes.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
INK, GREY, LINE = "#1f2937", "#6b7280", "#94a3b8"
PYTHON, RUST, SERVER, ADK = "#dbeafe", "#fde7d3", "#dcfce7", "#f1f5f9"


@dataclass
class Drawing:
    """Shapes on a white ground, `width` by `height` pixels."""

    title: str
    width: int
    height: int
    shapes: list[str] = field(default_factory=list)

    def text(
        self,
        x: float,
        y: float,
        said: str,
        *,
        size: int = 13,
        colour: str = INK,
        bold: bool = False,
        anchor: str = "start",
    ) -> None:
        weight = ' font-weight="600"' if bold else ""
        self.shapes.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{colour}" text-anchor="{anchor}"{weight}>'
            f"{escape(said)}</text>"
        )

    def box(self, x: float, y: float, width: float, height: float, fill: str, *lines: str) -> None:
        """A box with a bold first line and further lines beneath it, in its middle."""
        self.shapes.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" fill="{fill}" '
            f'stroke="{LINE}"/>'
        )
        top = y + height / 2 - (len(lines) - 1) * 8.5 + 4.5
        for number, line in enumerate(lines):
            self.text(
                x + width / 2,
                top + 17 * number,
                line,
                size=13 if number == 0 else 12,
                colour=INK if number == 0 else GREY,
                bold=number == 0,
                anchor="middle",
            )

    def arrow(self, *points: tuple[float, float], dashed: bool = False) -> None:
        """A line through the points, with a head at its end."""
        path = " ".join(f"{'M' if number == 0 else 'L'}{x:g} {y:g}" for number, (x, y) in enumerate(points))
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.shapes.append(
            f'<path d="{path}" fill="none" stroke="{GREY}" stroke-width="1.5" marker-end="url(#head)"{dash}/>'
        )

    def svg(self) -> str:
        """The file."""
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
                f'role="img" font-family="system-ui, Segoe UI, Helvetica, Arial, sans-serif">',
                f"<title>{escape(self.title)}</title>",
                '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
                'markerHeight="7" orient="auto-start-reverse">'
                f'<path d="M0 0L10 5L0 10z" fill="{GREY}"/></marker></defs>',
                f'<rect width="{self.width}" height="{self.height}" fill="#fff"/>',
                *self.shapes,
                "</svg>",
                "",
            ]
        )


def layers() -> Drawing:
    """What stands on what."""
    drawing = Drawing("The layers, from ADK down to PostgreSQL", 760, 474)
    rows = [
        (ADK, "google-adk", "Runner, adk web, adk api_server, adk run"),
        (PYTHON, "Services", "ADK's rules: sessions/, memory/, artifacts/, service_registry/"),
        (PYTHON, "Store and statements", "one SQL statement an operation: sessions/store.py, sql/"),
        (PYTHON, "Lanes", "few connections, many statements; repeats and time limits: connections/"),
        (RUST, "psqlpy", "the pool, and PostgreSQL's protocol"),
        (SERVER, "PostgreSQL", "one server, a failover pair, or a pooler in front"),
    ]
    for number, (fill, *lines) in enumerate(rows):
        y = 16 + 70 * number
        drawing.box(16, y, 530, 52, fill, *lines)
        if number:
            drawing.arrow((281, y - 18), (281, y - 1))
    drawing.box(
        580,
        86,
        164,
        192,
        RUST,
        "adk_psqlpy._native",
        "the crate in rust/",
        "",
        "events to columns",
        "columns to events",
    )
    drawing.arrow((546, 112), (579, 112))
    drawing.arrow((580, 182), (547, 182))
    for number, (fill, label) in enumerate(
        [(PYTHON, "Python"), (RUST, "Rust"), (SERVER, "server"), (ADK, "ADK")]
    ):
        x = 16 + 110 * number
        drawing.shapes.append(
            f'<rect x="{x}" y="444" width="14" height="14" rx="3" fill="{fill}" stroke="{LINE}"/>'
        )
        drawing.text(x + 21, 456, label, size=12, colour=GREY)
    return drawing


def event_path() -> Drawing:
    """An append on the way down, a read on the way up."""
    drawing = Drawing("An event's way to the database and back", 760, 560)
    drawing.text(188, 28, "append_event", bold=True, anchor="middle")
    drawing.text(572, 28, "get_session", bold=True, anchor="middle")
    down = [
        (ADK, "Event", "a pydantic object of ADK"),
        (PYTHON, "service", "checks it, splits the state by scope"),
        (RUST, "crate", "one value a column; escapes; order of keys"),
        (PYTHON, "lanes", "waiting appends travel together"),
        (SERVER, "one statement", "check revision, insert, update states"),
    ]
    up = [
        (ADK, "Session", "equal to what the appends left"),
        (PYTHON, "service", "merges the three scopes of state"),
        (RUST, "crate", "reads arrays in place, builds the events"),
        (PYTHON, "lanes", "bytes, as psqlpy received them"),
        (SERVER, "one statement", "a row for each 128 events, columns as arrays"),
    ]
    for number, (left, right) in enumerate(zip(down, up, strict=True)):
        y = 46 + 86 * number
        drawing.box(40, y, 296, 54, *left)
        drawing.box(424, y, 296, 54, *right)
        if number:
            drawing.arrow((188, y - 32), (188, y - 1))
            drawing.arrow((572, y), (572, y - 31))
    drawing.box(
        40, 484, 680, 54, SERVER, "PostgreSQL", "adk_sessions, adk_events, adk_app_states, adk_user_states"
    )
    drawing.arrow((188, 444), (188, 483))
    drawing.arrow((572, 484), (572, 445))
    return drawing


TABLES = {
    "adk_app_states": (16, 36, ["*app_name", "state"]),
    "adk_user_states": (16, 150, ["*app_name", "*user_id", "state"]),
    "adk_sessions": (
        276,
        36,
        ["*app_name", "*user_id", "*id", "state", "revision", "create_time", "update_time"],
    ),
    "adk_events": (
        536,
        36,
        ["*app_name", "*user_id", "*session_id", "*id", "seq", "content", "actions", "extra"],
    ),
    "adk_memories": (
        16,
        306,
        ["*app_name", "*user_id", "*id", "*session_id", "content", "words", "expire_time"],
    ),
    "adk_artifact_names": (
        276,
        306,
        ["*app_name", "*user_id", "*session_id", "*name_hash", "filename", "versions"],
    ),
    "adk_artifacts": (
        536,
        306,
        [
            "*app_name",
            "*user_id",
            "*session_id",
            "*name_hash",
            "*version",
            "mime_type",
            "size",
            "hash",
            "part",
        ],
    ),
    "adk_artifact_contents": (16, 540, ["*app_name", "*user_id", "*hash", "blob_id", "size", "uses"]),
    "adk_artifact_blobs": (276, 540, ["*app_name", "*user_id", "*blob_id", "published"]),
    "adk_artifact_chunks": (536, 540, ["*app_name", "*user_id", "*blob_id", "*number", "data"]),
}
"""Where each table stands, and the columns that the drawing shows; those of the key have a star."""


def tables() -> Drawing:
    """The tables, the columns that matter, and what refers to what."""
    drawing = Drawing("The tables and their keys", 760, 706)
    drawing.text(16, 22, "Sessions", bold=True)
    drawing.text(16, 292, "Memory", bold=True)
    drawing.text(276, 292, "Artifacts", bold=True)
    for name, (x, y, columns) in TABLES.items():
        height = 30 + 18 * len(columns)
        drawing.shapes.append(
            f'<rect x="{x}" y="{y}" width="208" height="{height}" rx="6" fill="#fff" stroke="{LINE}"/>'
            f'<path d="M{x} {y + 24}V{y + 6}q0 -6 6 -6h196q6 0 6 6V{y + 24}z" fill="{SERVER}" '
            f'stroke="{LINE}"/>'
        )
        drawing.text(x + 10, y + 17, name, bold=True)
        for number, column in enumerate(columns):
            key = column.startswith("*")
            drawing.text(
                x + 10,
                y + 41 + 18 * number,
                column.removeprefix("*"),
                size=12,
                bold=key,
                colour=INK if key else GREY,
            )
    drawing.arrow((536, 84), (485, 84))
    drawing.text(510, 78, "FK", size=11, colour=GREY, anchor="middle")
    drawing.arrow((536, 372), (485, 372))
    drawing.text(510, 366, "FK", size=11, colour=GREY, anchor="middle")
    drawing.arrow((536, 596), (485, 596))
    drawing.text(510, 590, "FK", size=11, colour=GREY, anchor="middle")
    drawing.arrow((224, 620), (275, 600), dashed=True)
    drawing.arrow((640, 498), (640, 522), (120, 522), (120, 539), dashed=True)
    drawing.text(
        16,
        696,
        "Bold: the primary key. FK: deleted together. Dashed: by value, without a foreign key.",
        size=12,
        colour=GREY,
    )
    return drawing


DRAWINGS = {"layers.svg": layers, "event-path.svg": event_path, "tables.svg": tables}


def main() -> int:
    """Write all of them."""
    for name, draw in DRAWINGS.items():
        (DOCS / name).write_text(draw().svg(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
