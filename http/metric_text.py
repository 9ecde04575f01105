"""Metrics as text: Prometheus' format 0.0.4 and OpenMetrics 1.0, as prometheus_client writes them.

The library looks at each name and label of each sample each time, which made a page ten times as dear. Names and labels
here are ours, and are as both formats want them. Formats: https://prometheus.io/docs/instrumenting/exposition_formats/
and https://prometheus.io/docs/specs/om/open_metrics_spec/.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

GAUGE: Final = "gauge"
COUNTER: Final = "counter"
HISTOGRAM: Final = "histogram"
KEPT_LABELS: Final = 4096
_DIGITS: Final = 6  # before the point; Go, whose way of writing numbers this is, writes more of them with an exponent
_SHORT: Final = 10**_DIGITS
_ODD: Final = {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}

Labels = tuple[tuple[str, str], ...]


class Family:
    """One metric with its samples, in text. Counters are named without `_total`. `said` must be one line."""

    __slots__ = ("_sampled", "kind", "lines", "name", "said")

    def __init__(self, name: str, said: str, kind: str) -> None:
        self.name = name
        self._sampled = f"{name}_total" if kind == COUNTER else name
        self.said = said
        self.kind = kind
        self.lines: list[str] = []

    def add(self, labels: Labels, value: float) -> None:
        """A sample of a gauge or a counter."""
        self.lines.append(f"{self._sampled}{_shown(labels)} {number(value)}\n")

    def distribute(self, labels: Labels, bounds: tuple[float, ...], counts: Sequence[int], total: float) -> None:
        """The samples of a histogram: how many values were at most each bound, and above the last; and their sum."""
        name, below = self.name, 0
        for shown, count in zip(_buckets(labels, bounds), counts, strict=True):
            below += count
            self.lines.append(f"{name}_bucket{shown} {number(below)}\n")
        shown = _shown(labels)
        self.lines.append(f"{name}_count{shown} {number(below)}\n{name}_sum{shown} {number(total)}\n")


def labelled(names: Sequence[str], values: Iterable[object]) -> Labels:
    """Each name with its value."""
    return tuple(zip(names, map(str, values), strict=True))


def text_of(families: Iterable[Family], *, openmetrics: bool) -> str:
    """All of them, without what ends a page. OpenMetrics names a counter without what its samples are called."""
    parts: list[str] = []
    for family in families:
        name = f"{family.name}_total" if family.kind == COUNTER and not openmetrics else family.name
        parts.append(f"# HELP {name} {family.said}\n# TYPE {name} {family.kind}\n")
        parts += family.lines
    return "".join(parts)


def number(value: float) -> str:
    """A number as Go writes it: large ones with an exponent sooner than Python."""
    if type(value) is int and 0 <= value < _SHORT:  # what most of them are
        return f"{value}.0"
    written = repr(float(value))
    dot = written.find(".")
    if dot > _DIGITS and written[0] != "-":
        digits = f"{written[0]}.{written[1:dot]}{written[dot + 1 :]}".rstrip("0.")
        return f"{digits}e+{dot - 1:02d}"
    return written if dot > 0 or "e" in written else _ODD[written]


@lru_cache(maxsize=KEPT_LABELS)
def _buckets(labels: Labels, bounds: tuple[float, ...]) -> tuple[str, ...]:
    """The labels of a histogram's buckets."""
    return tuple(_shown((*labels, ("le", bound))) for bound in (*map(str, bounds), "+Inf"))


@lru_cache(maxsize=KEPT_LABELS)
def _shown(labels: Labels) -> str:
    return "{" + ",".join([f'{name}="{_escaped(value)}"' for name, value in sorted(labels)]) + "}" if labels else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
