"""SVG as text: lines, labels, bars, curves and the page around them.

Owns: the markup. Pure; equal arguments give equal bytes. Must not know: what is drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final
from xml.sax.saxutils import escape

GRID: Final = "#dddddd"
DARK: Final = "#333333"
BLUE, GREEN, ORANGE, PINK, GREY = "#0072b2", "#009e73", "#d55e00", "#cc79a7", "#999999"
"""Colours that people who see few colours can tell apart (Okabe and Ito)."""

MIDDLE: Final = 'text-anchor="middle"'
END: Final = 'text-anchor="end"'

Point = tuple[float, float]


def page(width: int, height: int, parts: Iterable[str]) -> str:
    """A whole file, white behind the parts."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        'font-size="13">'
    )
    return "\n".join([head, f'<rect width="{width}" height="{height}" fill="#ffffff"/>', *parts, "</svg>", ""])


def line(start: Point, end: Point, colour: str, *, dashes: str = "", width: int = 1) -> str:
    place = f'x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}"'
    return f'<line {place} stroke="{colour}" stroke-width="{width}" stroke-dasharray="{dashes or "none"}"/>'


def text(x: float, y: float, words: str, style: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(words)}</text>'


def bar(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(0.0, width):.1f}" height="{height:.1f}" fill="{colour}"/>'


def polyline(points: Sequence[Point], colour: str, *, dashes: str = "") -> str:
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    style = f'fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes or "none"}"'
    return f'<polyline points="{places}" {style}/>'
