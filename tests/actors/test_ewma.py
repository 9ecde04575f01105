"""The moving average of latencies."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.actors.ewma import observe
from infermux.actors.messages import Ewma
from infermux.config.settings import LeastLatency
from tests._properties import examples


def test_the_first_sample_is_taken_as_it_is() -> None:
    assert observe(Ewma(), 2.5, 0.1) == Ewma(2.5, 1)


def test_a_later_sample_counts_a_tenth_by_default() -> None:
    decay = LeastLatency().ewma_decay
    assert decay == 0.1
    after = observe(Ewma(2.0, 7), 4.0, decay)
    assert after.value == pytest.approx(0.1 * 4.0 + 0.9 * 2.0)
    assert after.samples == 8


def test_a_decay_of_one_keeps_the_newest_sample_only() -> None:
    assert observe(Ewma(2.0, 1), 4.0, 1.0).value == 4.0


def test_a_sample_of_zero_seconds_is_a_sample() -> None:
    assert observe(Ewma(), 0.0, 0.1) == Ewma(0.0, 1)


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.just(0.0) | st.floats(1e-6, 1e4), min_size=1, max_size=50), st.floats(0.01, 1))
def test_it_agrees_with_the_weighted_sum_of_all_samples(samples: list[float], decay: float) -> None:
    ewma = Ewma()
    for sample in samples:
        ewma = observe(ewma, sample, decay)
    share = Fraction(decay)
    newest_first = samples[::-1]
    total = sum((share * (1 - share) ** age * Fraction(s) for age, s in enumerate(newest_first[:-1])), Fraction(0))
    total += (1 - share) ** (len(samples) - 1) * Fraction(samples[0])
    assert ewma.samples == len(samples)
    assert ewma.value == pytest.approx(float(total), rel=1e-9, abs=1e-12)
    assert min(samples) * (1 - 1e-9) <= ewma.value <= max(samples) * (1 + 1e-9)
