"""What prometheus_client makes of the same numbers is what ours is held against, to the byte."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, exposition, utils
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.openmetrics import exposition as openmetrics_exposition

from infermux.http.metric_text import COUNTER, GAUGE, HISTOGRAM, Family, labelled, number, text_of

NAMES = ("provider", "model", "zone")
LABELS = st.lists(st.tuples(*[st.text(max_size=5)] * len(NAMES)), max_size=4, unique=True)
VALUES = st.one_of(st.integers(0, 2**60), st.floats(), st.booleans())


def as_the_library(family: Any, *, openmetrics: bool) -> str:
    class Once:
        def collect(self) -> list[Any]:
            return [family]

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Once())
    written: Any = openmetrics_exposition if openmetrics else exposition
    page: str = written.generate_latest(registry).decode()
    return page.removesuffix("# EOF\n")


@pytest.mark.parametrize("openmetrics", [False, True])
@pytest.mark.parametrize(("kind", "theirs"), [(COUNTER, CounterMetricFamily), (GAUGE, GaugeMetricFamily)])
@given(samples=st.lists(st.tuples(st.tuples(*[st.text(max_size=5)] * len(NAMES)), VALUES), max_size=4))
def test_numbers_are_written_as_the_library_writes_them(
    kind: str, theirs: Any, openmetrics: bool, samples: list[tuple[tuple[str, ...], float]]
) -> None:
    family, other = Family("some_name", "What it is.", kind), theirs("some_name", "What it is.", labels=NAMES)
    for labels, value in samples:
        family.add(labelled(NAMES, labels), value)
        other.add_metric(labels, value)
    assert text_of([family], openmetrics=openmetrics) == as_the_library(other, openmetrics=openmetrics)


@pytest.mark.parametrize("openmetrics", [False, True])
@given(counts=st.lists(st.integers(0, 10**9), min_size=4, max_size=4), total=st.floats(0, 1e12), labels=LABELS)
def test_a_histogram_is_written_as_the_library_writes_it(
    openmetrics: bool, counts: list[int], total: float, labels: list[tuple[str, ...]]
) -> None:
    bounds = (0.0001, 0.5, 10.0)
    family = Family("some_seconds", "How long.", HISTOGRAM)
    other = HistogramMetricFamily("some_seconds", "How long.", labels=NAMES)
    below = [sum(counts[: at + 1]) for at in range(len(counts))]
    for each in labels:
        family.distribute(labelled(NAMES, each), bounds, counts, total)
        other.add_metric(each, list(zip((*map(str, bounds), "+Inf"), below, strict=True)), total)
    assert text_of([family], openmetrics=openmetrics) == as_the_library(other, openmetrics=openmetrics)


@given(VALUES)
def test_a_number_is_written_as_go_writes_it(value: float) -> None:
    reference: Any = utils
    assert number(value) == reference.floatToGoString(value)


def test_a_metric_without_samples_is_named_all_the_same() -> None:
    assert text_of([Family("some", "What.", GAUGE)], openmetrics=False) == "# HELP some What.\n# TYPE some gauge\n"
