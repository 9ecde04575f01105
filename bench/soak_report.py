"""What a soak came to: pure numbers, a verdict, and a plot written by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import attrs

WARM_UP = 0.25  # of the samples, which are left out
BLOCKS = 8  # neighbouring samples are alike: the line is drawn through the means of so many stretches of time
T95 = 1.943  # of Student's distribution with BLOCKS - 2 degrees of freedom, one-sided
SLOPE_LIMIT = 1.0  # MiB an hour
UNSURE = 2.0  # MiB by which a run of minutes may grow: what is made once is not all made by then
LONG = 600.0  # seconds from which on a run is long enough for the limit alone
FLAT = 1.5
SPIKE = 0.025  # seconds that chance adds to a percentile
SHORT_SPIKE = 0.25  # the same in a run that is not long: a percentile is then one answer of a hundred or two


@attrs.frozen
class Sample:
    """`at` in seconds since the load began; `resident` in MiB."""

    at: float
    resident: float
    descriptors: int
    tasks: int


@attrs.frozen(kw_only=True)
class Slope:
    """MiB an hour: the estimate, and what it is above of with 95 % confidence. `grown`: MiB in the time measured."""

    per_hour: float
    at_least: float
    grown: float
    start: float  # where the line begins, MiB

    def is_fine(self, seconds: float) -> bool:
        """Whether growth over the limit is not shown by a run of so many seconds."""
        return self.at_least <= SLOPE_LIMIT or (seconds < LONG and self.grown <= UNSURE)


def warm(samples: Sequence[Sample]) -> Sequence[Sample]:
    return samples[int(len(samples) * WARM_UP) :]


def slope(samples: Sequence[Sample]) -> Slope:
    """The line of least squares through the means of blocks of resident memory, after warm-up."""
    kept = warm(samples)
    points = [(_mean([each.at for each in block]), _mean([each.resident for each in block])) for block in _blocks(kept)]
    middle, level = _mean([at for at, _ in points]), _mean([value for _, value in points])
    spread = sum((at - middle) ** 2 for at, _ in points)
    rise = sum((at - middle) * (value - level) for at, value in points) / spread
    residual = sum((value - level - rise * (at - middle)) ** 2 for at, value in points)
    error = math.sqrt(residual / (len(points) - 2) / spread)
    return Slope(
        per_hour=rise * 3600,
        at_least=(rise - T95 * error) * 3600,
        grown=rise * (kept[-1].at - kept[0].at),
        start=level + rise * (kept[0].at - middle),
    )


def _blocks(samples: Sequence[Sample]) -> Iterator[Sequence[Sample]]:
    for number in range(BLOCKS):
        yield samples[len(samples) * number // BLOCKS : len(samples) * (number + 1) // BLOCKS]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def percentiles(times: Sequence[tuple[float, float]], began: float, seconds: float) -> list[tuple[float, float]]:
    """The 99th percentile, in seconds, of each stretch of time after `began`: twelve of them, at their middles."""
    width = seconds / 12
    found: list[tuple[float, float]] = []
    for number in range(12):
        start = began + number * width
        within = sorted(taken for at, taken in times if start <= at < start + width)
        if within:
            found.append(((number + 0.5) * width, within[math.ceil(0.99 * len(within)) - 1]))
    return found


def is_flat(
    p99s: Sequence[tuple[float, float]], *, beside: Sequence[tuple[float, float]] = (), seconds: float = LONG
) -> bool:
    """Whether the last third's median is not above the first's, but for what chance does in a run of so many seconds.

    `beside`: the same without the router. What rises there too is the machine, and is allowed for.
    """
    (first, last), (direct_first, direct_last) = _ends(p99s), _ends(beside or [(0.0, 1.0)])
    busier = max(1.0, direct_last / direct_first)
    return last <= FLAT * busier * first + (SPIKE if seconds >= LONG else SHORT_SPIKE)


def _ends(p99s: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The medians of the first third and of the last."""
    values = [value for _, value in p99s]
    third = max(1, len(values) // 3)
    first, last = sorted(values[:third]), sorted(values[-third:])
    return first[len(first) // 2], last[len(last) // 2]


WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 190, 60, 14, 28, 26


@attrs.frozen
class Line:
    name: str
    colour: str
    points: Sequence[tuple[float, float]]


@attrs.frozen(kw_only=True)
class Panel:
    """`from_zero` False: its axis begins just below the smallest value, so that small changes are seen."""

    name: str
    lines: Sequence[Line]
    from_zero: bool = True

    @property
    def axis(self) -> tuple[float, float]:
        """Its lowest and its highest value."""
        values = [value for line in self.lines for _, value in line.points] or [1.0]
        low = 0.0 if self.from_zero else float(math.floor(min(values)))
        return low, low + nice(max(values) - low)


def plot(title: str, panels: Sequence[Panel], seconds: float) -> str:
    """Panels one below the other over the same time."""
    height = 34 + len(panels) * HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif"'
        ' font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="13">{title}</text>',
    ]
    for place, panel in enumerate(panels):
        parts += [f'<g transform="translate(0 {30 + place * HEIGHT})">', *_drawn(panel, seconds), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _drawn(panel: Panel, seconds: float) -> Iterator[str]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    low, high = panel.axis
    yield f'<text x="{LEFT}" y="{TOP - 8}" font-weight="bold">{panel.name}</text>'
    for part in range(5):
        y = bottom - part / 4 * (bottom - TOP)
        yield f'<line x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#ddd"/>'
        label = low + (high - low) * part / 4
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#555">{label:g}</text>'
    for part in range(7):
        x = LEFT + part / 6 * (right - LEFT)
        end = "end" if part == 6 else "middle"
        yield f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="{end}" fill="#555">{seconds * part / 6:.0f} s</text>'
    for place, line in enumerate(panel.lines):
        points = " ".join(
            f"{LEFT + at / seconds * (right - LEFT):.1f},{bottom - (value - low) / (high - low) * (bottom - TOP):.1f}"
            for at, value in line.points
        )
        x = right - 190 * (len(panel.lines) - place)
        yield f'<polyline points="{points}" fill="none" stroke="{line.colour}" stroke-width="1.6"/>'
        yield f'<line x1="{x}" y1="{TOP - 12}" x2="{x + 20}" y2="{TOP - 12}" stroke="{line.colour}" stroke-width="2"/>'
        yield f'<text x="{x + 26}" y="{TOP - 8}">{line.name}</text>'


def nice(value: float) -> float:
    """The smallest of 1, 2, 4, 8 times a power of ten that is not below `value`."""
    power = 10.0 ** math.floor(math.log10(max(value, 1e-9)))
    return next(step * power for step in (1.0, 2.0, 4.0, 8.0, 10.0) if step * power >= value)
