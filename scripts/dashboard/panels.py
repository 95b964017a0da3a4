"""The panels of a dashboard as SVG: lines over time, readable on light and dark backgrounds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

COLUMNS, WIDTH, HEIGHT, GAP = 2, 520, 150, 28
LEFT, HEAD, ROW, LEGEND = 64, 26, 16, 3  # the axis, the title, a line of the legend, their number
COLOURS = ("#2b7de9", "#e0752d", "#3f9f4f", "#c23b5a", "#8a63d2", "#1c9aa8", "#b8860b", "#6b7785")
STYLE = """\
text { font: 11px sans-serif; fill: #333 } .title { font: bold 13px sans-serif }
.grid { stroke: #d4dae0 } polyline { fill: none; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) { text { fill: #ddd } .grid { stroke: #444c56 } }"""


class Series(NamedTuple):
    """One line: its name, and values at moments (seconds)."""

    name: str
    points: Sequence[tuple[float, float]]


class Panel(NamedTuple):
    """One chart."""

    title: str
    unit: str
    series: Sequence[Series]


def draw(panels: Sequence[Panel], begin: float, end: float) -> str:
    """Draw all panels side by side, over the time from `begin` to `end`."""
    tall = HEAD + HEIGHT + (LEGEND + 1) * ROW + GAP
    parts = []
    for number, panel in enumerate(panels):
        left, top = number % COLUMNS * (WIDTH + GAP), number // COLUMNS * tall
        parts.append(f'<g transform="translate({left},{top})">')
        parts += _panel(panel, begin, end)
        parts.append("</g>")
    width, height = COLUMNS * (WIDTH + GAP) - GAP, -(-len(panels) // COLUMNS) * tall
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-8 -4 {width + 16} {height}">\n'
        f"<style>{STYLE}</style>\n{body}\n</svg>\n"
    )


def _panel(panel: Panel, begin: float, end: float) -> list[str]:
    most = max((value for one in panel.series for _, value in one.points), default=0)
    top = _round_up(most)
    parts = [f'<text class="title" y="14">{escape(panel.title)}</text>']
    for step in range(3):
        y = HEAD + HEIGHT * step / 2
        label = _spoken(top * (2 - step) / 2, panel.unit)
        parts += [
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>',
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(label)}</text>',
        ]
    for moment, anchor in ((begin, "start"), (end, "end")):
        x = LEFT if moment == begin else WIDTH
        text = f"{moment - begin:.0f} s"
        parts.append(f'<text x="{x}" y="{HEAD + HEIGHT + 13}" text-anchor="{anchor}">{text}</text>')
    x, row = float(LEFT), 0
    for number, one in enumerate(panel.series):
        colour = COLOURS[number % len(COLOURS)]
        dots = " ".join(
            f"{LEFT + (WIDTH - LEFT) * (moment - begin) / (end - begin):.1f},"
            f"{HEAD + HEIGHT * (1 - value / top):.1f}"
            for moment, value in one.points
        )
        parts.append(f'<polyline stroke="{colour}" points="{dots}"/>')
        wide = 26 + 6.6 * len(one.name)
        if x + wide > WIDTH and x > LEFT:
            x, row = float(LEFT), row + 1
        if row < LEGEND:
            y = HEAD + HEIGHT + ROW * (row + 2)
            parts += [
                f'<rect x="{x:.0f}" y="{y - 8}" width="10" height="8" fill="{colour}"/>',
                f'<text x="{x + 14:.0f}" y="{y}">{escape(one.name)}</text>',
            ]
        x += wide
    return parts


def _round_up(value: float) -> float:
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value)


def _spoken(value: float, unit: str) -> str:
    if unit == "s":
        return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"
    tail = {"Bps": "B/s", "bytes": "B", "ops": "/s", "percentunit": ""}.get(unit, "")
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {letter}{tail}"
    return f"{value:.3g} {tail}".strip()
