"""What the soak makes of its samples: growth is found, noise is not taken for it."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ET

import pytest

from bench.soak_report import LONG, Line, Panel, Sample, is_flat, nice, percentiles, plot, slope

TWENTY_MINUTES = 1200.0


def samples(mib_per_hour: float, seconds: float, *, noise: float = 0.2, seed: int = 1) -> list[Sample]:
    """Two a second."""
    rng = random.Random(seed)
    moments = [number / 2 for number in range(int(seconds * 2))]
    return [Sample(at, 60.0 + mib_per_hour * at / 3600 + rng.gauss(0, noise), 30, 20) for at in moments]


@pytest.mark.parametrize("grows", [0.0, 0.5, 30.0])
def test_the_slope_is_found(grows: float) -> None:
    found = slope(samples(grows, TWENTY_MINUTES))
    assert found.per_hour == pytest.approx(grows, abs=0.6)
    assert found.at_least <= found.per_hour
    assert found.start == pytest.approx(60.0 + grows / 12, abs=0.2)


@pytest.mark.parametrize("seed", range(5))
def test_growth_over_the_limit_fails_and_noise_does_not(seed: int) -> None:
    assert slope(samples(0.0, TWENTY_MINUTES, seed=seed)).is_fine(TWENTY_MINUTES)
    assert not slope(samples(4.0, TWENTY_MINUTES, seed=seed)).is_fine(TWENTY_MINUTES)


def test_a_run_of_a_minute_may_warm_up_but_not_leak() -> None:
    assert slope(samples(60.0, 60.0)).is_fine(60.0)  # less than a MiB in the time
    assert not slope(samples(600.0, 60.0)).is_fine(60.0)
    assert not slope(samples(60.0, LONG)).is_fine(LONG)


def test_a_percentile_that_rises_is_not_flat() -> None:
    rng = random.Random(1)
    times = [(at / 10, rng.uniform(0.005, 0.02)) for at in range(12_000)]
    assert is_flat(percentiles(times, 0.0, TWENTY_MINUTES))
    rising = [(at, taken + at / 10_000) for at, taken in times]
    assert not is_flat(percentiles(rising, 0.0, TWENTY_MINUTES))


def test_what_rises_without_the_router_too_is_the_machine() -> None:
    rising = [(at, 0.02 + at / 10_000) for at in range(0, 1200, 100)]
    direct = [(at, 0.004 + at / 50_000) for at in range(0, 1200, 100)]
    level = [(at, 0.004) for at in range(0, 1200, 100)]
    assert is_flat(rising, beside=direct)
    assert not is_flat(rising, beside=level)


def test_a_run_of_a_minute_is_not_judged_by_one_late_answer() -> None:
    late = [(5.0, 0.07)] * 8 + [(45.0, 0.28)] * 4
    assert is_flat(late, seconds=60.0)
    assert not is_flat(late, seconds=LONG)
    assert not is_flat([(5.0, 0.07)] * 8 + [(45.0, 0.6)] * 4, seconds=60.0)


def test_a_stretch_without_an_answer_has_no_percentile() -> None:
    assert percentiles([(5.0, 0.1)], 0.0, 120.0) == [(5.0, 0.1)]


@pytest.mark.parametrize(("value", "top"), [(0.0, 1e-9), (1.0, 1.0), (61.2, 80.0), (130.0, 200.0), (90.0, 100.0)])
def test_an_axis_ends_at_a_round_number(value: float, top: float) -> None:
    assert nice(value) == pytest.approx(top)


def test_the_plot_is_well_formed_and_nothing_lies_outside() -> None:
    line = Line("x", "#000", [(0.0, 0.0), (30.0, 5.0), (60.0, 10.0)])
    panels = [Panel(name="one", lines=[line]), Panel(name="two", lines=[line, line], from_zero=False)]
    drawn = ET.fromstring(plot("title", panels, 60.0))
    found = [each for each in drawn.iter() if each.tag.endswith("polyline")]
    assert len(found) == 3
    points = [float(number) for each in found for pair in each.attrib["points"].split() for number in pair.split(",")]
    assert all(0 <= number <= 860 for number in points)
