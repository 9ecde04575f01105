"""The decaying weight of failures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermux.actors.penalty import HALF_LIFE, MOST, PER_FAILURE, Penalty, decayed


def test_a_provider_that_never_failed_has_none() -> None:
    assert Penalty().value(1e9) == 0.0


def test_a_failure_weighs_ten_seconds_and_half_of_it_ten_seconds_later() -> None:
    penalty = Penalty()
    penalty.failed(100.0)
    assert penalty.value(100.0) == PER_FAILURE == 10.0
    assert penalty.value(100.0 + HALF_LIFE) == 5.0
    assert penalty.value(130.0) == pytest.approx(1.25)


def test_failures_add_up_to_a_bound() -> None:
    penalty = Penalty()
    penalty.failed(100.0)
    penalty.failed(110.0)
    assert penalty.value(110.0) == 15.0
    for _ in range(1000):
        penalty.failed(110.0)
    assert penalty.value(110.0) == MOST


def test_what_is_published_can_be_read_later() -> None:
    penalty = Penalty()
    penalty.failed(100.0)
    penalty.failed(103.0)
    assert decayed(penalty.level, penalty.at, 117.0) == penalty.value(117.0)


def test_a_clock_behind_the_publisher_s_does_not_enlarge_it() -> None:
    assert decayed(8.0, 100.0, 99.0) == 8.0


def test_it_dies_out_without_underflowing_into_an_error() -> None:
    penalty = Penalty()
    penalty.failed(0.0)
    assert penalty.value(1e9) == 0.0


def test_a_reset_forgets_the_failures() -> None:
    penalty = Penalty()
    penalty.failed(1.0)
    penalty.reset()
    assert penalty.value(1.0) == 0.0
    assert repr(penalty) == "<Penalty 0.000 s at 1.0>"


@given(st.lists(st.floats(0, 100), max_size=30))
def test_it_agrees_with_the_sum_over_all_failures(steps: list[float]) -> None:
    penalty, now, failures = Penalty(), 0.0, list[float]()
    for step in steps:
        now += step
        penalty.failed(now)
        failures.append(now)
    total = sum(PER_FAILURE * 2 ** ((at - now) / HALF_LIFE) for at in failures)
    assert penalty.value(now) <= min(total, MOST) * (1 + 1e-9)
    if total < MOST:
        assert penalty.value(now) == pytest.approx(total)


@pytest.mark.parametrize(
    ("every", "seconds"), [(50, pytest.approx(0.005, abs=0.004)), (2, pytest.approx(5, rel=0.1)), (1, MOST)]
)
@pytest.mark.parametrize("rate", [5, 50])
def test_where_others_succeed_a_failure_weighs_by_their_share_at_any_rate(
    every: int, seconds: float, rate: int
) -> None:
    """One in `every` requests fails, at `rate` requests a second."""
    penalty = Penalty()
    for number in range(1, 100 * rate + 1):
        if number % every == 0:
            penalty.failed(number / rate)
        else:
            penalty.succeeded()
    assert penalty.value(100.0) == seconds


def test_a_provider_that_begins_to_fail_is_soon_heavy() -> None:
    penalty = Penalty()
    for _ in range(300):
        penalty.succeeded()
    for number in range(30):
        penalty.failed(60.0 + number / 5)
    assert penalty.value(66.0) > 1.0
