"""The results: as tables in the terminal, as Markdown, as JSON, as a chart."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from comparison.services import ADK, BARE, LABELS, OURS, SQLSPEC_ASYNCPG, SQLSPEC_PSQLPY

Results = dict[str, Any]
Rows = list[list[str]]

RIVALS = (ADK, SQLSPEC_PSQLPY, SQLSPEC_ASYNCPG)
COLUMNS = (OURS, *RIVALS, BARE)
BEGIN, END = "<!-- measured: {name} -->", "<!-- end of {name} -->"


@dataclass(frozen=True)
class Goal:
    """What the design asks of an operation: times faster than the best rival, times the limit at most."""

    operation: str
    rival: float | None
    limit: float | None = None
    limit_of: tuple[str, str] | None = None  # operation and peer


GOALS = (
    Goal("get_1000", 12, 2.5, ("get_1000", BARE)),
    Goal("get_100", 8),
    Goal("get_0", 5, 1.5, ("round_trip", BARE)),
    Goal("last_20_of_5000", 6, 1.5, ("last_20_of_100", OURS)),
    Goal("last_20_of_100000", 6, 1.5, ("last_20_of_100", OURS)),
    Goal("append", 2.5, 1.3, ("append", BARE)),
    Goal("append_32", 10, 1, ("append_32", "pgbench")),
    Goal("list_100", 4),
)


def summary(samples: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(samples, n=4) if len(samples) > 1 else samples * 3
    return {"median": middle, "q1": low, "q3": high, "samples": len(samples)}


def number(value: float) -> str:
    """Three significant digits."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}" if value > 0 else "0"


def _cell(row: Results, key: str) -> str:
    found = row["peers"].get(key)
    if found is None:
        return ""
    mark = " ✗" if key in row["wrong"] else ""
    return f"{number(found['median'])} ({number(found['q1'])}-{number(found['q3'])}){mark}"


def operations(results: Results) -> tuple[list[str], Rows]:
    """Median (quartiles) of every peer and operation."""
    keys = [key for key in (*COLUMNS, "pgbench") if any(key in row["peers"] for row in results["operations"])]
    header = ["operation", *(LABELS[key] for key in keys)]
    rows = [
        [f"{row['title']}, {row['unit']}", *(_cell(row, key) for key in keys)]
        for row in results["operations"]
    ]
    return header, rows


def goals(results: Results) -> tuple[list[str], Rows]:
    """Each goal beside what was measured."""
    found = {row["key"]: row for row in results["operations"]}
    header = ["operation", "ours", "best rival", "goal", "measured", "limit", "goal", "measured", ""]
    rows: Rows = []
    for goal in GOALS:
        row = found.get(goal.operation)
        if row is None or OURS not in row["peers"]:
            continue
        better = row["unit"] != "ms"
        ours = row["peers"][OURS]["median"]
        rivals = {key: row["peers"][key]["median"] for key in RIVALS if key in row["peers"]}
        cells, met = [row["title"], f"{number(ours)} {row['unit']}"], []
        if rivals and goal.rival:
            best = (max if better else min)(rivals, key=lambda key: rivals[key])
            times = ours / rivals[best] if better else rivals[best] / ours
            cells += [f"{number(rivals[best])} ({LABELS[best]})", f"≥ {goal.rival:g} ×", f"{times:.1f} ×"]
            met.append(times >= goal.rival)
        else:
            cells += ["", "", ""]
        operation, peer = goal.limit_of or ("", "")
        if goal.limit and operation in found and peer in found[operation]["peers"]:
            limit = found[operation]["peers"][peer]["median"]
            words = f"{number(limit)} ({found[operation]['title'].replace('`', '')}, {LABELS[peer]})"
            sign = "≥" if better else "≤"
            cells += [words, f"{sign} {goal.limit:g} ×", f"{ours / limit:.2f} ×"]
            met.append(ours / limit >= goal.limit if better else ours / limit <= goal.limit)
        else:
            cells += ["", "", ""]
        rows.append([*cells, "met" if all(met) else "missed"])
    return header, rows + _goals_of_the_crate(results) + _goal_of_memory(results)


