"""Small panels of curves on a logarithmic scale, as SVG: written by hand, since a plotting library is a large thing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import attrs

COLUMNS = 4
WIDTH, HEIGHT = 250, 170  # of a panel
LEFT, TOP, RIGHT, BOTTOM = 44, 26, 8, 26  # around its curves
HEAD = 34
LOW, HIGH = 50.0, 20_000.0  # milliseconds
TICKS = (100, 300, 1000, 3000, 10_000)


@attrs.frozen
class Curve:
    """Points of (seconds, milliseconds)."""

    name: str
    colour: str
    points: Sequence[tuple[float, float]]


@attrs.frozen(kw_only=True)
class Panel:
    title: str
    curves: Sequence[Curve]


def plot(panels: Sequence[Panel], *, seconds: float, shaded: tuple[float, float]) -> str:
    """All panels with the same axes; `shaded` is a stretch of time to mark."""
    rows = math.ceil(len(panels) / COLUMNS)
    width, height = COLUMNS * WIDTH + 10, rows * HEIGHT + HEAD + 6
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif"'
        ' font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        *_legend(panels[0]),
    ]
    for place, panel in enumerate(panels):
        x, y = place % COLUMNS * WIDTH, place // COLUMNS * HEIGHT + HEAD
        parts += [f'<g transform="translate({x} {y})">', *_panel(panel, seconds, shaded), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _legend(panel: Panel) -> Iterator[str]:
    yield '<text x="10" y="20" font-size="13">milliseconds to the whole answer, over minutes; shaded: brown-out</text>'
    for place, curve in enumerate(panel.curves):
        x = 480 + 70 * place
        yield f'<line x1="{x}" y1="16" x2="{x + 24}" y2="16" stroke="{curve.colour}" stroke-width="2"/>'
        yield f'<text x="{x + 30}" y="20">{curve.name}</text>'


def _panel(panel: Panel, seconds: float, shaded: tuple[float, float]) -> Iterator[str]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    start, end = (_across(at, seconds) for at in shaded)
    yield f'<rect x="{start:.1f}" y="{TOP}" width="{end - start:.1f}" height="{bottom - TOP}" fill="#fdf0d5"/>'
    for tick in TICKS:
        y = _down(tick)
        yield f'<line x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#ddd"/>'
        yield f'<text x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end" fill="#555">{tick}</text>'
    for minute in range(0, int(seconds / 60) + 1, 3):
        x = _across(minute * 60, seconds)
        yield f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="middle" fill="#555">{minute}</text>'
    yield f'<rect x="{LEFT}" y="{TOP}" width="{right - LEFT}" height="{bottom - TOP}" fill="none" stroke="#999"/>'
    yield f'<text x="{LEFT}" y="{TOP - 8}" font-weight="bold">{panel.title}</text>'
    for curve in panel.curves:
        points = " ".join(f"{_across(at, seconds):.1f},{_down(value):.1f}" for at, value in curve.points)
        yield f'<polyline points="{points}" fill="none" stroke="{curve.colour}" stroke-width="1.6"/>'


def _across(at: float, seconds: float) -> float:
    return LEFT + at / seconds * (WIDTH - RIGHT - LEFT)


def _down(milliseconds: float) -> float:
    part = math.log(min(max(milliseconds, LOW), HIGH) / LOW) / math.log(HIGH / LOW)
    return HEIGHT - BOTTOM - part * (HEIGHT - BOTTOM - TOP)
