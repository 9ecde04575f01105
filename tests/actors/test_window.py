"""The sliding window of outcomes."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.actors.window import GROWTH, SLOTS, Window
from tests._properties import examples


def test_a_new_window_has_seen_nothing() -> None:
    window = Window(60)
    assert (window.total(5), window.failures(5), window.error_rate(5), window.p95(5)) == (0, 0, 0.0, None)


def test_outcomes_are_counted_and_failures_among_them() -> None:
    window = Window(60)
    for failed in (True, False, True, False, False):
        window.record(100.0, failed=failed)
    assert window.counts(100.0) == (5, 2)
    assert window.error_rate(100.0) == 0.4


def test_an_outcome_leaves_when_the_window_has_passed_it() -> None:
    window = Window(60)
    window.record(100.0, failed=True, latency=1.0)
    assert window.counts(159.0) == (1, 1)
    assert window.counts(160.0) == (0, 0)
    assert window.p95(160.0) is None


def test_outcomes_leave_one_after_the_other() -> None:
    window = Window(60)
    for second in range(60):
        window.record(1000.0 + second, failed=second % 2 == 0)
    assert [window.total(1059.0 + passed) for passed in range(5)] == [60, 59, 58, 57, 56]


def test_a_clock_that_steps_back_counts_as_standing_still() -> None:
    window = Window(60)
    window.record(1000.0, failed=False)
    window.record(10.0, failed=True)
    assert window.counts(1000.0) == (2, 1)
    assert window.counts(1059.0) == (2, 1)


def test_an_error_rate_equals_the_decimal_it_is() -> None:
    window = Window(60)
    for failed in [True] * 3 + [False] * 7:
        window.record(1.0, failed=failed)
    assert window.error_rate(1.0) == 0.3


def test_clearing_forgets_everything() -> None:
    window = Window(60)
    window.record(1.0, failed=True, latency=2.0)
    window.clear()
    assert window.counts(1.0) == (0, 0)
    assert window.p95(1.0) is None


def test_the_p95_is_the_nearest_rank() -> None:
    window = Window(60)
    for _ in range(19):
        window.record(1.0, failed=False, latency=0.1)
    window.record(1.0, failed=False, latency=9.0)
    assert window.p95(1.0) == pytest.approx(0.1, rel=0.02)
    window.record(1.0, failed=False, latency=9.0)
    assert window.p95(1.0) == pytest.approx(9.0, rel=0.02)


def test_the_extremes_of_latency_stay_in_bounds() -> None:
    window = Window(60)
    window.record(1.0, failed=False, latency=0.0)
    assert window.p95(1.0) == 0.0
    window.record(1.0, failed=False, latency=1e9)
    p95 = window.p95(1.0)
    assert p95 is not None
    assert 7000 < p95 <= 7200


def test_memory_does_not_grow_with_traffic() -> None:
    window = Window(60)
    for number in range(5000):
        window.record(number * 0.05, failed=False, latency=0.001 * (number % 977))
    slots = window._slots  # pyright: ignore[reportPrivateUsage]
    assert len(slots) == SLOTS
    assert all(len(slot.latencies) <= 800 for slot in slots)


@pytest.mark.parametrize("seconds", [0, -1, math.nan])
def test_a_window_without_length_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="longer than 0"):
        Window(seconds)


def test_its_repr_shows_the_counts() -> None:
    window = Window(1)
    window.record(0.0, failed=True)
    assert repr(window) == "<Window total=1 failures=1 measured=0>"


steps = st.lists(
    st.tuples(
        st.one_of(st.just(0.0), st.floats(0, 0.1), st.floats(0, 2)),  # of the window's length
        st.booleans(),
        st.one_of(st.none(), st.floats(0.001, 7000)),
    ),
    max_size=60,
)


@settings(max_examples=examples(50), deadline=None)
@given(st.sampled_from([0.5, 1.0, 60.0, 61.7, 3600.0]), st.sampled_from([0.0, 12345.6, 1e9]), steps)
def test_it_agrees_with_a_list_of_all_outcomes(
    length: float, start: float, recorded: list[tuple[float, bool, float | None]]
) -> None:
    window = Window(length)
    now = start
    seen: list[tuple[float, bool, float | None]] = []
    for step, failed, latency in recorded:
        now += step * length
        window.record(now, failed=failed, latency=latency)
        seen.append((now, failed, latency))
        ulp = math.ulp(now)
        surely = [entry for entry in seen if now - entry[0] < length * 59 / 60 - ulp - 1e-9]
        perhaps = [entry for entry in seen if now - entry[0] <= length + ulp + 1e-9]
        assert len(surely) <= window.total(now) <= len(perhaps)
        assert sum(e[1] for e in surely) <= window.failures(now) <= sum(e[1] for e in perhaps)
        # Outcomes leave in the order they came, so those that count are the latest.
        counted = seen[len(seen) - window.total(now) :]
        assert window.failures(now) == sum(entry[1] for entry in counted)
        _check_p95(window.p95(now), [entry[2] for entry in counted])


def _check_p95(p95: float | None, latencies: list[float | None]) -> None:
    known = sorted(latency for latency in latencies if latency is not None)
    if not known:
        assert p95 is None
        return
    true = next(v for n, v in enumerate(itertools.chain(known), 1) if 100 * n >= 95 * len(known))
    assert p95 is not None
    assert p95 <= true <= p95 * GROWTH * (1 + 1e-9)