def _goals_of_the_crate(results: Results) -> Rows:
    rows: Rows = []
    for title, wanted, floor_wanted in (("decode", 8, 2.5), ("encode", 4, None)):
        times = results.get("crate", {}).get(f"{title}/mixed_1000", {})
        name = "model_validate" if title == "decode" else "model_dump_json"
        if "adk_psqlpy" not in times:
            continue
        ours, rival = times["adk_psqlpy"], times[name]
        cells = [f"{title} an event (of 1,000 mixed)", f"{number(ours)} µs", f"{number(rival)} µs ({name})"]
        cells += [f"≥ {wanted} ×", f"{rival / ours:.1f} ×"]
        met = rival / ours >= wanted
        if floor_wanted is None:
            cells += ["", "", ""]
        else:
            floor = times["orjson.loads"]
            cells += [f"{number(floor)} µs (orjson.loads)", f"≤ {floor_wanted:g} ×", f"{ours / floor:.2f} ×"]
            met = met and ours / floor <= floor_wanted
        rows.append([*cells, "met" if met else "missed"])
    return rows


def _goal_of_memory(results: Results) -> Rows:
    peaks = {key: each["alone"] for key, each in results.get("memory", {}).items()}
    rivals = {key: peaks[key]["peak"] for key in RIVALS if key in peaks}
    if OURS not in peaks or not rivals:
        return []
    best = min(rivals, key=lambda key: rivals[key])
    ours, held = peaks[OURS], max(1, peaks[OURS]["held"] - peaks[OURS]["before"])
    above = (ours["peak"] - ours["before"]) / held
    met = ours["peak"] < rivals[best] and above <= 2
    cells = [
        f"peak memory, {ours['events']:,} events",
        _mb(ours["peak"]),
        f"{_mb(rivals[best])} ({LABELS[best]})",
    ]
    cells += ["below", f"{rivals[best] / ours['peak']:.2f} ×", f"{_mb(held)} (held by the objects)"]
    return [[*cells, "≤ 2 ×", f"{above:.2f} ×", "met" if met else "missed"]]


def memory(results: Results) -> tuple[list[str], Rows]:
    """Peak of a process that reads 5,000 events, and how it grows with their number."""
    found = results.get("memory", {})
    sizes = sorted({each["events"] for peer in found.values() for each in peer["growth"]})
    alone_size = next(iter(found.values()))["alone"]["events"] if found else 0
    header = ["", f"peak, {alone_size:,} events", "before reading", "held by them"]
    header += [f"peak above idle, {size:,}" for size in sizes]
    rows = []
    for key in COLUMNS:
        if key not in found:
            continue
        alone, grown = found[key]["alone"], {each["events"]: each for each in found[key]["growth"]}
        cells = [_mb(alone["peak"]), _mb(alone["before"]), _mb(alone["held"] - alone["before"], signed=True)]
        for size in sizes:
            one = grown.get(size)
            cells.append(_mb(max(0, one["peak"] - one["before"]), signed=True) if one else "")
        rows.append([LABELS[key], *cells])
    return header, rows


def _mb(size: int, *, signed: bool = False) -> str:
    return f"{size / 1e6:{'+' if signed else ''}.1f} MB"


def correctness(results: Results) -> tuple[list[str], Rows]:
    """Each question, and what each service answered."""
    found = results.get("correctness", {})
    keys = [key for key in COLUMNS if key in found]
    header = ["", *(LABELS[key] for key in keys)]
    titles = list(dict.fromkeys(title for answers in found.values() for title in answers))
    rows = [
        [title, *("✓" if not found[key].get(title) else f"✗ {found[key][title]}" for key in keys)]
        for title in titles
    ]
    return header, rows


def crate(results: Results) -> tuple[list[str], Rows]:
    """Microseconds an event."""
    found = results.get("crate", {})
    header = ["", "adk-psqlpy", "pydantic", "`orjson.loads`", "against pydantic", "against orjson"]
    rows = []
    for group, times in found.items():
        ours = times.get("adk_psqlpy")
        # model_validate takes a dict that somebody parsed already; from text the parse belongs to it.
        rival = times.get("loads + model_validate", times.get("model_dump_json"))
        floor = times.get("orjson.loads")
        if ours is None or rival is None:
            continue
        floors = [f"{number(floor)} µs", f"{ours / floor:.2f} ×"] if floor else ["", ""]
        rows.append(
            [
                group,
                f"{number(ours)} µs",
                f"{number(rival)} µs",
                floors[0],
                f"{rival / ours:.2f} ×",
                floors[1],
            ]
        )
    return header, rows


