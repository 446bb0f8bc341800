"""The results: as tables in the terminal, as Markdown, as JSON, as a chart."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
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


# What bounds an operation, where that is not the bare driver.
LIMITS = {"append_32": "pgbench"}


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


def distances(results: Results) -> tuple[list[str], Rows]:
    """Each operation beside the bare driver, and beside the fastest of the other services."""
    header = [
        "operation",
        "unit",
        "adk-psqlpy",
        "the limit",
        "distance",
        "best other service",
        "times as fast",
    ]
    rows: Rows = []
    for row in results["operations"]:
        if OURS not in row["peers"]:
            continue
        better = row["unit"] != "ms"
        ours = row["peers"][OURS]["median"]
        cells = [row["title"], row["unit"], number(ours)]
        peer = LIMITS.get(row["key"], BARE)
        limit = row["peers"].get(peer)
        if limit is None:
            cells += ["", ""]
        else:
            times = limit["median"] / ours if better else ours / limit["median"]
            cells += [f"{number(limit['median'])} ({LABELS[peer]})", f"{times:.2f} ×"]
        others = {key: row["peers"][key]["median"] for key in RIVALS if key in row["peers"]}
        if others:
            best = (max if better else min)(others, key=lambda key: others[key])
            wrong = " ✗" if best in row["wrong"] else ""
            times = ours / others[best] if better else others[best] / ours
            cells += [f"{number(others[best])} ({LABELS[best]}){wrong}", f"{times:.1f} ×"]
        else:
            cells += ["", ""]
        rows.append(cells)
    return header, rows + _distances_of_the_crate(results)


def _distances_of_the_crate(results: Results) -> Rows:
    rows: Rows = []
    for title in ("decode", "encode"):
        times = results.get("crate", {}).get(f"{title}/mixed_1000", {})
        rival = "loads + model_validate" if title == "decode" else "model_dump_json"
        if "adk_psqlpy" not in times:
            continue
        ours, floor = times["adk_psqlpy"], times.get("orjson.loads")
        cells = [f"{title} an event, of 1,000 mixed", "µs", number(ours)]
        cells += [f"{number(floor)} (orjson.loads)", f"{ours / floor:.2f} ×"] if floor else ["", ""]
        rows.append([*cells, f"{number(times[rival])} (pydantic)", f"{times[rival] / ours:.1f} ×"])
    return rows


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


# The operations of docs/choosing.md, in words for readers who do not know the methods.
CHOOSING = {
    "get_0": "read a session without events",
    "get_100": "read 100 events",
    "get_1000": "read 1,000 events",
    "last_20_of_100000": "read the last 20 of 100,000 events",
    "append": "append an event",
    "append_32": "append to 32 sessions at once",
    "list_100": "list 100 sessions",
    "list_10000": "list 10,000 sessions",
}


def choosing(results: Results) -> tuple[list[str], Rows]:
    """The medians of a few operations, of the services that a reader chooses from."""
    keys = (OURS, ADK, SQLSPEC_ASYNCPG)
    rows_by_key = {row["key"]: row for row in results["operations"]}
    rows = []
    for key, words in CHOOSING.items():
        row = rows_by_key[key]
        cells = [words, row["unit"]]
        for peer in keys:
            found = row["peers"].get(peer)
            wrong = " ✗" if peer in row["wrong"] else ""
            cells.append(f"{number(found['median'])}{wrong}" if found else "not asked")
        rows.append(cells)
    return ["operation", "unit", *(LABELS[key] for key in keys)], rows


SECTIONS = {
    "distances": distances,
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


def pages(results: Results, docs: Path) -> dict[Path, str]:
    """The pages of docs/ with the tables of these results between their marks; other text is unchanged."""
    tables = {name: markdown(*section(results)) for name, section in SECTIONS.items() if section(results)[1]}
    blocks = {
        "performance.md": tables | {"machine": _machine(results)},
        "choosing.md": {"choosing": markdown(*choosing(results)), "machine": _machine(results)},
    }
    return {docs / name: _filled(docs / name, each) for name, each in blocks.items()}


def _filled(page: Path, blocks: dict[str, str]) -> str:
    text = page.read_text(encoding="utf-8")
    for name, block in blocks.items():
        begin, end = BEGIN.format(name=name), END.format(name=name)
        before, mark, rest = text.partition(begin)
        _, closing, after = rest.partition(end)
        if not mark or not closing:
            raise SystemExit(f"{page} has no place for {name!r}: {begin} ... {end}")
        text = f"{before}{begin}\n\n{block}\n\n{end}{after}"
    return text


def write_docs(results: Results, docs: Path) -> None:
    """Write the tables into the pages."""
    for page, text in pages(results, docs).items():
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
