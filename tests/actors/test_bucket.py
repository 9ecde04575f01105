"""Token buckets: never more than capacity + limit * t / 60 in any t seconds."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.actors.bucket import TokenBucket
from tests._properties import examples

TICK = Fraction(1, 2**30)


class Exact:
    """The reference: the same rules in exact arithmetic."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.level = Fraction(limit)
        self.at = Fraction(0)

    def refill(self, now: float) -> Fraction:
        passed = max(Fraction(now) - self.at, Fraction(0))
        self.at += passed
        self.level = min(Fraction(self.limit), self.level + passed * self.limit / 60)
        return self.level

    def settle(self, reserved: int, used: int, now: float) -> None:
        self.level = min(Fraction(self.limit), self.refill(now) + reserved - used)


def test_a_new_bucket_is_full() -> None:
    bucket = TokenBucket(500)
    assert bucket.capacity == 500
    assert bucket.available(1e5) == 500


def test_nothing_is_admitted_without_cover() -> None:
    bucket = TokenBucket(3)
    assert [bucket.take(1, 10.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.available(10.0) == 0


def test_a_refusal_takes_nothing() -> None:
    bucket = TokenBucket(10)
    assert bucket.take(4, 0.0)
    assert not bucket.take(7, 0.0)
    assert bucket.available(0.0) == 6


def test_it_refills_continuously_at_the_limit_per_minute() -> None:
    bucket = TokenBucket(60)
    assert bucket.take(60, 100.0)
    assert bucket.available(100.5) == 0.5
    assert not bucket.can_take(1, 100.999)
    assert bucket.can_take(1, 101.0)
    assert bucket.available(130.0) == 30


def test_it_never_holds_more_than_its_capacity() -> None:
    bucket = TokenBucket(60)
    assert bucket.take(1, 5.0)
    assert bucket.available(1e9) == 60


def test_settling_gives_back_what_was_not_used() -> None:
    bucket = TokenBucket(1000)
    assert bucket.take(800, 5.0)
    bucket.settle(800, 300, 5.0)
    assert bucket.available(5.0) == 700


def test_settling_credits_up_to_the_capacity_only() -> None:
    bucket = TokenBucket(1000)
    assert bucket.take(800, 5.0)
    bucket.settle(800, 0, 60.0)
    assert bucket.available(60.0) == 1000


def test_settling_may_leave_a_debt_and_nothing_is_admitted_until_it_is_refilled() -> None:
    bucket = TokenBucket(60)
    assert bucket.take(60, 100.0)
    bucket.settle(60, 90, 100.0)
    assert bucket.available(100.0) == -30
    assert not bucket.can_take(1, 130.0)
    assert bucket.ready_at(1, 100.0) == 131.0
    assert bucket.take(1, 131.0)


def test_a_debt_can_be_forgiven_and_nothing_else() -> None:
    bucket = TokenBucket(60)
    bucket.settle(0, 10**9, 0.0)
    bucket.forgive(0.0)
    assert bucket.available(0.0) == 0
    bucket.forgive(10.0)
    assert bucket.available(10.0) == 10


def test_it_says_when_a_request_will_be_covered() -> None:
    bucket = TokenBucket(60)
    assert bucket.ready_at(60, 7.0) == 7.0
    assert bucket.take(60, 7.0)
    assert bucket.ready_at(10, 8.0) == 17.0


def test_more_than_the_capacity_is_never_admitted_and_ready_when_the_bucket_is_full() -> None:
    bucket = TokenBucket(60)
    assert not bucket.take(61, 1e6)
    assert bucket.take(60, 1e6)
    assert bucket.ready_at(61, 1e6) == 1e6 + 60


def test_a_clock_that_stands_still_or_steps_back_brings_nothing() -> None:
    bucket = TokenBucket(60)
    assert bucket.take(60, 1000.0)
    assert not any(bucket.take(1, 1000.0) for _ in range(1000))
    assert not bucket.take(1, 10.0)
    assert not bucket.take(1, 1000.5)
    assert bucket.take(1, 1001.0)


def test_a_limit_below_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 0"):
        TokenBucket(-5)


def test_a_limit_of_nothing_never_admits_anything() -> None:
    bucket = TokenBucket(0)
    assert not bucket.take(1, 10.0**6)
    assert bucket.ready_at(1, 10.0**6) == math.inf


def test_one_that_begins_empty_is_refilled_from_then_on() -> None:
    bucket = TokenBucket(60, empty_at=100.0)
    assert not bucket.take(1, 100.9)
    assert bucket.take(1, 101.0)
    assert not bucket.can_take(1, 101.0)


def test_its_repr_shows_the_level() -> None:
    bucket = TokenBucket(60)
    bucket.take(20, 1.0)
    assert repr(bucket) == "<TokenBucket 40.000 of 60>"


def test_the_tick_in_which_a_bucket_would_run_over_is_not_counted_twice() -> None:
    tick = 2.0**-30
    bucket = TokenBucket(7)
    assert bucket.take(1, 0.0)
    # Refilled but for 4/7 of a tick's worth, 7/8 into that tick: by now it is full, and that tick is spent.
    last = 60 * 2**30 // 7
    since = (last + 0.875) * tick
    assert bucket.take(6, since)
    # A full bucket and six more tokens need 6/7 of a minute, which is not over at this tick.
    until = (7 * last + 4) * tick
    assert (Fraction(until) - Fraction(since)) * 7 / 60 < 6
    assert not bucket.take(7, until)
    assert bucket.take(7, until + tick)


@pytest.mark.parametrize("start", [0.0, 0.1, 1e5 + 0.3, 1e9 + 0.7])
@pytest.mark.parametrize("limit", [1, 7, 3500, 800_000])
def test_thousands_of_random_steps_never_admit_beyond_what_is_exact(limit: int, start: float) -> None:
    rng = random.Random(limit)
    bucket, exact, now = TokenBucket(limit), Exact(limit), start
    for _ in range(1500):
        now += rng.choice([0.0, rng.random() * 60 / limit, rng.random() / 1000, rng.expovariate(1)])
        n = rng.randint(1, max(1, limit // 20))
        level = exact.refill(now)
        assert bucket.can_take(n, now) <= (n <= level)
        if bucket.take(n, now):
            exact.level -= n
        assert level - exact.refill(now) in (0, n)
        assert abs(Fraction(bucket.available(now)) - exact.level) <= 2 * TICK * limit / 60 + Fraction(limit) / 2**50


@settings(max_examples=examples(50), deadline=None)
@given(
    limit=st.integers(1, 100_000),
    start=st.floats(0, 1e9),
    steps=st.lists(st.tuples(st.floats(0, 90), st.integers(1, 3)), max_size=40),
    whole=st.booleans(),
)
def test_no_span_of_t_seconds_admits_more_than_capacity_plus_its_refill(
    limit: int, start: float, steps: list[tuple[float, int]], whole: bool
) -> None:
    bucket, now = TokenBucket(limit), start
    admitted: list[tuple[Fraction, int]] = []
    for step, parts in steps:
        now += math.floor(step) / 4 if whole else step
        n = max(1, limit * parts // 4)
        while bucket.take(n, now):
            admitted.append((Fraction(now), n))
        if bucket.take(1, now):
            admitted.append((Fraction(now), 1))
    for first, (since, _) in enumerate(admitted):
        total = 0
        for at, n in admitted[first:]:
            total += n
            assert total <= limit + (at - since) * limit / 60


operations = st.lists(
    st.tuples(
        st.one_of(st.just(0.0), st.floats(0, 1), st.floats(0, 100)),
        st.integers(0, 1000),
        st.one_of(st.none(), st.integers(0, 3000)),
    ),
    max_size=50,
)


@settings(max_examples=examples(50), deadline=None)
@given(st.integers(1, 1000), st.sampled_from([0.0, 0.1, 1e5, 1e9]), operations)
def test_with_settling_it_agrees_with_exact_arithmetic(
    limit: int, start: float, ops: list[tuple[float, int, int | None]]
) -> None:
    bucket, exact, now = TokenBucket(limit), Exact(limit), start
    slack = 2 * TICK * limit / 60
    for step, amount, used in ops:
        now += step
        n = min(amount, limit)
        level = exact.refill(now)
        covered = bucket.take(n, now)
        # Never what exact arithmetic would refuse; and what it refuses, exact arithmetic covers by a hair at most.
        assert n <= level if covered else n > level - slack
        if covered:
            exact.level -= n
            if used is not None:
                bucket.settle(n, used, now)
                exact.settle(n, used, now)
        shown = Fraction(bucket.available(now))
        assert exact.level - slack - Fraction(1, 10**9) <= shown <= exact.level + Fraction(1, 10**9)


@settings(max_examples=examples(50), deadline=None)
@given(
    limit=st.integers(1, 1_000_000),
    start=st.one_of(st.floats(0, 1), st.floats(0, 1e9)),
    taken=st.floats(0, 1),
    wanted=st.floats(0, 1.5),
    overuse=st.integers(0, 10_000),
)
def test_what_is_promised_for_a_time_is_covered_then_and_not_before(
    limit: int, start: float, taken: float, wanted: float, overuse: int
) -> None:
    bucket = TokenBucket(limit)
    reserved = int(taken * limit)
    assert bucket.take(reserved, start)
    bucket.settle(reserved, reserved + overuse, start)
    n = min(int(wanted * limit), limit)
    ready = bucket.ready_at(n, start)
    assert ready >= start
    before = min(math.nextafter(ready, -math.inf), ready - 3 * 2.0**-30)
    if before >= start:
        assert not bucket.can_take(n, before)
    assert bucket.can_take(n, ready)
