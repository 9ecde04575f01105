"""Medians and ranges as SVG, written by hand since a plotting library is a large thing: a line for each target."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from xml.sax.saxutils import escape

import attrs

from .figures import Row, Spread, Times, rows
from .rounds import Outcome

WIDTH, LABELS, RIGHT = 900, 250, 70
LINE, TOP, BOTTOM = 18, 30, 26  # of a panel: a row, above and below its rows
HEAD = 30
# Legible on the white and on the dark page alike.
_COLOURS = {"p50": "#3d8bb8", "p99": "#e07a1f", "p99.9": "#d0474f"}
# A page that is dark asks for light letters; an SVG may say so itself, as an image too.
_STYLE = """<style>
svg { --page: #fff; --text: #222; --quiet: #666; --grid: #ddd }
@media (prefers-color-scheme: dark) { svg { --page: #16191d; --text: #e6e6e6; --quiet: #a0a0a0; --grid: #3a3f45 } }
.page { fill: var(--page, #fff) } .grid { stroke: var(--grid, #ddd) }
text { fill: var(--text, #222) } .quiet { fill: var(--quiet, #666) }
</style>"""


@attrs.frozen(kw_only=True)
class Dot:
    """`label` stands beside it where there is one dot in a line only."""

    value: float
    low: float
    high: float
    colour: str = _COLOURS["p50"]
    label: str = ""


@attrs.frozen(kw_only=True)
class Line:
    name: str
    dots: Sequence[Dot]


@attrs.frozen(kw_only=True)
class Panel:
    """Lines over one logarithmic axis. `legend`: what colours mean, by name."""

    title: str
    lines: Sequence[Line]
    legend: Mapping[str, str] = attrs.field(factory=dict[str, str])

    @property
    def height(self) -> int:
        return TOP + LINE * len(self.lines) + BOTTOM

    @property
    def axis(self) -> tuple[int, int]:
        """The powers of ten that all values lie between."""
        values = [value for line in self.lines for dot in line.dots for value in (dot.low, dot.high) if value > 0]
        low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        return low, max(high, low + 1)


def plot(outcomes: Sequence[Outcome]) -> str | None:
    """A page of panels; None where no target has figures."""
    panels = [panel for panel in _panels(outcomes) if panel.lines]
    if not panels:
        return None
    height = HEAD + sum(panel.height for panel in panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif"'
        ' font-size="11">',
        "<title>Figures of a bench by scenario and target</title>",
        _STYLE,
        f'<rect class="page" width="{WIDTH}" height="{height}"/>',
        '<text x="10" y="20" font-size="13">medians of the rounds and their ranges, on logarithmic axes</text>',
    ]
    at = HEAD
    for panel in panels:
        parts += [f'<g transform="translate(0 {at})">', *_drawn(panel), "</g>"]
        at += panel.height
    return "\n".join([*parts, "</svg>", ""])


def _panels(outcomes: Sequence[Outcome]) -> Iterator[Panel]:
    named = [
        (f"{outcome.scenario.name} {row.target}", row)
        for outcome in outcomes
        for row in rows(outcome)
        if row.failure is None
    ]
    yield Panel(title="answers a second", lines=_lines(named, lambda row: row.requests_per_second))
    yield Panel(title="CPU µs per request", lines=_lines(named, lambda row: row.cpu_us_per_request))
    yield Panel(title="CPU µs per event", lines=_lines(named, lambda row: row.cpu_us_per_event))
    for title, of in _TIMES:
        lines = [Line(name=name, dots=_percentiles(found)) for name, row in named if (found := of(row)) is not None]
        yield Panel(title=title, lines=lines, legend=_COLOURS)
    memory = [(name, row.resident_mib) for name, row in named if row.resident_mib]
    yield Panel(
        title="resident MiB",
        lines=[Line(name=name, dots=[Dot(value=mib, low=mib, high=mib, label=f"{mib:.0f}")]) for name, mib in memory],
    )


_TIMES: tuple[tuple[str, Callable[[Row], Times | None]], ...] = (
    ("ms to the whole answer", lambda row: row.latency_ms),
    ("ms to the first token", lambda row: row.first_token_ms),
)


def _lines(named: Sequence[tuple[str, Row]], of: Callable[[Row], Spread | None]) -> list[Line]:
    return [
        Line(name=name, dots=[Dot(value=found.median, low=found.low, high=found.high, label=_label(found.median))])
        for name, row in named
        if (found := of(row)) is not None and found.low > 0
    ]


def _label(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def _percentiles(found: Times) -> list[Dot]:
    spreads = {"p50": found.p50, "p99": found.p99, "p99.9": Spread(median=found.p999, low=found.p999, high=found.p999)}
    return [
        Dot(
            value=max(spread.median, _LEAST),
            low=max(spread.low, _LEAST),
            high=max(spread.high, _LEAST),
            colour=_COLOURS[name],
        )
        for name, spread in spreads.items()
    ]


_LEAST = 0.001  # milliseconds: what is counted in microseconds may be none


def _drawn(panel: Panel) -> Iterator[str]:
    low, high = panel.axis
    bottom = TOP + LINE * len(panel.lines)
    yield f'<text x="{LABELS}" y="{TOP - 12}" font-weight="bold">{escape(panel.title)}{_legend(panel)}</text>'
    for power in range(low, high + 1):
        x = _across(10.0**power, low, high)
        yield f'<line x1="{x:.1f}" y1="{TOP - 4}" x2="{x:.1f}" y2="{bottom}" class="grid"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 14}" text-anchor="middle" class="quiet">{10.0**power:g}</text>'
    for number, line in enumerate(panel.lines):
        y = TOP + LINE * number + LINE / 2
        yield f'<text x="{LABELS - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(line.name)}</text>'
        for dot in line.dots:
            x, start, end = (_across(value, low, high) for value in (dot.value, dot.low, dot.high))
            yield f'<line x1="{start:.1f}" y1="{y}" x2="{end:.1f}" y2="{y}" stroke="{dot.colour}" stroke-width="3"/>'
            yield f'<circle cx="{x:.1f}" cy="{y}" r="4" fill="{dot.colour}"/>'
            if dot.label:
                yield f'<text x="{end + 8:.1f}" y="{y + 4:.1f}">{dot.label}</text>'


def _legend(panel: Panel) -> str:
    return "".join(f'<tspan dx="14" style="fill:{colour}">● {name}</tspan>' for name, colour in panel.legend.items())


def _across(value: float, low: int, high: int) -> float:
    return LABELS + (math.log10(value) - low) / (high - low) * (WIDTH - RIGHT - LABELS)