SECTIONS = {
    "goals": goals,
    "operations": operations,
    "memory": memory,
    "correctness": correctness,
    "crate": crate,
}


def show(results: Results, console: Console) -> None:
    """Print every table that has rows."""
    for name, section in SECTIONS.items():
        header, rows = section(results)
        if not rows:
            continue
        table = Table(title=name, title_justify="left")
        for index, title in enumerate(header):
            table.add_column(title, justify="left" if index == 0 else "right", overflow="fold")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for key, reason in results.get("skipped", {}).items():
        console.print(f"{LABELS.get(key, key)} was not run: {reason}")


def markdown(header: list[str], rows: Iterable[list[str]]) -> str:
    """A table."""
    lines = ["| " + " | ".join(header) + " |", "|---" + "|---:" * (len(header) - 1) + "|"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def write_docs(results: Results, page: Path) -> None:
    """Fill the tables of the page in, between their marks; the words around them stay."""
    text = page.read_text(encoding="utf-8")
    blocks = {name: markdown(*section(results)) for name, section in SECTIONS.items() if section(results)[1]}
    blocks["machine"] = _machine(results)
    for name, block in blocks.items():
        begin, end = BEGIN.format(name=name), END.format(name=name)
        before, mark, rest = text.partition(begin)
        _, closing, after = rest.partition(end)
        if not mark or not closing:
            raise SystemExit(f"{page} has no place for {name!r}: {begin} ... {end}")
        text = f"{before}{begin}\n\n{block}\n\n{end}{after}"
    page.write_text(text, encoding="utf-8")


def _machine(results: Results) -> str:
    about = results["about"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return (
        f"{about['date']}, {about['cpus']} cores ({about['machine']}), PostgreSQL {about['server']} "
        f"({about['where']}, fsync {about['fsync']}), Python {about['python']}; {versions}. "
        f"{about['rounds']} interleaved rounds."
    )


def chart(results: Results, path: Path) -> None:
    """Draw latency (log scale), events a second and memory, a bar a service."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    colours = dict(zip(COLUMNS, ("#c2410c", "#1d4ed8", "#7c93c9", "#a9b8dd", "#9ca3af"), strict=True))
    rows = [row for row in results["operations"] if row["unit"] == "ms" and OURS in row["peers"]]
    figure, axes = pyplot.subplot_mosaic(
        [["latency", "rate"], ["latency", "memory"]],
        figsize=(12, 0.72 * len(rows) + 1.4),
        width_ratios=(3, 2),
        layout="constrained",
    )
    left = axes["latency"]
    _bars(left, [(row["title"], {k: v["median"] for k, v in row["peers"].items()}) for row in rows], colours)
    left.set_xscale("log")
    left.set_title("milliseconds, median (log scale; shorter is better)", fontsize=10)
    rates = [
        (row["title"], {key: found["median"] for key, found in row["peers"].items()})
        for row in results["operations"]
        if row["unit"] != "ms"
    ]
    _bars(axes["rate"], rates, colours)
    axes["rate"].set_title("events a second (longer is better)", fontsize=10)
    peaks = {
        key: (each["alone"]["peak"] - each["alone"]["before"]) / 1e6
        for key, each in results.get("memory", {}).items()
    }
    _bars(axes["memory"], [("get_session,\n5,000 events", peaks)] if peaks else [], colours)
    axes["memory"].set_title("MB at the peak, above idle (shorter is better)", fontsize=10)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _bars(axes: Any, rows: list[tuple[str, dict[str, float]]], colours: dict[str, str]) -> None:
    height = 0.8 / len(colours)
    for place, (key, colour) in enumerate(colours.items()):
        points = [(index, values[key]) for index, (_, values) in enumerate(rows) if key in values]
        if not points:
            continue
        bars = axes.barh(
            [index + (place - 2) * height for index, _ in points],
            [value for _, value in points],
            height * 0.92,
            color=colour,
            label=LABELS[key],
        )
        axes.bar_label(bars, [number(value) for _, value in points], padding=2, fontsize=7)
    axes.set_yticks(range(len(rows)), [title for title, _ in rows], fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
