"""Draw docs/turn.png from docs/turn.json, and fill in the table of whole turns in docs/performance.md.

    python benches/draw_turn.py

`python benches/turn.py --write-docs` measures, writes the JSON and calls this.

A bar a service and length of history: a turn of a Runner, of which the darker part is the session service.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot

DOCS = Path(__file__).parents[1] / "docs"
# The service, and the rest of the turn.
COLOURS = {
    "ours": ("#c2410c", "#f4b08d"),
    "ours_full": ("#9a3412", "#e2a68a"),
    "adk": ("#1d4ed8", "#a9c1f5"),
    "sqlspec_asyncpg": ("#64748b", "#cbd5e1"),
}


def number(value: float) -> str:
    """Two or three digits."""
    return f"{value:,.0f}" if value >= 20 else f"{value:.1f}"


def draw(results: dict[str, Any], path: Path) -> None:
    """One panel a history, each with a scale of its own."""
    histories, labels = results["histories"], results["labels"]
    figure, panels = pyplot.subplots(1, len(histories), figsize=(12, 2.6), layout="constrained", sharey=True)
    for panel, measured in zip(panels, histories, strict=True):
        for place, key in enumerate(labels):
            peer = measured["peers"][key]
            whole, inside = peer["turn"]["median"], peer["service"]["median"]
            dark, light = COLOURS[key]
            panel.barh(place, inside, 0.7, color=dark)
            panel.barh(place, whole - inside, 0.7, left=inside, color=light)
            panel.text(
                whole, place, f" {number(whole)} ms, {number(inside)} in the service", va="center", fontsize=8
            )
        panel.set_title(f"{measured['history']:,} events in the session", fontsize=10)
        panel.set_yticks(range(len(labels)), labels.values(), fontsize=9)
        panel.invert_yaxis() if panel is panels[0] else None
        panel.set_xticks([])
        panel.set_xlim(0, max(peer["turn"]["median"] for peer in measured["peers"].values()) * 1.75)
        panel.spines[["top", "right", "bottom"]].set_visible(False)
    about = results["about"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    figure.suptitle(
        "A turn of an ADK Runner with a scripted model. Dark: the session service. Light: ADK itself. "
        "Medians; shorter is better.",
        fontsize=10,
    )
    figure.supxlabel(
        f"{about['turn']}; {about['date']}, PostgreSQL {about['server']}, {about['cpus']} cores; {versions}",
        fontsize=8,
    )
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def table(results: dict[str, Any]) -> str:
    """A row a service and history: the turn, the part of the service, and its share."""
    lines = [
        "| events before the turn | service | turn, ms | in the service, ms | share of the turn |",
        "|---:|---|---:|---:|---:|",
    ]
    for measured in results["histories"]:
        for key, label in results["labels"].items():
            peer = measured["peers"][key]
            whole, inside = (number(peer[name]["median"]) for name in ("turn", "service"))
            share = peer["share_percent"]["median"]
            lines.append(f"| {measured['history']:,} | {label} | {whole} | {inside} | {share:.0f} % |")
    about = results["about"]
    return "\n".join(
        [
            f"{about['date']}, {about['rounds']} interleaved rounds, {about['cpus']} cores, "
            f"PostgreSQL {about['server']}. A turn: {about['turn']}.",
            "",
            *lines,
        ]
    )


def write_docs() -> None:
    """The picture and the table, from the numbers that are there."""
    results = json.loads((DOCS / "turn.json").read_text(encoding="utf-8"))
    draw(results, DOCS / "turn.png")
    page = DOCS / "performance.md"
    begin, end = "<!-- measured: turn -->", "<!-- end of turn -->"
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closing, after = rest.partition(end)
    assert closing, f"{page} has no place for the table"
    page.write_text(f"{before}{begin}\n\n{table(results)}\n\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    write_docs()
    sys.exit(0)
