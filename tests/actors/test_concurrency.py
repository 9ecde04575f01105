"""The adaptive limit against simulated providers of known capacity, and its rules one by one."""

from __future__ import annotations

import heapq
import random
import statistics
from collections.abc import Callable

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.actors.concurrency import FEWEST_WINDOWS, KINDS_KEPT, MOST, NEAR, START, WINDOW, AdaptiveLimit
from tests._properties import examples


@attrs.define
class Simulated:
    """A provider under as much demand as the limit lets through: `latency(in_flight)` seconds, None: refused."""

    latency: Callable[[int], float | None]
    demand: int = 10_000
    limit: AdaptiveLimit = attrs.field(factory=AdaptiveLimit)
    now: float = 0.0
    seen: list[int] = attrs.field(factory=list[int])
    _out: list[tuple[float, float, bool]] = attrs.field(factory=list[tuple[float, float, bool]])

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            while len(self._out) < min(self.limit.limit, self.demand):
                latency = self.latency(len(self._out) + 1)
                self.limit.granted(len(self._out) + 1)
                heapq.heappush(self._out, (self.now + (latency or 0.05), self.now, latency is not None))
            self.now, sent_at, well = heapq.heappop(self._out)
            if well:
                self.limit.succeeded(self.now - sent_at, "m", sent_at, self.now)
            else:
                self.limit.refused(sent_at, self.now)
            self.seen.append(self.limit.limit)


def queueing(capacity: int, rng: random.Random, sigma: float = 0.2) -> Callable[[int], float | None]:
    """Beyond its capacity requests share what there is: latency grows with their number."""
    return lambda n: rng.lognormvariate(0, sigma) * max(1.0, n / capacity)


def refusing(capacity: int, rng: random.Random) -> Callable[[int], float | None]:
    return lambda n: None if n > capacity else rng.uniform(0.5, 1.5)


@pytest.mark.parametrize(("capacity", "seconds"), [(5, 300.0), (20, 150.0), (80, 80.0)])
def test_it_converges_near_the_capacity_of_a_provider_that_slows_down(capacity: int, seconds: float) -> None:
    simulated = Simulated(queueing(capacity, random.Random(1)))
    simulated.run(seconds)
    later = simulated.seen[len(simulated.seen) // 2 :]
    assert 0.7 * capacity <= statistics.median(later) <= 3 * capacity


def test_it_does_not_take_a_lasting_overload_for_usual() -> None:
    simulated = Simulated(queueing(4, random.Random(2)))
    simulated.run(3600)
    assert max(simulated.seen) <= 20


def test_very_uneven_latencies_are_no_overload() -> None:
    simulated = Simulated(queueing(10_000, random.Random(3), sigma=0.7), demand=100)
    simulated.run(120)
    assert simulated.limit.limit >= 50


@pytest.mark.parametrize("capacity", [1, 4, 30])
def test_refusals_keep_it_at_the_capacity(capacity: int) -> None:
    simulated = Simulated(refusing(capacity, random.Random(4)))
    simulated.run(120)
    simulated.seen.clear()
    simulated.run(120)
    assert max(simulated.seen) <= capacity + 2
    assert sum(simulated.seen) / len(simulated.seen) >= 0.7 * capacity


def test_it_recovers_when_the_provider_has() -> None:
    rng = random.Random(5)
    simulated = Simulated(refusing(3, rng))
    simulated.run(60)
    assert simulated.limit.limit <= 5
    simulated.latency = refusing(50, rng)
    simulated.run(200)
    assert simulated.limit.limit >= 35


def test_a_provider_that_became_slower_for_good_is_not_starved() -> None:
    rng = random.Random(6)
    simulated = Simulated(queueing(1000, rng), demand=50)
    simulated.run(30)
    simulated.latency = lambda n: 4 * rng.lognormvariate(0, 0.2)
    simulated.run(800)
    assert simulated.limit.limit >= 30


def one_window(limit: AdaptiveLimit, *, in_flight: int, latency: float = 1.0, now: float = 1.0) -> None:
    limit.granted(in_flight)
    for _ in range(WINDOW):
        limit.succeeded(latency, "m", now, now)


def test_it_grows_only_while_it_is_used() -> None:
    limit = AdaptiveLimit()
    for _ in range(50):
        one_window(limit, in_flight=int(START / 2))
    assert limit.limit == START
    one_window(limit, in_flight=int(START))
    one_window(limit, in_flight=int(NEAR * limit.limit) + 1)
    one_window(limit, in_flight=int(START / 2))  # it looks whether half the load is answered faster
    assert limit.limit > START


def test_one_burst_of_refusals_lowers_it_once() -> None:
    limit = AdaptiveLimit()
    for _ in range(10):
        limit.refused(1.0, 2.0)
    assert limit.limit == 16
    limit.refused(2.0, 3.0)
    assert limit.limit == 12


def test_answers_sent_under_a_higher_limit_do_not_raise_the_lower_one() -> None:
    limit = AdaptiveLimit()
    limit.refused(1.0, 2.0)
    limit.granted(20)
    for _ in range(3 * WINDOW):
        limit.succeeded(1.0, "m", 1.0, 3.0)
    assert limit.limit == 16


def test_kinds_are_compared_with_themselves() -> None:
    limit = AdaptiveLimit()
    for _ in range(20):
        limit.granted(limit.limit)
        for kind, latency in (("small", 0.2), ("large", 20.0)):
            for _ in range(WINDOW // 2):
                limit.succeeded(latency, kind, 1.0, 1.0)
    assert limit.limit > START


def test_a_look_under_half_the_load_that_shows_nothing_is_undone() -> None:
    limit = AdaptiveLimit()
    for _ in range(FEWEST_WINDOWS):
        one_window(limit, in_flight=20, now=1.0)
    before_and_during = (limit.statistics()["looking"], limit.limit)
    one_window(limit, in_flight=10, now=2.0)
    assert before_and_during == (True, 10)
    assert (limit.statistics()["looking"], limit.limit) == (False, 21)


def test_a_look_that_shows_faster_answers_stays() -> None:
    limit = AdaptiveLimit()
    for _ in range(FEWEST_WINDOWS):
        one_window(limit, in_flight=20, latency=4.0, now=1.0)
    one_window(limit, in_flight=10, latency=2.0, now=2.0)
    assert (limit.statistics()["looking"], limit.limit) == (False, 10)


def test_kinds_are_bounded() -> None:
    limit = AdaptiveLimit()
    for kind in range(2 * KINDS_KEPT):
        limit.succeeded(1.0, kind, 1.0, 1.0)
    assert limit.statistics()["kinds"] == KINDS_KEPT


STEPS = st.one_of(
    st.tuples(st.just("granted"), st.integers(0, 2000)),
    st.tuples(st.just("succeeded"), st.floats(0, 1e6)),
    st.tuples(st.just("refused"), st.floats(0, 1000)),
)


@settings(max_examples=examples(50), deadline=None)
@given(st.lists(st.tuples(STEPS, st.floats(0, 400)), max_size=60))
def test_it_stays_between_one_and_its_bound(steps: list[tuple[tuple[str, float], float]]) -> None:
    limit, now = AdaptiveLimit(), 0.0
    for (what, value), passed in steps:
        now += passed
        before = limit.limit
        if what == "granted":
            limit.granted(int(value))
        elif what == "succeeded":
            limit.succeeded(value, "m", now, now)
        else:
            limit.refused(now - value, now)
            assert limit.limit <= max(before, 1)
        assert 1 <= limit.limit <= MOST
