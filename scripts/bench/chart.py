"""Small bar charts as an SVG image, readable on light and dark backgrounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

COLUMNS, WIDTH, LINE, HEAD, GAP, NAMES, FIGURES = 2, 460, 18, 30, 24, 120, 70
STYLE = """\
text { font: 12px sans-serif; fill: #333 } .title { font-weight: bold }
.bar { fill: #9aa5b1 } .own { fill: #2b7de9 }
@media (prefers-color-scheme: dark) { text { fill: #ddd } .bar { fill: #66717d } }"""


class Panel(NamedTuple):
    """One chart: a value per name; smaller is better."""

    title: str
    unit: str
    values: dict[str, float]


def draw(panels: Sequence[Panel], highlighted: Sequence[str]) -> str:
    """Draw the panels side by side. Bars of `highlighted` names have another colour."""
    tallest = max((len(panel.values) for panel in panels), default=0)
    height = HEAD + tallest * LINE + GAP
    parts = []
    for number, panel in enumerate(panels):
        left, top = number % COLUMNS * (WIDTH + GAP), number // COLUMNS * height + LINE
        title = f"{panel.title}: {panel.unit}"
        parts.append(f'<text class="title" x="{left}" y="{top}">{escape(title)}</text>')
        longest = max(panel.values.values(), default=0) or 1
        for row, (name, value) in enumerate(panel.values.items()):
            y = top + HEAD - LINE + row * LINE
            length = max(value, 0) / longest * (WIDTH - NAMES - FIGURES)
            kind = "own" if name in highlighted else "bar"
            parts += [
                f'<text x="{left}" y="{y + 13}">{escape(name)}</text>',
                f'<rect class="{kind}" x="{left + NAMES}" y="{y + 2}" width="{length:.1f}"'
                f' height="{LINE - 5}"/>',
                f'<text x="{left + NAMES + length + 6:.1f}" y="{y + 13}">{_short(value)}</text>',
            ]
    width, rows = COLUMNS * (WIDTH + GAP), -(-len(panels) // COLUMNS)
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {rows * height}">\n'
        f"<style>{STYLE}</style>\n{body}\n</svg>\n"
    )


def _short(value: float) -> str:
    """Format with three digits, or with all digits before the decimal point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
