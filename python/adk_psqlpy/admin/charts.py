"""Charts as SVG text: stacked bars by day, and small line charts.

There is no script. The style sheet shows the numbers of a bar while the pointer is over it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from html import escape
from typing import Final

HALF: Final = 600
"""The width of a chart that shares its row with another one. Text is 12 of these units high."""
FULL: Final = 2 * HALF + 60
_HEIGHT: Final = 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 8, 12, 26
_TIP_WIDTH: Final = 190
_LINE: Final = 17


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of the bars: its name, the number of its colour in the style sheet, and one value for each
    day.
    """

    name: str
    color: int | str
    values: Sequence[int]


def compact(value: float) -> str:
    """A number as labels show it: `950`, `12.3k`, `4.5M`."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.1f}".removesuffix(".0") + unit
    return f"{value:g}"


def size(value: float) -> str:
    """A number of bytes as labels show it, in powers of 1,024."""
    for limit, unit in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if abs(value) >= limit:
            return f"{value / limit:.1f}".removesuffix(".0") + f" {unit}"
    return f"{value:g} B"


def bars(
    title: str,
    days: Sequence[date],
    layers: Sequence[Layer],
    label: Callable[[float], str] = compact,
    wide: int = HALF,
) -> str:
    """Stacked bars, one for each day. A screen reader says `title`. `wide` is `HALF` or `FULL`."""
    totals = [sum(layer.values[place] for layer in layers) for place in range(len(days))]
    step, top = _scale(max(totals, default=0))
    height = _HEIGHT - _TOP - _BOTTOM
    slot = (wide - _LEFT - _RIGHT) / max(1, len(days))
    width = max(1.0, min(slot * 0.72, 34.0))

    def y(value: float) -> float:
        return _TOP + height * (1 - value / top)

    lines, drawn, hits = [], [], []
    for number in range(round(top / step) + 1):
        at = y(number * step)
        lines.append(f'<line class="grid" x1="{_LEFT}" x2="{wide - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        lines.append(_text(_LEFT - 8, at + 4, label(number * step), "axis", "end"))
    every = max(1, math.ceil(len(days) / 8))
    for place, day in enumerate(days):
        left = _LEFT + slot * (place + 0.5) - width / 2
        below = 0
        for layer in layers:
            value = layer.values[place]
            if value:
                bottom, above = y(below), y(below + value)
                drawn.append(
                    f'<rect class="c{layer.color}" x="{left:.1f}" y="{above:.1f}" width="{width:.1f}" '
                    f'height="{max(bottom - above, 0.6):.1f}" rx="{min(2.5, width / 4):.1f}"/>'
                )
                below += value
        # Counted from the newest day, so that today has a label.
        if (len(days) - 1 - place) % every == 0:
            lines.append(_text(left + width / 2, _HEIGHT - 8, f"{day:%d %b}", "axis", "middle"))
        hits.append(
            _tip(
                day,
                (_LEFT + slot * place, slot, wide),
                [layer.values[place] for layer in layers],
                layers,
                label,
            )
        )
    return (
        f'<svg class="chart" viewBox="0 0 {wide} {_HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{''.join(lines)}{''.join(drawn)}{''.join(hits)}</svg>"
    )


def _tip(
    day: date,
    where: tuple[float, float, int],
    values: Sequence[int],
    layers: Sequence[Layer],
    label: Callable[[float], str],
) -> str:
    """The box that shows while the pointer is over a day: the layers and their sum, on the side that has
    room.

    `where` holds the left edge of the day, the width of the day, and the width of the chart.
    """
    left, slot, wide = where
    shown = [(layer, value) for layer, value in zip(layers, values, strict=True) if value]
    rows = [(f"c{layer.color}", layer.name, label(value)) for layer, value in reversed(shown)]
    if len(layers) > 1:
        rows.append(("", "all", label(sum(values))))
    x = left + slot + 6
    if x + _TIP_WIDTH > wide - _RIGHT:
        x = max(0.0, left - 6 - _TIP_WIDTH)
    texts = [_text(x + 10, _TOP + 20, f"{day:%A %d %B}", "tip-head")]
    for number, (color, name, value) in enumerate(rows, start=1):
        at = _TOP + 20 + number * _LINE
        if color:
            texts.append(f'<circle class="{color}" cx="{x + 14:.1f}" cy="{at - 4}" r="4"/>')
        texts.append(_text(x + 24, at, _short(name)))
        texts.append(_text(x + _TIP_WIDTH - 10, at, value, anchor="end"))
    height = 30 + len(rows) * _LINE
    return (
        f'<g class="day"><rect class="hit" x="{left:.1f}" y="{_TOP}" width="{slot:.1f}" '
        f'height="{_HEIGHT - _TOP - _BOTTOM}"/><g class="tip">'
        f'<rect class="tip-box" x="{x:.1f}" y="{_TOP}" width="{_TIP_WIDTH}" height="{height}" rx="8"/>'
        f"{''.join(texts)}</g></g>"
    )


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _short(name: str) -> str:
    return name if len(name) <= 17 else f"{name[:16]}…"


def _scale(most: int) -> tuple[float, float]:
    """The distance between grid lines (1, 2 or 5 times a power of ten), and the value of the top line."""
    if most <= 0:
        return 1.0, 4.0
    rough = most / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    step = max(1.0, step)  # counts are whole
    return step, step * math.ceil(most / step)


def spark(values: Sequence[int]) -> str:
    """A small line chart without axes."""
    width, height, most = 160, 36, max(values, default=0)
    if most == 0:
        return ""
    points = [
        (width * place / max(1, len(values) - 1), height - 3 - (height - 6) * value / most)
        for place, value in enumerate(values)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return (
        f'<svg class="spark" viewBox="0 0 {width} {height}" preserveAspectRatio="none" aria-hidden="true">'
        f'<polygon points="0,{height} {line} {width},{height}"/><polyline points="{line}"/></svg>'
    )
